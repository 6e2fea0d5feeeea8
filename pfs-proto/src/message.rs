//! Protocol messages: requests from the client, replies from the daemon, one per frame.

use std::time::SystemTime;

use bytes::Bytes;

use crate::{
    CreateOptions, DaemonInfo, End, ErrorCode, Hello, Hop, HopStat, Identity, LeaseStart, LinkStat,
    MediaStat, Origin, PutOptions, ReadOptions, ReaderStat, RingLayout, ShmStart, StreamEvent,
    StreamPath, StreamStat, StreamSummary, WriteOptions, WriterStat, Writers,
};

/// A message from the client to the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a server must handle every variant")]
pub enum Request {
    /// The first message.
    Hello(Hello),
    /// Create a stream. Answered by [`Reply::Done`].
    Create(StreamPath, CreateOptions),
    /// Append one chunk of at most [`MAX_PUT`](crate::MAX_PUT) bytes and finish. Creates the stream
    /// if it does not exist or is to be replaced. Answered by [`Reply::Put`], or by an error that
    /// leaves behind no stream that was created for the chunk.
    Put(StreamPath, PutOptions, Bytes),
    /// Attach as a writer. Creates the stream if it does not exist or is to be replaced. Answered
    /// by [`Reply::Writing`].
    OpenWriter(StreamPath, WriteOptions),
    /// Attach as a reader. Answered by [`Reply::Waiting`] or [`Reply::Reading`].
    OpenReader(StreamPath, ReadOptions),
    /// List the streams at or below a path (`/` for all). Answered by [`Reply::Summary`]s, then
    /// [`Reply::Done`].
    List(String),
    /// Fetch all stats of a stream. Answered by [`Reply::Stat`], its writers, its readers, then
    /// [`Reply::Done`].
    Stat(StreamPath),
    /// Close a stream. Answered by [`Reply::Done`].
    Close(StreamPath),
    /// Close a stream as failed. Answered by [`Reply::Done`].
    CloseFailed(StreamPath),
    /// Remove a stream. Answered by [`Reply::Done`].
    Remove(StreamPath),
    /// Read a document such as `/streamfs/README`. Answered by [`Reply::Document`].
    Document(StreamPath),
    /// Fetch the stats of the daemon. Answered by [`Reply::Daemon`].
    Info,
    /// Fetch the mounts of other daemons' streams. Answered by a [`Reply::HopStat`] for each, each
    /// followed by the [`Reply::LinkStat`]s of its links, then [`Reply::Done`]. Only if both ends
    /// set [`Hello::LINKING`].
    Mounts,
    /// Reload the configuration: tokens, certificates and limits. Only root and the daemon's user
    /// may ask, on the Unix socket. Answered by a [`Reply::Document`] that lists the changes, in
    /// lines of text.
    Reload,
    /// Shut the daemon down gracefully. Only root and the daemon's user may ask, on the Unix
    /// socket. Answered by a [`Reply::Summary`] of each stream that is lost, then [`Reply::Done`].
    /// The connection ends when the daemon does.
    Stop {
        /// Shut down only if there is no stream and no other connection; otherwise the answer is
        /// [`ErrorCode::Busy`].
        if_idle: bool,
    },
    /// Attach a link, which replicates a stream at another daemon: a reader that gets exact bytes
    /// over the connection. Answered by [`Reply::Waiting`] if the link has to wait, then
    /// [`Reply::Identity`], [`Reply::Origin`], [`Reply::Writers`] and [`Reply::Reading`], then a
    /// reader's replies, and [`Reply::AppendedAt`] and [`Reply::Writers`] among them. Only if both ends set
    /// [`Hello::LINKING`].
    OpenLink(StreamPath, ReadOptions),
    /// Follow a mount, such as `/streamfs`, to the daemon that owns its streams. Each daemon passes
    /// the request on with one more [`Hop`]. Answered by [`Reply::Done`], or by [`Reply::Error`] if
    /// a daemon finds itself among the hops. Only if both ends set [`Hello::LINKING`].
    Trace {
        /// The path of the mount.
        mount: String,
        /// The mounts that led here, at most [`MAX_HOPS`](crate::MAX_HOPS).
        hops: Vec<Hop>,
    },
    /// List some of the streams at a path and below it, sorted by path. Answered by
    /// [`Reply::Summary`] of each, then [`Reply::Done`]. Only if both ends set [`Hello::LINKING`].
    ListPage {
        /// The path; it may be `/` or a mount.
        path: String,
        /// List only streams whose paths sort after this one.
        after: String,
        /// The number of streams after which the list ends.
        most: u32,
    },
    /// Watch a stream: report its events from now on. Answered by [`Reply::Watching`], then
    /// [`Reply::Happened`]s.
    Watch(StreamPath),
    /// Writer: these bytes end a chunk (together with the parts before them, if any).
    Append(Bytes),
    /// Writer: part of a chunk, which continues in the next frame.
    AppendPart(Bytes),
    /// Writer: everything is sent; `close` also closes the stream. Answered by a last
    /// [`Reply::Ack`], then [`Reply::Done`].
    Finish {
        /// Whether to close the stream to further appends.
        close: bool,
    },
    /// Writer: everything is sent, but the data is incomplete; `close` also closes the stream, as
    /// failed. Answered by a last [`Reply::Ack`], then [`Reply::Done`].
    Fail {
        /// Whether to close the stream to further appends.
        close: bool,
    },
    /// Writer: nothing was appended, and nothing will be. The writer does not count as dead. If the
    /// stream was created for this writer and no other client has used it, the stream is removed.
    /// Answered by [`Reply::Done`].
    Withdraw,
    /// Shm reader: the reader has made room that a writer waits for.
    MadeRoom,
    /// Shm reader: the reader cannot map the ring that it was handed. The daemon serves the reader
    /// over the connection from its current offset. Writer: the writer cannot map the ring that it
    /// was offered, and continues as before.
    CannotMap,
    /// Shm reader: the reader has read all of a ring that the stream has left, or that
    /// [`Reply::RingLeft`] told it to leave. Answered by [`Reply::Ring`] or [`Reply::Unshared`].
    Follow,
    /// Writer: the writer has mapped the offered ring. It appends nothing more until the answer
    /// arrives: [`Reply::Leased`] or [`Reply::LeaseEnded`].
    LeaseReady,
    /// Holder of a lease: the holder has appended a chunk that the daemon waits for.
    Published,
    /// Holder of a lease: the holder cannot append before all `block` readers have reached this
    /// chunk. Answered by [`Reply::Room`].
    NeedsRoom {
        /// The sequence number of the chunk.
        up_to: u64,
    },
    /// Writer: this chunk is a sync point. A decoder that was given the header can start there. Sent
    /// before the chunk, or, under a lease, before or after the chunk is published. Ignored in a
    /// format that the daemon recognises. Only if both ends set [`Hello::JOINING`].
    MarkSync {
        /// Number of this writer's chunks before the sync point.
        chunk: u64,
    },
    /// Writer: asks how many of its chunks are in the stream. Answered by a [`Reply::Ack`] of
    /// everything appended before.
    Flush,
    /// Heartbeat: the client is alive and has nothing to send. Only over HTTP, if both ends set
    /// [`Hello::HEARTBEAT`].
    Heartbeat,
}

/// A message from the daemon to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a client must handle every variant")]
pub enum Reply {
    /// The answer to [`Request::Hello`].
    Hello(Hello),
    /// The request succeeded, or the list ends here.
    Done,
    /// The request failed. On a writer's or a reader's connection, nothing follows.
    Error {
        /// The kind of failure.
        code: ErrorCode,
        /// What was tried on which object, what went wrong, and what to do about it.
        message: String,
    },
    /// One stream in a listing.
    Summary(StreamSummary),
    /// The stats of one stream. Its `hops`, `writers` and `readers` follow in frames of their own.
    Stat(StreamStat),
    /// The media of the preceding stream.
    MediaStat(MediaStat),
    /// One writer of the preceding stream.
    WriterStat(WriterStat),
    /// One reader of the preceding stream.
    ReaderStat(ReaderStat),
    /// The text of a document or of an answer, at most [`MAX_PAYLOAD`](crate::MAX_PAYLOAD) bytes.
    Document(Bytes),
    /// Stats of the daemon.
    Daemon(DaemonInfo),
    /// The client is attached as a writer.
    Writing {
        /// The largest chunk that this stream accepts, in bytes.
        max_chunk: u64,
    },
    /// The chunk of a [`Request::Put`] is in the stream.
    Put {
        /// Whether the stream was created for the chunk.
        created: bool,
        /// The offset after the chunk, or 0 if the chunk is empty.
        offset: u64,
    },
    /// Acknowledgement: this many of the writer's chunks are in the stream.
    Ack {
        /// Chunks appended since [`Reply::Writing`].
        chunks: u64,
        /// The offset after the newest of these chunks.
        offset: u64,
        /// Readers attached when the newest of these chunks was appended.
        readers: u32,
    },
    /// Heartbeat: the daemon is alive and has nothing to send. Only over HTTP, if both ends set
    /// [`Hello::HEARTBEAT`].
    Heartbeat,
    /// The client is attached as a watcher; events of the stream follow from now on.
    Watching,
    /// An event of the stream. After [`StreamEvent::Removed`], nothing follows.
    Happened(StreamEvent),
    /// The stream does not exist yet; the reader will be attached when it is created.
    Waiting,
    /// Reader: the identity of the stream, so that a reader whose connection broke can tell whether
    /// it finds the same stream again.
    Identity {
        /// The identity of the stream.
        identity: Identity,
        /// Writers that had died before the first of the present (or last) writers attached.
        deaths_before: u64,
    },
    /// Reader: how the reader joins, before [`Reading`](Self::Reading). Only for a reader that
    /// asked to join, unless the reader gets exact bytes.
    Joined {
        /// The offset where the reader would have started.
        place: u64,
        /// Whether the ring holds no sync point for this reader. The reader then starts at `place`
        /// and looks for one itself. Never with an empty `format`.
        seeks: bool,
        /// The media type that names the format. Empty if a writer names the header and the sync
        /// points itself.
        format: String,
        /// The header in effect. Empty if the header is in the stream from the start on, or if the
        /// format has none.
        header: Bytes,
    },
    /// The client is attached as a reader.
    Reading {
        /// The offset of the first byte or gap that follows.
        start: u64,
        /// The head of the stream when the reader attached.
        head: u64,
        /// The media type of the contents.
        content_type: Option<String>,
    },
    /// Reader: read the ring directly. Carries two descriptors, the ring and a page for the
    /// reader's stats. If the ring is leased, carries two more: the page in which to ask for
    /// wake-ups, and the event counter that wakes the holder of the lease.
    Shm(ShmStart),
    /// Shm reader: continue in this ring, at the same offset. Carries the descriptor of the ring,
    /// and if the ring is leased the same two more as [`Shm`](Self::Shm).
    Ring {
        /// The ring.
        layout: RingLayout,
        /// Whether a writer in another process appends to the ring.
        leased: bool,
    },
    /// Link: what a replica takes over from the stream.
    Origin(Origin),
    /// Link: when the chunks that follow were appended.
    AppendedAt(SystemTime),
    /// Link: the writers of the stream, when everything before this message was all that they had
    /// appended.
    Writers(Writers),
    /// Link: the head of the stream, which is beyond everything before this message.
    Head(u64),
    /// A mount on the way to the owner of the preceding stream, or a mount of the daemon.
    HopStat(HopStat),
    /// A stream of the preceding mount that the daemon follows, and its link.
    LinkStat(String, LinkStat),
    /// Shm reader: there is no ring to share, either for lack of memory or because the stream ended
    /// in a ring that a former holder of a lease can still write to. The rest of the stream comes
    /// over the connection.
    Unshared,
    /// Shm reader: the stream left the ring a while ago, or has ended, whatever the ring says. Read
    /// what is left in the ring, then send [`Request::Follow`].
    RingLeft,
    /// Writer: map this ring in order to append to it directly. Carries three descriptors: the
    /// ring, the page in which readers ask for wake-ups, and the event counter that wakes the
    /// writer. Nothing changes before [`Request::LeaseReady`].
    LeaseOffer(RingLayout),
    /// Writer: the stream now uses the offered ring, and the writer appends there. Carries as many
    /// descriptors as [`LeaseStart::pages`] says.
    Leased(LeaseStart),
    /// Holder of a lease: retry the append, because there is room or because the lease has ended.
    Room,
    /// Holder of a lease: the lease has ended, or is not granted. The writer appends over the
    /// connection again.
    LeaseEnded {
        /// Chunks appended under the lease that are in the stream.
        chunks: u64,
        /// The offset after the last of these chunks, or 0 if there are none.
        offset: u64,
    },
    /// Reader: these bytes end a chunk (together with the parts before them, if any).
    Data(Bytes),
    /// Reader: part of a chunk, which continues in the next frame.
    DataPart(Bytes),
    /// Reader: a gap; this range of offsets was lost.
    Gap {
        /// The first lost offset.
        from: u64,
        /// The offset after the last lost byte.
        to: u64,
        /// The number of lost chunks.
        chunks: u64,
    },
    /// Reader: the end of the stream; nothing follows.
    End {
        /// Why the reader's stream ended.
        reason: End,
        /// The offset after the last byte or gap.
        offset: u64,
    },
}
