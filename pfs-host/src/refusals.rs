//! Refusals: counters by reason, and a rate limit for their log lines.
//!
//! A flood of refused requests, such as guesses of a token, must not fill the disk with log
//! lines. Each reason has a token bucket for its lines. If the bucket is empty, the refusal is
//! only counted, and the next line of the same reason tells how many refusals were not logged
//! (`unlogged`). If no further refusal follows, [`report`] writes that line. This module takes
//! no lock.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use pfs_proto::{ErrorCode, Peer, escape};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tracing::field::display;

use crate::{Caller, Daemon};

/// Lines of one reason that may be logged at once.
const BURST_LINES: u64 = 10;

/// Interval between further lines of that reason.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Limit on the characters of a message that are logged. A client chooses the length of a path or
/// host in the message.
const MAX_CHARACTERS: usize = 400;

/// Why a client is refused, as metrics and the log name it. A request that is wrong in itself, such
/// as a request for a stream that does not exist, is an error and not a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The token is missing or unknown.
    Unauthenticated,
    /// The token does not permit the request, or a browser was made to send the request.
    Denied,
    /// The request comes from a page of another site.
    ForeignOrigin,
    /// The request names a host that is not the daemon's.
    ForeignHost,
    /// The TLS handshake failed, or the client has no accepted certificate.
    Handshake,
    /// `limits.max_connections` is reached.
    Connections,
    /// `limits.max_connections_per_address` is reached for this address.
    ConnectionsPerAddress,
    /// The process has no file descriptor left.
    Descriptors,
    /// `limits.max_streams` is reached.
    Streams,
    /// The rings occupy all of `limits.max_memory`.
    StreamMemory,
    /// Messages on their way to streams or clients occupy their share of `limits.max_memory`.
    MessageMemory,
    /// A user or token has reached its quota.
    Quota,
    /// Headers, a body or a chunk are too large.
    TooLarge,
    /// Hello, headers or a body took too long.
    TooSlow,
}

impl Reason {
    /// All reasons, in the order of declaration.
    pub const ALL: [Self; 14] = [
        Self::Unauthenticated,
        Self::Denied,
        Self::ForeignOrigin,
        Self::ForeignHost,
        Self::Handshake,
        Self::Connections,
        Self::ConnectionsPerAddress,
        Self::Descriptors,
        Self::Streams,
        Self::StreamMemory,
        Self::MessageMemory,
        Self::Quota,
        Self::TooLarge,
        Self::TooSlow,
    ];

    /// The name in metrics and in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Denied => "denied",
            Self::ForeignOrigin => "foreign_origin",
            Self::ForeignHost => "foreign_host",
            Self::Handshake => "handshake",
            Self::Connections => "connections",
            Self::ConnectionsPerAddress => "connections_per_address",
            Self::Descriptors => "descriptors",
            Self::Streams => "streams",
            Self::StreamMemory => "stream_memory",
            Self::MessageMemory => "message_memory",
            Self::Quota => "quota",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
        }
    }

    /// The reason that an error code implies. Limits other than quotas set their reason themselves.
    pub(crate) fn from_code(code: ErrorCode) -> Option<Self> {
        match code {
            ErrorCode::Denied => Some(Self::Denied),
            ErrorCode::Limit => Some(Self::Quota),
            ErrorCode::TooLarge => Some(Self::TooLarge),
            _ => None,
        }
    }
}

/// The refused client and its request, as far as they are known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// Process and user of the client.
    pub peer: Peer,
    /// Address of the client.
    pub remote: Option<SocketAddr>,
    /// Method of the HTTP request.
    pub method: Option<&'a str>,
    /// Requested path, without the query, which may contain secrets.
    pub path: Option<&'a str>,
}

impl From<&Caller> for Asked<'_> {
    fn from(caller: &Caller) -> Self {
        Self { peer: caller.peer, remote: caller.remote, ..Self::default() }
    }
}

/// Counters of refusals since the daemon started.
#[derive(Debug)]
pub struct Refusals {
    started: Instant,
    /// In the order of [`Reason::ALL`].
    tallies: [Tally; Reason::ALL.len()],
    /// Notified when a refusal was not logged.
    left_out: Notify,
}

/// Counters and rate limit of one reason.
#[derive(Debug, Default)]
struct Tally {
    count: AtomicU64,
    /// Refusals since the last line that were not logged.
    unlogged: AtomicU64,
    bucket: Bucket,
}

impl Refusals {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), tallies: Default::default(), left_out: Notify::new() }
    }

    /// Counts a refusal, and logs it if the rate limit permits. The message must contain no secret.
    pub fn refuse(&self, reason: Reason, asked: &Asked<'_>, message: &str) {
        let Some(unlogged) = self.count(reason) else { return };
        let Asked { peer: Peer { pid, uid }, remote, method, path } = *asked;
        let (remote, path, message) = (remote.map(display), path.map(shown), shown(message));
        let (path, unlogged) = (path.as_deref(), (unlogged > 0).then_some(unlogged));
        tracing::warn!(
            reason = reason.name(),
            remote,
            pid,
            uid,
            method,
            path,
            unlogged,
            "refused: {message}"
        );
    }

    /// The number of refusals for each reason.
    pub fn counts(&self) -> [(&'static str, u64); Reason::ALL.len()] {
        let mut tallies = self.tallies.iter();
        Reason::ALL.map(|reason| {
            (reason.name(), tallies.next().map_or(0, |tally| tally.count.load(Relaxed)))
        })
    }

    /// Logs the number of unlogged refusals at the end of the daemon, regardless of the rate limit.
    pub fn finish(&self) {
        self.log_unlogged(|_| true);
    }

    /// Counts a refusal. If it should be logged, returns the number of unlogged refusals before it.
    fn count(&self, reason: Reason) -> Option<u64> {
        let tally = self.tallies.get(reason as usize)?;
        tally.count.fetch_add(1, Relaxed);
        if tally.bucket.take(self.now()) {
            return Some(tally.unlogged.swap(0, Relaxed));
        }
        if tally.unlogged.fetch_add(1, Relaxed) == 0 {
            self.left_out.notify_one();
        }
        None
    }

    /// Logs the number of unlogged refusals of each reason whose bucket passes `may`. Returns false
    /// if some are still unlogged.
    fn log_unlogged(&self, may: impl Fn(&Bucket) -> bool) -> bool {
        let mut all = true;
        for (reason, tally) in Reason::ALL.iter().zip(&self.tallies) {
            if tally.unlogged.load(Relaxed) == 0 {
                continue;
            }
            if !may(&tally.bucket) {
                all = false;
                continue;
            }
            let unlogged = tally.unlogged.swap(0, Relaxed);
            // Another thread's line may just have included them.
            if unlogged > 0 {
                tracing::warn!(
                    reason = reason.name(),
                    unlogged,
                    "further refusals were not logged one by one"
                );
            }
        }
        all
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Logs the number of unlogged refusals after a burst has ended. Runs for as long as the daemon,
/// and wakes only after a refusal was not logged.
pub async fn report(daemon: Arc<Daemon>) {
    let refusals = daemon.refusals();
    loop {
        refusals.left_out.notified().await;
        loop {
            sleep(LINE_INTERVAL).await;
            if refusals.log_unlogged(|bucket| bucket.take(refusals.now())) {
                break;
            }
        }
    }
}

/// A token bucket of [`BURST_LINES`] tokens, which gains one each [`LINE_INTERVAL`]. Stored as the
/// time when the bucket will be full again, in nanoseconds since the daemon started.
#[derive(Debug, Default)]
struct Bucket(AtomicU64);

impl Bucket {
    /// Takes a token. Returns false if the bucket is empty.
    fn take(&self, now: Duration) -> bool {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let (now, interval) = (nanoseconds(now), nanoseconds(LINE_INTERVAL));
        let after = |full: u64| {
            let full = full.max(now).saturating_add(interval);
            (full.saturating_sub(now) <= BURST_LINES.saturating_mul(interval)).then_some(full)
        };
        self.0.fetch_update(Relaxed, Relaxed, after).is_ok()
    }
}

/// Shortens a text, and escapes control characters that a terminal would obey.
fn shown(text: &str) -> String {
    let beginning: String = text.chars().take(MAX_CHARACTERS).collect();
    escape(&beginning).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Failure;

    #[test]
    fn a_limit_is_a_quota_unless_the_failure_says_which_limit_it_is() {
        let failure = Failure::new(ErrorCode::Limit, "no more");
        assert_eq!(failure.reason, Some(Reason::Quota));
        assert_eq!(failure.because(Reason::Streams).reason, Some(Reason::Streams));
        assert_eq!(Failure::new(ErrorCode::NoSuchStream, "none").reason, None);
    }
}
