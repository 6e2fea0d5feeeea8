//! What takes the place of staging chunks and of leases on systems where memory cannot be shared: nothing.

use std::convert::Infallible;
use std::io;
use std::os::fd::BorrowedFd;

use pfs_proto::{LeaseStart, Request, RingLayout};
use pfs_stream::WriteError;

use crate::error::RequestError;

/// None ever comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed(Infallible);

impl Passed {
    pub(crate) fn has_input(&self) -> bool {
        match self.0 {}
    }
}

/// There is no bell.
pub(crate) type BellCount = Infallible;

/// There is none.
#[derive(Debug)]
pub(crate) struct Stage(Infallible);

impl Stage {
    pub(crate) fn open(passed: &Passed) -> io::Result<Self> {
        match passed.0 {}
    }

    pub(crate) fn takes(&self, _: usize) -> bool {
        match self.0 {}
    }

    pub(crate) fn appended(&self) -> u64 {
        match self.0 {}
    }

    pub(crate) fn readers(&self) -> u32 {
        match self.0 {}
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn try_push(&mut self, _: &[u8]) -> bool {
        match self.0 {}
    }

    pub(crate) fn try_push_from(&mut self, _: BorrowedFd<'_>, _: usize) -> io::Result<Option<usize>> {
        match self.0 {}
    }

    pub(crate) fn publish(&mut self) {
        match self.0 {}
    }

    pub(crate) fn holds_enough(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn has_room(&self, _: usize) -> bool {
        match self.0 {}
    }

    pub(crate) fn ring(&mut self, _: &mut Vec<u8>) -> bool {
        match self.0 {}
    }

    pub(crate) fn wait_for_room(&mut self, _: usize, _: &mut Vec<u8>) {
        match self.0 {}
    }

    pub(crate) fn wait_for_all(&mut self, _: &mut Vec<u8>) {
        match self.0 {}
    }
}

/// What is read into a ring.
#[allow(dead_code, reason = "there is no ring")]
pub(crate) enum Taken {
    Appended(usize),
    Kept(Vec<u8>),
}

/// There is none.
#[derive(Debug)]
#[allow(dead_code, reason = "the daemon offers none")]
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

    pub(crate) fn begin(&mut self, _: LeaseStart, _: u64) -> Result<(), RequestError> {
        Err(RequestError::unexpected("no lease"))
    }

    pub(crate) fn end(&mut self, _: u64) -> Result<Option<u64>, RequestError> {
        Err(RequestError::unexpected("no lease"))
    }
}

/// There is none.
#[derive(Debug)]
pub(crate) struct Held(Infallible);

impl Held {
    pub(crate) fn appended(&self) -> u64 {
        match self.0 {}
    }

    pub(crate) fn readers(&self) -> u32 {
        match self.0 {}
    }

    pub(crate) fn try_push(&mut self, _: &[u8]) -> Option<bool> {
        match self.0 {}
    }

    pub(crate) fn push(&mut self, _: &[u8], _: &mut Vec<u8>) -> Result<Option<bool>, WriteError> {
        match self.0 {}
    }

    pub(crate) fn push_from(
        &mut self,
        _: BorrowedFd<'_>,
        _: usize,
        _: &mut Vec<u8>,
    ) -> Result<Option<io::Result<Taken>>, WriteError> {
        match self.0 {}
    }

    pub(crate) fn may_try_again(&mut self) {
        match self.0 {}
    }

    pub(crate) fn wake(&mut self, _: &mut Vec<u8>) {
        match self.0 {}
    }

    pub(crate) fn notify(&mut self, _: &mut Vec<u8>) -> bool {
        match self.0 {}
    }
}
