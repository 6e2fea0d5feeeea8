//! What takes the place of staging chunks on systems where memory cannot be shared: nothing.

use std::convert::Infallible;
use std::io;
use std::os::fd::BorrowedFd;

/// None ever comes.
pub(crate) type Passed = Infallible;

/// There is no bell.
pub(crate) type BellCount = Infallible;

/// There is none.
#[derive(Debug)]
pub(crate) struct Stage(Infallible);

impl Stage {
    pub(crate) fn open(passed: &Passed) -> io::Result<Self> {
        match *passed {}
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
