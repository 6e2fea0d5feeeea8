//! Following: the task that opens one replica, fills it from the owner, and ends it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use pfs_client::{LinkEvent, LinkReader, ReadError, RequestError};
use pfs_host::{Failure, Replica};
use pfs_proto::{End, ErrorCode, Origin, ReadOptions, SlowPolicy, Start, StreamPath, Writers};
use pfs_stream::{CreateError, Stream, StreamEvent, WriteError};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

use crate::{
    mount::{self, Shared},
    owner::Keep,
    policy::{Ask, Change, Policy},
    replicas::{Opened, Users},
    stats::LinkCounters,
};

/// The pause before the first attempt to connect again. Each further pause is twice as long, up to
/// the maximum. A link that has lasted longer than that resets the pause.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(50);
pub(crate) const MAX_PAUSE: Duration = Duration::from_secs(5);

/// The task of one replica.
pub(crate) struct Task {
    pub(crate) shared: Arc<Shared>,
    pub(crate) path: StreamPath,
    pub(crate) users: Arc<Users>,
    pub(crate) tell: watch::Sender<Option<Opened>>,
    pub(crate) asks: mpsc::UnboundedReceiver<Ask>,
    pub(crate) counters: Arc<LinkCounters>,
}

/// Why a replica is no longer followed.
enum Ended {
    /// The stream was closed at its owner. The replica keeps what it holds.
    Closed,
    /// The stream was removed at its owner, or there is another stream now.
    Removed,
    /// The replica cannot go on: it is closed as failed.
    Failed(Failure),
    /// The replica has had no reader for as long as it is kept.
    Unused,
}

impl Task {
    /// Opens the replica, with this link if one is given, and follows it to its end.
    pub(crate) async fn run(mut self, link: Option<LinkReader>) {
        self.work(link).await;
        self.forget();
    }

    fn forget(&self) {
        self.shared.replicas.forget(&self.path, &self.users);
    }

    async fn work(&mut self, link: Option<LinkReader>) {
        let (mut replica, mut link) = match self.open(link).await {
            Ok(Some(opened)) => opened,
            Ok(None) => return self.tell(Ok(None)),
            Err(failure) => return self.tell(Err(failure)),
        };
        let stream = replica.stream().clone();
        let name = stream.name().to_owned();
        tracing::info!(stream = name, start = link.position(), "link opened");
        let (_, none) = mpsc::unbounded_channel();
        let asks = std::mem::replace(&mut self.asks, none);
        let mut policy = Policy::new(link.policy(), asks, &stream);
        let mut use_ended = Unused::new(self, &stream);
        let ended = tokio::select! {
            // The link comes last: a busy link uses up the task's budget of work.
            biased;
            () = use_ended.ends() => Ended::Unused,
            ended = self.follow(&mut replica, &mut link, &mut policy) => ended,
        };
        drop((link, policy));
        self.counters.ended();
        match ended {
            Ended::Closed => {
                tracing::info!(stream = name, "link ended: the stream is closed");
                self.tell(Ok(Some(stream.clone())));
                use_ended.ends_after_end().await;
            }
            Ended::Unused => {}
            Ended::Removed => {
                tracing::info!(stream = name, "link ended: the stream was removed");
                // The client is told so, or asks again.
                self.tell(Ok(Some(stream.clone())));
            }
            Ended::Failed(failure) => {
                tracing::warn!(stream = name, reason = failure.message, "link ended");
                self.tell(Err(failure));
                self.forget();
                // Readers keep what the replica holds, and are told that the rest is missing.
                replica.close(true);
                use_ended.ends_after_end().await;
            }
        }
        self.forget();
        self.shared.registry.remove_stream(&stream);
        tracing::info!(stream = name, "replica removed");
    }

    /// Tells the clients that wait what became of the attempt to open the replica, once.
    fn tell(&self, opened: Opened) {
        self.tell.send_if_modified(|told| {
            let is_first = told.is_none();
            if is_first {
                *told = Some(opened);
            }
            is_first
        });
    }

    /// Attaches the link and creates the replica. `None` if the owner has no such stream.
    async fn open(
        &self,
        link: Option<LinkReader>,
    ) -> Result<Option<(Replica, LinkReader)>, Failure> {
        let link = match link {
            Some(link) => link,
            None => match self.shared.attach(&self.path, mount::everything()).await {
                Ok(link) => link,
                Err(failure) if failure.code == ErrorCode::NoSuchStream => return Ok(None),
                Err(failure) => return Err(failure),
            },
        };
        let (start, registry) = (link.start(), &self.shared.registry);
        let create = || {
            let (name, content_type) = (self.path.as_str(), start.content_type.clone());
            let (identity, begin) = (start.identity, link.position());
            let patience = self.shared.max_block_time.clone();
            Replica::create(registry, name, identity, &start.origin, content_type, begin, patience)
        };
        let replica = match create() {
            // A replica that has just ended.
            Err(CreateError::Exists) => {
                registry.remove(self.path.as_str());
                create()
            }
            created => created,
        };
        let mut replica = replica.map_err(|error| match error {
            CreateError::TooManyStreams { .. } | CreateError::TooMuchMemory { .. } => {
                self.too_large(&error)
            }
            error => {
                let message = format!("cannot replicate {}: {error}", self.path);
                Failure::new(ErrorCode::Internal, message)
            }
        })?;
        // The dead are known before the first reader attaches. That all writers have left is known
        // when everything that they wrote is here.
        let Writers { attached, .. } = start.writers;
        replica.set_writers(Writers { attached: attached.max(1), ..start.writers });
        let mut link = link;
        self.limit(&mut link);
        self.counters.opened(replica.stream(), link.policy());
        self.counters.set_head(link.head());
        Ok(Some((replica, link)))
    }

    fn too_large(&self, error: &dyn std::error::Error) -> Failure {
        let message = format!(
            "cannot replicate {}: {error}; raise limits.max_memory or limits.max_streams of this daemon",
            self.path
        );
        Failure::new(ErrorCode::Limit, message)
    }

    /// Bounds the memory for a chunk that arrives in parts.
    fn limit(&self, link: &mut LinkReader) {
        let Origin { ring_buffer_size, channel_buffer_size, .. } = link.start().origin;
        let left = self.shared.registry.limits().max_memory;
        let left = left.saturating_sub(self.shared.registry.memory());
        link.limit_chunks(ring_buffer_size.min(channel_buffer_size).min(left));
    }

    /// Fills the replica until the stream ends, with one link after the other.
    async fn follow(
        &self,
        replica: &mut Replica,
        link: &mut LinkReader,
        policy: &mut Policy,
    ) -> Ended {
        let identity = link.start().identity;
        let caught_up = link.start().head;
        let mut pause = FIRST_PAUSE;
        let mut time = SystemTime::UNIX_EPOCH;
        loop {
            let (begun, before) = (Instant::now(), replica.head());
            let stopped = tokio::select! {
                biased;
                change = policy.changed() => Stopped::Changed(change),
                pumped = self.pump(replica, link, caught_up, &mut time) => Stopped::Pumped(pumped),
            };
            replica.wake();
            let stream = self.path.as_str();
            let again = match stopped {
                Stopped::Pumped(Ok(ended)) => return ended,
                Stopped::Pumped(Err(ReadError::Removed)) => return Ended::Removed,
                Stopped::Pumped(Err(error)) if is_protocol_error(&error) => {
                    let message = format!("cannot replicate {stream}: {error}");
                    return Ended::Failed(Failure::new(ErrorCode::Protocol, message));
                }
                // Clients wait for the history, and no attempt brings more of it.
                Stopped::Pumped(Err(error))
                    if replica.head() == before && self.gives_up(policy) =>
                {
                    return Ended::Failed(self.shared.owner.unreachable(&error.to_string()));
                }
                Stopped::Pumped(Err(error)) => {
                    tracing::warn!(stream, %error, "link lost");
                    // A link that breaks again and again must not occupy both daemons.
                    if begun.elapsed() > MAX_PAUSE {
                        pause = FIRST_PAUSE;
                    }
                    self.connect_again(replica.head(), policy, &mut pause).await
                }
                // What the old link has received and not appended, the new one receives again.
                Stopped::Changed(change) => {
                    let is_intact = link.position() == replica.head();
                    match self.switch(replica.head(), policy, change, is_intact).await {
                        Ok(None) => continue,
                        Ok(Some(again)) => Ok(again),
                        Err(ended) => Err(ended),
                    }
                }
            };
            time = SystemTime::UNIX_EPOCH;
            *link = match again {
                Ok(again) if again.start().identity == identity => again,
                Ok(_) => return Ended::Removed,
                Err(ended) => return ended,
            };
            self.limit(link);
            self.counters.set_policy(link.policy());
        }
    }

    /// Attaches a link with another policy at this offset. The old link still exists, so that a
    /// link which becomes a `drop` reader loses nothing. `None` if the owner refuses a `block`
    /// reader, and the old link, which is intact, goes on.
    async fn switch(
        &self,
        offset: u64,
        policy: &mut Policy,
        change: Change,
        is_intact: bool,
    ) -> Result<Option<LinkReader>, Ended> {
        let wanted = match change {
            Change::Block(_) => SlowPolicy::Block,
            Change::Drop => SlowPolicy::Drop,
        };
        let attached = self.attach(offset, wanted).await;
        match (attached, change) {
            (Ok(link), Change::Block(ask)) => {
                policy.grant(ask);
                Ok(Some(link))
            }
            (Ok(link), Change::Drop) => {
                policy.set(SlowPolicy::Drop);
                Ok(Some(link))
            }
            // Those who ask ask again, for the next stream.
            (Err(failure), _) if has_gone(&failure) => Err(Ended::Removed),
            (Err(failure), change) => {
                let is_refused = matches!(failure.code, ErrorCode::Denied | ErrorCode::Limit);
                if let Change::Block(ask) = change {
                    // The client may have left.
                    let _ = ask.send(Err(failure));
                    if is_refused && is_intact {
                        return Ok(None);
                    }
                }
                self.connect_again(offset, policy, &mut { FIRST_PAUSE }).await.map(Some)
            }
        }
    }

    /// Passes on everything from a link, until the stream ends or the link breaks. `time` is that of
    /// the link's last chunk.
    async fn pump(
        &self,
        replica: &mut Replica,
        link: &mut LinkReader,
        caught_up: u64,
        time: &mut SystemTime,
    ) -> Result<Ended, ReadError> {
        loop {
            if replica.head() >= caught_up {
                self.tell(Ok(Some(replica.stream().clone())));
            }
            let event = match link.try_next()? {
                Some(event) => event,
                None => {
                    replica.wake();
                    self.counters.set_head(link.head());
                    link.next().await?
                }
            };
            let done = match event {
                LinkEvent::AppendedAt(at) => {
                    *time = at;
                    Ok(())
                }
                LinkEvent::Chunk(chunk) => replica.push(chunk, *time).await,
                LinkEvent::Gap { from, to, chunks } => {
                    let skipped = replica.skip_to(to, chunks);
                    if skipped.is_ok() {
                        self.counters.add_lost(to.saturating_sub(from));
                    }
                    skipped
                }
                LinkEvent::Writers(writers) => {
                    replica.set_writers(writers);
                    Ok(())
                }
                LinkEvent::End(end) => {
                    replica.wake();
                    replica.close(end == End::Failed);
                    return Ok(Ended::Closed);
                }
                _ => Ok(()),
            };
            if let Err(error) = done {
                return Ok(match error {
                    // By an operator.
                    WriteError::Removed => Ended::Removed,
                    error => Ended::Failed(self.too_large(&error)),
                });
            }
        }
    }

    /// Whether to fail instead of connecting again: clients wait for the replica to be opened, and it
    /// has no reader yet. A reader that has waited for the stream also waits for the link.
    fn gives_up(&self, policy: &Policy) -> bool {
        self.tell.borrow().is_none() && !policy.has_readers()
    }

    /// Attaches a link at this offset, if the owner answers in time.
    async fn attach(&self, offset: u64, policy: SlowPolicy) -> Result<LinkReader, Failure> {
        let options = ReadOptions::default().start(Start::Offset(offset)).policy(policy);
        let link = self.shared.attach(&self.path, options).await?;
        let start = link.position();
        if start == offset {
            return Ok(link);
        }
        let message = format!(
            "the daemon that owns {} continues it at {start} instead of {offset}",
            self.path
        );
        Err(Failure::new(ErrorCode::Protocol, message))
    }

    /// Attaches a link at this offset, however long that takes; makes only one attempt if the task
    /// [gives up](Self::gives_up).
    async fn connect_again(
        &self,
        offset: u64,
        policy: &mut Policy,
        pause: &mut Duration,
    ) -> Result<LinkReader, Ended> {
        let (stream, lost) = (self.path.as_str(), Instant::now());
        let mut known = String::new();
        self.counters.lost();
        self.shared.owner.forget_round_trip();
        loop {
            let down = || self.shared.owner.unreachable("the link is down");
            tokio::select! {
                biased;
                () = sleep(*pause) => {}
                () = policy.refuse(down) => {}
            }
            *pause = pause.saturating_mul(2).min(MAX_PAUSE);
            let wanted = policy.for_new_link();
            let failure = match self.attach(offset, wanted).await {
                Ok(link) => {
                    let millis = u64::try_from(lost.elapsed().as_millis()).unwrap_or(u64::MAX);
                    let after = humantime::format_duration(Duration::from_millis(millis));
                    tracing::info!(stream, offset = link.position(), %after, "link restored");
                    self.counters.restored();
                    return Ok(link);
                }
                Err(failure) => failure,
            };
            match failure.code {
                _ if has_gone(&failure) => return Err(Ended::Removed),
                ErrorCode::Protocol => return Err(Ended::Failed(failure)),
                ErrorCode::Denied if wanted == SlowPolicy::Block => {
                    tracing::warn!(stream, %failure.message, "the link no longer blocks writers");
                    policy.set(SlowPolicy::Drop);
                    continue;
                }
                _ if self.gives_up(policy) => return Err(Ended::Failed(failure)),
                ErrorCode::Unreachable => tracing::debug!(stream, %failure.message, "no link"),
                // An operator has to do something.
                _ if failure.message != known => {
                    tracing::warn!(stream, %failure.message, "no link");
                    known = failure.message;
                }
                _ => {}
            }
        }
    }
}

/// Whether the owner no longer has the stream. A stream that ends before the replica is another one.
fn has_gone(failure: &Failure) -> bool {
    matches!(failure.code, ErrorCode::NoSuchStream | ErrorCode::PastHead)
}

/// Whether the owner has sent what it must not send, which it would send again.
fn is_protocol_error(error: &ReadError) -> bool {
    let ReadError::Other(cause) = error else { return false };
    matches!(cause.downcast_ref::<RequestError>(), Some(RequestError::Protocol(_)))
}

/// Why a link is not read any more.
enum Stopped {
    Pumped(Result<Ended, ReadError>),
    Changed(Change),
}

/// Finds out when a replica is no longer used.
struct Unused {
    keep: Keep,
    shared: Arc<Shared>,
    path: StreamPath,
    users: Arc<Users>,
    stream: Stream,
    events: pfs_stream::Events,
    since: Instant,
}

impl Unused {
    fn new(task: &Task, stream: &Stream) -> Self {
        Self {
            keep: task.shared.owner.settings().keep,
            shared: Arc::clone(&task.shared),
            path: task.path.clone(),
            users: Arc::clone(&task.users),
            stream: stream.clone(),
            events: stream.events(),
            since: Instant::now(),
        }
    }

    /// Waits until the replica has had no reader, and no client that asked for it, for as long as it
    /// is kept. Clients no longer find the replica then. If the replica is kept always, waits until
    /// it is removed.
    async fn ends(&mut self) {
        loop {
            let due = match self.keep {
                Keep::For(time) => self.since.checked_add(time),
                Keep::Always => None,
            };
            let is_idle = self.users.is_empty() && self.stream.readers() == 0;
            tokio::select! {
                biased;
                () = self.users.changed() => self.since = Instant::now(),
                event = self.events.next() => match event {
                    None => return,
                    Some(StreamEvent::NoReaders) => self.since = Instant::now(),
                    Some(_) => {}
                },
                () = async {
                    match due.filter(|_| is_idle) {
                        Some(due) => sleep_until(due).await,
                        None => std::future::pending().await,
                    }
                } => if self.shared.replicas.forget_unused(&self.path, &self.users, &self.stream) {
                    return;
                },
            }
        }
    }

    /// Like [`ends`](Self::ends), for a replica that no link follows any more, which is not kept
    /// always.
    async fn ends_after_end(&mut self) {
        if self.keep == Keep::Always {
            self.keep = Keep::default();
        }
        self.since = Instant::now();
        self.ends().await;
    }
}
