//! Stubs for shared memory and leases, on systems that cannot share memory. None of these values
//! ever exists.

use std::{
    convert::Infallible,
    io,
    os::fd::BorrowedFd,
    task::{Context, Poll},
    time::Duration,
};

use pfs_proto::{LeaseStart, Request, RingLayout};
use pfs_stream::WriteError;

use crate::error::RequestError;

/// No descriptor is ever received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed(Infallible);

impl Passed {
    pub(crate) fn has_input(&self, _: &mut Duration) -> bool {
        match self.0 {}
    }
}

/// There is no notifier.
pub(crate) type NotifyCount = Infallible;

/// There is never a lease.
#[derive(Debug)]
#[allow(dead_code, reason = "the daemon offers no lease")]
pub(crate) enum Lease {
    None,
    Offered(Infallible),
    Asked(Infallible),
    Held(Held),
}

impl Lease {
    pub(crate) fn offered(_: RingLayout, passed: &Passed) -> Self {
        match passed.0 {}
    }

    pub(crate) fn answer(&mut self) -> Option<Request> {
        None
    }

    pub(crate) fn begin(
        &mut self,
        _: LeaseStart,
        _: u64,
        _: Option<&Passed>,
    ) -> Result<(), RequestError> {
        Err(RequestError::unexpected("a message without a lease"))
    }

    pub(crate) fn end(&mut self, _: u64) -> Result<Option<Box<Held>>, RequestError> {
        Err(RequestError::unexpected("a message without a lease"))
    }
}

/// There is never a granted lease.
#[derive(Debug)]
pub(crate) struct Held(Infallible);

impl Held {
    pub(crate) fn appended(&self) -> u64 {
        match self.0 {}
    }

    pub(crate) fn should_publish(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn published(&self) -> u64 {
        match self.0 {}
    }

    pub(crate) fn unpublished(&self) -> impl Iterator<Item = Result<Vec<u8>, RequestError>> {
        match self.0 {}
        #[allow(unreachable_code, reason = "gives the return type")]
        std::iter::empty()
    }

    pub(crate) fn readers(&self) -> u32 {
        match self.0 {}
    }

    pub(crate) fn try_push(&mut self, _: &[u8]) -> Option<bool> {
        match self.0 {}
    }

    pub(crate) fn poll_push(
        &mut self,
        _: &mut Context<'_>,
        _: &[u8],
        _: &mut Vec<u8>,
    ) -> Poll<Result<bool, WriteError>> {
        match self.0 {}
    }

    pub(crate) fn poll_push_from(
        &mut self,
        _: &mut Context<'_>,
        _: BorrowedFd<'_>,
        _: usize,
        _: &mut Vec<u8>,
    ) -> Poll<Result<io::Result<usize>, WriteError>> {
        match self.0 {}
    }

    pub(crate) fn may_try_again(&mut self) {
        match self.0 {}
    }

    pub(crate) fn publish(&mut self, _: &mut Vec<u8>) -> Result<bool, WriteError> {
        match self.0 {}
    }
}
