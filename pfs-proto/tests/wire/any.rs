//! Proptest strategies for every message.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use pfs_proto::{
    CreateOptions, DaemonInfo, End, ErrorCode, Hello, Hop, HopStat, Identity, IfExists, Join,
    LeaseStart, LinkStat, MAX_HOPS, MediaStat, Origin, Peer, PutOptions, ReadOptions, ReaderStat,
    Reply, Request, RingLayout, ShmStart, SlowPolicy, Start, State, StreamEvent, StreamPath,
    StreamStat, StreamSummary, Until, WriteOptions, WriterStat, Writers,
};
use proptest::{collection::vec, option, prelude::*};

pub(crate) fn request() -> impl Strategy<Value = Request> {
    let stream = (path(), 0..7).prop_map(|(path, which)| match which {
        0 => Request::Stat(path),
        1 => Request::Close(path),
        2 => Request::Remove(path),
        3 => Request::Watch(path),
        4 => Request::CloseFailed(path),
        _ => Request::Document(path),
    });
    prop_oneof![
        hello().prop_map(Request::Hello),
        (path(), create_options()).prop_map(|(path, options)| Request::Create(path, options)),
        (path(), create_options(), any::<bool>(), bytes()).prop_map(
            |(path, create, close, chunk)| {
                Request::Put(path, PutOptions { create, close }, chunk)
            }
        ),
        (path(), any::<(u32, bool, u32)>()).prop_map(
            |(path, (wait_readers, replace, header_bytes))| {
                Request::OpenWriter(path, WriteOptions { wait_readers, replace, header_bytes })
            }
        ),
        any::<u64>().prop_map(|chunk| Request::MarkSync { chunk }),
        (path(), read_options()).prop_map(|(path, options)| Request::OpenReader(path, options)),
        (path(), read_options())
            .prop_map(|(path, options)| Request::OpenLink(path, options.join(Join::Raw))),
        (".{0,20}", vec((any::<u64>(), ".{0,20}"), 0..=MAX_HOPS)).prop_map(|(mount, hops)| {
            let hops = hops.into_iter().map(|(daemon, mount)| Hop { daemon, mount }).collect();
            Request::Trace { mount, hops }
        }),
        ".{0,40}".prop_map(Request::List),
        (".{0,20}", ".{0,20}", any::<u32>()).prop_map(|(path, after, most)| Request::ListPage {
            path,
            after,
            most
        }),
        stream,
        Just(Request::Info),
        Just(Request::Mounts),
        Just(Request::Reload),
        any::<bool>().prop_map(|if_idle| Request::Stop { if_idle }),
        bytes().prop_map(Request::Append),
        bytes().prop_map(Request::AppendPart),
        any::<bool>().prop_map(|close| Request::Finish { close }),
        any::<bool>().prop_map(|close| Request::Fail { close }),
        Just(Request::Withdraw),
        Just(Request::MadeRoom),
        Just(Request::CannotMap),
        Just(Request::Follow),
        Just(Request::LeaseReady),
        Just(Request::Published),
        any::<u64>().prop_map(|up_to| Request::NeedsRoom { up_to }),
        Just(Request::Flush),
        Just(Request::Heartbeat),
    ]
}

pub(crate) fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        hello().prop_map(Reply::Hello),
        Just(Reply::Done),
        (any::<u16>(), ".{0,200}")
            .prop_map(|(code, message)| Reply::Error { code: code.into(), message }),
        (0u16..40)
            .prop_map(|code| Reply::Error { code: ErrorCode::from(code), message: String::new() }),
        summary().prop_map(Reply::Summary),
        stat().prop_map(Reply::Stat),
        writer().prop_map(Reply::WriterStat),
        reader().prop_map(Reply::ReaderStat),
        bytes().prop_map(Reply::Document),
        daemon().prop_map(Reply::Daemon),
        any::<u64>().prop_map(|max_chunk| Reply::Writing { max_chunk }),
        any::<(u64, u64, u32)>().prop_map(|(chunks, offset, readers)| Reply::Ack {
            chunks,
            offset,
            readers
        }),
        any::<(bool, u64)>().prop_map(|(created, offset)| Reply::Put { created, offset }),
        Just(Reply::Waiting),
        Just(Reply::Watching),
        Just(Reply::Heartbeat),
        event().prop_map(Reply::Happened),
        shm_start().prop_map(Reply::Shm),
        (ring_layout(), any::<bool>()).prop_map(|(layout, leased)| Reply::Ring { layout, leased }),
        ring_layout().prop_map(Reply::LeaseOffer),
        lease_start().prop_map(Reply::Leased),
        Just(Reply::Room),
        Just(Reply::RingLeft),
        any::<(u64, u64)>().prop_map(|(chunks, offset)| Reply::LeaseEnded { chunks, offset }),
        Just(Reply::Unshared),
        (time(), any::<(u64, u64)>()).prop_map(|(daemon, (stream, deaths_before))| {
            Reply::Identity { identity: Identity::new(daemon, stream), deaths_before }
        }),
        (any::<(u64, u64)>(), content_type())
            .prop_map(|((start, head), content_type)| Reply::Reading { start, head, content_type }),
        media().prop_map(Reply::MediaStat),
        (time(), any::<(u64, u64, Option<u64>)>(), ".{0,40}", bytes()).prop_map(
            |(created, (ring_buffer_size, channel_buffer_size, first_sync), format, header)| {
                Reply::Origin(Origin {
                    created,
                    ring_buffer_size,
                    channel_buffer_size,
                    format,
                    first_sync,
                    header,
                })
            }
        ),
        time().prop_map(Reply::AppendedAt),
        any::<(u32, bool, u64, u64, u64)>().prop_map(
            |(attached, were_any, died, died_before, finished)| {
                Reply::Writers(Writers { attached, were_any, died, died_before, finished })
            }
        ),
        any::<u64>().prop_map(Reply::Head),
        hop().prop_map(Reply::HopStat),
        (".{0,40}", link()).prop_map(|(path, link)| Reply::LinkStat(path, link)),
        (any::<(u64, bool)>(), ".*", bytes()).prop_map(|((place, seeks), format, header)| {
            Reply::Joined { place, seeks, format, header }
        }),
        bytes().prop_map(Reply::Data),
        bytes().prop_map(Reply::DataPart),
        any::<(u64, u64, u64)>().prop_map(|(from, to, chunks)| Reply::Gap { from, to, chunks }),
        (end(), any::<u64>()).prop_map(|(reason, offset)| Reply::End { reason, offset }),
    ]
}

fn hop() -> impl Strategy<Value = HopStat> {
    let text = || ".{0,40}";
    let answer = (option::of(duration()), option::of(text()));
    (text(), text(), answer, any::<(u64, u64)>(), option::of(link())).prop_map(
        |(mount, owner, (round_trip, failure), (reconnects, lost_bytes), link)| HopStat {
            mount,
            owner,
            round_trip,
            failure,
            reconnects,
            lost_bytes,
            link,
        },
    )
}

fn link() -> impl Strategy<Value = LinkStat> {
    (any::<(bool, u64, u64, u64, u32)>(), time(), policy()).prop_map(
        |((connected, lag, reconnects, lost_bytes, readers), since, policy)| LinkStat {
            connected,
            since,
            policy,
            lag,
            reconnects,
            lost_bytes,
            readers,
        },
    )
}

fn event() -> impl Strategy<Value = StreamEvent> {
    (0..8, peer(), any::<u32>(), any::<[u64; 4]>()).prop_map(
        |(which, peer, readers, [reader, a, b, c])| match which {
            0 => StreamEvent::Subscribed { reader, peer, readers },
            1 => StreamEvent::FirstReader,
            2 => StreamEvent::Unsubscribed { reader, peer, readers, lost_bytes: a, lost_chunks: b },
            3 => StreamEvent::NoReaders,
            4 => StreamEvent::Gap { reader, from: a, to: b, chunks: c },
            5 => StreamEvent::Closed { offset: a, failed: b % 2 == 1 },
            6 => StreamEvent::Removed,
            _ => StreamEvent::Missed { count: a },
        },
    )
}

fn hello() -> impl Strategy<Value = Hello> {
    any::<(u16, u16, u64)>().prop_map(|(min_version, max_version, capabilities)| Hello {
        min_version,
        max_version,
        capabilities,
    })
}

fn path() -> impl Strategy<Value = StreamPath> {
    "/streamfs(/[a-zé☂]([a-zé☂ ]{0,10}[a-zé☂])?){1,4}".prop_map(|path| path.parse().unwrap())
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn duration() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_micros)
}

fn time() -> impl Strategy<Value = SystemTime> {
    // Up to the year 294000.
    (0..i64::MAX as u64).prop_map(|micros| UNIX_EPOCH + Duration::from_micros(micros))
}

fn content_type() -> impl Strategy<Value = Option<String>> {
    option::of("[a-z]{1,20}/.{0,20}")
}

fn policy() -> impl Strategy<Value = SlowPolicy> {
    prop_oneof![Just(SlowPolicy::Drop), Just(SlowPolicy::Block), Just(SlowPolicy::Disconnect)]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        Just(End::Closed),
        Just(End::CaughtUp),
        Just(End::WritersGone),
        Just(End::WriterDied),
        Just(End::Failed)
    ]
}

fn state() -> impl Strategy<Value = State> {
    prop_oneof![Just(State::Open), Just(State::Closed), Just(State::Failed)]
}

fn create_options() -> impl Strategy<Value = CreateOptions> {
    let if_exists =
        prop_oneof![Just(IfExists::Fail), Just(IfExists::Keep), Just(IfExists::Replace)];
    (any::<(Option<u64>, Option<u64>, bool)>(), option::of(duration()), content_type(), if_exists)
        .prop_map(
            |((ring_buffer_size, channel_buffer_size, reserve), ttl, content_type, if_exists)| {
                CreateOptions {
                    ring_buffer_size,
                    channel_buffer_size,
                    ttl,
                    content_type,
                    if_exists,
                    reserve,
                }
            },
        )
}

fn read_options() -> impl Strategy<Value = ReadOptions> {
    let start = prop_oneof![
        Just(Start::Oldest),
        Just(Start::New),
        any::<u64>().prop_map(Start::Tail),
        duration().prop_map(Start::Since),
        any::<u64>().prop_map(Start::Offset),
    ];
    let until = prop_oneof![Just(Until::Closed), Just(Until::CaughtUp), Just(Until::WritersGone)];
    let join = prop_oneof![Just(Join::Raw), Just(Join::Auto), Just(Join::Sync)];
    (start, policy(), until, any::<bool>(), join).prop_map(|(start, policy, until, wait, join)| {
        ReadOptions { start, policy, until, wait, join }
    })
}

fn peer() -> impl Strategy<Value = Peer> {
    any::<(Option<u32>, Option<u32>)>().prop_map(|(pid, uid)| Peer { pid, uid })
}

fn summary() -> impl Strategy<Value = StreamSummary> {
    (".{0,40}", state(), time(), option::of(time()), any::<(u64, u64, u32, u32)>()).prop_map(
        |(path, state, created, last_append, (head, tail, writers, readers))| StreamSummary {
            path,
            state,
            created,
            last_append,
            head,
            tail,
            writers,
            readers,
        },
    )
}

fn stat() -> impl Strategy<Value = StreamStat> {
    let texts = (".{0,40}", content_type());
    let times = (time(), option::of(time()), option::of(duration()));
    (texts, state(), times, peer(), any::<[u64; 12]>()).prop_map(
        |((path, content_type), state, (created, last_append, ttl), owner, n)| StreamStat {
            path,
            state,
            created,
            last_append,
            owner,
            ring_buffer_size: n[0],
            channel_buffer_size: n[1],
            capacity: n[2],
            memory: n[3],
            head: n[4],
            tail: n[5],
            chunks: n[6],
            chunks_held: n[7],
            moves: n[0],
            rate: n[8],
            writers_finished: n[9],
            writers_died: n[10],
            lost_bytes: n[11],
            ttl,
            content_type,
            media: None,
            hops: Vec::new(),
            writers: Vec::new(),
            readers: Vec::new(),
        },
    )
}

fn writer() -> impl Strategy<Value = WriterStat> {
    let flags = any::<(bool, bool)>();
    (peer(), time(), any::<u64>(), flags).prop_map(|(peer, since, bytes, (waiting, leased))| {
        WriterStat { peer, since, bytes, waiting, leased }
    })
}

fn reader() -> impl Strategy<Value = ReaderStat> {
    (peer(), time(), policy(), any::<[bool; 2]>(), any::<[u64; 5]>()).prop_map(
        |(peer, since, policy, [blocking, was_block], n)| ReaderStat {
            peer,
            since,
            start: n[0],
            position: n[1],
            lag: n[2],
            policy,
            lost_bytes: n[3],
            lost_chunks: n[4],
            blocking,
            was_block,
        },
    )
}

fn daemon() -> impl Strategy<Value = DaemonInfo> {
    ("[0-9.]{1,9}", any::<u32>(), time(), vec("/[a-z]{1,9}", 0..5), any::<[u64; 6]>()).prop_map(
        |(version, pid, started, mounts, n)| DaemonInfo {
            version,
            pid,
            started,
            mounts,
            streams: n[0],
            max_streams: n[1],
            memory: n[2],
            max_memory: n[3],
            connections: n[4],
            max_connections: n[5],
        },
    )
}

fn ring_layout() -> impl Strategy<Value = RingLayout> {
    (any::<u64>(), option::of(any::<u64>()))
        .prop_map(|(capacity, entries)| RingLayout { capacity, entries })
}

fn shm_start() -> impl Strategy<Value = ShmStart> {
    let flags = any::<(bool, bool)>();
    (ring_layout(), any::<[u64; 5]>(), option::of(any::<u64>()), read_options(), flags).prop_map(
        |(
            layout,
            [channel_buffer_size, seq, offset, head, deaths_before],
            missing,
            options,
            flags,
        )| {
            let ReadOptions { policy, until, .. } = options;
            let (live, leased) = flags;
            ShmStart {
                layout,
                channel_buffer_size,
                seq,
                offset,
                missing,
                policy,
                until,
                head,
                deaths_before,
                live,
                leased,
            }
        },
    )
}

fn lease_start() -> impl Strategy<Value = LeaseStart> {
    any::<(u64, u64, [u64; 4], u32)>().prop_map(
        |(seq, offset, [head_seq, head, newest, max_chunk], pages)| LeaseStart {
            tail: (seq, offset),
            head: (head_seq, head),
            newest,
            max_chunk,
            pages,
        },
    )
}

fn media() -> impl Strategy<Value = MediaStat> {
    let numbers = any::<(u64, Option<u64>, Option<u64>)>();
    (".*", numbers, option::of(duration())).prop_map(
        |(format, (header_bytes, last_sync, gop_bytes), gop)| MediaStat {
            format,
            header_bytes,
            last_sync,
            gop_bytes,
            gop,
        },
    )
}
