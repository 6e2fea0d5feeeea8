//! The pfs wire protocol: frames, messages and their encoding between the daemon and its clients.
//!
//! This crate is the only one that knows the bytes on the wire. It has stream paths
//! ([`StreamPath`]), messages ([`Request`] and [`Reply`]), their encoding, and a bounded
//! [`Decoder`] that cuts a byte stream into frames. It deliberately has no I/O, no clock and no
//! runtime: bytes go in and messages come out, over any transport. It also does not check which
//! message is allowed when; the two ends do.
//!
//! # Frames
//!
//! Every message is a frame. All numbers are little-endian.
//!
//! ```text
//!   0        4      5
//! +--------+------+---------------- - -
//! | length | kind | payload (`length` bytes, at most 1 MiB)
//! |  u32   |  u8  |
//! +--------+------+---------------- - -
//! ```
//!
//! Inside a payload:
//!
//! | written as | meaning |
//! |---|---|
//! | `u8` … `u64` | little-endian number |
//! | `bool` | u8, 0 or 1 |
//! | `str` | u16 length in bytes, then that many bytes of UTF-8 |
//! | `time` | u64, microseconds since the Unix epoch |
//! | `span` | u64, microseconds |
//! | `opt T` | u8 0: absent; u8 1: a `T` follows |
//! | `path` | `str` that is a [`StreamPath`] |
//! | `peer` | `opt u32` process id, `opt u32` user id |
//! | `bytes` | the rest of the payload |
//!
//! Bytes after the last field are an error, except in `Hello`.
//!
//! # Connections
//!
//! The client sends `Hello`. The daemon answers with a `Hello` that has the version it picked, or
//! with `Error` and closes the connection. Any number of requests follow, each answered before the
//! next is served. `OpenWriter`, `OpenReader` or `Watch` dedicates the connection to a writer, a
//! reader or a watcher for the rest of the connection's life. Clients may pipeline requests: send
//! the next ones before the previous answers arrive.
//!
//! ```text
//! client                        daemon      client                        daemon
//!   | Hello ----------------------> |         | Hello ----------------------> |
//!   | <---------------------- Hello |         | <---------------------- Hello |
//!   | OpenWriter -----------------> |         | OpenReader -----------------> |
//!   | <-------------------- Writing |         | <--- Waiting (if none exists) |
//!   | Append, AppendPart, ... ----> |         | <-------------------- Reading |
//!   | <------ Ack (cumulative), ... |         | <--- Data, DataPart, Gap, ... |
//!   | Finish, Fail or Withdraw ---> |         | <------------------------ End |
//!   | <------------------ Ack, Done |         |
//! ```
//!
//! If a writer's connection ends before `Finish` or `Withdraw`, the writer died. A writer that
//! sends `Fail` also counts as dead. If a reader's connection ends before `End` or `Error`, the
//! daemon died. Nothing follows `Error` on a writer's or a reader's connection. If the stream is
//! closed or removed, the daemon sends the writer an `Error` at once, even while the writer has
//! nothing to append.
//!
//! # Shared memory
//!
//! If both ends set [`Hello::SHM`], the daemon sends `Shm` before `Reading`, and the reader reads
//! the ring buffer directly. The connection then carries only `MadeRoom` to the daemon, `Error` to
//! the reader, and the news that either end is gone. A reader that cannot map the ring sends
//! `CannotMap` and is served over the connection. A daemon without memory to share omits `Shm`.
//!
//! A stream moves from ring to ring as it grows. If both ends set [`Hello::MOVING`], the reader may
//! get a ring that the stream leaves later. After it has read all of that ring, the reader sends
//! `Follow` and continues at the same offset in the `Ring` that the daemon answers with. The answer
//! `Unshared` means that no memory could be shared; the reader is then served over the connection.
//! A reader without `MOVING` gets a ring of full size, which the stream does not leave.
//!
//! A lease lets a writer append to the ring directly. If both ends also set [`Hello::LEASING`], the
//! daemon may offer a ring with `LeaseOffer` to a writer that is the only writer of its stream:
//!
//! 1. The offer changes nothing until the writer answers. The writer maps the ring and sends
//!    `LeaseReady`, or sends `CannotMap`. Chunks that it appended before `LeaseReady` come first in
//!    the stream. It appends nothing more until the daemon answers.
//! 2. After `Leased`, the writer appends to the ring directly. It sends `Published` when the daemon
//!    waits for chunks, `NeedsRoom` when the next chunk would overwrite bytes that a `block` reader
//!    has not read, and `Flush` to have all its chunks acknowledged.
//! 3. `LeaseEnded` ends the lease; as the answer to `LeaseReady` it refuses the lease. Chunks that
//!    the writer could not publish before the end are appended over the connection. `Finish`,
//!    `Fail` and the end of the connection end the lease too, possibly without a `LeaseEnded`.
//!
//! The crate `pfs-stream` describes the words of the ring and who may write each of them.
//!
//! `Leased` brings the pages of all `block` readers, unless some of them have no page or there are
//! more pages than one message can carry. A writer that has the pages knows how far those readers
//! are, and need not ask for room. It writes the number of the chunk that it waits for into the
//! page of the slowest reader and waits for the event counter. It sends `NeedsRoom` only if that
//! takes long.
//!
//! A reader of a leased ring gets two more descriptors with `Shm` or `Ring`: a page whose first
//! word the reader sets to 1 before it sleeps, and the event counter. A `block` reader that reaches
//! the chunk named in its own page resets that word to 0 and adds 1 to the event counter. A former
//! holder can still write to the ring after its lease ended, and so hide from readers that the
//! stream has left the ring or has ended. A reader that does not notice therefore gets `RingLeft`:
//! it reads what is left in the ring and then sends `Follow`.
//!
//! Data offsets are implicit. The first `Data`, `DataPart` or `Gap` is at `Reading`'s `start`. The
//! `Data` that ends a chunk advances the offset by the length of the whole chunk, parts included;
//! `Gap` moves the offset from `from` to `to`; `End` repeats the offset. A `Gap` may follow
//! `DataPart` if the rest of the chunk was overwritten. That gap begins at the start of the chunk
//! and voids the parts before it.
//!
//! # HTTP
//!
//! A connection may also be an HTTP request. The request body carries the client's frames and the
//! response body the daemon's; both have the media type [`MEDIA_TYPE`]. The client need not wait
//! for the answer to `Hello`, so every client except a writer can send all of its frames in one
//! body of known length. The end of that body does not mean that the client has gone. HTTP
//! connections share no memory.
//!
//! Proxies written in Go end the request when the response begins, and then abort the response if
//! they still hold part of the request body. The client therefore sends short requests in the
//! header [`FRAMES`], in base64, with an empty body. A daemon that knows the header repeats it in
//! the response; otherwise the client retries with a body.
//!
//! Some proxies forward nothing of the response before the request has ended. A client that gets no
//! answer to `Hello` while its body is still open cancels the request and sends another one with
//! the header [`HALF_DUPLEX`]. The response to that request begins only after the request has
//! ended, so the client must end the request after `Finish`, `Fail` or `Withdraw`, and gets only
//! the last acknowledgement. The response has the header too. A daemon that does not know the
//! header answers without it; the client finds that out by a probe with a complete body.
//!
//! If both ends set [`Hello::HEARTBEAT`], each end whose body is still open sends `Heartbeat` after
//! it has sent nothing for [`HEARTBEAT_INTERVAL`], so that proxies do not close the connection as
//! idle. An end that waits and receives nothing for [`HEARTBEAT_TIMEOUT`] treats the other end as
//! dead. A reader's request ends before its response does, so a reader sends no heartbeats.
//!
//! If both ends set [`Hello::RESUMING`], the daemon sends `Identity` right before `Reading`. A
//! reader whose connection broke opens another one at its current offset, and may continue only if
//! `daemon` and `stream` equal those of the first `Identity`. If a writer died meanwhile,
//! `deaths_before` has grown.
//!
//! # Requests
//!
//! `Hello`, 0x01. Its layout never changes, so that any two versions can at least refuse each
//! other. `magic` is `"pfs\0"`; bytes after the fields are ignored. The client offers `min..=max`;
//! the daemon answers with one version in both fields. `Info` and `Daemon` never change either, so
//! that a client that offers every version can find out which daemon it reached.
//!
//! ```text
//! | magic: 4 bytes | min: u16 | max: u16 | capabilities: u64 | ignored ...
//! ```
//!
//! `Create`, 0x02 → `Done`
//!
//! ```text
//! | path | ring_buffer_size: opt u64 | channel_buffer_size: opt u64 | ttl: opt span | content_type: opt str |
//! | if_exists: u8 | reserve: bool |
//!
//!   if_exists   0 fail   1 keep   2 replace
//! ```
//!
//! `Put`, 0x0f → `Put` or `Error`. An `Error` leaves behind no stream that was created for the
//! chunk. A daemon that knows `Put` sets [`Hello::PUT`].
//!
//! ```text
//! | path | ring_buffer_size: opt u64 | channel_buffer_size: opt u64 | ttl: opt span | content_type: opt str |
//! | if_exists: u8 | reserve: bool | close: bool | bytes |
//!
//!   if_exists   0 fail   1 append to it   2 replace
//! ```
//!
//! `OpenWriter`, 0x03 → `Writing`
//!
//! ```text
//! | path | wait_readers: u32 | replace: bool |
//! ```
//!
//! `OpenWriter` of a writer that begins with a header, 0x1f → `Writing`. Only if both ends set
//! [`Hello::JOINING`].
//!
//! ```text
//! | path | wait_readers: u32 | replace: bool | header_bytes: u32, at least 1 |
//! ```
//!
//! `OpenReader`, 0x04 → `Waiting` and `Reading`, or `Reading`
//!
//! ```text
//! | path | start: u8, argument: u64 | policy: u8 | until: u8 | wait: bool |
//!
//!   start   0 oldest   1 new   2 tail (argument: bytes)   3 since (argument: span)   4 offset (argument: offset)
//!   policy  0 drop   1 block   2 disconnect
//!   until   0 closed   1 caught up   2 writers gone
//! ```
//!
//! `OpenReader` of a reader that joins, 0x1e → `Waiting`, `Joined` and `Reading`. Only if both ends
//! set [`Hello::JOINING`]. `Joined` is omitted for a reader that gets exact bytes.
//!
//! ```text
//! | path | start: u8, argument: u64 | policy: u8 | until: u8 | wait: bool | join: u8 |
//!
//!   join    1 auto   2 sync
//! ```
//!
//! `OpenLink`, 0x21 → `Waiting`, `Identity`, `Origin`, `Writers` and `Reading`, then a reader's
//! replies, `AppendedAt`, `Writers` and `Head`. Laid out like `OpenReader`, 0x04. Only if both ends
//! set [`Hello::LINKING`].
//!
//! `Trace`, 0x22 → `Done`. The daemon passes the request on if the mount is one of another daemon's
//! streams. `hop` is repeated `hops` times. Only if both ends set [`Hello::LINKING`].
//!
//! ```text
//! | mount: str | hops: u8 | hop... |
//!   hop   | daemon: u64 | mount: str |
//! ```
//!
//! `List`, 0x05 → `Summary`..., `Done`. The path may be `/` or a mount.
//!
//! ```text
//! | path: str |
//! ```
//!
//! `ListPage`, 0x23 → `Summary`..., `Done`. Only if both ends set [`Hello::LINKING`].
//!
//! ```text
//! | path: str | after: str | most: u32 |
//! ```
//!
//! `Stat`, 0x06 → `Stat`, `HopStat`..., `WriterStat`..., `ReaderStat`..., `Done`;
//! `Close`, 0x07 → `Done`; `Remove`, 0x08 → `Done`; `Document`, 0x09 → `Document`; `CloseFailed`, 0x0c → `Done`
//!
//! ```text
//! | path |
//! ```
//!
//! `Info`, 0x0a → `Daemon`; `Reload`, 0x0d → `Document`, which lists the changes, or `Error`. A
//! daemon that does not know `Reload` refuses it.
//!
//! ```text
//! | (nothing) |
//! ```
//!
//! `Mounts`, 0x24 → a `HopStat` of each mount of another daemon's streams, followed by the
//! `LinkStat`s of its links, `Done`. Only if both ends set [`Hello::LINKING`].
//!
//! ```text
//! | (nothing) |
//! ```
//!
//! `Stop`, 0x0e → a `Summary` of each stream that is lost, `Done`, and the end of the connection
//! when the daemon has ended; or `Error`. A daemon that does not know `Stop` refuses it.
//!
//! ```text
//! | if_idle: bool |
//! ```
//!
//! `Watch`, 0x0b → `Watching`, then a `Happened` for each event, until the stream is removed. A
//! watcher sends nothing more. The daemon never waits for a watcher: a watcher that falls behind
//! loses events, and is told how many.
//!
//! ```text
//! | path |
//! ```
//!
//! `Append`, 0x10: ends a chunk; `AppendPart`, 0x11: the chunk continues in the next frame →
//! coalesced `Ack`s
//!
//! ```text
//! | bytes |
//! ```
//!
//! `Finish`, 0x12 → the last `Ack`, `Done`; `Fail`, 0x17 → the same: the appended chunks are in the
//! stream, but the data is incomplete. A daemon that does not know `Fail` or `CloseFailed` refuses
//! them, and the writer counts as dead.
//!
//! ```text
//! | close: bool |
//! ```
//!
//! `MadeRoom`, 0x13: an shm reader has made room that a writer waits for; `CannotMap`, 0x15: a
//! reader cannot map the ring → `Data`..., or a writer cannot map the ring; `Follow`, 0x19 →
//! `Ring`, or `Unshared` and `Data`...; `Heartbeat`, 0x16; `Withdraw`, 0x18: a writer that has
//! appended nothing withdraws → `Done`; `LeaseReady`, 0x1a → `Leased` or `LeaseEnded`; `Published`,
//! 0x1b; `Flush`, 0x1d → `Ack`
//!
//! ```text
//! | (nothing) |
//! ```
//!
//! `NeedsRoom`, 0x1c: the holder of a lease waits until all `block` readers have reached this
//! chunk, or until the lease has ended → `Room`
//!
//! ```text
//! | up_to: u64 |
//! ```
//!
//! `MarkSync`, 0x20: this chunk of the writer is a sync point. Only if both ends set
//! [`Hello::JOINING`].
//!
//! ```text
//! | chunk: u64 |
//! ```
//!
//! # Replies
//!
//! `Hello`, 0x81: laid out like the request.
//!
//! `Done`, 0x82; `Waiting`, 0x8b; `Watching`, 0x94; `Heartbeat`, 0x97; `Unshared`, 0x9a; `Room`,
//! 0x9d; `RingLeft`, 0x9f
//!
//! ```text
//! | (nothing) |
//! ```
//!
//! `Error`, 0x83. For the codes see [`ErrorCode`].
//!
//! ```text
//! | code: u16 | message: str |
//! ```
//!
//! `Summary`, 0x84
//!
//! ```text
//! | path: str | state: u8 | created: time | last_append: opt time | head: u64 | tail: u64 |
//! | writers: u32 | readers: u32 |
//!
//!   state   0 open   1 closed   2 failed
//! ```
//!
//! `Stat`, 0x85
//!
//! ```text
//! | path: str | state: u8 | created: time | last_append: opt time | owner: peer | ring_buffer_size: u64 |
//! | channel_buffer_size: u64 | capacity: u64 | memory: u64 | moves: u64 | head: u64 | tail: u64 | chunks: u64 |
//! | chunks_held: u64 | rate: u64 | writers_finished: u64 | writers_died: u64 | lost_bytes: u64 |
//! | ttl: opt span | content_type: opt str |
//! ```
//!
//! `WriterStat`, 0x86
//!
//! ```text
//! | peer | since: time | bytes: u64 | waiting: bool | leased: bool, unless false |
//! ```
//!
//! `ReaderStat`, 0x87
//!
//! ```text
//! | peer | since: time | start: u64 | position: u64 | lag: u64 | policy: u8 | lost_bytes: u64 |
//! | lost_chunks: u64 | blocking: bool | was_block: bool |
//! ```
//!
//! `Document`, 0x88; `Data`, 0x8d: ends a chunk; `DataPart`, 0x8e: the chunk continues in the next
//! frame
//!
//! ```text
//! | bytes |
//! ```
//!
//! `Daemon`, 0x89
//!
//! ```text
//! | version: str | pid: u32 | started: time | mounts: u16 count, then as many str | streams: u64 |
//! | max_streams: u64 | memory: u64 | max_memory: u64 | connections: u64 | max_connections: u64 |
//! ```
//!
//! `Writing`, 0x8a
//!
//! ```text
//! | max_chunk: u64 |
//! ```
//!
//! `Ack`, 0x90. `chunks` and `offset` are totals, so one acknowledgement stands for all earlier
//! ones. `readers` counts the readers attached at the last append.
//!
//! ```text
//! | chunks: u64 | offset: u64 | readers: u32 |
//! ```
//!
//! `Put`, 0x98. `offset` is the offset after the chunk, or 0 if the chunk is empty.
//!
//! ```text
//! | created: bool | offset: u64 |
//! ```
//!
//! `Joined`, 0xa0. Before `Reading`, for a reader that asked to join, unless the reader gets exact
//! bytes. `place` is the offset where the reader would have started. `seeks` is true if the ring
//! holds no sync point for this reader: the reader starts at `place` and looks for one itself.
//! `format` is the media type that names the format. `header` is the rest of the frame.
//!
//! ```text
//! | place: u64 | seeks: bool | format: str | header |
//! ```
//!
//! `MediaStat`, 0xa1. After `Stat`, for a client with the capability `JOINING`, if the stream is in
//! a known media format.
//!
//! ```text
//! | format: str | header_bytes: u64 | last_sync: opt u64 | gop_bytes: opt u64 | gop: opt span |
//! ```
//!
//! `Reading`, 0x8c
//!
//! ```text
//! | start: u64 | head: u64 | content_type: opt str |
//! ```
//!
//! `Shm`, 0x92. Carries two descriptors, the ring and the reader's page, and two more if the ring
//! is leased. The last two fields are absent for a ring of full size that is not leased.
//!
//! ```text
//! | capacity: u64 | channel_buffer_size: u64 | seq: u64 | offset: u64 | missing: opt u64 | policy: u8 |
//! | until: u8 | head: u64 | deaths_before: u64 | live: bool | entries: opt u64 | leased: bool |
//! ```
//!
//! `Ring`, 0x99. Carries the descriptor of the ring, and two more if the ring is leased.
//! `LeaseOffer`, 0x9b. Carries three descriptors: the ring, the page in which readers ask for
//! wake-ups, and the event counter. The last two fields may be absent, under the same condition as
//! in `Shm`.
//!
//! ```text
//! | capacity: u64 | entries: opt u64 | leased: bool |
//! ```
//!
//! `Leased`, 0x9c. The oldest chunk of the ring and the next chunk, each with its offset; the time
//! of the newest chunk; the number of descriptors that the message carries.
//!
//! ```text
//! | tail: u64 | tail_offset: u64 | head: u64 | head_offset: u64 | newest: u64 | max_chunk: u64 | pages: u32 |
//! ```
//!
//! `Origin`, 0xa2: what a replica takes over from its stream. `header` is in effect at `first_sync`.
//!
//! ```text
//! | created: time | ring_buffer_size: u64 | channel_buffer_size: u64 | format: str |
//! | first_sync: opt u64 | header: bytes |
//! ```
//!
//! `AppendedAt`, 0xa3: when the chunks that follow were appended.
//!
//! ```text
//! | time: time |
//! ```
//!
//! `Writers`, 0xa4: the writers of the stream, whose chunks the link has all received.
//!
//! ```text
//! | attached: u32 | were_any: bool | died: u64 | died_before: u64 | finished: u64 |
//! ```
//!
//! `Head`, 0xa5: the head of the stream, which is beyond everything that the link was sent before.
//!
//! ```text
//! | head: u64 |
//! ```
//!
//! `HopStat`, 0xa6: a mount of another daemon's streams; after `Stat`, with the link of the stream.
//!
//! ```text
//! | mount: str | owner: str | round_trip: opt span | failure: opt str | reconnects: u64 | lost_bytes: u64 |
//! | link: opt link |
//!   link  | connected: bool | since: time | policy: u8 | lag: u64 | reconnects: u64 |
//!         | lost_bytes: u64 | readers: u32 |
//! ```
//!
//! `LinkStat`, 0xa7
//!
//! ```text
//! | path: str | link |
//! ```
//!
//! `LeaseEnded`, 0x9e. The number of chunks appended under the lease, and the offset after the last
//! one, or 0 if there was none.
//!
//! ```text
//! | chunks: u64 | offset: u64 |
//! ```
//!
//! `Happened`, 0x95. For the events see [`StreamEvent`].
//!
//! ```text
//! | event: u8 | fields of the event |
//!
//!   event   0 subscribed     | reader: u64 | peer | readers: u32 |
//!           1 first reader
//!           2 unsubscribed   | reader: u64 | peer | readers: u32 | lost_bytes: u64 | lost_chunks: u64 |
//!           3 no readers
//!           4 gap            | reader: u64 | from: u64 | to: u64 | chunks: u64 |
//!           5 closed         | offset: u64 | failed: bool |
//!           6 removed
//!           7 missed         | count: u64 |
//! ```
//!
//! `Identity`, 0x96. `daemon` and `stream` form an [`Identity`]: the start time of the daemon and
//! the number of the stream in that daemon.
//!
//! ```text
//! | daemon: time | stream: u64 | deaths_before: u64 |
//! ```
//!
//! `Gap`, 0x8f
//!
//! ```text
//! | from: u64 | to: u64 | chunks: u64 |
//! ```
//!
//! `End`, 0x91
//!
//! ```text
//! | reason: u8 | offset: u64 |
//!
//!   reason  0 closed   1 caught up   2 writers gone   3 writer died   4 failed
//! ```

#![warn(clippy::exhaustive_enums)]

mod codec;
mod duration;
mod encoding;
mod error;
mod event;
mod frame;
mod hello;
mod identity;
pub mod json;
mod message;
mod options;
mod path;
mod replica;
mod size;
mod stat;
mod unprintable;

pub use codec::Decoder;
pub use duration::{DurationError, parse_duration};
pub use error::{ErrorCode, FrameError, MessageError, PathError};
pub use event::{Event, StreamEvent};
pub use frame::{
    DataKind, Frame, HEADER_LEN, MAX_DESCRIPTORS, MAX_PAYLOAD, MAX_PUT, put_data_header,
};
pub use hello::{
    FRAMES, HALF_DUPLEX, HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT, Hello, MAGIC, MEDIA_TYPE, VERSION,
};
pub use identity::{Identity, IdentityError};
pub use message::{Reply, Request};
pub use options::{
    CreateOptions, End, IfExists, Join, LeaseStart, MAX_CONTENT_TYPE, PutOptions, ReadOptions,
    RingLayout, ShmStart, SlowPolicy, Start, UnknownJoin, UnknownPolicy, Until, WriteOptions,
};
pub use path::{MAX_PATH, PathPrefix, StreamPath};
pub use replica::{Hop, MAX_HOPS, Origin, Writers};
pub use size::{SizeError, parse_size};
pub use stat::{
    DaemonInfo, HopStat, LinkStat, MediaStat, MountStat, Peer, ReaderStat, State, StreamStat,
    StreamSummary, WriterStat,
};
pub use unprintable::{Unprintable, escape, escape_json};
