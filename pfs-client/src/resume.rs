//! Reader resumption: continues over a new connection after the old one broke. Only over HTTP.
//!
//! A reader resumes only the very stream that it was reading, checked by the stream's identity. A
//! new stream of the same name, or a stream of a restarted daemon, is a different stream.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pfs_proto::{End, ErrorCode, Identity, ReadOptions, Reply, Request, Start, StreamPath, Until};
use pfs_stream::{Cause, ReadError};
use tokio::time::{Duration, Instant, sleep, timeout_at};

use crate::{
    ConnectError,
    connection::Connection,
    dialer::Dialer,
    error::{ProtocolError, RequestError},
};

/// Time limit without progress, after which the reader gives up.
const RESUME_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause before the second attempt. Each further pause is twice as long, up to the maximum.
const FIRST_RETRY_DELAY: Duration = Duration::from_millis(50);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(1);

/// The identity of the attached stream, and the number of writer deaths before the reader attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attached {
    pub(crate) identity: Identity,
    pub(crate) deaths_before: u64,
}

/// The offset where a reader starts or resumes, and the stream's head at that moment.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) start: u64,
    pub(crate) head: u64,
    pub(crate) content_type: Option<String>,
}

/// The state that a reader needs for resuming.
pub(crate) struct Resume {
    dialer: Dialer,
    path: StreamPath,
    options: ReadOptions,
    /// The first attachment, and the head at that moment.
    first: Option<(Attached, u64)>,
    /// Whether the connection has broken since the first attachment.
    has_broken: bool,
    /// Whether a writer died between the first attachment and a later one. [`end`](Self::end) then
    /// reports the death.
    missed_death: bool,
    /// The start of the current series of attempts without progress.
    trouble: Option<Instant>,
    /// The number of attempts since `trouble`.
    tries: u32,
    attempt: Option<Attempt>,
}

/// The future of one series of attempts.
type Attempt = Pin<Box<dyn Future<Output = Result<Resumed, ReadError>> + Send>>;

/// A new connection and the reader's place in the stream. No place if the reader is still waiting
/// for the stream.
pub(crate) struct Resumed {
    pub(crate) connection: Connection,
    pub(crate) place: Option<(Option<Attached>, Place)>,
}

impl Resume {
    /// The state for a reader whose connections come from `dialer`.
    pub(crate) fn new(dialer: Dialer, path: &StreamPath, options: ReadOptions) -> Self {
        Self {
            dialer,
            path: path.clone(),
            options,
            first: None,
            has_broken: false,
            missed_death: false,
            trouble: None,
            tries: 0,
            attempt: None,
        }
    }

    /// Records an attachment.
    pub(crate) fn attached(&mut self, attached: Option<Attached>, head: u64) {
        match (&self.first, attached) {
            (None, Some(attached)) => self.first = Some((attached, head)),
            (Some((first, _)), Some(now)) => {
                self.missed_death |= now.deaths_before > first.deaths_before;
            }
            _ => {}
        }
    }

    /// Records progress: data arrived, so the series of failed attempts is over.
    pub(crate) fn progress(&mut self) {
        self.trouble = None;
        self.tries = 0;
    }

    /// Adjusts the end reason for a reader that was disconnected for a while.
    pub(crate) fn end(&self, reason: End) -> End {
        if reason == End::WritersGone && self.missed_death { End::WriterDied } else { reason }
    }

    /// Returns true if a resumed reader with [`Until::CaughtUp`] has everything up to the head of
    /// its first attachment. The daemon cannot tell, because it only knows the head at the
    /// latest attachment.
    pub(crate) fn has_caught_up(&self, position: u64) -> bool {
        let wanted = self.options.until == Until::CaughtUp && self.has_broken;
        wanted && self.first.is_some_and(|(_, head)| position >= head)
    }

    /// Returns true if an attempt to resume is under way.
    pub(crate) fn is_under_way(&self) -> bool {
        self.attempt.is_some()
    }

    /// Starts to reconnect after the error `why`. A reader that was `attached` resumes at
    /// `position`. A reader that was still waiting for the stream waits again, and starts at the
    /// first byte of the stream, because the reader was there before the stream. Returns `why` if
    /// resuming is impossible.
    pub(crate) fn begin(
        &mut self,
        attached: bool,
        position: u64,
        why: Arc<io::Error>,
    ) -> Result<(), Arc<io::Error>> {
        let identity = self.first.map(|(attached, _)| attached.identity);
        if attached && identity.is_none() {
            // The daemon did not send the stream's identity.
            return Err(why);
        }
        self.has_broken = true;
        let start = Start::Offset(if attached { position } else { 0 });
        let wait = self.options.wait && !attached;
        let options = ReadOptions { start, wait, ..self.options };
        let since = *self.trouble.get_or_insert_with(Instant::now);
        let asking =
            Asking { dialer: self.dialer.clone(), path: self.path.clone(), options, identity };
        self.attempt = Some(Box::pin(asking.until_answered(since, self.tries, why)));
        self.tries = self.tries.saturating_add(1);
        Ok(())
    }

    /// Polls the attempt.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Resumed, ReadError>> {
        let Some(attempt) = &mut self.attempt else { return Poll::Pending };
        let resumed = ready!(attempt.as_mut().poll(cx));
        self.attempt = None;
        Poll::Ready(resumed)
    }
}

impl fmt::Debug for Resume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resume")
            .field("path", &self.path)
            .field("first", &self.first)
            .finish_non_exhaustive()
    }
}

/// The request with which a reader resumes.
struct Asking {
    dialer: Dialer,
    path: StreamPath,
    options: ReadOptions,
    /// The identity that the stream must have.
    identity: Option<Identity>,
}

/// The failure of one attempt.
enum Failed {
    /// Another attempt may succeed.
    Retry(RequestError),
    Final(ReadError),
}

impl<E: Into<ProtocolError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Final(error.into().into())
    }
}

impl From<RequestError> for Failed {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Lost(_)
            | RequestError::Connect(
                ConnectError::Refused { code: ErrorCode::Limit, .. }
                | ConnectError::Unreachable { .. }
                | ConnectError::TimedOut { .. }
                | ConnectError::Lost(_),
            ) => Self::Retry(error),
            RequestError::Connect(ConnectError::Refused { code, message }) => {
                Self::Final(RequestError::refused(code, message).into())
            }
            RequestError::Connect(error @ ConnectError::Rejected { status: 401 | 403, .. }) => {
                Self::Final(RequestError::refused(ErrorCode::Denied, error.to_string()).into())
            }
            RequestError::Connect(error) => Self::Final(gone(error.to_string())),
            error => Self::Final(error.into()),
        }
    }
}

impl Asking {
    async fn until_answered(
        self,
        since: Instant,
        tries: u32,
        why: Arc<io::Error>,
    ) -> Result<Resumed, ReadError> {
        let mut pause = FIRST_RETRY_DELAY.saturating_mul(1 << tries.min(5)).min(MAX_RETRY_DELAY);
        let mut first = tries == 0;
        let mut last = None;
        let until = since.checked_add(RESUME_TIMEOUT).unwrap_or(since);
        loop {
            if !std::mem::take(&mut first) {
                sleep(pause).await;
                pause = pause.saturating_mul(2).min(MAX_RETRY_DELAY);
            }
            match timeout_at(until, self.once()).await {
                Ok(Ok(resumed)) => return Ok(resumed),
                Ok(Err(Failed::Final(error))) => return Err(error),
                Ok(Err(Failed::Retry(error))) => last = Some(error),
                Err(_) => {}
            }
            if Instant::now() >= until {
                return Err(gave_up(&why, last));
            }
        }
    }

    async fn once(&self) -> Result<Resumed, Failed> {
        let mut connection = self.open().await?;
        let mut found = None;
        let mut reply =
            connection.request(&Request::OpenReader(self.path.clone(), self.options)).await?;
        loop {
            match reply {
                Reply::Waiting => return Ok(Resumed { connection, place: None }),
                Reply::Identity { identity, deaths_before } => {
                    found = Some(Attached { identity, deaths_before });
                }
                Reply::Reading { start, head, content_type } => {
                    self.check(found.map(|attached| attached.identity))?;
                    return Ok(Resumed {
                        connection,
                        place: Some((found, Place { start, head, content_type })),
                    });
                }
                Reply::Error { code: ErrorCode::Limit, message } => {
                    let code = ErrorCode::Limit;
                    return Err(Failed::Retry(ConnectError::Refused { code, message }.into()));
                }
                Reply::Error { code: ErrorCode::NoSuchStream | ErrorCode::PastHead, .. } => {
                    return Err(self.missing().await);
                }
                Reply::Error { code, message } => {
                    return Err(Failed::Final(RequestError::refused(code, message).into()));
                }
                _ => {
                    return Err(ProtocolError::Unexpected {
                        expected: "the position in the stream",
                    }
                    .into());
                }
            }
            reply = connection.receive().await?;
        }
    }

    async fn open(&self) -> Result<Connection, RequestError> {
        Ok(self.dialer.open(false).await?)
    }

    /// Checks that the stream is the one that was read before.
    fn check(&self, found: Option<Identity>) -> Result<(), Failed> {
        match (self.identity, found) {
            (None, _) => Ok(()),
            (Some(expected), Some(found)) if expected == found => Ok(()),
            (Some(expected), Some(found)) if expected.daemon() != found.daemon() => {
                Err(Failed::Final(restarted()))
            }
            _ => Err(Failed::Final(ReadError::Removed)),
        }
    }

    /// The reason for a missing stream: the daemon was restarted, or the stream was removed.
    async fn missing(&self) -> Failed {
        let info = async { self.open().await?.request(&Request::Info).await };
        match (info.await, self.identity) {
            (Ok(Reply::Daemon(info)), Some(expected)) if info.started != expected.daemon() => {
                Failed::Final(restarted())
            }
            (Ok(_), _) => Failed::Final(ReadError::Removed),
            (Err(error), _) => error.into(),
        }
    }
}

fn gone(why: impl Into<String>) -> ReadError {
    ReadError::DaemonGone(Cause::new(io::Error::new(io::ErrorKind::ConnectionReset, why.into())))
}

fn restarted() -> ReadError {
    gone("the daemon was restarted, and its earlier streams are gone")
}

fn gave_up(why: &io::Error, last: Option<RequestError>) -> ReadError {
    let last = match last {
        Some(RequestError::Lost(error)) => error.to_string(),
        Some(RequestError::Connect(ConnectError::Unreachable { source, .. })) => source.to_string(),
        Some(error) => error.to_string(),
        None => "no answer".to_owned(),
    };
    let seconds = RESUME_TIMEOUT.as_secs();
    let message =
        format!("{why}; the daemon could not be reached again within {seconds} s: {last}");
    ReadError::DaemonGone(Cause::new(io::Error::new(why.kind(), message)))
}
