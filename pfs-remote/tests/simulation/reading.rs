//! Readers: clients that follow the stream at one of the daemons, each in a task of its own.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use pfs_client::{Event, ReadError, RequestError};
use pfs_proto::{ErrorCode, Join, ReadOptions, SlowPolicy, Start, Until};
use tokio::time::{Instant, sleep};

use super::{
    ledger::Account,
    network::Network,
    random::Random,
    schedule::{Moment, World},
};

/// Time after which the owner has certainly been asked whether there is a stream.
const CERTAINLY_WAITING: Duration = Duration::from_secs(20);

/// A reader that a schedule starts.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) world: Arc<World>,
    /// The daemon that it reads from.
    pub(crate) at: usize,
    pub(crate) options: ReadOptions,
    /// The longest pause between two events. Zero for a reader that is always fast.
    pub(crate) pause: Duration,
    pub(crate) random: Random,
}

/// Options of a reader, by chance.
pub(crate) fn options(random: &mut Random, head: u64) -> ReadOptions {
    let start = match random.below(6) {
        0 | 1 => Start::Oldest,
        2 => Start::Tail(u64::MAX),
        3 => Start::Tail(random.size(4096)),
        4 => Start::New,
        _ => Start::Offset(random.below(head + 1)),
    };
    let policy = match random.below(8) {
        0..=4 => SlowPolicy::Drop,
        5 | 6 => SlowPolicy::Block,
        _ => SlowPolicy::Disconnect,
    };
    let until = match random.below(8) {
        0 => Until::CaughtUp,
        1 => Until::WritersGone,
        _ => Until::Closed,
    };
    ReadOptions::default()
        .start(start)
        .policy(policy)
        .until(until)
        .wait(!random.one_in(4))
        .join(Join::Raw)
}

impl Reading {
    /// Reads to the end. Fails if the reader is told what it must not be told.
    pub(crate) async fn run(mut self) -> Result<(), String> {
        let told = self.follow().await;
        told.map_err(|error| {
            format!("a reader at daemon {} ({:?}): {error}", self.at, self.options)
        })
    }

    async fn follow(&mut self) -> Result<(), String> {
        let world = Arc::clone(&self.world);
        let (network, at) = (&world.network, self.at);
        let (before, opened) = (world.moment(at), Instant::now());
        let generation = network.generation(at);
        let is_restarted = || network.generation(at) != generation;
        let Some(client) = network.client(at).await else {
            return is_restarted().then_some(()).ok_or("its daemon refuses it".to_owned());
        };
        let mut reader = match client.reader(Network::path(at), self.options).await {
            Ok(reader) => reader,
            Err(_) if is_restarted() => return Ok(()),
            Err(error) => return self.refused(error.code(), &error, before),
        };
        let mut account = loop {
            match reader.next().await {
                Ok(Event::Waiting) => {}
                Ok(Event::Attached { start, .. }) => {
                    world.log(|| format!("reader at {at} attached at {start}"));
                    // A reader that waited when the stream was created gets all of it.
                    let waited = world.ledger.created(before.streams).map(|time| time - opened);
                    let is_calm = world.moment(at).faults == before.faults && before.is_calm;
                    if start > 0
                        && is_calm
                        && before.streams == 0
                        && waited.is_none_or(|waited| waited > CERTAINLY_WAITING)
                    {
                        return Err(format!("it has waited for {waited:?}, and starts at {start}"));
                    }
                    break Account::new(start);
                }
                Ok(event) => return Err(format!("{event:?} before it was attached")),
                Err(_) if is_restarted() => return Ok(()),
                Err(error) => {
                    let code = match &error {
                        ReadError::Removed => Some(ErrorCode::Removed),
                        ReadError::Other(cause) => {
                            cause.downcast_ref().and_then(RequestError::code)
                        }
                        _ => None,
                    };
                    return self.refused(code, &error, before);
                }
            }
        };
        let (attached, position) = (world.moment(at), world.attach(account.position()));
        loop {
            position.store(account.position(), SeqCst);
            if !self.pause.is_zero() && !world.hurries.load(SeqCst) {
                sleep(self.pause.mul_f64(self.random.below(100) as f64 / 100.0)).await;
            }
            let event = match reader.next().await {
                Ok(event) => event,
                Err(_) if is_restarted() => return Ok(()),
                Err(ReadError::Removed) => return account.removed(&world.ledger),
                Err(ReadError::TooSlow { .. }) if self.options.policy == SlowPolicy::Disconnect => {
                    return Ok(());
                }
                Err(error) => return Err(format!("{error}: {error:?}")),
            };
            match event {
                Event::Chunk(bytes) => account.chunk(&world.ledger, &bytes)?,
                Event::Gap { from, to, .. } => {
                    world.log(|| format!("reader at {at} lost {from}..{to}"));
                    account.gap(&world.ledger, from, to)?;
                    let is_held = self.options.policy == SlowPolicy::Block
                        && world.max_block_time.is_none()
                        && attached.is_calm
                        // Another reader that has waited may have opened the replica.
                        && (at == 0 || attached.streams == before.streams)
                        && world.moment(at).breaks == attached.breaks;
                    // What the link had lost before the reader attached cannot be had back.
                    if is_held && to > attached.head {
                        return Err(format!("a block reader lost {from}..{to}"));
                    }
                }
                Event::End { reason, offset } => {
                    world.log(|| format!("reader at {at} ended: {reason} at {offset}"));
                    return account.end(&world.ledger, reason, offset);
                }
                event => return Err(format!("{event:?}")),
            }
        }
    }

    /// Whether a reader may be refused with this error.
    fn refused(
        &self,
        code: Option<ErrorCode>,
        error: &dyn std::error::Error,
        before: Moment,
    ) -> Result<(), String> {
        let now = self.world.moment(self.at);
        let is_calm = now.faults == before.faults && before.is_calm;
        let is_allowed = match code {
            Some(ErrorCode::Unreachable) => !is_calm,
            Some(ErrorCode::NoSuchStream) => {
                now.streams != before.streams || now.current.is_none() || before.current.is_none()
            }
            Some(ErrorCode::Removed) => now.streams != before.streams || now.current.is_none(),
            // Head here is behind head at the owner.
            Some(ErrorCode::PastHead) => self.at > 0 || now.streams > 1,
            _ => false,
        };
        if is_allowed { Ok(()) } else { Err(format!("it is refused: {error}")) }
    }
}
