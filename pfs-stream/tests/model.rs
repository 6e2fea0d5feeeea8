//! Model-based test: any interleaving of appends, reads, joins and ends, against a model that never
//! forgets a byte.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::expect_used)] // test helpers, not known to clippy as tests

use pfs_stream::*;
use proptest::prelude::*;

const RING: u64 = 4096;
const CHANNEL: u64 = 2000;

#[derive(Clone, Debug)]
enum Operation {
    Append(u64),
    Join(Start, SlowPolicy, Until),
    Read(usize, usize, Taking),
    Peek(usize, u64, usize),
    Leave(usize),
    WriterComes,
    WriterGoes { finished: bool },
    Close { failed: bool },
}

/// How a sink takes the data of a read.
#[derive(Clone, Copy, Debug)]
struct Taking {
    /// Chunks larger than the requested size come in parts.
    parts: bool,
    /// Bytes that are put before each chunk or part.
    header_len: usize,
}

/// Data that one read put into the sink, with a header before each run of bytes.
struct Taken {
    taking: Taking,
    buffer: Vec<u8>,
    /// Length of each run, and how much of its chunk is left after the run.
    runs: Vec<(usize, u64)>,
}

impl Taken {
    fn new(taking: Taking) -> Self {
        Self { taking, buffer: Vec::new(), runs: Vec::new() }
    }

    /// The bytes without headers.
    fn bytes(&self) -> Vec<u8> {
        let mut rest = &self.buffer[..];
        let mut bytes = Vec::new();
        for (len, _) in &self.runs {
            let (run, after) = rest[self.taking.header_len..].split_at(*len);
            bytes.extend_from_slice(run);
            rest = after;
        }
        assert!(rest.is_empty());
        bytes
    }
}

impl Sink for Taken {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    fn header_len(&self) -> usize {
        self.taking.header_len
    }

    fn takes_parts(&self) -> bool {
        self.taking.parts
    }

    fn piece(&mut self, len: usize, last: bool) {
        assert!(last);
        self.part(len, 0);
    }

    fn part(&mut self, len: usize, left: u64) {
        self.buffer.resize(self.buffer.len() + self.taking.header_len, 0);
        self.runs.push((len, left));
    }
}

fn taking() -> impl Strategy<Value = Taking> {
    (any::<bool>(), 0..9usize).prop_map(|(parts, header_len)| Taking { parts, header_len })
}

fn operation() -> impl Strategy<Value = Operation> {
    let start = prop_oneof![
        Just(Start::Oldest),
        Just(Start::New),
        (0..5000u64).prop_map(Start::Tail),
        (0..20_000u64).prop_map(Start::Offset),
    ];
    let policy =
        prop_oneof![Just(SlowPolicy::Drop), Just(SlowPolicy::Block), Just(SlowPolicy::Disconnect)];
    let until = prop_oneof![Just(Until::Closed), Just(Until::CaughtUp), Just(Until::WritersGone)];
    prop_oneof![
        20 => prop_oneof![1..20u64, 1..CHANNEL].prop_map(Operation::Append),
        4 => (start, policy, until).prop_map(|(start, policy, until)| Operation::Join(start, policy, until)),
        12 => (0..8usize, prop_oneof![1..200usize, 1..3000usize], taking())
            .prop_map(|(who, max, taking)| Operation::Read(who, max, taking)),
        4 => (0..8usize, 0..CHANNEL, 1..1000usize).prop_map(|(who, ahead, most)| Operation::Peek(who, ahead, most)),
        2 => (0..8usize).prop_map(Operation::Leave),
        1 => Just(Operation::WriterComes),
        1 => any::<bool>().prop_map(|finished| Operation::WriterGoes { finished }),
        1 => any::<bool>().prop_map(|failed| Operation::Close { failed }),
    ]
}

fn byte_at(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9E37_79B9) >> 13) as u8
}

/// The model's state of a reader.
struct Follower {
    reader: Reader,
    options: ReadOptions,
    position: u64,
    /// Start of the chunk that the reader has in part, or the position.
    settled: u64,
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

    /// The start of the chunk that holds the byte at `offset`.
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
            Ok(()) => {
                assert_eq!(stream.bytes_written(), head + len);
                assert_eq!(writer.readers(), self.followers.len());
                self.ends.push(head + len);
            }
            Err(WriteError::Full) => {
                // Only a `block` reader may delay a writer, and only by data that it has not read.
                let awaited = |follower: &Follower| {
                    follower.options.policy == SlowPolicy::Block
                        && head + len - self.chunk_of(follower.position) > stream.stat().capacity
                };
                assert!(self.followers.iter().any(awaited));
            }
            Err(error) => assert!(self.closed && error == WriteError::Closed),
        }
    }

    fn join(&mut self, stream: &Stream, options: ReadOptions) {
        let head = self.head();
        match stream.reader(options) {
            Err(error) => {
                let Start::Offset(offset) = options.start else { panic!("{error}") };
                assert!(offset > head, "{error}");
            }
            Ok(reader) => {
                let position = reader.start();
                match options.start {
                    Start::Offset(offset) => assert_eq!(position, offset),
                    Start::New => assert_eq!(position, head),
                    // If the stream holds fewer bytes, the reader starts at tail.
                    Start::Tail(bytes) => {
                        let tail = stream.stat().tail;
                        assert_eq!(position, head.saturating_sub(bytes).max(tail));
                    }
                    _ => assert!(self.is_boundary(position) && head - position <= RING),
                }
                self.followers.push(Follower {
                    reader,
                    options,
                    position,
                    settled: position,
                    head_at_attach: head,
                    lost: 0,
                });
            }
        }
    }

    fn peek(&self, stream: &Stream, who: usize, ahead: u64, most: usize) {
        let Some(follower) = self.followers.get(who) else { return };
        let mut bytes = b"before".to_vec();
        let peeked = follower.reader.peek(follower.position + ahead, most, &mut bytes);
        let in_part = follower.position > follower.settled;
        // A ring buffer that the stream has left keeps its contents until the reader leaves it too.
        let must_be_held = in_part && follower.settled >= stream.stat().tail;
        assert!(if peeked.is_some() { in_part } else { !must_be_held });
        let from = follower.position + ahead;
        let end = self.ends.iter().find(|end| **end > follower.position).copied().unwrap_or(from);
        let len = end.saturating_sub(from).min(most as u64) * u64::from(peeked.is_some());
        assert_eq!(peeked.unwrap_or(0) as u64, len);
        assert_eq!(
            bytes,
            b"before".iter().copied().chain((from..from + len).map(byte_at)).collect::<Vec<_>>()
        );
    }

    fn read(&mut self, who: usize, max: usize, taking: Taking) {
        let head = self.head();
        let Some(mut follower) = self.take(who) else {
            return;
        };
        let before = follower.position;
        let mut taken = Taken::new(taking);
        match follower.reader.try_read(&mut taken, max) {
            Ok(None) => assert_eq!(before, head, "no data although the reader is not at head"),
            Ok(Some(Read::Data { chunks, bytes: len })) => {
                follower.position += len as u64;
                assert_eq!(
                    taken.bytes(),
                    (before..follower.position).map(byte_at).collect::<Vec<_>>()
                );
                let may_exceed = chunks == 1 && !taking.parts || max <= taking.header_len;
                assert!(
                    may_exceed || taken.buffer.len() <= max,
                    "{taken:?} is more than {max}",
                    taken = taken.runs
                );
                if self.is_boundary(follower.position) {
                    assert!(chunks > 0 && chunks == taken.runs.len());
                    assert!(taken.runs.iter().all(|(_, left)| *left == 0));
                    follower.settled = follower.position;
                } else {
                    assert!(taking.parts && chunks == 0, "a chunk was read in part");
                    let end = self.ends[self.ends.partition_point(|end| *end <= before)];
                    assert_eq!(taken.runs, [(len, end - follower.position)]);
                }
            }
            Ok(Some(Read::Gap { from, to, .. })) => {
                assert_eq!(from, follower.settled, "the parts before the gap count as lost");
                assert!(to > from && self.is_boundary(to));
                let asked_for =
                    matches!(follower.options.start, Start::Offset(offset) if offset == from);
                assert!(asked_for || follower.options.policy == SlowPolicy::Drop);
                // A reader that started inside a chunk may lose the rest of that chunk.
                assert!(from == follower.reader.start() || self.is_boundary(from));
                (follower.position, follower.settled) = (to, to);
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
                assert!(matches!(error, ReadError::TooSlow { lag: Some(lag) }
                    if lag == head - follower.settled && lag > 0));
                follower.position = follower.settled;
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
        let mut writers = vec![stream.writer().unwrap()];
        for operation in operations {
            match operation {
                Operation::Append(len) => model.append(&stream, writers.last_mut(), len),
                Operation::Join(start, policy, until) => {
                    model.join(&stream, ReadOptions { start, policy, until, ..Default::default() });
                }
                Operation::Read(who, max, taking) => model.read(who, max, taking),
                Operation::Peek(who, ahead, most) => model.peek(&stream, who, ahead, most),
                Operation::Leave(who) => {
                    model.take(who);
                }
                Operation::WriterComes => match stream.writer() {
                    Ok(writer) => writers.push(writer),
                    Err(error) => assert!(model.closed && error == AttachError::Closed),
                },
                Operation::WriterGoes { finished } => match writers.pop() {
                    Some(writer) if finished => drop(writer.finish(Finish::KeepOpen)),
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
            let mut positions: Vec<_> = stat.readers.iter().map(|reader| reader.position).collect();
            let mut settled: Vec<_> = model.followers.iter().map(|follower| follower.settled).collect();
            positions.sort_unstable();
            settled.sort_unstable();
            prop_assert_eq!(positions, settled, "parts of a chunk count when it ends");
            prop_assert!(stat.head - stat.tail <= stat.capacity && model.is_boundary(stat.tail));
        }
        // The remaining readers read to the end.
        for _ in 0..model.followers.len() {
            for _ in 0..1000 {
                model.read(0, usize::MAX, Taking { parts: true, header_len: 0 });
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
