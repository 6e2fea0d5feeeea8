//! What takes the place of sharing memory on systems where that is not possible: nothing.

use std::{convert::Infallible, io, time::Duration};

use pfs_proto::{End, StreamPath};
use pfs_stream::{AppendError, Appended, ReadError, Reader, Registry, Writer};
use tokio_util::sync::CancellationToken;

use crate::{failure::Ended, pushed::PushedAll, transport::Transport, wire::Wire};

/// Whether this system can do it.
pub(crate) const POSSIBLE: bool = false;

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

    pub(crate) async fn push(&self, _: &mut Writer, _: Chunk) -> Result<Appended, AppendError> {
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

/// There is none.
#[derive(Debug)]
pub(crate) struct Handout(Infallible);

impl Handout {
    pub(crate) fn position(&self) -> u64 {
        match self.0 {}
    }

    pub(crate) fn end(&self) -> Result<Option<End>, ReadError> {
        match self.0 {}
    }

    pub(crate) fn lost_bytes(&self) -> u64 {
        match self.0 {}
    }

    pub(crate) fn lost_chunks(&self) -> u64 {
        match self.0 {}
    }

    pub(crate) fn take_back(self) -> Reader {
        match self.0 {}
    }
}

pub(crate) async fn hand_out<T: Transport>(
    _: &mut Wire<T>,
    reader: Reader,
    _: Option<Duration>,
) -> Result<Result<Handout, Reader>, Ended> {
    Ok(Err(reader))
}

pub(crate) async fn attend<T: Transport>(
    _: &mut Wire<T>,
    handout: &Handout,
    _: &StreamPath,
    _: &CancellationToken,
) -> Result<(), Ended> {
    match handout.0 {}
}
