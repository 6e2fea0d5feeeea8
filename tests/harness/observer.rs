//! Observer of a daemon: one persistent connection for stats and small requests, and watches that
//! wait for events.
//!
//! A test that polls stats must not start a process for each poll: on a busy machine these
//! processes would be the load that time limits then have to tolerate. The observer is one
//! connection, opened at the first request, and each [`Watch`] is one more while it exists. A test
//! that counts connections has to count these too.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use pfs_proto::{
    CreateOptions, ErrorCode, Hello, Reply, Request, StreamEvent, StreamPath, StreamStat,
    WriteOptions, json,
};
use serde_json::Value;

use crate::{Daemon, Wire, deadline, eventually};

/// How long a watch waits for an event before it checks whether that event can still come.
const LOOK: Duration = Duration::from_millis(100);

/// Persistent connection to a daemon.
pub(crate) struct Observer {
    socket: PathBuf,
    /// `None` until the first request.
    kept: Mutex<Option<Wire>>,
}

impl Observer {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket, kept: Mutex::new(None) }
    }

    /// Sends a request and calls `read` with the first reply. `read` reads any further replies from
    /// the connection.
    #[track_caller]
    fn ask<T>(&self, request: &Request, read: impl FnOnce(&mut Wire, Reply) -> T) -> T {
        // A test thread that panicked during a request has failed; other threads may go on using
        // the observer.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // The last daemon may have ended, and a new one may serve the socket: reconnect and
        // ask again.
        let of_a_dead_one = |reply: &Option<Reply>| {
            matches!(reply, None | Some(Reply::Error { code: ErrorCode::ShuttingDown, .. }))
        };
        let mut first = kept.as_mut().and_then(|wire| wire.send(request).reply());
        if of_a_dead_one(&first) {
            // The daemon reports stats of leases, media and links only to clients with these
            // capabilities.
            let known = Hello::LEASING | Hello::JOINING | Hello::LINKING;
            *kept = Some(Wire::connect(&self.socket).greeted_with(known));
            first = kept.as_mut().and_then(|wire| wire.send(request).reply());
        }
        let first = first
            .unwrap_or_else(|| panic!("the daemon hung up in place of an answer to {request:?}"));
        read(kept.as_mut().expect("it was just used"), first)
    }

    #[track_caller]
    fn command(&self, request: &Request) {
        self.ask(request, |_, reply| assert_eq!(reply, Reply::Done, "the answer to {request:?}"));
    }

    #[track_caller]
    fn stat(&self, stream: &str) -> Option<StreamStat> {
        self.ask(&Request::Stat(path(stream)), |wire, reply| {
            let mut stat = match reply {
                Reply::Stat(stat) => stat,
                Reply::Error { code: ErrorCode::NoSuchStream, .. } => return None,
                other => panic!("the answer to stat: {other:?}"),
            };
            loop {
                match wire.reply().expect("all stats") {
                    Reply::MediaStat(media) => stat.media = Some(Box::new(media)),
                    Reply::HopStat(hop) => stat.hops.push(hop),
                    Reply::WriterStat(writer) => stat.writers.push(writer),
                    Reply::ReaderStat(reader) => stat.readers.push(reader),
                    Reply::Done => return Some(stat),
                    other => panic!("among the stats: {other:?}"),
                }
            }
        })
    }

    #[track_caller]
    fn list(&self) -> Vec<String> {
        self.ask(&Request::List("/".to_owned()), |wire, mut reply| {
            let mut paths = Vec::new();
            loop {
                match reply {
                    Reply::Summary(stream) => paths.push(stream.path),
                    Reply::Done => return paths,
                    other => panic!("in a list: {other:?}"),
                }
                reply = wire.reply().expect("a whole list");
            }
        })
    }
}

#[track_caller]
fn path(stream: &str) -> StreamPath {
    stream.parse().unwrap_or_else(|error| panic!("{stream:?}: {error}"))
}

/// Requests over the observer's connection, without a process. A test of a command runs
/// that command.
impl Daemon {
    /// Creates a stream with the daemon's default sizes.
    #[track_caller]
    pub fn create(&self, stream: &str) {
        self.observer.command(&Request::Create(path(stream), CreateOptions::default()));
    }

    /// Creates a stream with a ring buffer and a channel of these sizes, in bytes.
    #[track_caller]
    pub fn create_with_buffers(&self, stream: &str, ring: u64, channel: u64) {
        let options = CreateOptions {
            ring_buffer_size: Some(ring),
            channel_buffer_size: Some(channel),
            ..CreateOptions::default()
        };
        self.observer.command(&Request::Create(path(stream), options));
    }

    /// Closes a stream.
    #[track_caller]
    pub fn close(&self, stream: &str) {
        self.observer.command(&Request::Close(path(stream)));
    }

    /// Removes a stream.
    #[track_caller]
    pub fn remove(&self, stream: &str) {
        self.observer.command(&Request::Remove(path(stream)));
    }

    /// Appends one chunk with a writer that opens, appends and finishes.
    #[track_caller]
    pub fn append(&self, stream: &str, chunk: impl Into<Vec<u8>>) {
        let mut wire = self.wire().greeted();
        wire.send(&Request::OpenWriter(path(stream), WriteOptions::default()));
        wire.send(&Request::Append(Bytes::from(chunk.into())));
        wire.send(&Request::Finish { close: false });
        assert_eq!(wire.refusal(), None, "an append to {stream}");
    }

    /// Returns the stats of a stream, as `pfs stat --json` prints them; `None` if there is no
    /// such stream.
    #[track_caller]
    pub fn stat(&self, stream: &str) -> Option<Value> {
        let stat = self.observer.stat(stream)?;
        Some(serde_json::to_value(json::Stat::from(&stat)).expect("stats are JSON"))
    }

    /// Returns one number of a stream's stats. Panics if there is no such stream or number.
    #[track_caller]
    pub fn stat_number(&self, stream: &str, name: &str) -> u64 {
        let stat = self.stat(stream).unwrap_or_else(|| panic!("no stream {stream}"));
        stat[name].as_u64().unwrap_or_else(|| panic!("no number {name} in {stat}"))
    }

    /// Returns the head of a stream: the offset after its newest byte; 0 if there is no
    /// such stream.
    #[track_caller]
    pub fn head(&self, stream: &str) -> u64 {
        self.observer.stat(stream).map_or(0, |stat| stat.head)
    }

    /// Returns the number of readers of a stream; 0 if there is no such stream.
    #[track_caller]
    pub fn readers(&self, stream: &str) -> usize {
        self.observer.stat(stream).map_or(0, |stat| stat.readers.len())
    }

    /// Returns true if a stream belongs to another daemon.
    #[track_caller]
    pub(crate) fn is_mounted(&self, stream: &str) -> bool {
        let stat = self.observer.stat(stream).unwrap_or_else(|| panic!("no stream {stream}"));
        !stat.hops.is_empty()
    }

    /// Returns the stats of the reader whose process id is `pid`.
    #[track_caller]
    pub fn reader_stat(&self, stream: &str, pid: u32) -> Option<Value> {
        let stat = self.stat(stream)?;
        let readers = stat["readers"].as_array().unwrap_or_else(|| panic!("no readers in {stat}"));
        readers.iter().find(|reader| reader["pid"] == pid).cloned()
    }

    /// Returns the paths of all streams.
    #[track_caller]
    pub fn streams(&self) -> Vec<String> {
        self.observer.list()
    }

    /// Waits until the observer's connection is the only one. The connections of the start-up check
    /// are closed, but the daemon may not have noticed yet.
    #[track_caller]
    pub fn has_no_other_connection(&self) {
        eventually("no other connection is open", || {
            self.observer.ask(&Request::Info, |_, reply| match reply {
                Reply::Daemon(info) => info.connections == 1,
                other => panic!("the answer to info: {other:?}"),
            })
        });
    }

    /// Waits until an existing stream has `count` readers.
    #[track_caller]
    pub fn has_readers(&self, stream: &str, count: usize) {
        let mut watch = self.watch(stream);
        if self.readers(stream) == count {
            return;
        }
        watch.until(
            &format!("{stream} has {count} readers"),
            || {},
            |event| match event {
                StreamEvent::Subscribed { readers, .. }
                | StreamEvent::Unsubscribed { readers, .. } => *readers as usize == count,
                StreamEvent::Missed { .. } => self.readers(stream) == count,
                _ => false,
            },
        );
    }

    /// Waits until the reader whose process id is `pid` has left the stream.
    #[track_caller]
    pub fn forgets(&self, stream: &str, pid: u32) {
        let mut watch = self.watch(stream);
        if self.reader_stat(stream, pid).is_none() {
            return;
        }
        watch.until(
            &format!("process {pid} reads {stream} no more"),
            || {},
            |event| match event {
                StreamEvent::Unsubscribed { peer, .. } => peer.pid == Some(pid),
                StreamEvent::Missed { .. } => self.reader_stat(stream, pid).is_none(),
                _ => false,
            },
        );
    }

    /// Starts to watch an existing stream.
    #[track_caller]
    pub(crate) fn watch(&self, stream: &str) -> Watch {
        Watch::new(&self.socket(), stream)
    }
}

/// Live events of a stream.
pub(crate) struct Watch {
    wire: Wire,
}

impl Watch {
    #[track_caller]
    fn new(socket: &Path, stream: &str) -> Self {
        let mut wire = Wire::connect(socket).greeted();
        let reply = wire.send(&Request::Watch(path(stream))).reply();
        assert_eq!(reply, Some(Reply::Watching), "the answer to a watch of {stream}");
        Self { wire }
    }

    /// Waits for an event that `is_it` accepts. The event `Missed` reports that others were lost,
    /// so `is_it` must handle it. `look` is called in between, and panics if the event can no
    /// longer come.
    #[track_caller]
    pub(crate) fn until(
        &mut self,
        what: &str,
        mut look: impl FnMut(),
        mut is_it: impl FnMut(&StreamEvent) -> bool,
    ) {
        let begin = Instant::now();
        loop {
            match self.wire.reply_within(LOOK) {
                Some(Some(Reply::Happened(event))) if is_it(&event) => return,
                Some(Some(Reply::Happened(_))) => {}
                None => {
                    look();
                    assert!(begin.elapsed() < deadline(), "waited in vain until {what}");
                }
                Some(other) => panic!("while it was waited until {what}: {other:?}"),
            }
        }
    }
}
