//! What takes the place of staging areas and leases on systems where memory cannot be shared: nothing.

use std::{convert::Infallible, future::pending, io, os::fd::BorrowedFd};

use pfs_proto::{LeaseStart, StreamPath};
use pfs_stream::{Appended, Registry, WriteError, Writer};

use crate::{
    failure::Ended,
    pushed::{Published, PushedAll},
    transport::Transport,
    wire::Wire,
};

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

/// There is none.
#[derive(Debug)]
pub(crate) struct Lease;

impl Lease {
    pub(crate) fn new(_: bool) -> Self {
        Self
    }

    pub(crate) fn is_held(&self) -> bool {
        false
    }

    pub(crate) async fn offer<T: Transport>(
        &mut self,
        _: &mut Wire<T>,
        _: &Writer,
        _: u64,
        _: u64,
    ) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn grant(&mut self, _: &mut Writer) -> Option<Option<Grant>> {
        None
    }

    pub(crate) fn cannot_map(&mut self) -> bool {
        false
    }

    pub(crate) async fn ended(&mut self, _: &mut Writer) -> Published {
        pending().await
    }

    pub(crate) fn so_far(&self, _: &Writer) -> Option<Published> {
        None
    }

    pub(crate) fn end(&mut self, _: &mut Writer) -> Option<Published> {
        None
    }

    pub(crate) async fn room(&self, _: &mut Writer, _: u64) {}
}

/// There is none.
pub(crate) struct Grant(Infallible);

impl Grant {
    pub(crate) fn start(&self) -> LeaseStart {
        match self.0 {}
    }

    pub(crate) fn pages(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        match self.0 {}
        std::iter::empty()
    }
}
