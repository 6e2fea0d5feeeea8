//! What takes the place of sharing memory on systems where that is not possible: nothing.

use std::convert::Infallible;
use std::io;
use std::os::fd::BorrowedFd;
use std::task::{Context, Poll};

use pfs_proto::MappedStart;

use crate::Event;
use crate::chunks::Chunks;
use crate::error::ReadError;

/// None ever comes.
#[derive(Clone, Debug)]
pub(crate) struct Passed(Infallible);

/// There is none.
#[derive(Debug)]
pub(crate) struct MappedSource(Infallible);

impl MappedSource {
    pub(crate) fn open(_: &MappedStart, passed: &Passed) -> io::Result<Self> {
        match passed.0 {}
    }

    pub(crate) fn try_next(&mut self) -> Result<Option<Event>, ReadError> {
        match self.0 {}
    }

    pub(crate) fn try_next_batch(&mut self, _: &mut Chunks) -> Result<Option<Event>, ReadError> {
        match self.0 {}
    }

    pub(crate) fn try_write_to(
        &mut self,
        _: BorrowedFd<'_>,
        _: usize,
        _: usize,
    ) -> Result<io::Result<usize>, ReadError> {
        match self.0 {}
    }

    pub(crate) fn take_made_room(&mut self) -> bool {
        match self.0 {}
    }

    pub(crate) fn count(&self) -> u32 {
        match self.0 {}
    }

    pub(crate) fn sleep(&mut self, _: u32) {
        match self.0 {}
    }

    pub(crate) fn watch(&self, _: &Passed) -> io::Result<Watch> {
        match self.0 {}
    }

    pub(crate) fn poll_news(&mut self, _: &mut Context<'_>, _: u32) -> Poll<io::Result<()>> {
        match self.0 {}
    }

    pub(crate) fn release(&mut self) {
        match self.0 {}
    }
}

/// There is none.
#[derive(Debug)]
pub(crate) struct Watch(Infallible);

impl Watch {
    pub(crate) fn has_news(&self) -> bool {
        match self.0 {}
    }
}

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

    pub(crate) fn ring(&mut self, _: &mut Vec<u8>) {
        match self.0 {}
    }

    pub(crate) fn wait_for_room(&mut self, _: usize, _: &mut Vec<u8>) {
        match self.0 {}
    }

    pub(crate) fn wait_for_all(&mut self, _: &mut Vec<u8>) {
        match self.0 {}
    }
}
