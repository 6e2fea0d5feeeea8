//! The wire of pfs: what the daemon and its clients say to each other, and how it is written in
//! bytes.
//!
//! This crate is the only one that knows those bytes. It has paths ([`StreamPath`]), messages
//! ([`Request`] and [`Reply`]), their encoding, and a bounded [`Decoder`] that cuts a byte stream
//! into frames. It deliberately has no I/O, no clock and no runtime: bytes go in, messages come
//! out, whatever carried them. It does not decide either which message is allowed when; that is for
//! the two ends.
//!
//! # Frames
//!
//! Everything is in frames. Numbers are little-endian throughout.
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
//! | `str` | u16 length in bytes, then so many bytes of UTF-8 |
//! | `time` | u64, microseconds since the Unix epoch |
//! | `span` | u64, microseconds |
//! | `opt T` | u8 0: absent; u8 1: followed by a `T` |
//! | `path` | `str` that is a [`StreamPath`] |
//! | `peer` | `opt u32` process id, `opt u32` user id |
//! | `bytes` | the rest of the payload |
//!
//! Bytes behind the last field are an error, in `Hello` excepted.
//!
//! # A connection
//!
//! The client sends `Hello`; the daemon answers `Hello` with the version that it picked, or `Error`
//! and closes. Then come any number of requests, each answered before the next is served, until
//! `OpenWriter`, `OpenReader` or `Watch` turns the connection into a writer's, a reader's or a
//! watcher's for the rest of its life. A client may send requests before it has the answers to
//! those before them.
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
//! A writer's connection that ends before `Finish` or `Withdraw` is a writer that died, and a
//! writer that says `Fail` counts as one that died. A reader's connection that ends before `End` or
//! `Error` is a daemon that died. After `Error` on either, nothing follows. A writer whose stream
//! is closed or removed is told so by `Error` at once, also while it has nothing to append.
//!
//! # Shared memory
//!
//! Where both ends have said [`Hello::SHM`], `Shm` comes before `Reading`: the reader reads the
//! ring for itself, and its connection carries `MadeRoom` one way, `Error` the other, and the news
//! that either end is gone. A reader that finds that it cannot map says `CannotMap` and is served
//! as any other. A daemon without memory for it leaves `Shm` out.
//!
//! A stream moves from ring to ring while it grows. Where both ends have said [`Hello::MOVING`], a
//! reader may be handed a ring that the stream leaves later. Once it has read all of such a ring,
//! it says `Follow`, and goes on in the `Ring` that is the answer, at the same place. If the answer
//! is `Unshared`, there was no memory that could be shared, and the reader is served as any other
//! from there on. A reader that has not said `MOVING` is handed a ring of full size, which the
//! stream does not leave.
//!
//! Where both ends have said [`Hello::LEASING`] too, a writer that is the only one of its stream
//! may be offered a ring with `LeaseOffer`. Nothing changes as long as it does not answer. It maps
//! the ring and says `LeaseReady`, or says `CannotMap`. What it appended before that comes first;
//! it appends nothing more until the answer is here. After `Leased`, it appends to the ring by
//! itself. It says `Published` when somebody in the daemon waits for chunks, `NeedsRoom` when the
//! next chunk would overwrite what a `block` reader has not read, and `Flush` to have all its
//! chunks acknowledged. `LeaseEnded` ends the lease; in answer to `LeaseReady` it refuses one. What
//! the writer could not publish before the end it appends over the connection. `Finish`, `Fail` and
//! the end of the connection end the lease too, and `LeaseEnded` may be missing then. The words of
//! the ring, and who may write which, are described in the crate `pfs-stream`.
//!
//! With `Leased` come the pages of all `block` readers, unless some of them have none, or there are
//! more than one message can bring. A writer that has them knows how far those readers are, and
//! need not ask for room: it puts the chunk that it waits for into the page of the slowest one, and
//! waits for the event counter. It says `NeedsRoom` only when that takes long.
//!
//! A reader of a leased ring gets two more descriptors, with `Shm` or `Ring`: a page whose first
//! word it sets to 1 before it sleeps, and the event counter. A `block` reader adds 1 to that when
//! it has come to the chunk that its own page names, and sets that to 0. Who had a lease can go on
//! to write into the ring, and hide from readers that the stream has left it or has ended. So a
//! reader that does not notice is told `RingLeft`. It reads what it finds in the ring, and then
//! says `Follow`.
//!
//! Offsets of data are implicit: the first `Data`, `DataPart` or `Gap` is at `Reading`'s start,
//! each `Data` moves the position by its length, `Gap` moves it from `from` to `to`, and `End`
//! repeats it. A `Gap` may follow `DataPart` if the rest of the chunk was overwritten. Such a gap
//! begins at the chunk's start, and the parts before it are void.
//!
//! # Over HTTP
//!
//! A connection may also be a request over HTTP: its body is what the client says, the response's
//! body what the daemon says, both of the media type [`MEDIA_TYPE`]. A client need not wait for the
//! answer to `Hello` before it goes on, so that all but a writer can say everything in one body of
//! known length. That this body has ended does not mean that the client has gone. No memory is
//! shared on such a connection.
//!
//! Proxies in Go end the request when the response begins, and then break the response off if they
//! still have the body in their hands. So a client puts what it says into the header [`FRAMES`], in
//! base64, if all of that is short, and the body is empty. A daemon that knows the header answers
//! with it; otherwise the client asks again with a body.
//!
//! Some proxies pass nothing of a response on before the request has ended. A client that gets no
//! answer to `Hello` while its body goes on gives that request up, and begins another one with the
//! header [`HALF_DUPLEX`]. The response to such a request begins when the request has ended, which
//! the client has to bring about after `Finish`, `Fail` or `Withdraw`. Of the acknowledgements it
//! has only the last one. It has the header too; a daemon that does not know it answers without,
//! which is found out with a request in one body.
//!
//! Where both ends have said [`Hello::HEARTBEAT`], either end whose body goes on sends `Heartbeat`
//! when it has sent nothing for [`HEARTBEAT_INTERVAL`], so that no proxy takes the connection for
//! idle. An end that waits and receives nothing for [`HEARTBEAT_TIMEOUT`] takes the other end for
//! dead. A reader's request ends before its response does, so a reader sends none.
//!
//! Where both ends have said [`Hello::RESUMING`], `Identity` comes right before `Reading`. A reader
//! whose connection broke opens another one at the offset where it is, and may go on only if
//! `daemon` and `stream` are those that it was told first. If a writer died meanwhile,
//! `deaths_before` is larger than it was.
//!
//! # Requests
//!
//! `Hello`, 0x01. Never changes, so that any two versions can at least refuse each other. `magic`
//! is `"pfs\0"`; bytes behind the fields are ignored. The client offers `min..=max`; the daemon
//! answers with one version twice. `Info` and `Daemon` never change either, so that a client that
//! offers every version finds out which daemon it met.
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
//! `Put`, 0x0f → `Put`, or `Error`, and then there is no stream that was made for the chunk. A
//! daemon knows it if it has said [`Hello::PUT`].
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
//! `List`, 0x05 → `Summary`..., `Done`. The path may be `/` or a mount.
//!
//! ```text
//! | path: str |
//! ```
//!
//! `Stat`, 0x06 → `Stat`, `WriterStat`..., `ReaderStat`..., `Done`; `Close`, 0x07 → `Done`;
//! `Remove`, 0x08 → `Done`; `Document`, 0x09 → `Document`; `CloseFailed`, 0x0c → `Done`
//!
//! ```text
//! | path |
//! ```
//!
//! `Info`, 0x0a → `Daemon`; `Reload`, 0x0d → `Document`, which says what changed, or `Error`. A
//! daemon that does not know `Reload` refuses it.
//!
//! ```text
//! | (nothing) |
//! ```
//!
//! `Stop`, 0x0e → `Summary` of each stream that is lost by it, `Done`, and the end of the
//! connection when the daemon has ended; or `Error`. A daemon that does not know `Stop` refuses it.
//!
//! ```text
//! | if_idle: bool |
//! ```
//!
//! `Watch`, 0x0b → `Watching`, then a `Happened` for each event, until that is the removal. A
//! watcher says nothing more, and is not waited for: of one that is behind, events are left out,
//! and it is told how many.
//!
//! ```text
//! | path |
//! ```
//!
//! `Append`, 0x10: the chunk ends here; `AppendPart`, 0x11: it goes on in the next frame → `Ack`s,
//! coalesced
//!
//! ```text
//! | bytes |
//! ```
//!
//! `Finish`, 0x12 → the last `Ack`, `Done`; `Fail`, 0x17 → likewise: what was appended is in the
//! stream, and is not all that there should be. A daemon that does not know `Fail` or `CloseFailed`
//! refuses them, and the writer counts as one that died.
//!
//! ```text
//! | close: bool |
//! ```
//!
//! `MadeRoom`, 0x13: an shm reader has made room that a writer waits for; `CannotMap`, 0x15: a
//! reader cannot map → `Data`..., or a writer cannot; `Follow`, 0x19 → `Ring`, or `Unshared` and
//! `Data`...; `Heartbeat`, 0x16; `Withdraw`, 0x18: a writer that has appended nothing withdraws →
//! `Done`; `LeaseReady`, 0x1a → `Leased` or `LeaseEnded`; `Published`, 0x1b; `Flush`, 0x1d → `Ack`
//!
//! ```text
//! | (nothing) |
//! ```
//!
//! `NeedsRoom`, 0x1c: the holder of a lease waits until all `block` readers have come to this
//! chunk, or the lease has ended → `Room`
//!
//! ```text
//! | up_to: u64 |
//! ```
//!
//! # Replies
//!
//! `Hello`, 0x81: as the request.
//!
//! `Done`, 0x82; `Waiting`, 0x8b; `Watching`, 0x94; `Heartbeat`, 0x97; `Unshared`, 0x9a; `Room`,
//! 0x9d; `RingLeft`, 0x9f
//!
//! ```text
//! | (nothing) |
//! ```
//!
//! `Error`, 0x83. The codes are [`ErrorCode`]'s.
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
//! `Document`, 0x88; `Data`, 0x8d: the chunk ends here; `DataPart`, 0x8e: it goes on in the next
//! frame
//!
//! ```text
//! | bytes |
//! ```
//!
//! `Daemon`, 0x89
//!
//! ```text
//! | version: str | pid: u32 | started: time | mounts: u16 count, then so many str | streams: u64 |
//! | max_streams: u64 | memory: u64 | max_memory: u64 | connections: u64 | max_connections: u64 |
//! ```
//!
//! `Writing`, 0x8a
//!
//! ```text
//! | max_chunk: u64 |
//! ```
//!
//! `Ack`, 0x90. `chunks` and `offset` are totals, so that one acknowledgement stands for all before
//! it; `readers` are those attached at the last append.
//!
//! ```text
//! | chunks: u64 | offset: u64 | readers: u32 |
//! ```
//!
//! `Put`, 0x98. `offset` is the one after the chunk; 0 if that is empty.
//!
//! ```text
//! | created: bool | offset: u64 |
//! ```
//!
//! `Reading`, 0x8c
//!
//! ```text
//! | start: u64 | head: u64 | content_type: opt str |
//! ```
//!
//! `Shm`, 0x92. Two descriptors come with it, the ring and the reader's page, and two more if the
//! ring is leased. The last two fields are missing for a ring of full size that is not leased.
//!
//! ```text
//! | capacity: u64 | channel_buffer_size: u64 | seq: u64 | offset: u64 | missing: opt u64 | policy: u8 |
//! | until: u8 | head: u64 | deaths_before: u64 | live: bool | entries: opt u64 | leased: bool |
//! ```
//!
//! `Ring`, 0x99. A descriptor comes with it, the ring, and two more if that is leased.
//! `LeaseOffer`, 0x9b. Three descriptors come with it: the ring, the page in which readers ask for
//! wake-ups, and the event counter. The last two fields may be missing as with `Shm`.
//!
//! ```text
//! | capacity: u64 | entries: opt u64 | leased: bool |
//! ```
//!
//! `Leased`, 0x9c. The oldest chunk of the ring and the next one, each with its offset; the time of
//! the newest one; how many descriptors come with it.
//!
//! ```text
//! | tail: u64 | tail_offset: u64 | head: u64 | head_offset: u64 | newest: u64 | max_chunk: u64 | pages: u32 |
//! ```
//!
//! `LeaseEnded`, 0x9e. Chunks that were appended under the lease, and the offset after the last of
//! them; 0 if there was none.
//!
//! ```text
//! | chunks: u64 | offset: u64 |
//! ```
//!
//! `Happened`, 0x95. The events are [`StreamEvent`]'s.
//!
//! ```text
//! | event: u8 | what belongs to it |
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
//! `Identity`, 0x96. `daemon` and `stream` are an [`Identity`]: the daemon's start, and the number
//! of the stream in that daemon.
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
    CreateOptions, End, IfExists, LeaseStart, MAX_CONTENT_TYPE, PutOptions, ReadOptions,
    RingLayout, ShmStart, SlowPolicy, Start, UnknownPolicy, Until, WriteOptions,
};
pub use path::{MAX_PATH, PathPrefix, StreamPath};
pub use size::{SizeError, parse_size};
pub use stat::{DaemonInfo, Peer, ReaderStat, State, StreamStat, StreamSummary, WriterStat};
pub use unprintable::{Unprintable, escape, escape_json};
