//! Replicas: every reader gets what the link appends, at the offsets of the stream that is repeated,
//! and is told exactly of what the link skips.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used)] // test helpers, not known to clippy as tests

use std::{
    ops::Range,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

#[cfg(all(target_os = "linux", not(miri)))]
use pfs_stream::shm::{Handout, ShmReader};
use pfs_stream::*;
use proptest::{collection::vec, prelude::*};

const SIZE: u64 = 16 * 1024;

/// Where the replicas of these tests begin.
const BEGIN: u64 = 1_000_000_007;

fn byte_at(offset: u64) -> u8 {
    (offset ^ (offset >> 8) ^ (offset >> 16)) as u8
}

fn chunk(from: u64, len: u64) -> Vec<u8> {
    (from..from + len).map(byte_at).collect()
}

fn upstream() -> Upstream {
    let started = UNIX_EPOCH + Duration::from_secs(1000);
    Upstream {
        identity: Identity::new(started, 7),
        created: started + Duration::from_secs(5),
        begin: BEGIN,
    }
}

fn replica() -> (Registry, Stream, Link) {
    let registry = Registry::new(Limits::default());
    let config = StreamConfig::default().buffer_size(SIZE);
    let (stream, link) = registry.create_replica("/edge/s", config, &upstream()).unwrap();
    (registry, stream, link)
}

/// Appends a chunk at head. Returns whether there was room.
fn push(link: &mut Link, len: u64) -> bool {
    link.try_push(&chunk(link.head(), len), SystemTime::now()).unwrap()
}

fn options(policy: SlowPolicy) -> ReadOptions {
    ReadOptions::default().policy(policy)
}

#[derive(Debug)]
enum Place {
    Here(Reader),
    #[cfg(all(target_os = "linux", not(miri)))]
    Elsewhere(ShmReader, Handout),
    /// On its way from elsewhere to here.
    Nowhere,
}

/// A reader, and what it was told.
#[derive(Debug)]
struct Following {
    place: Place,
    policy: SlowPolicy,
    start: u64,
    at: u64,
    gaps: Vec<Range<u64>>,
    lost_chunks: u64,
    end: Option<Result<End, ReadError>>,
}

impl Following {
    fn new(stream: &Stream, policy: SlowPolicy, is_elsewhere: bool) -> Self {
        let reader = stream.reader(options(policy)).unwrap();
        let start = reader.position();
        let place = if is_elsewhere { Self::elsewhere(reader) } else { Place::Here(reader) };
        Self { place, policy, start, at: start, gaps: Vec::new(), lost_chunks: 0, end: None }
    }

    #[cfg(all(target_os = "linux", not(miri)))]
    fn elsewhere(reader: Reader) -> Place {
        let handout = reader.hand_out(true).unwrap();
        let ring = handout.ring().unwrap().try_clone_to_owned().unwrap();
        let page = handout.page().unwrap().try_clone_to_owned().unwrap();
        Place::Elsewhere(ShmReader::open(ring, page, &handout.start()).unwrap(), handout)
    }

    #[cfg(not(all(target_os = "linux", not(miri))))]
    fn elsewhere(reader: Reader) -> Place {
        Place::Here(reader)
    }

    #[cfg(all(target_os = "linux", not(miri)))]
    fn come_back(&mut self) {
        let Place::Elsewhere(_, handout) = std::mem::replace(&mut self.place, Place::Nowhere)
        else {
            return;
        };
        self.place = Place::Here(handout.take_back());
    }

    /// Reads once. Returns whether there was anything.
    fn read(&mut self, most: usize) -> bool {
        if self.end.is_some() {
            return false;
        }
        let mut bytes = Vec::new();
        let read = match &mut self.place {
            Place::Here(reader) => reader.try_read(&mut bytes, most),
            #[cfg(all(target_os = "linux", not(miri)))]
            Place::Elsewhere(reader, handout) => {
                let mut read = reader.try_read(&mut bytes, most);
                while read == Ok(None) && reader.has_to_follow() {
                    let Ok(next) = handout.follow() else {
                        // The rest comes over the connection.
                        self.come_back();
                        return self.read(most);
                    };
                    let file = next.file().try_clone_to_owned().unwrap();
                    reader.follow(file, next.layout()).unwrap();
                    read = reader.try_read(&mut bytes, most);
                }
                if reader.room_is_wanted() {
                    handout.made_room();
                }
                read
            }
            Place::Nowhere => unreachable!("the reader is on its way"),
        };
        match read {
            Ok(None) => return false,
            Ok(Some(Read::Data { .. })) => {
                assert!(bytes == chunk(self.at, bytes.len() as u64), "from {}", self.at);
                self.at += bytes.len() as u64;
            }
            Ok(Some(Read::Gap { from, to, chunks })) => {
                assert_eq!(from, self.at);
                assert!(to > from);
                match self.gaps.last_mut().filter(|last| last.end == from) {
                    Some(last) => last.end = to,
                    None => self.gaps.push(from..to),
                }
                (self.at, self.lost_chunks) = (to, self.lost_chunks + chunks);
            }
            Ok(Some(Read::End(end))) => self.end = Some(Ok(end)),
            Err(error) => self.end = Some(Err(error)),
        }
        true
    }

    fn read_all(&mut self) {
        while self.read(5000) {}
    }
}

#[test]
fn a_replica_has_the_identity_the_offsets_and_the_times_of_its_upstream() {
    let (registry, stream, mut link) = replica();
    assert!(stream.is_replica());
    assert_eq!(stream.identity(), upstream().identity);
    let (tail, head) = (stream.extent().tail, stream.extent().head);
    assert_eq!((tail, head, link.head()), (BEGIN, BEGIN, BEGIN));
    let first = upstream().created + Duration::from_secs(60);
    link.try_push(&"one", first).unwrap();
    link.try_push(&"two", first + Duration::from_secs(60)).unwrap();
    // A time before that of the chunk before counts as that.
    link.try_push(&"three", first).unwrap();
    let stat = stream.stat();
    assert_eq!((stat.created, stat.head, stat.chunks), (upstream().created, BEGIN + 11, 3));
    assert_eq!(stat.last_append, Some(first + Duration::from_secs(60)));
    assert_eq!(stream.appended_at(BEGIN), Some(first));
    let mut reader = stream.reader(ReadOptions::default().start(Start::Offset(BEGIN + 3))).unwrap();
    let mut bytes = Vec::new();
    reader.try_read(&mut bytes, 100).unwrap();
    assert_eq!(bytes, b"twothree");
    assert_eq!(stream.writer().unwrap_err(), AttachError::Replica);
    assert!(registry.create_replica("/edge/s", StreamConfig::default(), &upstream()).is_err());
}

#[test]
fn a_reader_reads_everything_before_a_gap_and_is_then_told_of_exactly_that_gap() {
    for (is_elsewhere, policy) in [
        (false, SlowPolicy::Drop),
        (false, SlowPolicy::Disconnect),
        (false, SlowPolicy::Block),
        (true, SlowPolicy::Drop),
        (true, SlowPolicy::Disconnect),
        (true, SlowPolicy::Block),
    ] {
        let (_registry, stream, mut link) = replica();
        let mut reader = Following::new(&stream, policy, is_elsewhere);
        push(&mut link, 100);
        reader.read_all();
        push(&mut link, 1000);
        // More than the channel buffer, for which a slow reader would be disconnected.
        link.skip_to(BEGIN + 1100 + 10 * SIZE, 5).unwrap();
        let late = Following::new(&stream, policy, is_elsewhere);
        assert_eq!((late.start, stream.extent().tail), (link.head(), link.head()));
        reader.read_all();
        push(&mut link, 300);
        reader.read_all();
        let gap = BEGIN + 1100..BEGIN + 1100 + 10 * SIZE;
        assert_eq!((&*reader.gaps, reader.lost_chunks), (&[gap][..], 5), "{policy}");
        assert_eq!((reader.at, &reader.end), (link.head(), &None), "{policy}");
        link.close(false);
        reader.read_all();
        assert_eq!(reader.end, Some(Ok(End::Closed)));
    }
}

#[test]
fn a_skip_that_is_none_changes_nothing_and_an_ended_replica_takes_none() {
    let (_registry, stream, mut link) = replica();
    push(&mut link, 10);
    for offset in [0, BEGIN, BEGIN + 10] {
        link.skip_to(offset, 1).unwrap();
        assert_eq!((stream.extent().tail, link.head()), (BEGIN, BEGIN + 10));
    }
    link.close(true);
    assert!(link.is_ended());
    assert_eq!(link.skip_to(BEGIN + 20, 1), Err(WriteError::Closed));
    assert_eq!(stream.summary().state, State::Failed);
    link.remove();
    assert_eq!(link.try_push(&"x", SystemTime::now()), Err(WriteError::Removed));
}

#[test]
fn a_reader_ends_with_the_writers_of_the_upstream() {
    let (_registry, stream, mut link) = replica();
    let until = ReadOptions::default().until(Until::WritersGone);
    let mut early = stream.reader(until).unwrap();
    link.set_writers(Writers::default());
    assert_eq!(early.try_read(&mut Vec::new(), 10), Ok(None), "no writer was attached yet");
    let attached = Writers { attached: 1, were_any: true, died: 3, died_before: 3, finished: 2 };
    link.set_writers(attached);
    let stat = stream.stat();
    assert_eq!((stat.writers_died, stat.writers_finished, stream.summary().writers), (3, 2, 1));
    let mut reader = stream.reader(until).unwrap();
    assert_eq!(reader.try_read(&mut Vec::new(), 10), Ok(None));
    link.set_writers(Writers { attached: 0, finished: 3, ..attached });
    let end = reader.try_read(&mut Vec::new(), 10);
    assert_eq!(end, Ok(Some(Read::End(End::WritersGone))), "three had died before");
    let mut late = stream.reader(until).unwrap();
    assert_eq!(late.try_read(&mut Vec::new(), 10), end);
    link.set_writers(Writers { attached: 0, died: 4, ..attached });
    let died = late.try_read(&mut Vec::new(), 10);
    assert_eq!(died, Ok(Some(Read::End(End::WriterDied))));
}

#[test]
fn what_comes_after_the_last_writer_has_left_is_from_another_one() {
    let (_registry, stream, mut link) = replica();
    let until = ReadOptions::default().until(Until::WritersGone);
    let mut reader = stream.reader(until).unwrap();
    let gone = Writers { attached: 0, were_any: true, died: 2, died_before: 1, finished: 0 };
    link.set_writers(gone);
    let mut skips = false;
    for _ in 0..2 {
        if skips {
            link.skip_to(link.head() + 10, 1).unwrap();
        } else {
            assert!(push(&mut link, 10));
        }
        let read = reader.try_read(&mut Vec::new(), 100);
        assert!(matches!(read, Ok(Some(Read::Data { .. } | Read::Gap { .. }))), "{read:?}");
        // The link has not caught up, so nothing is known of the writer that appended this.
        assert_eq!(reader.try_read(&mut Vec::new(), 100), Ok(None), "skips: {skips}");
        let (writers, _) = stream.writers();
        assert_eq!((writers.attached, writers.died, writers.died_before), (1, 2, 2));
        link.set_writers(gone);
        skips = true;
    }
    let end = reader.try_read(&mut Vec::new(), 100);
    assert_eq!(end, Ok(Some(Read::End(End::WriterDied))));
}

#[test]
fn the_memory_of_rings_that_were_left_by_skipping_is_given_back() {
    let (registry, stream, mut link) = replica();
    for _ in 0..10 {
        push(&mut link, SIZE);
    }
    let full = registry.memory();
    let slow = Following::new(&stream, SlowPolicy::Drop, false);
    for _ in 0..1000 {
        push(&mut link, SIZE);
        link.skip_to(link.head() + 1, 1).unwrap();
    }
    assert!(registry.memory() < 3 * full, "{} and {full}", registry.memory());
    drop(slow);
    assert!(registry.memory() < full);
}

#[tokio::test]
async fn a_link_waits_for_a_block_reader_and_goes_on_when_there_is_room() {
    let (_registry, stream, mut link) = replica();
    let mut reader = Following::new(&stream, SlowPolicy::Block, false);
    while push(&mut link, 1000) {}
    let head = link.head();
    link.skip_to(head + 500, 1).unwrap();
    let rest = chunk(head + 500, 1000);
    let pushed = tokio::spawn(async move { link.push(rest, SystemTime::now()).await });
    tokio::task::yield_now().await;
    reader.read_all();
    pushed.await.unwrap().unwrap();
    reader.read_all();
    assert_eq!((reader.gaps, reader.at), (vec![head..head + 500; 1], head + 1500));
}

#[test]
fn readers_in_threads_lose_exactly_what_the_link_skips_while_it_appends_and_skips() {
    let rounds = if cfg!(miri) { 20 } else { 3000 };
    let (_registry, stream, mut link) = replica();
    let readers: Vec<_> = (0..4)
        .map(|number| {
            let options = options(SlowPolicy::Block);
            let mut reader = stream.reader(options).unwrap();
            std::thread::spawn(move || {
                let (mut at, mut lost) = (reader.position(), 0);
                loop {
                    let mut bytes = Vec::new();
                    match reader.read_blocking(&mut bytes, 1000 * (1 + number)).unwrap() {
                        Read::Data { .. } => {
                            assert!(bytes == chunk(at, bytes.len() as u64), "from {at}");
                            at += bytes.len() as u64;
                        }
                        Read::Gap { from, to, .. } => {
                            assert_eq!(from, at);
                            (at, lost) = (to, lost + to - from);
                        }
                        Read::End(_) => return (at, lost),
                    }
                }
            })
        })
        .collect();
    let mut skipped = 0;
    for round in 0..rounds {
        let next = chunk(link.head(), 1 + round * 7 % 3000);
        pollster::block_on(link.push(next, SystemTime::now())).unwrap();
        if round % 3 == 0 {
            let bytes = 1 + round * 11 % 50_000;
            link.skip_to(link.head() + bytes, 1).unwrap();
            skipped += bytes;
        }
        link.wake();
    }
    link.close(false);
    for reader in readers {
        assert_eq!(reader.join().unwrap(), (link.head(), skipped));
    }
}

/// A step of the link or of the readers.
#[derive(Clone, Debug)]
enum Step {
    Push(u64),
    Skip(u64, u64),
    Join(SlowPolicy, bool),
    Read(usize, usize),
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let policy =
        prop_oneof![Just(SlowPolicy::Drop), Just(SlowPolicy::Block), Just(SlowPolicy::Disconnect)];
    prop_oneof![
        8 => prop_oneof![1..50_u64, 1..=SIZE / 4].prop_map(Step::Push),
        1 => (prop_oneof![1..50_u64, 1..4 * SIZE], 0..100_u64)
            .prop_map(|(bytes, chunks)| Step::Skip(bytes, chunks)),
        2 => (policy, any::<bool>()).prop_map(|(policy, elsewhere)| Step::Join(policy, elsewhere)),
        6 => (any::<usize>(), 1..20_000_usize).prop_map(|(reader, most)| Step::Read(reader, most)),
        1 => any::<usize>().prop_map(Step::Leave),
    ]
}

/// Bytes in `within` that the link has not skipped.
fn appended(skipped: &[Range<u64>], within: Range<u64>) -> u64 {
    let missing = skipped
        .iter()
        .map(|gap| gap.end.min(within.end).saturating_sub(gap.start.max(within.start)));
    within.end - within.start - missing.sum::<u64>()
}

/// A quarter of the usual number, because each case maps many rings.
fn cases() -> u32 {
    ProptestConfig::default().cases.div_ceil(if cfg!(miri) { 128 } else { 4 })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_link_skips_what_readers_get_and_are_told_to_be_lost_is_all(
        steps in vec(step(), 1..120),
    ) {
        let (_registry, stream, mut link) = replica();
        let mut readers: Vec<Following> = Vec::new();
        let mut skipped: Vec<Range<u64>> = Vec::new();
        for step in steps {
            match step {
                Step::Push(len) => {
                    push(&mut link, len);
                    link.wake();
                }
                Step::Skip(bytes, chunks) => {
                    let from = link.head();
                    link.skip_to(from + bytes, chunks).unwrap();
                    match skipped.last_mut().filter(|last| last.end == from) {
                        Some(last) => last.end += bytes,
                        None => skipped.push(from..from + bytes),
                    }
                }
                Step::Join(policy, elsewhere) if readers.len() < 8 => {
                    readers.push(Following::new(&stream, policy, elsewhere));
                }
                Step::Read(reader, most) if !readers.is_empty() => {
                    let reader = reader % readers.len();
                    readers[reader].read(most);
                }
                Step::Leave(reader) if !readers.is_empty() => {
                    readers.swap_remove(reader % readers.len());
                }
                _ => {}
            }
        }
        link.close(false);
        for reader in &mut readers {
            reader.read_all();
            let skipped = skipped.iter().filter(|gap| gap.end > reader.start);
            let skipped: Vec<Range<u64>> =
                skipped.map(|gap| gap.start.max(reader.start)..gap.end).collect();
            let is_told = |gap: &Range<u64>| {
                reader.gaps.iter().any(|told| told.start <= gap.start && gap.end <= told.end)
            };
            match &reader.end {
                Some(Ok(End::Closed)) => {
                    prop_assert_eq!(reader.at, link.head());
                    prop_assert!(skipped.iter().all(is_told), "{:?} of {:?}", reader.gaps, skipped);
                }
                Some(Err(ReadError::TooSlow { .. })) if reader.policy == SlowPolicy::Disconnect => {
                    prop_assert!(appended(&skipped, reader.at..link.head()) > SIZE);
                }
                end => prop_assert!(false, "{:?}", end),
            }
            if reader.policy == SlowPolicy::Block {
                prop_assert_eq!(&reader.gaps, &skipped, "a block reader loses nothing else");
            }
        }
    }
}
