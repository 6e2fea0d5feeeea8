//! Read access to a path: readers, pages, stats and events.

use std::ops::Deref;

use bytes::Bytes;
use pfs_media::{Format, MAX_SEARCHED_BYTES};
use pfs_proto::{ErrorCode, Join, Origin, ReadOptions, SlowPolicy, Start, StreamPath};
use pfs_stream::{Reader, Reservation, Sink, Stream, StreamStat};

use crate::{
    Caller, Cutoff, Daemon, Failure,
    cutoff::Needs,
    media::{self, Joined},
    mount::Blocking,
    poll::poll_once,
    session::{Encoder, Follow, Page, ReadingLog, Watch},
    stream_at::StreamAt,
};

/// Maximum number of attempts to join at a sync point that a writer overwrites meanwhile. After the
/// last attempt, the reader begins with a gap and looks for the next sync point.
const MAX_JOIN_ATTEMPTS: u32 = 8;

/// A path that the caller may read. The stream need not exist yet.
#[derive(Clone, Debug)]
pub struct Readable<'a>(StreamAt<'a>);

impl<'a> Deref for Readable<'a> {
    type Target = StreamAt<'a>;

    fn deref(&self) -> &StreamAt<'a> {
        &self.0
    }
}

/// Bytes for a client, charged to the budget until the last handle to them is dropped.
struct Charged {
    bytes: Bytes,
    _charge: Reservation,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Charged {
    /// Charges the budget for `bytes`, and for so many `others` that the client's session keeps
    /// with them. A small sum is not charged.
    ///
    /// # Errors
    ///
    /// The budget is used up.
    fn charge(daemon: &Daemon, bytes: Bytes, others: usize) -> Result<Bytes, Failure> {
        Ok(match daemon.hold_answer(bytes.len().saturating_add(others))? {
            Some(charge) => Bytes::from_owner(Self { bytes, _charge: charge }),
            None => bytes,
        })
    }
}

impl Daemon {
    /// Checks the permission to read a path.
    ///
    /// # Errors
    ///
    /// The caller may not read this path, or the path does not belong to a stream.
    pub fn readable<'a>(
        &'a self,
        caller: &'a Caller,
        path: &StreamPath,
    ) -> Result<Readable<'a>, Failure> {
        caller.permissions.may_read(path.as_str())?;
        StreamAt::new(self, caller, path).map(Readable)
    }
}

impl Readable<'_> {
    /// Counters and clients of the stream, wherever it is.
    ///
    /// # Errors
    ///
    /// The stream does not exist, or the mount fails.
    pub async fn stat(&self) -> Result<StreamStat, Failure> {
        match self.mount.elsewhere() {
            // Nothing is replicated in order to look at the stream.
            Some(owner) => owner.stat(&self.path).await,
            None => self.stat_of(&self.existing().await?).await,
        }
    }

    /// Counters and clients of a stream that [`existing`](StreamAt::existing) returned.
    ///
    /// # Errors
    ///
    /// The mount fails.
    pub async fn stat_of(&self, stream: &Stream) -> Result<StreamStat, Failure> {
        let mut stat = self.mount.stat(&self.path, stream).await?;
        media::describe(stream, &mut stat).await;
        Ok(stat)
    }

    /// The cutoff of a reader with this slow policy.
    pub(crate) fn cutoff(&self, policy: SlowPolicy) -> Cutoff {
        let needs = if policy == SlowPolicy::Block { Needs::ReadAndBlock } else { Needs::Read };
        Cutoff::new(self, needs)
    }

    /// Attaches a reader. If the options say so, waits until the stream is created or the client is
    /// cut off.
    ///
    /// # Errors
    ///
    /// The caller may not attach a reader with this slow policy, the stream does not exist and the
    /// options do not wait for its creation, the start is beyond head, or the client is cut off.
    ///
    /// # Cancel safety
    ///
    /// If dropped while it is pending, no reader is attached.
    pub async fn attach(&self, options: ReadOptions) -> Result<Reader, Failure> {
        self.check(options)?;
        let mut attach = Box::pin(async {
            let _blocking = self.prepare(options).await?;
            self.mount.attach(&self.path, options, self.caller.peer).await
        });
        if let Some(attached) = poll_once(&mut attach).await {
            return attached;
        }
        if options.wait {
            let stream = self.path.as_str();
            self.caller
                .log(|pid, uid| tracing::debug!(stream, pid, uid, "reader waits for its stream"));
        }
        let cutoff = self.cutoff(options.policy);
        tokio::select! {
            biased;
            attached = attach => attached,
            failure = cutoff.reached() => Err(failure),
        }
    }

    /// Attaches a reader to an existing stream as [`ReadOptions::join`] says. Returns `None` if
    /// there is no stream, or if the reader gets exact bytes: then call [`attach`](Self::attach).
    ///
    /// # Errors
    ///
    /// Those of [`attach`](Self::attach), or the budget has no room for a large header.
    ///
    /// # Cancel safety
    ///
    /// If dropped while it is pending, no reader is attached.
    pub async fn join(&self, options: ReadOptions) -> Result<Option<(Reader, Joined)>, Failure> {
        if options.join == Join::Raw {
            return Ok(None);
        }
        let Some(stream) = self.find().await? else { return Ok(None) };
        match self.join_stream(&stream, options).await {
            // Removed since it was found.
            Err(failure) if failure.code == ErrorCode::Removed => Ok(None),
            joined => joined,
        }
    }

    /// Attaches a reader to a stream that [`existing`](StreamAt::existing) returned, as
    /// [`ReadOptions::join`] says. Returns `None` if the reader gets exact bytes: then call
    /// [`reader`](Self::reader).
    ///
    /// # Errors
    ///
    /// Those of [`reader`](Self::reader), or the budget has no room for a large header.
    ///
    /// # Cancel safety
    ///
    /// If dropped while it is pending, no reader is attached.
    pub async fn join_stream(
        &self,
        stream: &Stream,
        options: ReadOptions,
    ) -> Result<Option<(Reader, Joined)>, Failure> {
        self.check(options)?;
        let _blocking = self.prepare(options).await?;
        for attempt in 1.. {
            let join = media::join(stream, options.join, options.start).await;
            let join =
                join.map_err(|error| Failure::attaching("cannot read", &self.path, error))?;
            let Some(mut join) = join else { break };
            // A search for a sync point holds the bytes that it has searched.
            let searched = if join.start.is_none() { MAX_SEARCHED_BYTES } else { 0 };
            join.header = Charged::charge(self.daemon, join.header, searched)?;
            let start = Start::Offset(join.start.unwrap_or(join.place));
            let reader = self.reader(stream, ReadOptions { start, ..options })?;
            // The ring may have moved past the sync point meanwhile.
            let is_held = reader.start() >= reader.extent_at_attach().tail;
            if is_held || attempt == MAX_JOIN_ATTEMPTS {
                return Ok(Some((reader, join)));
            }
        }
        Ok(None)
    }

    /// What a replica takes over from a stream that [`existing`](StreamAt::existing) returned.
    ///
    /// # Errors
    ///
    /// The budget has no room for a large header.
    pub(crate) async fn origin(&self, stream: &Stream) -> Result<Origin, Failure> {
        let known = media::known(stream).await;
        let config = stream.config();
        let format = known.as_ref().and_then(|known| known.format);
        let first_sync = known.as_ref().and_then(|known| known.start);
        let header = known.map(|known| known.header).unwrap_or_default();
        Ok(Origin {
            created: stream.created(),
            ring_buffer_size: config.ring_buffer_size,
            channel_buffer_size: config.channel_buffer_size,
            format: format.map_or("", Format::content_type).to_owned(),
            first_sync,
            header: Charged::charge(self.daemon, header, 0)?,
        })
    }

    /// Follows the stream with a reader that [`attach`](Self::attach) returned.
    pub fn follow<E: Encoder>(&self, reader: Reader, encoder: E) -> Follow<E> {
        let (log, cutoff) = (self.joined(&reader), self.cutoff(reader.policy()));
        self.resume(log, cutoff, reader, encoder)
    }

    /// Logs that a reader has joined.
    pub(crate) fn joined(&self, reader: &Reader) -> ReadingLog {
        ReadingLog::joined(self.caller, &self.path, reader)
    }

    /// Follows the stream with a reader whose joining is logged already.
    pub(crate) fn resume<E: Encoder>(
        &self,
        log: ReadingLog,
        cutoff: Cutoff,
        reader: Reader,
        encoder: E,
    ) -> Follow<E> {
        Follow::new(self.daemon, log, cutoff, reader, encoder)
    }

    /// Attaches a reader to a stream that [`existing`](StreamAt::existing) returned.
    ///
    /// # Errors
    ///
    /// The caller may not attach a reader with this slow policy, the stream was removed, or the
    /// start is beyond head.
    pub fn reader(&self, stream: &Stream, options: ReadOptions) -> Result<Reader, Failure> {
        self.check(options)?;
        let attached = stream.reader_of(options, self.caller.peer);
        attached.map_err(|error| Failure::attaching("cannot read", &self.path, error))
    }

    /// Checks the permission for a reader's slow policy. The permission to read is checked already.
    fn check(&self, options: ReadOptions) -> Result<(), Failure> {
        match options.policy {
            SlowPolicy::Block => self.caller.permissions.may_block(self.path.as_str()),
            _ => Ok(()),
        }
    }

    /// Makes the writers of the stream wait for a `block` reader that is about to attach, if they are
    /// at another daemon.
    async fn prepare(&self, options: ReadOptions) -> Result<Option<Blocking>, Failure> {
        match options.policy {
            SlowPolicy::Block => self.mount.block(&self.path).await.map(Some),
            _ => Ok(None),
        }
    }

    /// Starts a page of about `most` bytes, whose chunks go into `sink`.
    ///
    /// # Errors
    ///
    /// Those of [`reader`](Self::reader).
    pub fn page<S: Sink>(
        &self,
        stream: &Stream,
        options: ReadOptions,
        sink: S,
        most: usize,
    ) -> Result<Page<S>, Failure> {
        let reader = self.reader(stream, options)?;
        Ok(Page::new(self.cutoff(options.policy), self.joined(&reader), reader, sink, most))
    }

    /// Watches the events of the stream, from now on.
    ///
    /// # Errors
    ///
    /// Those of [`existing`](StreamAt::existing).
    pub async fn watch(&self) -> Result<Watch, Failure> {
        let events = self.mount.watch(&self.path).await?;
        Ok(Watch::new(self.caller, &self.path, events, self.cutoff(SlowPolicy::Drop)))
    }
}
