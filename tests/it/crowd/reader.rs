//! Reader of a crowd: attaches again and again until all streams are closed for good, and checks
//! every byte.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::client::SendRequest;
use pfs_client::{
    Chunks, Client, ErrorCode, Event, ReadError, ReadOptions, RequestError, SlowPolicy, Start,
};
use tokio::{
    sync::{OwnedSemaphorePermit, watch::Receiver},
    time::sleep,
};

use super::{
    contents::{Account, Totals},
    kind::{Kind, Pace},
    site::Site,
};

/// How one session with a stream ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The stream was read to its end, at this offset.
    Closed(u64),
    /// The connection broke; the next session continues at the same place.
    Broken,
    /// The daemon refused the session; the next one reads another stream, or comes later.
    Refused,
}

/// State that all readers share.
pub(super) struct Crowd {
    pub(super) site: Site,
    pub(super) totals: Arc<Totals>,
    /// Number of readers that have been attached at least once.
    pub(super) attached: AtomicUsize,
    /// End offset of each stream, known when the run is over.
    pub(super) ends: Mutex<HashMap<&'static str, u64>>,
}

/// Connection that several readers of one kind and pace share.
pub(super) enum Shared {
    Library(Box<Client>),
    Http2(SendRequest<Bytes>),
    Nothing,
}

/// One reader.
pub(super) struct Reader {
    pub(super) crowd: Arc<Crowd>,
    pub(super) shared: Arc<Shared>,
    pub(super) kind: Kind,
    pub(super) pace: Pace,
    pub(super) policy: SlowPolicy,
    pub(super) stream: &'static str,
    /// Bytes of history that the reader starts with. Readers at different places share no copy in
    /// the daemon.
    pub(super) tail: u64,
    pub(super) over: Receiver<bool>,
    /// Held until the first attachment.
    pub(super) connecting: Option<OwnedSemaphorePermit>,
}

impl Reader {
    /// Reads until the run is over and the stream has been read to its end.
    pub(super) async fn run(mut self) {
        let mut place = None;
        loop {
            let over = *self.over.borrow();
            let ended = match self.kind {
                Kind::Shm | Kind::Unix | Kind::Frames => self.library().await,
                Kind::Body | Kind::Multiplexed => self.body(&mut place).await,
                Kind::Events => self.events(&mut place).await,
                Kind::Pages => self.pages(&mut place).await,
            };
            match ended {
                Ended::Closed(end) if over => {
                    assert_eq!(
                        end,
                        self.crowd.ends.lock().unwrap()[self.stream],
                        "the end of {self}"
                    );
                    return;
                }
                Ended::Broken => {}
                Ended::Closed(_) | Ended::Refused => {
                    place = None;
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Records the attachment at offset `start`, and stalls there if that is the reader's pace.
    pub(super) async fn attached(&mut self, start: u64) -> Account {
        if self.connecting.take().is_some() {
            self.crowd.attached.fetch_add(1, Relaxed);
        }
        let account = Account::new(start, Arc::clone(&self.crowd.totals));
        if self.pace == Pace::Stalled {
            self.pause().await;
        }
        account
    }

    pub(super) async fn pause(&mut self) {
        self.pace.pause(&mut self.over).await;
    }

    fn may_be_hung_up_on(&self) -> bool {
        super::MOVING.contains(&self.stream) || self.kind == Kind::Frames
    }

    /// One session of the client library, which resumes by itself.
    async fn library(&mut self) -> Ended {
        let shared = Arc::clone(&self.shared);
        let Shared::Library(client) = &*shared else { panic!("{self} has no client") };
        let (start, policy) = (Start::Tail(self.tail), self.policy);
        let options = ReadOptions { start, policy, wait: true, ..ReadOptions::default() };
        let mut reader = match client.reader(self.stream, options).await {
            Ok(reader) => reader,
            // On a busy machine, connecting may exceed the time limit of the library.
            Err(RequestError::Daemon { code: ErrorCode::Limit, .. } | RequestError::Connect(_)) => {
                return Ended::Refused;
            }
            Err(error) => panic!("{self}: {error:?}"),
        };
        let mut account = None;
        let mut chunks = Chunks::new();
        loop {
            let event = match reader.next_batch(&mut chunks).await {
                Ok(event) => event,
                Err(ReadError::Removed | ReadError::TooSlow { .. }) => return Ended::Refused,
                // The daemon hangs up on a reader that keeps a removed stream, and the library then
                // tries to resume for 5 seconds.
                Err(ReadError::DaemonGone(_)) if self.may_be_hung_up_on() => return Ended::Refused,
                Err(error) => panic!("{self}: {error:?}"),
            };
            match (event, &mut account) {
                (Some(Event::Attached { start, .. }), None) => {
                    account = Some(self.attached(start).await)
                }
                (None, Some(account)) => account.delivered(chunks.bytes()),
                (Some(Event::Gap { from, to, .. }), Some(account)) => account.lost(from, to),
                (Some(Event::End { offset, .. }), Some(account)) => {
                    assert_eq!(offset, account.position(), "the end of {self}");
                    return Ended::Closed(offset);
                }
                (Some(Event::Waiting | Event::Resumed { .. }), _) => continue,
                (event, account) => panic!("{self} at {account:?}: {event:?}"),
            }
            self.pause().await;
        }
    }
}

impl std::fmt::Display for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, pace, policy, stream, .. } = self;
        write!(f, "a reader of {stream} ({kind:?}, {pace:?}, {policy:?})")
    }
}
