//! The observer of a daemon: one kept connection for stats and small requests, and watches that
//! wait for events.
//!
//! A test that asks for stats again and again must not start a process each time: on a busy machine
//! that is the load that time limits would then have to absorb. The observer is one connection of
//! the daemon, made when a test first asks for something, and each [`Watch`] is one more while it
//! exists; a test that counts connections counts these too.

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

/// How long a watch waits for an event before it looks whether what it waits for can still come.
const LOOK: Duration = Duration::from_millis(100);

/// A connection that is kept.
pub(crate) struct Observer {
    socket: PathBuf,
    /// `None` until something is asked.
    kept: Mutex<Option<Wire>>,
}

impl Observer {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket, kept: Mutex::new(None) }
    }

    /// Sends a request, and has the replies read from the first one on.
    #[track_caller]
    fn ask<T>(&self, request: &Request, read: impl FnOnce(&mut Wire, Reply) -> T) -> T {
        // A test that failed while it asked fails by that, and others may ask on.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // What is left of a daemon that has ended: the next one is asked.
        let of_a_dead_one = |reply: &Option<Reply>| {
            matches!(reply, None | Some(Reply::Error { code: ErrorCode::ShuttingDown, .. }))
        };
        let mut first = kept.as_mut().and_then(|wire| wire.send(request).reply());
        if of_a_dead_one(&first) {
            // The stats of leases are told to those alone who know them.
            *kept = Some(Wire::connect(&self.socket).greeted_with(Hello::LEASING));
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

/// What is asked and done without a process of its own: where a test is about the command, it runs
/// that.
impl Daemon {
    /// Creates a stream with the daemon's sizes.
    #[track_caller]
    pub fn create(&self, stream: &str) {
        self.observer.command(&Request::Create(path(stream), CreateOptions::default()));
    }

    /// Creates a stream whose ring and channel hold so many bytes.
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

    /// Appends one chunk, as a writer that comes and finishes.
    #[track_caller]
    pub fn append(&self, stream: &str, chunk: impl Into<Vec<u8>>) {
        let mut wire = self.wire().greeted();
        wire.send(&Request::OpenWriter(path(stream), WriteOptions::default()));
        wire.send(&Request::Append(Bytes::from(chunk.into())));
        wire.send(&Request::Finish { close: false });
        assert_eq!(wire.refusal(), None, "an append to {stream}");
    }

    /// The stats of a stream, as `pfs stat --json` prints them; `None` if there is no such stream.
    #[track_caller]
    pub fn stat(&self, stream: &str) -> Option<Value> {
        let stat = self.observer.stat(stream)?;
        Some(serde_json::to_value(json::Stat::from(&stat)).expect("stats are JSON"))
    }

    /// One number of a stream. Panics if there is no such stream, or no such number.
    #[track_caller]
    pub fn stat_number(&self, stream: &str, name: &str) -> u64 {
        let stat = self.stat(stream).unwrap_or_else(|| panic!("no stream {stream}"));
        stat[name].as_u64().unwrap_or_else(|| panic!("no number {name} in {stat}"))
    }

    /// Offset after the newest byte of a stream; 0 if there is no such stream.
    #[track_caller]
    pub fn head(&self, stream: &str) -> u64 {
        self.observer.stat(stream).map_or(0, |stat| stat.head)
    }

    /// How many readers a stream has; 0 if there is no such stream.
    #[track_caller]
    pub fn readers(&self, stream: &str) -> usize {
        self.observer.stat(stream).map_or(0, |stat| stat.readers.len())
    }

    /// The stats of the reader that is process `pid`.
    #[track_caller]
    pub fn reader_stat(&self, stream: &str, pid: u32) -> Option<Value> {
        let stat = self.stat(stream)?;
        let readers = stat["readers"].as_array().unwrap_or_else(|| panic!("no readers in {stat}"));
        readers.iter().find(|reader| reader["pid"] == pid).cloned()
    }

    /// The paths of all streams.
    #[track_caller]
    pub fn streams(&self) -> Vec<String> {
        self.observer.list()
    }

    /// Waits until the observer's is the only connection. Those of the start are closed, but
    /// perhaps not seen to be.
    #[track_caller]
    pub fn has_no_other_connection(&self) {
        eventually("no other connection is open", || {
            self.observer.ask(&Request::Info, |_, reply| match reply {
                Reply::Daemon(info) => info.connections == 1,
                other => panic!("the answer to info: {other:?}"),
            })
        });
    }

    /// Waits until an existing stream has so many readers.
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

    /// Waits until the reader that is process `pid` has left the stream.
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

    /// Watches an existing stream from now on.
    #[track_caller]
    pub(crate) fn watch(&self, stream: &str) -> Watch {
        Watch::new(&self.socket(), stream)
    }
}

/// What happens to a stream, as it happens.
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

    /// Waits for an event; one of them tells that others were missed. `look` panics if none can
    /// come any more.
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
