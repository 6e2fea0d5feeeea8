//! Owner of a mount: the daemon whose streams are mounted, and how to reach it.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use pfs_client::{Client, ConnectError, Endpoint, ReadError, RequestError};
use pfs_host::Failure;
use pfs_proto::{ErrorCode, Hop, MAX_HOPS, PathError, Request, StreamPath};
use tokio::time::{Instant, timeout};

/// The mount that is meant by a URL without a path.
const USUAL_MOUNT: &str = "/streamfs";

/// Time limit for the owner's answer, also through other daemons.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Time limit for a connection with which the round trip is measured.
const CONNECTING: Duration = Duration::from_secs(5);

/// Time limit for the answer to a request that measures the round trip. Together with [`CONNECTING`]
/// less than the ten seconds that Prometheus waits.
const ROUND_TRIP_TIMEOUT: Duration = Duration::from_secs(2);

/// Age at which the round trip is measured again.
const ROUND_TRIP_AGE: Duration = Duration::from_secs(1);

/// How long a replica without readers is kept by default.
const USUAL_KEEP: Duration = Duration::from_secs(30);

/// How long a replica without readers is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a time, or no limit")]
pub enum Keep {
    /// For this time.
    For(Duration),
    /// Until the stream ends.
    Always,
}

impl Default for Keep {
    fn default() -> Self {
        Self::For(USUAL_KEEP)
    }
}

/// Settings of a remote mount.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "made by pfsd from its configuration")]
pub struct RemoteSettings {
    /// The path of the mount, such as `/edge`.
    pub path: String,
    /// The owner's addresses. The first that answers is used.
    pub endpoints: Vec<Endpoint>,
    /// The path of the mount at the owner, such as `/streamfs`.
    pub mounted: String,
    /// How long a replica without readers is kept.
    pub keep: Keep,
    /// Whether clients of this daemon cannot change the streams.
    pub read_only: bool,
}

impl RemoteSettings {
    /// The mounted URLs, for messages.
    pub fn urls(&self) -> String {
        let url = |endpoint: &Endpoint| format!("{endpoint}{}", self.mounted);
        let urls: Vec<String> = self.endpoints.iter().map(url).collect();
        urls.join(", ")
    }
}

/// Why a URL is not that of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlError;

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the last part of the URL must be the name of a mount, as in http://HOST:4437/streamfs",
        )
    }
}

impl std::error::Error for UrlError {}

/// Splits the URL of a mount into the URL of the daemon and the path of the mount there: the last
/// segment of the URL, or `/streamfs` if the URL has no path.
///
/// # Errors
///
/// [`UrlError`]: the last segment cannot be a mount.
pub fn mounted_path(url: &str) -> Result<(String, String), UrlError> {
    let trimmed = url.trim_end_matches('/');
    let after_scheme = trimmed.find("://").map_or(0, |at| at + 3);
    let rest = trimmed.get(after_scheme..).unwrap_or_default();
    let Some(at) = rest.rfind('/') else {
        return Ok((trimmed.to_owned(), USUAL_MOUNT.to_owned()));
    };
    let (daemon, mount) = trimmed.split_at_checked(after_scheme + at).ok_or(UrlError)?;
    // A mount is the first segment of the paths of its streams.
    let is_mount = format!("{mount}/x").parse::<StreamPath>().is_ok_and(|it| it.mount() == mount);
    if is_mount { Ok((daemon.to_owned(), mount.to_owned())) } else { Err(UrlError) }
}

/// The owner of a mount.
#[derive(Debug)]
pub(crate) struct Owner {
    settings: RemoteSettings,
    /// The [`Hop::daemon`] of this daemon.
    id: u64,
    /// The client, once the owner has answered, and has found no loop of mounts.
    client: Mutex<Option<Client>>,
    /// The last round trip, and when it was measured.
    round_trip: Mutex<Option<(Instant, Result<Duration, Failure>)>>,
    /// Held while the round trip is measured.
    measuring: tokio::sync::Mutex<()>,
}

impl Owner {
    pub(crate) fn new(settings: RemoteSettings, id: u64) -> Self {
        Self {
            settings,
            id,
            client: Mutex::default(),
            round_trip: Mutex::default(),
            measuring: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn settings(&self) -> &RemoteSettings {
        &self.settings
    }

    /// The owner's name for a stream of the mount.
    ///
    /// # Errors
    ///
    /// The name would be too long there.
    pub(crate) fn path(&self, path: &StreamPath) -> Result<StreamPath, Failure> {
        format!("{}/{}", self.settings.mounted, path.name()).parse().map_err(|error: PathError| {
            Failure::new(ErrorCode::BadPath, format!("{path} is no path of its owner: {error}"))
        })
    }

    /// Checks that clients may change the streams.
    ///
    /// # Errors
    ///
    /// The mount is read-only.
    pub(crate) fn may_change(&self, path: &StreamPath) -> Result<(), Failure> {
        let RemoteSettings { path: mount, read_only, .. } = &self.settings;
        if !read_only {
            return Ok(());
        }
        let message = format!(
            "cannot change {path}: {mount} is mounted read-only; change the stream at its owner, or remove read_only \
             from the mount"
        );
        Err(Failure::new(ErrorCode::Denied, message))
    }

    /// The mount's name for a stream of the owner; `None` if it is not below what is mounted.
    pub(crate) fn local_path(&self, path: &str) -> Option<String> {
        let below = path.strip_prefix(&self.settings.mounted)?.strip_prefix('/')?;
        Some(format!("{}/{below}", self.settings.path))
    }

    /// Where the owner's list goes on so that ours goes on after `after`; `None` if no path of the
    /// mount sorts after it.
    pub(crate) fn their_after(&self, after: &str) -> Option<String> {
        let RemoteSettings { path, mounted, .. } = &self.settings;
        match after.strip_prefix(path.as_str()) {
            Some(below) if below.starts_with('/') => Some(format!("{mounted}{below}")),
            _ if after < format!("{path}/").as_str() => Some(String::new()),
            _ => None,
        }
    }

    /// A client of the owner, at the first address that answers.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        if let Some(client) = self.known() {
            return Ok(client);
        }
        let client = self.connect().await?;
        // A daemon of a loop that starts last finds the loop here, before anything goes round.
        self.trace_with(&client, Vec::new()).await?;
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        Ok(client)
    }

    fn known(&self) -> Option<Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn connect(&self) -> Result<Client, Failure> {
        let mut last = None;
        for endpoint in &self.settings.endpoints {
            match Client::connect(endpoint.clone()).await {
                Ok(client) => return Ok(client),
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(
            || self.unreachable("it has no address"),
            |error| self.not_connected(&error),
        ))
    }

    /// Follows the mount to the daemon that owns the streams. `hops` led here. Fails if a daemon
    /// finds itself on the way.
    pub(crate) async fn trace(&self, hops: Vec<Hop>) -> Result<(), Failure> {
        let client = match self.known() {
            Some(client) => client,
            None => self.connect().await?,
        };
        self.trace_with(&client, hops).await
    }

    async fn trace_with(&self, client: &Client, mut hops: Vec<Hop>) -> Result<(), Failure> {
        let RemoteSettings { path, mounted, .. } = &self.settings;
        if hops.len() >= MAX_HOPS {
            let message =
                format!("{path} is behind {MAX_HOPS} other mounts; at most {MAX_HOPS} work");
            return Err(Failure::new(ErrorCode::Denied, message));
        }
        hops.push(Hop { daemon: self.id, mount: format!("{path}={}", self.settings.urls()) });
        let traced = async {
            match client.trace(mounted, hops).await {
                // A daemon that knows no links has no mounts of other daemons.
                Err(RequestError::Unsupported { .. }) => Ok(Ok(())),
                // The message lists the loop already.
                Err(RequestError::Daemon { code: ErrorCode::Denied, message }) => {
                    Ok(Err(Failure::new(ErrorCode::Denied, message)))
                }
                traced => traced.map(Ok),
            }
        };
        self.in_time(traced).await?
    }

    /// The owner's answer to a request, if it comes in time.
    pub(crate) async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, RequestError>>,
    ) -> Result<T, Failure> {
        match timeout(ANSWER_TIMEOUT, answer).await {
            Ok(answer) => answer.map_err(|error| self.failed(&error)),
            Err(_) => {
                self.forget_client();
                Err(self.unreachable("no answer"))
            }
        }
    }

    /// Time from a small request to its answer, measured in the last second.
    ///
    /// # Errors
    ///
    /// The owner does not answer in time, or refuses this daemon.
    pub(crate) async fn round_trip(&self) -> Result<Duration, Failure> {
        // Those who ask at the same time measure once.
        let _measuring = self.measuring.lock().await;
        let last = self.round_trip.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, measured)) = last
            && at.elapsed() < ROUND_TRIP_AGE
        {
            return measured;
        }
        let measured = self.measure().await;
        *self.round_trip.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), measured.clone()));
        measured
    }

    /// Forgets the round trip. The next call of [`round_trip`](Self::round_trip) measures it.
    pub(crate) fn forget_round_trip(&self) {
        *self.round_trip.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn measure(&self) -> Result<Duration, Failure> {
        let silent =
            |limit: Duration| self.unreachable(&format!("no answer within {} s", limit.as_secs()));
        let client = timeout(CONNECTING, self.client()).await;
        let client = client.unwrap_or_else(|_| Err(silent(CONNECTING)))?;
        let ask = || async {
            let begun = Instant::now();
            let asked = timeout(ROUND_TRIP_TIMEOUT, client.ask(&Request::Info)).await;
            let answer = asked.map_err(|_| silent(ROUND_TRIP_TIMEOUT))?;
            answer.map_err(|error| self.failed(&error))?;
            Ok::<_, Failure>(begun.elapsed())
        };
        // The first request may have to open a connection.
        let first = ask().await?;
        Ok(ask().await.map_or(first, |second| second.min(first)))
    }

    /// Forgets the client, so that all addresses are tried again.
    pub(crate) fn forget_client(&self) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn not_connected(&self, error: &ConnectError) -> Failure {
        let path = &self.settings.path;
        match error {
            ConnectError::Rejected { .. } | ConnectError::Untrusted { .. } => {
                let message = format!(
                    "the daemon that owns {path} refuses this daemon: {error}; set token_file, ca_file or client_cert_file of the mount"
                );
                return Failure::new(ErrorCode::Denied, message);
            }
            _ => {}
        }
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            reason = format!("{reason}: {cause}");
            source = cause.source();
        }
        self.unreachable(&reason)
    }

    /// The failure of an operation for which the owner was not reached.
    pub(crate) fn unreachable(&self, reason: &str) -> Failure {
        let path = &self.settings.path;
        Failure::new(
            ErrorCode::Unreachable,
            format!("the daemon that owns {path} cannot be reached: {reason}"),
        )
    }

    /// The failure of reading from the owner.
    pub(crate) fn not_read(&self, error: &ReadError) -> Failure {
        match error {
            ReadError::Other(cause) if let Some(error) = cause.downcast_ref() => self.failed(error),
            error => {
                self.forget_client();
                self.unreachable(&error.to_string())
            }
        }
    }

    /// The failure of a request to the owner.
    pub(crate) fn failed(&self, error: &RequestError) -> Failure {
        match error {
            RequestError::Daemon { code, message } => {
                Failure::new(*code, format!("{message} (at the owner of {})", self.settings.path))
            }
            RequestError::Connect(error) => {
                self.forget_client();
                self.not_connected(error)
            }
            error => {
                self.forget_client();
                self.unreachable(&error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_the_list_goes_on_at_the_owners_name() {
        let settings = RemoteSettings {
            path: "/edge".to_owned(),
            endpoints: Vec::new(),
            mounted: "/streamfs".to_owned(),
            keep: Keep::Always,
            read_only: false,
        };
        let owner = Owner::new(settings, 1);
        for (ours, theirs) in [
            ("", Some("")),
            ("/a/b", Some("")),
            ("/edge/b", Some("/streamfs/b")),
            ("/edge0/b", None),
            ("/other/b", None),
        ] {
            assert_eq!(owner.their_after(ours).as_deref(), theirs, "{ours}");
        }
    }

    #[test]
    fn the_last_segment_of_a_url_is_the_mount_at_the_owner() {
        for (url, daemon, mount) in [
            ("http://host:4437/streamfs", "http://host:4437", "/streamfs"),
            ("https://host/pfs/cams/", "https://host/pfs", "/cams"),
            ("http://host:4437", "http://host:4437", "/streamfs"),
            ("host", "host", "/streamfs"),
            ("host/cams", "host", "/cams"),
        ] {
            assert_eq!(mounted_path(url), Ok((daemon.to_owned(), mount.to_owned())), "{url}");
        }
        assert_eq!(mounted_path("http://host/a b\n"), Err(UrlError));
    }
}
