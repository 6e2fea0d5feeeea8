//! Any interleaving of appends, reads, joins and ends, against a model that never forgets a byte.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests, which clippy does not know as such

use pfs_stream::*;
use proptest::prelude::*;

const PEER: Peer = Peer { pid: None, uid: None };
const RING: u64 = 4096;
const CHANNEL: u64 = 2000;

#[derive(Clone, Debug)]
enum Operation {
    Append(u64),
    Join(Start, SlowPolicy, Until),
    Read(usize, usize),
    Leave(usize),
    WriterComes,
    WriterGoes { finished: bool },
    Close { failed: bool },
}

fn operation() -> impl Strategy<Value = Operation> {
    let start = prop_oneof![
        Just(Start::Oldest),
        Just(Start::New),
        (0..5000u64).prop_map(Start::Tail),
        (0..20_000u64).prop_map(Start::Offset),
    ];
    let policy = prop_oneof![Just(SlowPolicy::Drop), Just(SlowPolicy::Block), Just(SlowPolicy::Disconnect)];
    let until = prop_oneof![Just(Until::Closed), Just(Until::CaughtUp), Just(Until::WritersGone)];
    prop_oneof![
        20 => prop_oneof![1..20u64, 1..CHANNEL].prop_map(Operation::Append),
        4 => (start, policy, until).prop_map(|(start, policy, until)| Operation::Join(start, policy, until)),
        12 => (0..8usize, 1..3000usize).prop_map(|(who, max)| Operation::Read(who, max)),
        2 => (0..8usize).prop_map(Operation::Leave),
        1 => Just(Operation::WriterComes),
        1 => any::<bool>().prop_map(|finished| Operation::WriterGoes { finished }),
        1 => any::<bool>().prop_map(|failed| Operation::Close { failed }),
    ]
}

fn byte_at(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9E37_79B9) >> 13) as u8
}

/// What the model knows of a reader.
struct Follower {
    reader: Reader,
    options: ReadOptions,
    position: u64,
    head_at_attach: u64,
    lost: u64,
}

#[derive(Default)]
struct Model {
    /// The end of each chunk ever appended.
    ends: Vec<u64>,
    closed: bool,
    failed: bool,
    followers: Vec<Follower>,
}

impl Model {
    fn head(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    fn is_boundary(&self, offset: u64) -> bool {
        offset == 0 || self.ends.binary_search(&offset).is_ok()
    }

    /// Where the chunk that holds the byte at `offset` starts.
    fn chunk_of(&self, offset: u64) -> u64 {
        let ended = self.ends.partition_point(|end| *end <= offset);
        if ended == 0 { 0 } else { self.ends[ended - 1] }
    }

    fn take(&mut self, who: usize) -> Option<Follower> {
        (who < self.followers.len()).then(|| self.followers.swap_remove(who))
    }

    fn append(&mut self, stream: &Stream, writer: Option<&mut Writer>, len: u64) {
        let Some(writer) = writer else { return };
        let head = self.head();
        let chunk: Vec<u8> = (head..head + len).map(byte_at).collect();
        match writer.try_append(&chunk) {
            Ok(Some(appended)) => {
                assert_eq!(appended.offset, head + len);
                assert_eq!(appended.readers, self.followers.len());
                self.ends.push(head + len);
            }
            Ok(None) => {
                // Only a `block` reader may hold a writer up, and only by what it has not read.
                let awaited = |follower: &Follower| {
                    follower.options.policy == SlowPolicy::Block
                        && head + len - self.chunk_of(follower.position) > stream.stat().capacity
                };
                assert!(self.followers.iter().any(awaited));
            }
            Err(error) => assert!(self.closed && error == AppendError::Closed),
        }
    }

    fn join(&mut self, stream: &Stream, options: ReadOptions) {
        let head = self.head();
        match stream.reader(options, PEER) {
            Err(error) => {
                let Start::Offset(offset) = options.start else { panic!("{error}") };
                assert!(offset > head, "{error}");
            }
            Ok(reader) => {
                let position = reader.start();
                match options.start {
                    Start::Offset(offset) => assert_eq!(position, offset),
                    Start::New => assert_eq!(position, head),
                    // With fewer of them, the ring must have given up all that was before.
                    Start::Tail(bytes) => {
                        let tail = stream.stat().tail;
                        assert_eq!(position, head.saturating_sub(bytes).max(tail));
                    }
                    _ => assert!(self.is_boundary(position) && head - position <= RING),
                }
                self.followers.push(Follower { reader, options, position, head_at_attach: head, lost: 0 });
            }
        }
    }

    fn read(&mut self, who: usize, max: usize) {
        let head = self.head();
        let Some(mut follower) = self.take(who) else {
            return;
        };
        let before = follower.position;
        let mut bytes = Vec::new();
        match follower.reader.try_read(&mut bytes, max) {
            Ok(None) => assert_eq!(before, head, "nothing to read, but not at head"),
            Ok(Some(Read::Data { chunks, bytes: len })) => {
                follower.position += len as u64;
                assert!(chunks > 0 && bytes.len() == len && (chunks == 1 || len <= max));
                assert_eq!(bytes, (before..follower.position).map(byte_at).collect::<Vec<_>>());
                assert!(self.is_boundary(follower.position), "a chunk came in part");
            }
            Ok(Some(Read::Gap { from, to, .. })) => {
                assert_eq!(from, before);
                assert!(to > from && self.is_boundary(to));
                let asked_for = matches!(follower.options.start, Start::Offset(offset) if offset == from);
                assert!(asked_for || follower.options.policy == SlowPolicy::Drop);
                // A reader that started inside a chunk may lose the rest of it.
                assert!(from == follower.reader.start() || self.is_boundary(from));
                follower.position = to;
                follower.lost += to - from;
            }
            Ok(Some(Read::End(End::CaughtUp))) => {
                assert_eq!(follower.options.until, Until::CaughtUp);
                assert!(before == follower.head_at_attach || follower.lost > 0);
            }
            Ok(Some(Read::End(end @ (End::Closed | End::Failed)))) => {
                assert!(self.closed && before == head);
                assert_eq!(end == End::Failed, self.failed);
            }
            Ok(Some(Read::End(_))) => {
                assert_eq!((follower.options.until, before), (Until::WritersGone, head));
            }
            Err(error) => {
                assert!(matches!(error, ReadError::TooSlow { position, lag }
                    if position == before && lag == head - before && lag > 0));
                assert_eq!(follower.options.policy, SlowPolicy::Disconnect);
            }
        }
        assert_eq!(follower.reader.position(), follower.position);
        assert_eq!(follower.reader.lost_bytes(), follower.lost);
        self.followers.push(follower);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 20_000, failure_persistence: None, ..Default::default() })]
    #[test]
    fn every_reader_gets_every_byte_or_is_told_which_it_lost(
        operations in prop::collection::vec(operation(), 1..200),
    ) {
        let config = StreamConfig { ring_buffer_size: RING, channel_buffer_size: CHANNEL, ..Default::default() };
        let stream = Stream::new("s", config).unwrap();
        let mut model = Model::default();
        let mut writers = vec![stream.writer(PEER).unwrap()];
        for operation in operations {
            match operation {
                Operation::Append(len) => model.append(&stream, writers.last_mut(), len),
                Operation::Join(start, policy, until) => {
                    model.join(&stream, ReadOptions { start, policy, until, wait: false });
                }
                Operation::Read(who, max) => model.read(who, max),
                Operation::Leave(who) => {
                    model.take(who);
                }
                Operation::WriterComes => match stream.writer(PEER) {
                    Ok(writer) => writers.push(writer),
                    Err(error) => assert!(model.closed && error == AttachError::Closed),
                },
                Operation::WriterGoes { finished } => match writers.pop() {
                    Some(writer) if finished => writer.finish(),
                    writer => drop(writer),
                },
                Operation::Close { failed } => {
                    model.failed |= failed && !model.closed;
                    model.closed = true;
                    if failed {
                        prop_assert_eq!(stream.close_failed(), model.failed);
                    } else {
                        stream.close();
                    }
                }
            }
            let stat = stream.stat();
            prop_assert_eq!(stat.head, model.head());
            prop_assert_eq!(stat.readers.len(), model.followers.len());
            prop_assert!(stat.head - stat.tail <= stat.capacity && model.is_boundary(stat.tail));
        }
        // Whoever is left reads to the end.
        for _ in 0..model.followers.len() {
            for _ in 0..1000 {
                model.read(0, usize::MAX);
                let last = model.followers.len() - 1;
                model.followers.swap(0, last);
            }
            let follower = model.followers.swap_remove(0);
            if follower.options.policy == SlowPolicy::Block && follower.options.until == Until::Closed {
                prop_assert_eq!(follower.position, model.head());
            }
        }
    }
}
