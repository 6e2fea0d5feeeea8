//! Writer of a round, and the thread that feeds it.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{Receiver, Sender, channel, sync_channel},
    },
    thread::JoinHandle,
};

use harness::{Daemon, Link, Pfs, Random, Running, Signal};
use pfs_client::{Finish, WriteError, WriteOptions, blocking::Client};

use super::{
    S,
    model::{BROKEN, KILLED},
    plan::{Plan, WriterKind, WriterPlan},
    reader::{client, curl, pfs},
};

/// Writer, and the thread that gives it its input.
pub(super) struct Writer {
    process: Process,
    curl: bool,
    feed: Feed,
}

enum Process {
    Command(Running),
    /// The thread returns true if it saw the order to die before its end.
    Library {
        thread: JoinHandle<Result<bool, WriteError>>,
        dead: Arc<AtomicBool>,
    },
}

/// How a writer ended.
pub(super) struct Written {
    /// Exit code of a command; [`BROKEN`] if the code does not tell why the command ended.
    pub(super) code: i32,
    /// Number of bytes that the writer reported as appended.
    pub(super) said: Option<u64>,
    /// Printed when a check fails.
    pub(super) stderr: String,
}

impl Writer {
    pub(super) fn start(
        plan: &Plan,
        data: &Arc<[u8]>,
        seed: u64,
        daemon: &Daemon,
        link: &Link,
    ) -> Self {
        let WriterPlan { kind, .. } = plan.writer;
        let feed = |sink: Sink| Feed::start(Arc::clone(data), plan.held_back, seed, sink);
        if kind == WriterKind::Library {
            let (pieces, input) = sync_channel(4);
            let dead = Arc::new(AtomicBool::new(false));
            let thread = library(
                plan,
                client(daemon, link, plan.writer.transport, plan.writer.linked),
                input,
                &dead,
            );
            let feed = feed(Box::new(move |piece| pieces.send(piece.to_vec()).is_ok()));
            return Self { process: Process::Library { thread, dead }, curl: false, feed };
        }
        let mut running = command(&plan.writer, daemon, link).stdin_pipe().spawn();
        let mut stdin = running.take_stdin();
        let feed = feed(Box::new(move |piece| stdin.write_all(piece).is_ok()));
        Self { process: Process::Command(running), curl: kind == WriterKind::Curl, feed }
    }

    pub(super) fn runs(&mut self) -> bool {
        match &mut self.process {
            Process::Command(running) => running.runs(),
            Process::Library { thread, .. } => !thread.is_finished(),
        }
    }

    /// Returns true if the writer gets no more input before [`go_on`](Self::go_on).
    pub(super) fn is_held(&self) -> bool {
        self.feed.held.load(Relaxed)
    }

    pub(super) fn go_on(&self) {
        // Sending fails if the writer accepts no more input.
        let _ = self.feed.go_on.send(());
    }

    /// Kills the writer. Returns false if it had ended before.
    pub(super) fn kill(&mut self) -> bool {
        let runs = self.runs();
        match &mut self.process {
            Process::Command(running) if runs => running.signal(Signal::KILL),
            Process::Command(_) => {}
            Process::Library { dead, .. } => {
                dead.store(true, Relaxed);
                // The thread waits for input, and sees the order to die with the next input.
                self.go_on();
            }
        }
        runs
    }

    pub(super) fn finish(self) -> Written {
        let written = match self.process {
            Process::Command(running) => {
                let run = running.finish();
                let code =
                    if self.curl && ![0, KILLED].contains(&run.code) { BROKEN } else { run.code };
                Written { code, said: said(&run.stderr), stderr: run.stderr }
            }
            Process::Library { thread, .. } => {
                let ended = thread.join().expect("the thread does not panic");
                let code = match &ended {
                    Ok(true) => KILLED,
                    Ok(false) => 0,
                    Err(WriteError::DaemonGone(_)) => 5,
                    Err(WriteError::Closed) => 9,
                    Err(_) => 1,
                };
                Written { code, said: None, stderr: format!("{ended:?}") }
            }
        };
        self.feed.thread.join().expect("the thread does not panic");
        written
    }
}

fn said(stderr: &str) -> Option<u64> {
    let (before, _) = stderr.split_once(" bytes of the input were appended before")?;
    before.rsplit(' ').next()?.parse().ok()
}

fn command(plan: &WriterPlan, daemon: &Daemon, link: &Link) -> Pfs {
    let chunk = plan.chunk.to_string();
    let close: &[&str] = if plan.close { &["--close"] } else { &[] };
    let write =
        || pfs(daemon, link, plan.transport, plan.linked).args(["write", "--stream"]).args(close);
    match plan.kind {
        WriterKind::Curl => {
            let path = if plan.close { format!("{S}?close") } else { S.to_owned() };
            curl(daemon, link, plan.linked, &path).args(["-T", "."])
        }
        WriterKind::Lines => write().args(["--lines", "--chunk-size", &chunk, S]),
        WriterKind::Command(KILLED) => write().args([S, "--", "sh", "-c", "cat; kill -9 $$"]),
        WriterKind::Command(code) => {
            write().args([S, "--", "sh", "-c", "cat; exit $0"]).arg(code.to_string())
        }
        WriterKind::Stream | WriterKind::Library => write().args(["--chunk-size", &chunk, S]),
    }
}

/// Appends the pieces that it receives, and finishes when the channel ends.
fn library(
    plan: &Plan,
    client: Client,
    input: Receiver<Vec<u8>>,
    dead: &Arc<AtomicBool>,
) -> JoinHandle<Result<bool, WriteError>> {
    let (close, chunk, dead) = (plan.writer.close, plan.writer.chunk, Arc::clone(dead));
    std::thread::spawn(move || {
        let mut writer = client.writer(S, WriteOptions::default()).expect("a writer");
        let chunk = chunk.min(writer.max_chunk() as usize);
        for piece in input {
            for (number, chunk) in piece.chunks(chunk).enumerate() {
                if dead.load(Relaxed) {
                    return Ok(true);
                }
                if number % 2 == 0 { writer.append(chunk) } else { writer.push(chunk) }?;
            }
            writer.send()?;
        }
        // A writer that is dropped without `finish` is a writer that died.
        if dead.load(Relaxed) {
            return Ok(true);
        }
        writer.finish(if close { Finish::Close } else { Finish::KeepOpen })?;
        Ok(false)
    })
}

type Sink = Box<dyn FnMut(&[u8]) -> bool + Send>;

/// Thread that gives a writer its input: all of it at once, except the part that is held back.
struct Feed {
    held: Arc<AtomicBool>,
    go_on: Sender<()>,
    thread: JoinHandle<()>,
}

impl Feed {
    fn start(data: Arc<[u8]>, held_back: usize, seed: u64, mut sink: Sink) -> Self {
        let held = Arc::new(AtomicBool::new(false));
        let holds = Arc::clone(&held);
        let (go_on, may_go_on) = channel();
        let thread = std::thread::spawn(move || {
            let mut random = Random::new(seed);
            let (first, last) = data.split_at(data.len() - held_back);
            give(first, &mut random, &mut sink);
            holds.store(true, Relaxed);
            // Returns after a message, and also when the test has failed and dropped the sender.
            let _: Result<(), _> = may_go_on.recv();
            give(last, &mut random, &mut sink);
        });
        Self { held, go_on, thread }
    }
}

/// Writes the data in pieces of random sizes, until the writer accepts no more.
fn give(mut data: &[u8], random: &mut Random, sink: &mut Sink) {
    while !data.is_empty() {
        let len = 1 + random.below(64 * 1024) as usize;
        let (piece, rest) = data.split_at(len.min(data.len()));
        if !sink(piece) {
            return;
        }
        data = rest;
    }
}
