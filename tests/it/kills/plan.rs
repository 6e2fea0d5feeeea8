//! Plan of a round: its writer, its readers, and the blows with their moments. Everything follows
//! from the seed.

use harness::{Direction, Random, Transport};
use pfs_client::{SlowPolicy, Until};

/// One round.
#[derive(Debug)]
pub(super) struct Plan {
    /// Sizes of the stream's ring buffer and channel, in bytes.
    pub(super) ring: u64,
    pub(super) channel: u64,
    /// Number of bytes that the writer is given.
    pub(super) len: usize,
    /// Number of these bytes that the writer gets only after the last blow, so that no process ends
    /// by itself before that blow.
    pub(super) held_back: usize,
    /// Whether the writer gets the held bytes before the last blow, so that its end and that
    /// blow race.
    pub(super) races: bool,
    pub(super) writer: WriterPlan,
    pub(super) readers: Vec<ReaderPlan>,
    pub(super) blows: Vec<Blow>,
}

/// Writer of a round.
#[derive(Debug)]
pub(super) struct WriterPlan {
    pub(super) kind: WriterKind,
    pub(super) transport: Transport,
    /// Whether the writer is behind the proxy.
    pub(super) linked: bool,
    /// Whether the writer closes the stream at its end.
    pub(super) close: bool,
    /// Largest chunk, for writers with an option for the chunk size.
    pub(super) chunk: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriterKind {
    Stream,
    Lines,
    /// `pfs write -- COMMAND`, where the command ends with this exit code, as in a shell.
    Command(i32),
    /// `curl -T .`
    Curl,
    Library,
}

/// Reader of a round.
#[derive(Debug)]
pub(super) struct ReaderPlan {
    pub(super) kind: ReaderKind,
    pub(super) transport: Transport,
    /// Whether the reader is behind the proxy.
    pub(super) linked: bool,
    pub(super) policy: SlowPolicy,
    pub(super) until: Until,
    /// Whether the reader is attached at the first blow instead of before the writer.
    pub(super) late: bool,
    /// After this many bytes, the test takes no more output from the reader before the last blow.
    pub(super) held_at: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReaderKind {
    Cat,
    /// A plain GET.
    Curl,
    /// Server-sent events.
    Events,
    Library,
}

/// Action at a moment of the round.
#[derive(Debug)]
pub(super) struct Blow {
    /// Head of the stream at which the blow is struck. If the writer stops before that offset, the
    /// blow is struck when it stops.
    pub(super) at: u64,
    /// Reader that is stopped during the blow. A writer that waits for this reader stops too.
    pub(super) stopped: Option<usize>,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Nothing,
    KillWriter,
    KillReader(usize),
    KillDaemon,
    /// A new daemon replaces the old one immediately, with a new stream of the same path.
    RestartDaemon,
    TerminateDaemon,
    TerminateDaemonTwice,
    /// The proxy stalls until the last blow.
    Stall(Direction),
    /// Connections through the proxy break.
    Break(Break),
    Close,
    CloseFailed,
    Remove,
    /// The stream is removed, and a new one is created under its path.
    Replace,
}

/// How connections through the proxy break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    Cut,
    Reset,
    Half(Direction),
    /// Connections are cut, and the proxy accepts no new ones.
    Gone,
}

impl Plan {
    pub(super) fn new(transport: Transport, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let ring = random.of([64 * 1024, 128 * 1024, 512 * 1024]);
        let channel = random.of([ring, ring / 2]);
        let len = (256 * 1024) + random.below(2 * 1024 * 1024) as usize;
        let readers = 2 + random.below(4) as usize;
        Self {
            ring,
            channel,
            len,
            held_back: 1 + random.below(100_000) as usize,
            races: random.one_in(3),
            writer: WriterPlan::new(&mut random, transport),
            readers: (0..readers)
                .map(|number| ReaderPlan::new(&mut random, transport, number))
                .collect(),
            blows: (0..1 + random.below(2))
                .map(|_| Blow::new(&mut random, transport, len, readers))
                .collect(),
        }
    }
}

impl WriterPlan {
    fn new(random: &mut Random, transport: Transport) -> Self {
        let over_http = transport == Transport::Http;
        let command = WriterKind::Command(random.of([0, 0, 3, 137]));
        let kinds = [
            WriterKind::Stream,
            WriterKind::Lines,
            command,
            WriterKind::Library,
            if over_http { WriterKind::Curl } else { WriterKind::Stream },
        ];
        Self {
            kind: random.of(kinds),
            transport,
            linked: over_http && random.one_in(3),
            close: random.one_in(2),
            chunk: random.of([100, 4 * 1024, 32 * 1024]) + random.below(1000) as usize,
        }
    }
}

impl ReaderPlan {
    fn new(random: &mut Random, transport: Transport, number: usize) -> Self {
        use ReaderKind::{Cat, Curl, Events, Library};
        let kind = if number == 0 { Cat } else { random.of([Cat, Cat, Library, Curl, Events]) };
        let transport = match kind {
            Curl | Events => Transport::Http,
            _ if number == 0 => transport,
            _ => random.of(Transport::ALL),
        };
        let policy = random.of([SlowPolicy::Drop, SlowPolicy::Block, SlowPolicy::Disconnect]);
        Self {
            kind,
            transport,
            linked: transport == Transport::Http && random.one_in(2),
            policy,
            until: random.of([Until::Closed, Until::WritersGone]),
            late: random.one_in(4),
            // A writer would wait for a held `block` reader, and the round would hang.
            held_at: (policy != SlowPolicy::Block && kind != Library && random.one_in(4))
                .then(|| random.below(1024 * 1024)),
        }
    }
}

impl ReaderPlan {
    /// A reader of the bytes in the ring buffer of a closed stream.
    pub(super) fn of_what_is_left() -> Self {
        Self {
            kind: ReaderKind::Cat,
            transport: Transport::Unix,
            linked: false,
            policy: SlowPolicy::Block,
            until: Until::Closed,
            late: true,
            held_at: None,
        }
    }
}

impl Blow {
    fn new(random: &mut Random, transport: Transport, len: usize, readers: usize) -> Self {
        let reader = random.below(readers as u64) as usize;
        let direction = random.of([Direction::ToDaemon, Direction::ToClient]);
        let broken = Break::new(random, direction);
        let whats = [
            What::Nothing,
            What::KillWriter,
            What::KillWriter,
            What::KillReader(reader),
            What::KillReader(reader),
            // Readers over HTTP try to reach a killed daemon for 5 seconds, so this blow is rare.
            if random.one_in(3) { What::KillDaemon } else { What::RestartDaemon },
            What::TerminateDaemon,
            What::TerminateDaemonTwice,
            What::Break(broken),
            if transport == Transport::Http { What::Break(broken) } else { What::KillWriter },
            What::Stall(direction),
            What::Close,
            What::CloseFailed,
            What::Remove,
            What::Replace,
        ];
        Self {
            at: 1 + random.below(len as u64),
            stopped: random.one_in(3).then(|| random.below(readers as u64) as usize),
            what: random.of(whats),
        }
    }
}

impl Break {
    fn new(random: &mut Random, direction: Direction) -> Self {
        // Our readers try to reach the proxy for 5 seconds, so this break is rare.
        let gone = if random.one_in(4) { Self::Gone } else { Self::Cut };
        random.of([Self::Cut, gone, Self::Reset, Self::Half(direction)])
    }
}
