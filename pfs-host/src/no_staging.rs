//! What takes the place of staging areas on systems where memory cannot be shared: nothing.

use std::{convert::Infallible, io};

use pfs_proto::StreamPath;
use pfs_stream::{Appended, Registry, WriteError, Writer};

use crate::{failure::Ended, pushed::PushedAll, transport::Transport, wire::Wire};

/// There is none.
#[derive(Debug)]
pub(crate) struct Stage(Infallible);

/// There is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk(Infallible);

impl Chunk {
    pub(crate) fn size(self) -> usize {
        match self.0 {}
    }
}

impl Stage {
    pub(crate) async fn hand_out<T: Transport>(_: &mut Wire<T>, _: &Registry) -> io::Result<Option<Self>> {
        Ok(None)
    }

    pub(crate) fn next_chunk(&self) -> Result<Option<Chunk>, Ended> {
        match self.0 {}
    }

    pub(crate) fn consumed(&self) -> u64 {
        match self.0 {}
    }

    pub(crate) fn has_gone_round_since(&self, _: u64) -> bool {
        match self.0 {}
    }

    pub(crate) fn push_all(&mut self, _: &mut Writer, _: &StreamPath, _: u64) -> PushedAll {
        match self.0 {}
    }

    pub(crate) async fn push(&self, _: &mut Writer, _: Chunk) -> Result<Appended, WriteError> {
        match self.0 {}
    }

    pub(crate) fn consume(&mut self, _: Chunk) {
        match self.0 {}
    }

    pub(crate) fn tell(&self, _: u64, _: u32) -> bool {
        match self.0 {}
    }

    pub(crate) fn may_sleep(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn abandon(&self) {
        match self.0 {}
    }
}
