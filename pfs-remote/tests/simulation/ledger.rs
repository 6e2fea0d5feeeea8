//! Ledger: the streams that the owner has had, what was written to each, and what a reader may be
//! told of them.
//!
//! Each byte is a function of its stream and its offset. So a chunk shows which stream it is of,
//! and a reader that gets a byte twice, at a wrong offset or of another stream is found out.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
};

use pfs_proto::{End, Writers};
use pfs_stream::{Extent, Stream};
use tokio::time::Instant;

use super::network::{AT_OWNER, Network};

/// All streams, the newest last.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Vec<Kept>>);

/// One stream of the owner.
#[derive(Debug)]
struct Kept {
    stream: Stream,
    created: Instant,
    /// The offsets where chunks end.
    ends: BTreeSet<u64>,
    /// Head whenever no writer was attached any more, and whether one of the last had died.
    deserted: BTreeSet<(u64, bool)>,
    /// The writers at the owner's daemon itself.
    local_writers: u32,
}

impl Kept {
    fn look(&mut self) {
        let (Writers { attached, were_any, died, died_before, .. }, head) = self.stream.writers();
        if attached == 0 && were_any {
            self.deserted.insert((head, died > died_before));
        }
    }
}

/// The byte at this offset of a stream.
fn byte(number: usize, offset: u64) -> u8 {
    let mixed = (offset + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ ((number as u64 + 1) << 20));
    (mixed >> 56) as u8 ^ (mixed >> 30) as u8
}

/// The contents of a chunk.
pub(crate) fn contents(number: usize, offset: u64, len: usize) -> Vec<u8> {
    (offset..offset + len as u64).map(|offset| byte(number, offset)).collect()
}

impl Ledger {
    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.0.lock().unwrap()
    }

    /// Notes the stream that the owner has now. Returns its number, and the stream.
    pub(crate) fn current(&self, network: &Arc<Network>) -> Option<(usize, Stream)> {
        let found = network.daemon(0).registry().get(AT_OWNER)?;
        let mut kept = self.kept();
        if !kept.last().is_some_and(|last| last.stream.is_same(&found)) {
            let deserted = BTreeSet::new();
            kept.push(Kept {
                stream: found.clone(),
                created: Instant::now(),
                ends: BTreeSet::new(),
                deserted,
                local_writers: 0,
            });
        }
        Some((kept.len() - 1, found))
    }

    /// The number of streams that the owner has had.
    pub(crate) fn len(&self) -> usize {
        self.kept().len()
    }

    /// When this stream was created; `None` if there is no such stream yet.
    pub(crate) fn created(&self, number: usize) -> Option<Instant> {
        self.kept().get(number).map(|kept| kept.created)
    }

    /// Notes that a chunk of a stream may end here.
    pub(crate) fn appends(&self, number: usize, end: u64) {
        self.kept()[number].ends.insert(end);
    }

    /// Notes that a writer at the owner's daemon has come or left.
    pub(crate) fn writer(&self, number: usize, has_come: bool) {
        let kept = &mut self.kept()[number];
        kept.local_writers = if has_come { kept.local_writers + 1 } else { kept.local_writers - 1 };
        kept.look();
    }

    /// Whether a stream has writers at other daemons.
    pub(crate) fn has_other_writers(&self, number: usize) -> bool {
        let kept = &self.kept()[number];
        kept.stream.writers().0.attached > kept.local_writers
    }

    /// Notes whether a stream has writers.
    pub(crate) fn look(&self, number: usize) {
        self.kept()[number].look();
    }

    /// The highest head of all streams.
    pub(crate) fn highest_head(&self) -> u64 {
        self.kept().iter().map(|kept| kept.stream.extent().head).max().unwrap_or(0)
    }
}

/// What a reader was told so far.
#[derive(Debug)]
pub(crate) struct Account {
    start: u64,
    position: u64,
    /// The streams whose bytes these can be; `None` before the first byte.
    numbers: Option<Vec<usize>>,
    /// Whether the next chunk may be the rest of one.
    may_be_rest: bool,
    delivered: u64,
    lost: u64,
}

impl Account {
    pub(crate) fn new(start: u64) -> Self {
        let (position, may_be_rest) = (start, true);
        Self { start, position, numbers: None, may_be_rest, delivered: 0, lost: 0 }
    }

    /// The offset after everything that the reader was told.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The streams that may be the one that is read.
    fn streams<'a>(&self, kept: &'a mut [Kept]) -> impl Iterator<Item = &'a mut Kept> {
        let is_known = |number: usize| match &self.numbers {
            Some(numbers) => numbers.contains(&number),
            None => true,
        };
        kept.iter_mut()
            .enumerate()
            .filter(move |(number, _)| is_known(*number))
            .map(|(_, kept)| kept)
    }

    /// A chunk was delivered.
    pub(crate) fn chunk(&mut self, ledger: &Ledger, bytes: &[u8]) -> Result<(), String> {
        let (from, to) = (self.position, self.position + bytes.len() as u64);
        let kept = ledger.kept();
        let is_of = |number: &usize| {
            let ends = &kept[*number].ends;
            let begins = self.may_be_rest || from == 0 || ends.contains(&from);
            begins && ends.contains(&to) && contents(*number, from, bytes.len()) == bytes
        };
        let known = self.numbers.take().unwrap_or_else(|| (0..kept.len()).collect());
        let numbers: Vec<usize> = known.iter().copied().filter(is_of).collect();
        if numbers.is_empty() {
            return Err(format!("{from}..{to} is no chunk of stream {known:?}"));
        }
        (self.position, self.numbers, self.may_be_rest) = (to, Some(numbers), false);
        self.delivered += bytes.len() as u64;
        Ok(())
    }

    /// A gap was reported. A chunk is only lost when a ring had no room for it any more.
    pub(crate) fn gap(&mut self, ledger: &Ledger, from: u64, to: u64) -> Result<(), String> {
        if from != self.position || to <= from {
            return Err(format!("a gap {from}..{to} at offset {}", self.position));
        }
        let is_overwritten = |kept: &mut Kept| {
            to + kept.stream.max_chunk() <= kept.stream.extent().head + LARGEST
                || kept.ends.range(to..).count() > INDEXED_CHUNKS
        };
        if !self.streams(&mut ledger.kept()).any(is_overwritten) {
            return Err(format!("a gap {from}..{to} that no ring can have"));
        }
        (self.position, self.lost) = (to, self.lost + (to - from));
        self.may_be_rest = true;
        Ok(())
    }

    /// The reader has reached an end.
    pub(crate) fn end(&self, ledger: &Ledger, reason: End, offset: u64) -> Result<(), String> {
        if offset != self.position || offset - self.start != self.delivered + self.lost {
            return Err(format!("the end at {offset}, read to {}", self.position));
        }
        let is_so = |kept: &mut Kept| {
            kept.look();
            let Extent { head, closed, failed, .. } = kept.stream.extent();
            match reason {
                End::Closed => closed && !failed && head == offset,
                End::Failed => failed && head == offset,
                End::CaughtUp => offset <= head,
                End::WritersGone => kept.deserted.contains(&(offset, false)),
                End::WriterDied => {
                    kept.stream.writers().0.died > 0
                        && kept.deserted.iter().any(|(at, _)| *at == offset)
                }
            }
        };
        let is_allowed = self.streams(&mut ledger.kept()).any(is_so);
        if is_allowed { Ok(()) } else { Err(format!("the end {reason} at {offset}")) }
    }

    /// The reader was told that its stream was removed.
    pub(crate) fn removed(&self, ledger: &Ledger) -> Result<(), String> {
        let is_removed = |kept: &mut Kept| kept.stream.extent().removed;
        let is_allowed = self.streams(&mut ledger.kept()).any(is_removed);
        if is_allowed { Ok(()) } else { Err("the stream was not removed".to_owned()) }
    }
}

/// The number of chunks for which every ring has room, if they are small.
const INDEXED_CHUNKS: usize = 1000;

/// The size of the largest chunk.
pub(crate) const LARGEST: u64 = 1024;
