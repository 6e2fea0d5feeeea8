//! Stand-in for leases on systems without shared memory: no lease is ever offered.

use std::{convert::Infallible, future::pending, io, os::fd::BorrowedFd};

use pfs_proto::LeaseStart;
use pfs_stream::Writer;

use crate::{published::Published, transport::Transport, wire::Wire};

/// Never held.
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

    pub(crate) fn published(_: &Writer) {}

    pub(crate) async fn room(&self, _: &mut Writer, _: u64) {}
}

/// Never exists.
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
