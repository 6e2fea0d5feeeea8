//! What the two ends say to each other, one message a frame.

use bytes::Bytes;

use crate::{
    CreateOptions, DaemonInfo, End, ErrorCode, Hello, Identity, LeaseStart, PutOptions,
    ReadOptions, ReaderStat, RingLayout, ShmStart, StreamEvent, StreamPath, StreamStat,
    StreamSummary, WriteOptions, WriterStat,
};

/// From the client to the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "who serves it must know every one")]
pub enum Request {
    /// The first message.
    Hello(Hello),
    /// Make a stream. Answered by [`Reply::Done`].
    Create(StreamPath, CreateOptions),
    /// Append a chunk of at most [`MAX_PUT`](crate::MAX_PUT) bytes as a writer that then finishes,
    /// making the stream if there is none or if it is to be replaced. Answered by
    /// [`Reply::Put`], or by an error that leaves no stream that was made for the chunk.
    Put(StreamPath, PutOptions, Bytes),
    /// Attach as a writer, making the stream if there is none, or if it is to be replaced. Answered
    /// by [`Reply::Writing`].
    OpenWriter(StreamPath, WriteOptions),
    /// Attach as a reader. Answered by [`Reply::Waiting`] or [`Reply::Reading`].
    OpenReader(StreamPath, ReadOptions),
    /// List the streams at or below a path (`/` for all). Answered by [`Reply::Summary`]s, then
    /// [`Reply::Done`].
    List(String),
    /// All stats of a stream. Answered by [`Reply::Stat`], its writers, its readers, then
    /// [`Reply::Done`].
    Stat(StreamPath),
    /// End a stream. Answered by [`Reply::Done`].
    Close(StreamPath),
    /// End a stream as failed. Answered by [`Reply::Done`].
    CloseFailed(StreamPath),
    /// Remove a stream. Answered by [`Reply::Done`].
    Remove(StreamPath),
    /// Read a document such as `/streamfs/README`. Answered by [`Reply::Document`].
    Document(StreamPath),
    /// Stats of the daemon. Answered by [`Reply::Daemon`].
    Info,
    /// Read the configuration again: tokens, certificates and limits. Only root and the user of the
    /// daemon may ask, on its socket. Answered by a [`Reply::Document`] that says what changed,
    /// in lines of text.
    Reload,
    /// End the daemon in order. Only root and the user of the daemon may ask, on its socket.
    /// Answered by a [`Reply::Summary`] of each stream that is lost by it, then
    /// [`Reply::Done`]; the end of the connection is that of the daemon.
    Stop {
        /// Only if there is no stream and no other connection; otherwise it is
        /// [`ErrorCode::Busy`].
        if_idle: bool,
    },
    /// Tell what happens to a stream from now on. Answered by [`Reply::Watching`], then
    /// [`Reply::Happened`]s.
    Watch(StreamPath),
    /// Writer: these bytes end a chunk (with the parts before them, if any).
    Append(Bytes),
    /// Writer: these bytes go on in the next frame.
    AppendPart(Bytes),
    /// Writer: all is sent; `close` also closes the stream. Answered by a last [`Reply::Ack`], then
    /// [`Reply::Done`].
    Finish {
        /// Whether the stream takes no more appends after this.
        close: bool,
    },
    /// Writer: all is sent, but it is not all that there should be; `close` also closes the stream,
    /// as failed. Answered by a last [`Reply::Ack`], then [`Reply::Done`].
    Fail {
        /// Whether the stream takes no more appends after this.
        close: bool,
    },
    /// Writer: nothing was appended, and nothing will be. The writer does not count as one that
    /// died. A stream that was created for it, and that no other client has used, is removed.
    /// Answered by [`Reply::Done`].
    Withdraw,
    /// Shm reader: it has made room that a writer waits for.
    MadeRoom,
    /// Shm reader: it cannot map what it was handed. The daemon serves it over the connection from
    /// where it is. Writer: it cannot map the ring that it was offered, and goes on as before.
    CannotMap,
    /// Shm reader: it has read all of a ring that the stream has left, or that [`Reply::RingLeft`]
    /// told it to leave. Answered by [`Reply::Ring`] or [`Reply::Unshared`].
    Follow,
    /// Writer: it has mapped the ring that it was offered, and appends nothing more in another way
    /// until the answer has come: [`Reply::Leased`] or [`Reply::LeaseEnded`].
    LeaseReady,
    /// Holder of a lease: it has appended something that is waited for in the daemon.
    Published,
    /// Holder of a lease: it cannot append before all `block` readers have come to this chunk.
    /// Answered by [`Reply::Room`].
    NeedsRoom {
        /// The number of the chunk.
        up_to: u64,
    },
    /// Writer: it wants to hear how many of its chunks are in the stream. Answered by a
    /// [`Reply::Ack`] of all that was appended before.
    Flush,
    /// The client lives, and has nothing to say. Over HTTP, where both ends have said
    /// [`Hello::HEARTBEAT`].
    Heartbeat,
}

/// From the daemon to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "who asked must know every one")]
pub enum Reply {
    /// The answer to [`Request::Hello`].
    Hello(Hello),
    /// It is done, or the list ends here.
    Done,
    /// It failed; on a writer's or reader's connection nothing follows.
    Error {
        /// What kind of failure.
        code: ErrorCode,
        /// What was tried, on what, what went wrong and what to do.
        message: String,
    },
    /// One stream of a listing.
    Summary(StreamSummary),
    /// One stream's stats; its `writers` and `readers` follow in frames of their own.
    Stat(StreamStat),
    /// One writer of the stream before.
    WriterStat(WriterStat),
    /// One reader of the stream before.
    ReaderStat(ReaderStat),
    /// The text of a document or of an answer, at most [`MAX_PAYLOAD`](crate::MAX_PAYLOAD) bytes.
    Document(Bytes),
    /// Stats of the daemon.
    Daemon(DaemonInfo),
    /// Attached as a writer.
    Writing {
        /// The largest chunk that this stream takes, in bytes.
        max_chunk: u64,
    },
    /// The chunk of a [`Request::Put`] is in the stream.
    Put {
        /// Whether the stream was made for it.
        created: bool,
        /// The offset after the chunk; 0 if that is empty.
        offset: u64,
    },
    /// So many of this writer's chunks are in the stream.
    Ack {
        /// Chunks appended since [`Reply::Writing`].
        chunks: u64,
        /// Offset after the newest of them.
        offset: u64,
        /// Readers attached when that was appended.
        readers: u32,
    },
    /// The daemon lives, and has nothing to say. Over HTTP, where both ends have said
    /// [`Hello::HEARTBEAT`].
    Heartbeat,
    /// Everything that happens to the stream from now on follows.
    Watching,
    /// This has happened to the stream. After [`StreamEvent::Removed`] nothing follows.
    Happened(StreamEvent),
    /// The stream does not exist yet; the reader will be attached when it is created.
    Waiting,
    /// Reader: which stream this is, so that a reader whose connection broke can tell whether it
    /// finds the same one again.
    Identity {
        /// The stream's.
        identity: Identity,
        /// Writers that had died before those whose end this reader sees.
        deaths_before: u64,
    },
    /// Attached as a reader.
    Reading {
        /// Where it starts: the offset of the first byte or gap that follows.
        start: u64,
        /// Head at that moment.
        head: u64,
        /// Media type of the contents.
        content_type: Option<String>,
    },
    /// Reader: read the ring for yourself. Comes with two descriptors, the ring and a page for the
    /// reader's stats; and if the ring is leased with two more, the page in which to ask for
    /// wake-ups and the event counter that wakes the holder of the lease.
    Shm(ShmStart),
    /// Shm reader: go on in this ring, at the same place. Comes with its descriptor, and if the
    /// ring is leased with the same two more as [`Shm`](Self::Shm).
    Ring {
        /// The ring.
        layout: RingLayout,
        /// Whether a writer of another process appends to it.
        leased: bool,
    },
    /// Shm reader: there is no ring to share, because there is no memory, or because the stream
    /// ended in a ring that a former holder of a lease can still write to. What comes next
    /// comes over the connection.
    Unshared,
    /// Shm reader: the stream has left the ring a while ago, or has ended, whatever the ring says.
    /// Read what is there, and say [`Request::Follow`].
    RingLeft,
    /// Writer: map this ring, to append to it yourself. Comes with three descriptors: the ring, the
    /// page in which readers ask for wake-ups, and the event counter that wakes the writer.
    /// Nothing changes before [`Request::LeaseReady`].
    LeaseOffer(RingLayout),
    /// Writer: the ring that it was offered is the stream's now. It appends there. Comes with as
    /// many descriptors as [`LeaseStart::pages`] says.
    Leased(LeaseStart),
    /// Holder of a lease: it may try again to append, because there is room or because the lease
    /// has ended.
    Room,
    /// Holder of a lease: the lease has ended, or is not granted. The writer appends over the
    /// connection again.
    LeaseEnded {
        /// Chunks appended under the lease that are in the stream.
        chunks: u64,
        /// Offset after the last of them; 0 if there was none.
        offset: u64,
    },
    /// Reader: these bytes end a chunk (with the parts before them, if any).
    Data(Bytes),
    /// Reader: these bytes go on in the next frame.
    DataPart(Bytes),
    /// Reader: this range was lost.
    Gap {
        /// First lost offset.
        from: u64,
        /// Offset after the last lost one.
        to: u64,
        /// How many chunks were lost.
        chunks: u64,
    },
    /// Reader: nothing more follows, and this is why.
    End {
        /// Why.
        reason: End,
        /// Offset after the last byte or gap.
        offset: u64,
    },
}
