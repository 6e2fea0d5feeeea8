//! A reader of a stream, of any kind, and what it must be given.

#[cfg(all(target_os = "linux", not(miri)))]
mod elsewhere;

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use pfs_stream::*;

use crate::{
    ledger::{Held, Ledger, Next, Place},
    notice::Notice,
    sink::{Taken, Way},
};

#[cfg(all(target_os = "linux", not(miri)))]
use crate::shm::ShmProcess;

/// Bytes that a reader of events takes out of the ring at once.
const BATCH: u64 = 64 * 1024;

enum Kind {
    Own(Box<Reader>),
    #[cfg(all(target_os = "linux", not(miri)))]
    Shm(Box<ShmProcess>),
    /// While the reader is converted from one kind into another.
    Between,
}

/// What wakes the reader, if it found nothing to read at its last look.
enum Sleep {
    Own(Arc<Notice>),
    #[cfg(all(target_os = "linux", not(miri)))]
    Shm(u32),
}

pub(crate) struct Following {
    kind: Kind,
    sleep: Option<Sleep>,
    /// The reader's number in the schedule, by which its stream knows it.
    pub(crate) number: u32,
    pub(crate) place: Place,
    /// The number of the ring that the stream keeps for the reader.
    pub(crate) ring: usize,
    /// The offset after what was handed on. Lags behind the position if events were taken together.
    handed: u64,
    /// Where the reader's first read began, perhaps inside a chunk.
    entered: u64,
    delivered: u64,
    pub(crate) lost: u64,
    lost_chunks: u64,
    /// Whether writers no longer wait for the reader.
    pub(crate) given_up: bool,
    /// What the reader was given last.
    pub(crate) last: Next,
    /// The reader reads nothing before this step.
    pub(crate) paused_until: u64,
    /// Whether the reader may sleep until it looks by itself: the holder of a lease has published,
    /// and has not yet woken it.
    pub(crate) is_overdue: bool,
    /// Whether a lease had ended in the ring when the reader attached: the last append that the
    /// holder began may overwrite what the reader reads.
    may_lose: bool,
}

impl Following {
    /// Attaches a reader. `None` if what it asked for does not exist yet.
    pub(crate) fn join(
        stream: &Stream,
        ledger: &Ledger,
        number: u32,
        options: ReadOptions,
    ) -> Option<Self> {
        let attached = stream.reader_of(options, Self::peer(number));
        Self::attached(attached, ledger, number, options)
    }

    pub(crate) fn peer(number: u32) -> Peer {
        Peer { pid: Some(number), uid: None }
    }

    pub(crate) fn attached(
        attached: Result<Reader, AttachError>,
        ledger: &Ledger,
        number: u32,
        options: ReadOptions,
    ) -> Option<Self> {
        let Some(place) = Place::new(ledger, options) else {
            let Start::Offset(offset) = options.start else {
                panic!("only an offset can be past head")
            };
            assert_eq!(attached.err(), Some(AttachError::PastHead { offset, head: ledger.head() }));
            return None;
        };
        let reader = attached.expect("a stream that is not removed accepts readers");
        assert_eq!((reader.start(), reader.head_at_attach()), (place.start, ledger.head()));
        assert_eq!(reader.deaths_before(), ledger.deaths_before);
        Some(Self {
            kind: Kind::Own(Box::new(reader)),
            sleep: None,
            number,
            place,
            ring: ledger.rings.current(),
            handed: place.at,
            entered: place.at,
            delivered: 0,
            lost: 0,
            lost_chunks: 0,
            given_up: false,
            last: Next::Nothing,
            paused_until: 0,
            is_overdue: false,
            may_lose: ledger.is_sealed(),
        })
    }

    /// Whether the reader keeps its stream from being leased, because it cannot follow.
    #[cfg(all(target_os = "linux", not(miri)))]
    pub(crate) fn stays(&self) -> bool {
        matches!(&self.kind, Kind::Shm(shm) if !shm.can_follow)
    }

    /// Whether the reader has something to hand on.
    #[cfg(all(target_os = "linux", not(miri)))]
    pub(crate) fn is_in_batch(&self) -> bool {
        self.handed < self.place.at
    }

    pub(crate) fn is_shm(&self) -> bool {
        !matches!(self.kind, Kind::Own(_))
    }

    /// Whether the reader has read all of a ring that its stream has left, by its own account.
    fn has_to_follow(&self) -> bool {
        match &self.kind {
            #[cfg(all(target_os = "linux", not(miri)))]
            Kind::Shm(shm) => shm.has_to_follow(),
            _ => false,
        }
    }

    /// What a ring holds, if the reader has that ring in another process.
    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub(crate) fn counters(&self, _: usize) -> Option<Held> {
        None
    }

    /// Whether writers wait for the reader.
    pub(crate) fn blocks(&self) -> bool {
        self.place.options.policy == SlowPolicy::Block && !self.given_up
    }

    /// Whether the reader was told an end or an error.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.last, Next::End(_) | Next::Removed | Next::TooSlow { .. })
    }

    /// Whether the reader sleeps and was not woken.
    pub(crate) fn is_asleep(&self) -> bool {
        match (&self.sleep, &self.kind) {
            (Some(Sleep::Own(notice)), _) => !notice.is_woken(),
            #[cfg(all(target_os = "linux", not(miri)))]
            (Some(Sleep::Shm(count)), Kind::Shm(shm)) => shm.notifier().count() == *count,
            _ => false,
        }
    }

    /// What the reader's ring holds. Only a reader in another process reads on in a ring that the
    /// stream has left.
    fn held(&self, ledger: &Ledger) -> Held {
        match &self.kind {
            #[cfg(all(target_os = "linux", not(miri)))]
            Kind::Shm(shm) => ledger.rings.left(shm.ring).unwrap_or_else(|| ledger.held()),
            _ => ledger.held(),
        }
    }

    /// What the reader must be given next.
    fn next(&self, ledger: &Ledger) -> Next {
        self.place.next(ledger, self.held(ledger))
    }

    /// Whether a read returns something.
    pub(crate) fn has_news(&self, ledger: &Ledger) -> bool {
        self.handed < self.place.at || self.next(ledger) != Next::Nothing
    }

    /// One read of about `most` bytes at most. If there is nothing to read, the reader falls asleep
    /// if `may_sleep`.
    pub(crate) fn read(&mut self, ledger: &Ledger, way: Way, most: usize, may_sleep: bool) {
        (self.sleep, self.is_overdue) = (None, false);
        if !self.is_shm() && self.handed == self.place.at {
            self.ring = ledger.rings.current();
        }
        match way {
            Way::Events if !self.is_shm() => self.read_event(ledger, may_sleep),
            Way::Events | Way::Bytes => {
                let mut sink = Vec::new();
                let read = self.read_into(&mut sink, most, may_sleep);
                self.check_read(ledger, read, &sink, None, (0, most));
            }
            Way::Runs { header, in_parts } => {
                let mut sink = Taken::new(header, in_parts);
                let read = self.read_into(&mut sink, most, may_sleep);
                let (bytes, runs) = (sink.bytes(), Some((&sink.runs[..], in_parts)));
                self.check_read(ledger, read, &bytes, runs, (header, most));
            }
        }
        self.check(ledger);
    }

    fn read_into(
        &mut self,
        sink: &mut impl Sink,
        most: usize,
        may_sleep: bool,
    ) -> Result<Option<Read>, ReadError> {
        match &mut self.kind {
            Kind::Own(reader) if !may_sleep => reader.try_read(sink, most),
            Kind::Own(reader) => {
                let (notice, waker) = Notice::new();
                match reader.poll_read(&mut Context::from_waker(&waker), sink, most) {
                    Poll::Ready(read) => read.map(Some),
                    Poll::Pending => {
                        self.sleep = Some(Sleep::Own(notice));
                        Ok(None)
                    }
                }
            }
            #[cfg(all(target_os = "linux", not(miri)))]
            Kind::Shm(shm) => {
                let count = shm.notifier().count();
                let read = shm.read(sink, most);
                if matches!(read, Ok(None)) && !shm.has_to_follow() {
                    self.sleep = Some(Sleep::Shm(count));
                }
                read
            }
            Kind::Between => unreachable!("the reader is here or in shared memory"),
        }
    }

    /// Checks that a read returned what it should have. `runs` says how a sink that takes parts got
    /// the bytes.
    fn check_read(
        &mut self,
        ledger: &Ledger,
        read: Result<Option<Read>, ReadError>,
        bytes: &[u8],
        runs: Option<(&[(usize, u64)], bool)>,
        (header, most): (usize, usize),
    ) {
        let held = self.held(ledger);
        let from = self.handed;
        let is_in_batch = from < self.place.at;
        let next = if is_in_batch { Next::Data } else { self.next(ledger) };
        let Some(Read::Data { chunks, bytes: len }) = self.check_other(ledger, next, read) else {
            assert!(bytes.is_empty(), "bytes came with another result than data");
            return;
        };
        assert_eq!(len, bytes.len());
        ledger.check_bytes(from, bytes);
        let first = ledger.chunk_at(from);
        let in_parts = runs.is_some_and(|(_, in_parts)| in_parts);
        let room = most.saturating_sub(header).max(1) as u64;
        let left = ledger.end_of(first) - from;
        let to = from + len as u64;
        if !is_in_batch && in_parts && left > room {
            assert!((1..=room).contains(&(len as u64)) && chunks == 0, "a part of {len} bytes");
            assert_eq!(runs.map(|(runs, _)| runs), Some(&[(len, left - len as u64)][..]));
            (self.place.at, self.handed) = (to, to);
            self.delivered += len as u64;
            return;
        }
        let expected = if is_in_batch {
            let enough = |chunk: &usize| ledger.end_of(*chunk) - from >= (most as u64).max(1);
            let last =
                (first..held.head).find(enough).map_or(u64::MAX, |chunk| ledger.end_of(chunk));
            last.min(self.place.at)
        } else {
            self.place.end_of_whole(ledger, held, header as u64, most as u64)
        };
        assert_eq!(to, expected, "the read returns as many whole chunks as requested");
        assert_eq!(chunks, ledger.chunk_at(to) - first);
        if let Some((runs, _)) = runs {
            let whole = (first..first + chunks)
                .map(|chunk| (ledger.end_of(chunk) - ledger.start_of(chunk).max(from)) as usize);
            assert!(
                whole.map(|len| (len, 0)).eq(runs.iter().copied()),
                "a run is a chunk: {runs:?}"
            );
        }
        self.handed = to;
        self.delivered += len as u64;
        if !is_in_batch {
            self.place.take_whole(to);
        }
    }

    /// Checks a read of anything but data. Data is returned unchecked.
    fn check_other(
        &mut self,
        ledger: &Ledger,
        next: Next,
        read: Result<Option<Read>, ReadError>,
    ) -> Option<Read> {
        let got = match read {
            Ok(None) if self.has_to_follow() => Next::Moved,
            Ok(None) => Next::Nothing,
            Ok(Some(Read::Data { .. })) => Next::Data,
            Ok(Some(Read::Gap { from, to, chunks })) => Next::Gap { from, to, chunks },
            Ok(Some(Read::End(end))) => Next::End(end),
            Err(ReadError::Removed) => Next::Removed,
            Err(ReadError::TooSlow { lag: Some(lag) }) => Next::TooSlow { lag },
            Err(error) => panic!("{error}, expected {next:?}"),
        };
        let (place, held) = (self.place, self.held(ledger));
        assert_eq!(got, next, "at {place:?}, {held:?}, head {head}", head = ledger.head());
        self.last = got;
        if next == Next::Data {
            return read.ok().flatten();
        }
        if let Next::Gap { from, to, chunks } = next {
            let is_there = |offset: u64| offset == ledger.start_of(ledger.chunk_at(offset));
            assert!(from == self.entered || is_there(from), "a gap begins at the start of a chunk");
            assert!(is_there(to) && to > from, "a gap ends at the start of a chunk");
            assert!(
                !self.blocks() || place.missing.is_some() || self.may_lose,
                "a reader that writers wait for lost data"
            );
            self.lost += to - from;
            self.lost_chunks += chunks;
        }
        let parts = place.at - place.settled;
        self.place.note(next, held, ledger);
        self.handed = self.place.at;
        if matches!(next, Next::Gap { .. } | Next::Removed | Next::TooSlow { .. }) {
            // Parts of a chunk whose rest is gone do not count.
            self.delivered -= parts;
        }
        None
    }

    fn read_event(&mut self, ledger: &Ledger, may_sleep: bool) {
        let Kind::Own(reader) = &mut self.kind else {
            unreachable!("only a reader of this process has events")
        };
        let event = if may_sleep {
            let (notice, waker) = Notice::new();
            match StreamReader::poll_next(&mut **reader, &mut Context::from_waker(&waker)) {
                Poll::Ready(event) => event.map(Some),
                Poll::Pending => {
                    self.sleep = Some(Sleep::Own(notice));
                    Ok(None)
                }
            }
        } else {
            reader.try_next()
        };
        let is_in_batch = self.handed < self.place.at;
        let next = if is_in_batch { Next::Data } else { self.next(ledger) };
        let read = match event {
            Ok(Some(Event::Chunk(bytes))) => {
                assert_eq!(next, Next::Data);
                self.last = next;
                let end = ledger.end_of(ledger.chunk_at(self.handed));
                assert_eq!(bytes.len() as u64, end - self.handed, "an event has a whole chunk");
                ledger.check_bytes(self.handed, &bytes);
                if !is_in_batch {
                    self.place.take_whole(self.place.end_of_whole(ledger, ledger.held(), 0, BATCH));
                }
                self.delivered += bytes.len() as u64;
                self.handed = end;
                return;
            }
            Ok(Some(Event::Gap { from, to, chunks })) => Ok(Some(Read::Gap { from, to, chunks })),
            Ok(Some(Event::End { reason, offset })) => {
                assert_eq!(offset, self.place.at);
                Ok(Some(Read::End(reason)))
            }
            Ok(Some(other)) => panic!("{other:?} comes only from a shm reader"),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        self.check_other(ledger, next, read);
    }

    /// Peeks ahead in the chunk that is read in parts.
    pub(crate) fn peek(&self, ledger: &Ledger, ahead: u64, most: usize) {
        let Kind::Own(reader) = &self.kind else { return };
        if ledger.removed || self.handed < self.place.at {
            return;
        }
        let (at, chunk) = (self.place.at, ledger.chunk_at(self.place.at));
        let mut bytes = Vec::new();
        let peeked = reader.peek(at + ahead, most, &mut bytes);
        // A ring that the stream has left may still hold what the stream does not.
        let is_gone = chunk < ledger.held().tail && peeked.is_none();
        let is_in_part = at > self.place.settled && !is_gone;
        let end = if is_in_part { ledger.end_of(chunk) } else { 0 };
        let len = end.saturating_sub(at + ahead).min(most as u64) as usize;
        assert_eq!((peeked, bytes.len()), (is_in_part.then_some(len), len));
        ledger.check_bytes(at + ahead, &bytes);
    }

    /// Checks that delivered and lost bytes together are everything from the reader's start to its
    /// position.
    fn check(&self, ledger: &Ledger) {
        assert_eq!(
            self.delivered + self.lost,
            self.handed - self.place.start,
            "delivered and lost bytes do not add up"
        );
        match &self.kind {
            Kind::Own(reader) => {
                assert_eq!(reader.position(), self.handed);
                assert_eq!(
                    (reader.lost_bytes(), reader.lost_chunks()),
                    (self.lost, self.lost_chunks)
                );
            }
            #[cfg(all(target_os = "linux", not(miri)))]
            Kind::Shm(shm) => {
                assert_eq!(shm.position(), self.place.at);
                if ledger.is_looked_at {
                    assert_eq!(shm.handout.position(), self.place.settled);
                    assert_eq!(shm.handout.lost_bytes(), self.lost);
                }
            }
            Kind::Between => unreachable!("the reader is here or in shared memory"),
        }
    }

    /// Checks that the stats agree with what the stream says about the reader, and that a sleeping
    /// reader sleeps through nothing.
    pub(crate) fn check_with(&self, ledger: &Ledger, stat: Option<&StreamStat>) {
        assert!(
            !self.is_asleep() || self.is_overdue || !self.has_news(ledger),
            "the reader sleeps although {:?} is due",
            self.next(ledger)
        );
        let held = self.held(ledger);
        let has_read_all = held.is_left && self.place.chunk(ledger) == held.head;
        assert_eq!(
            self.has_to_follow(),
            has_read_all,
            "whether the reader has read all of {held:?} at {:?}",
            self.place
        );
        let Some(stat) = stat else { return };
        let all = &stat.readers;
        let stat = all
            .iter()
            .find(|reader| reader.peer == Self::peer(self.number))
            .expect("the reader is attached");
        assert_eq!((stat.start, stat.position), (self.place.start, self.place.settled));
        assert_eq!((stat.lost_bytes, stat.was_block), (self.lost, self.given_up));
        assert_eq!(stat.policy == SlowPolicy::Block, self.blocks());
        assert!(
            !self.blocks() || self.may_lose || self.place.chunk(ledger) >= ledger.held().tail,
            "the next chunk of a `block` reader was overwritten"
        );
    }
}
