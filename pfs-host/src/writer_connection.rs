//! A writer's connection: receives appends, and sends acknowledgements.

use std::pin::pin;

use pfs_media::MAX_HEADER_BYTES;
use pfs_proto::{CreateOptions, ErrorCode, IfExists, Reply, Request, StreamPath, WriteOptions};
use pfs_stream::{Appended, WriteError};
use tokio::{
    task::{coop::consume_budget, yield_now},
    time::{Duration, sleep},
};

use crate::{
    Cutoff, Writable,
    daemon::wide,
    failure::{Ended, Failure},
    media::{HeaderTooLarge, Marks},
    poll::poll_once,
    published::Published,
    session::Append,
    shm::{Grant, Lease},
    shutdown::stuck,
    transport::Transport,
    wire::Wire,
};

/// Work after which a writer yields to other tasks: some milliseconds at most. Work is counted in
/// copied bytes. Each chunk adds [`CHUNK_COST_BYTES`], which is more than appending a chunk costs.
const YIELD_AFTER_BYTES: u64 = 32 * 1024 * 1024;
const CHUNK_COST_BYTES: u64 = 4096;

/// How long an idle writer keeps the buffer of its last chunk that came in several frames.
/// Allocating a buffer for each chunk of 4 MiB takes 1.2 times the processor time: 0.51 s per GB
/// instead of 0.42 s.
const BUFFER_KEEP_TIME: Duration = Duration::from_secs(1);

/// How long a writer that finds no room waits for more room than its next chunk takes.
const MUCH_ROOM_TIMEOUT: Duration = Duration::from_millis(3);

/// Bytes of queued replies that a client may request before it takes them.
const MAX_QUEUED_REPLY_BYTES: usize = 4 * 1024;

/// Serves a writer to its end.
pub(crate) async fn serve<T: Transport>(
    wire: &mut Wire<T>,
    place: &Writable<'_>,
    options: WriteOptions,
) -> Result<(), Ended> {
    let if_exists = if options.replace { IfExists::Replace } else { IfExists::Fail };
    let anew = CreateOptions { if_exists, ..CreateOptions::default() };
    let marks = Marks::new(options.header_bytes).map_err(|HeaderTooLarge| {
        let (path, bytes) = (place.path(), options.header_bytes);
        let message = format!(
            "cannot write to {path} with a header of {bytes} bytes: a header has at most {MAX_HEADER_BYTES} bytes"
        );
        Failure::new(ErrorCode::BadOption, message)
    })?;
    let (stream, created) = place.open_or_create_with(anew).await?;
    if options.wait_readers > 0 {
        let readers = usize::try_from(options.wait_readers).unwrap_or(usize::MAX);
        let cutoff = place.cutoff();
        tokio::select! {
            biased;
            () = stream.readers_reach(readers) => {}
            () = wire.transport().hung_up() => return Err(Ended::Gone),
            failure = cutoff.reached() => return Err(failure.into()),
        }
    }
    let append = place.append(&stream).await?;
    let cutoff = append.cutoff().clone();
    let (max_chunk, identity) = (stream.max_chunk(), stream.identity());
    let lease = Lease::new(wire.can_lease());
    wire.put(&Reply::Writing { max_chunk });
    // From here on only the writer keeps the memory of a removed stream.
    drop(stream);

    let mut writing = Writing {
        wire,
        append,
        path: place.path(),
        max_chunk,
        parts: Vec::new(),
        lease,
        marks,
        acks: Acks::default(),
    };
    let outcome = writing.append_all(&cutoff).await;
    let Writing { wire, mut append, mut acks, mut lease, mut marks, .. } = writing;
    if let Some(published) = lease.end(append.writer()) {
        acks.count_published(published, append.writer().readers());
    }
    marks.leave(&append.writer().stream(), acks.chunks);
    // Readers and the client learn of all appends, however the connection ends.
    append.writer().wake();
    append.count(acks.chunks, acks.bytes);
    acks.put_last(wire);
    match outcome {
        Ok(last) => {
            match last {
                Last::Finish { close } => append.finish(close),
                Last::Fail { close } => append.fail(close),
                Last::Withdraw => {
                    append.withdraw();
                    if created {
                        place.remove_unused(identity).await?;
                    }
                }
            }
            wire.put(&Reply::Done);
            tokio::select! {
                biased;
                () = wire.flush() => Ok(()),
                () = stuck(cutoff.reached()) => Err(Ended::Stuck),
            }
        }
        Err(ended) => {
            append.abandon(ended.reason());
            Err(ended)
        }
    }
}

/// The last message of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Finish { close: bool },
    Fail { close: bool },
    Withdraw,
}

/// The state of a writer's connection.
struct Writing<'a, T> {
    wire: &'a mut Wire<T>,
    append: Append,
    path: &'a StreamPath,
    max_chunk: u64,
    /// First parts of a chunk whose rest comes in the next frames.
    parts: Vec<u8>,
    lease: Lease,
    marks: Marks,
    acks: Acks,
}

impl<T: Transport> Writing<'_, T> {
    /// Appends until the client has sent its last message.
    async fn append_all(&mut self, cutoff: &Cutoff) -> Result<Last, Ended> {
        let (mut failure, mut cut_off) = (pin!(self.append.failure()), pin!(cutoff.reached()));
        let mut turn = self.acks.work();
        loop {
            // All frames that have arrived share one wake-up of the readers and
            // one acknowledgement.
            while let Some(frame) = self.wire.received()? {
                match Request::decode(frame)? {
                    Request::Append(bytes) if self.parts.is_empty() => {
                        self.append(&bytes, cutoff).await?;
                    }
                    Request::Append(bytes) => {
                        self.gather(&bytes)?;
                        let mut chunk = std::mem::take(&mut self.parts);
                        self.append(&chunk, cutoff).await?;
                        chunk.clear();
                        self.parts = chunk;
                    }
                    Request::AppendPart(bytes) => self.gather(&bytes)?,
                    Request::Finish { .. } | Request::Fail { .. } if !self.parts.is_empty() => {
                        return Err(misplaced("an end in the middle of a chunk"));
                    }
                    Request::Finish { close } => return Ok(Last::Finish { close }),
                    Request::Fail { close } => return Ok(Last::Fail { close }),
                    Request::Withdraw if self.acks.chunks == 0 && self.parts.is_empty() => {
                        return Ok(Last::Withdraw);
                    }
                    Request::Heartbeat => {}
                    Request::Flush => {
                        self.resolve_marks();
                        self.tell_all();
                        self.answers_are_taken(cutoff).await?;
                    }
                    // Also accepted when no lease is held: the client may have sent these before it
                    // learned that its lease has ended.
                    Request::Published if self.wire.can_lease() => {
                        self.resolve_marks();
                        Lease::published(self.append.writer())
                    }
                    Request::NeedsRoom { up_to } if self.wire.can_lease() => {
                        self.make_room(up_to, cutoff).await?;
                    }
                    Request::MarkSync { chunk } if self.wire.joining => self.mark(chunk),
                    Request::CannotMap if self.lease.cannot_map() => {}
                    Request::LeaseReady => {
                        let granted = self.lease.grant(self.append.writer());
                        match granted.ok_or_else(|| misplaced("a lease that was not offered"))? {
                            Some(grant) => {
                                self.marks.lease_begins(self.acks.chunks, grant.start().head.0);
                                self.tell_of(&grant, cutoff).await?;
                            }
                            None => self.wire.put(&Reply::LeaseEnded { chunks: 0, offset: 0 }),
                        }
                    }
                    _ => return Err(misplaced("a request")),
                }
            }
            self.append.writer().wake();
            self.acks.send(self.wire);
            if !self.marks.misses_header() {
                self.lease
                    .offer(self.wire, self.append.writer(), self.acks.chunks, self.acks.bytes)
                    .await?;
            }
            consume_budget().await;
            if self.acks.work().saturating_sub(turn) >= YIELD_AFTER_BYTES {
                turn = self.acks.work();
                yield_now().await;
            }
            if let Some(failure) = cutoff.reason() {
                return Err(failure.into());
            }
            let kept = if self.parts.is_empty() { self.parts.capacity() } else { self.parts.len() };
            self.wire.charge(kept.saturating_add(self.marks.held()))?;
            match self.wire.fill()? {
                Some(0) => return Err(Ended::Gone),
                Some(_) => {}
                None => {
                    self.wire.release();
                    let keeps_buffer = self.parts.is_empty() && self.parts.capacity() > 0;
                    tokio::select! {
                        biased;
                        // Input comes first: if the client's end has arrived, the writer has
                        // finished, and a failure of the stream does not concern it.
                        ready = self.wire.transport().readable() => ready?,
                        // A client that reads no acknowledgements may still append: pending
                        // acknowledgements are merged into one.
                        ready = self.wire.transport().writable(), if self.acks.is_waiting(self.wire) => ready?,
                        published = self.lease.ended(self.append.writer()), if self.lease.is_held() => {
                            self.lease_ended(published);
                        }
                        failure = &mut failure => return Err(failure.into()),
                        failure = &mut cut_off => return Err(failure.into()),
                        () = sleep(BUFFER_KEEP_TIME), if keeps_buffer => self.parts = Vec::new(),
                    }
                }
            }
        }
    }

    /// Tells the client that its lease has begun.
    async fn tell_of(&mut self, grant: &Grant, cutoff: &Cutoff) -> Result<(), Ended> {
        let (told, pages) = (Reply::Leased(grant.start()), grant.pages().collect::<Vec<_>>());
        if pages.is_empty() {
            self.wire.put(&told);
            return Ok(());
        }
        tokio::select! {
            biased;
            sent = self.wire.send_with(&told, &pages) => Ok(sent?),
            () = stuck(cutoff.reached()) => Err(Ended::Stuck),
        }
    }

    /// Counts and reports the appends of a lease that has ended. The writer appends through this
    /// connection again.
    fn lease_ended(&mut self, published: Published) {
        let Published { chunks, offset, .. } = published;
        // If this client appended nothing under the lease, head may be the end of another
        // client's chunk.
        let offset = if chunks > 0 { offset } else { 0 };
        self.acks.count_published(published, self.append.writer().readers());
        self.marks.resolve(&self.append.writer().stream(), self.acks.chunks);
        self.wire.put(&Reply::LeaseEnded { chunks, offset });
    }

    /// Marks a chunk of the writer as a sync point.
    fn mark(&mut self, chunk: u64) {
        self.marks.mark(chunk);
        self.resolve_marks();
    }

    /// Finds the marked chunks that are in the stream now.
    fn resolve_marks(&mut self) {
        if self.marks.are_pending() {
            let writer = self.append.writer();
            let leased = self.lease.so_far(writer).map_or(0, |published| published.chunks);
            let appended = self.acks.chunks.saturating_add(leased);
            self.marks.resolve(&writer.stream(), appended);
        }
    }

    /// Acknowledges everything that is in the stream.
    fn tell_all(&mut self) {
        let so_far = self.lease.so_far(self.append.writer());
        // The stream may have ended the lease meanwhile: report that first.
        if so_far.is_none()
            && let Some(published) = self.lease.end(self.append.writer())
        {
            self.lease_ended(published);
        }
        let readers = self.append.writer().readers();
        self.acks.put(self.wire, so_far, readers);
    }

    /// Waits until the holder of a lease may overwrite everything before chunk `up_to`, and tells
    /// the holder.
    async fn make_room(&mut self, up_to: u64, cutoff: &Cutoff) -> Result<(), Ended> {
        if poll_once(self.lease.room(self.append.writer(), up_to)).await.is_none() {
            self.wait_for_much_room(cutoff).await?;
        }
        let patience = self.append.patience();
        let mut enforced = pin!(patience.enforce());
        loop {
            self.acks.send(self.wire);
            let wire = &*self.wire;
            tokio::select! {
                biased;
                () = self.lease.room(self.append.writer(), up_to) => break,
                never = &mut enforced => match never {},
                () = wire.transport().hung_up() => return Err(Ended::Gone),
                ready = wire.transport().writable(), if self.acks.is_waiting(wire) => ready?,
                failure = cutoff.reached() => return Err(failure.into()),
            }
        }
        self.wire.put(&Reply::Room);
        self.answers_are_taken(cutoff).await
    }

    /// Waits until the client has taken most of the replies that it requested. Until then nothing
    /// more is read from the client, because the replies to further requests would fill the memory.
    async fn answers_are_taken(&mut self, cutoff: &Cutoff) -> Result<(), Ended> {
        while self.wire.queued() > MAX_QUEUED_REPLY_BYTES && !self.wire.try_flush() {
            tokio::select! {
                biased;
                ready = self.wire.transport().writable() => ready?,
                () = self.wire.transport().hung_up() => return Err(Ended::Gone),
                failure = cutoff.reached() => return Err(failure.into()),
            }
        }
        Ok(())
    }

    /// Adds to a chunk that comes in several frames.
    fn gather(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        let size = wide(self.parts.len().saturating_add(bytes.len()));
        if size > self.max_chunk {
            let error = WriteError::TooLarge { size, max: self.max_chunk };
            return Err(Failure::appending(self.path, error).into());
        }
        self.parts.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends a chunk without waking readers.
    async fn append(&mut self, chunk: &[u8], cutoff: &Cutoff) -> Result<(), Ended> {
        // Nearly always there is room, and nothing else needs watching.
        let appended = match poll_once(self.append.writer().push(chunk)).await {
            Some(appended) => appended,
            None => self.wait_for_room(chunk, cutoff).await?,
        };
        let appended = appended.map_err(|error| Failure::appending(self.path, error))?;
        self.append.index(wide(chunk.len()));
        let writer = self.append.writer();
        self.marks.appended(|| writer.stream(), self.acks.chunks, chunk, appended.offset);
        self.acks.count(1, wide(chunk.len()), appended.offset, appended.readers);
        Ok(())
    }

    /// Waits for more room than the next chunk takes, but only for [`MUCH_ROOM_TIMEOUT`]. Fast
    /// readers make much room at once, and the writer then goes on for a while without any
    /// notification or wake-up. For slow readers, every chunk counts.
    async fn wait_for_much_room(&mut self, cutoff: &Cutoff) -> Result<(), Ended> {
        self.append.writer().wake();
        tokio::select! {
            biased;
            () = self.append.writer().much_room() => Ok(()),
            () = sleep(MUCH_ROOM_TIMEOUT) => Ok(()),
            () = self.wire.transport().hung_up() => Err(Ended::Gone),
            failure = cutoff.reached() => Err(failure.into()),
        }
    }

    /// Appends as soon as the slowest `block` reader makes room. If the client dies meanwhile,
    /// nothing of the chunk is appended, because no client would ever learn of it.
    async fn wait_for_room(
        &mut self,
        chunk: &[u8],
        cutoff: &Cutoff,
    ) -> Result<Result<Appended, WriteError>, Ended> {
        self.acks.send(self.wire);
        self.wait_for_much_room(cutoff).await?;
        let patience = self.append.patience();
        let mut enforced = pin!(patience.enforce());
        loop {
            self.acks.send(self.wire);
            let wire = &*self.wire;
            tokio::select! {
                biased;
                appended = self.append.writer().push(chunk) => return Ok(appended),
                never = &mut enforced => match never {},
                () = wire.transport().hung_up() => return Err(Ended::Gone),
                ready = wire.transport().writable(), if self.acks.is_waiting(wire) => ready?,
                failure = cutoff.reached() => return Err(failure.into()),
            }
        }
    }
}

fn misplaced(what: &str) -> Ended {
    Failure::new(ErrorCode::Protocol, format!("{what} is not allowed on a writer's connection"))
        .into()
}

/// Pending acknowledgements. One total at a time is on its way. Appends that happen while this
/// total waits for the socket are merged into the next total, so a client that never reads costs
/// no memory.
#[derive(Debug, Default)]
struct Acks {
    chunks: u64,
    bytes: u64,
    offset: u64,
    /// Readers that were attached when the newest chunk was appended.
    readers: u32,
    /// Chunks acknowledged so far.
    told: u64,
}

impl Acks {
    fn count_published(&mut self, published: Published, readers: usize) {
        let Published { chunks, bytes, offset } = published;
        if chunks > 0 {
            self.count(chunks, bytes, offset, readers);
        }
    }

    /// Acknowledges all appends, including what the holder of a lease has published so far.
    fn put<T: Transport>(
        &mut self,
        wire: &mut Wire<T>,
        published: Option<Published>,
        readers: usize,
    ) {
        let leased = published.filter(|published| published.chunks > 0);
        let chunks = self.chunks.saturating_add(leased.map_or(0, |published| published.chunks));
        let offset = leased.map_or(self.offset, |published| published.offset);
        self.told = chunks;
        wire.put(&Reply::Ack {
            chunks,
            offset,
            readers: u32::try_from(readers).unwrap_or(u32::MAX),
        });
    }

    fn count(&mut self, chunks: u64, bytes: u64, offset: u64, readers: usize) {
        self.chunks = self.chunks.saturating_add(chunks);
        self.bytes = self.bytes.saturating_add(bytes);
        self.offset = self.offset.max(offset);
        self.readers = u32::try_from(readers).unwrap_or(u32::MAX);
    }

    /// Work that appending has cost so far.
    fn work(&self) -> u64 {
        self.bytes.saturating_add(self.chunks.saturating_mul(CHUNK_COST_BYTES))
    }

    /// Whether acknowledgements or other replies wait for room in the socket.
    fn is_waiting<T: Transport>(&self, wire: &Wire<T>) -> bool {
        self.told < self.chunks || wire.queued() > 0
    }

    /// Sends as much as possible without waiting.
    fn send<T: Transport>(&mut self, wire: &mut Wire<T>) {
        if wire.try_flush() && self.told < self.chunks {
            self.put_last(wire);
            wire.try_flush();
        }
    }

    fn put_last<T: Transport>(&mut self, wire: &mut Wire<T>) {
        if self.told < self.chunks {
            self.told = self.chunks;
            wire.put(&Reply::Ack {
                chunks: self.chunks,
                offset: self.offset,
                readers: self.readers,
            });
        }
    }
}
