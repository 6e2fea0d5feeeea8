//! Readers of a round, and their outcomes.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use harness::{
    Daemon, Finished, Gap, Link, Pfs, Running, ServerSentEvent, Signal, Taker, Transport, gaps,
    kill,
};
use pfs_client::{Endpoint, Event, HttpEndpoint, ReadError, ReadOptions, Until, blocking::Client};
use pfs_proto::End;

use super::{
    S,
    model::{BROKEN, KILLED, Outcome},
    plan::{ReaderKind, ReaderPlan},
};

/// Reader that was started.
pub(super) enum Reader {
    Process { kind: ReaderKind, running: Running, taker: Option<Taker>, head: PathBuf },
    Library { thread: JoinHandle<Outcome>, attached: Arc<AtomicBool> },
}

impl Reader {
    pub(super) fn start(plan: &ReaderPlan, number: usize, daemon: &Daemon, link: &Link) -> Self {
        let until = if plan.until == Until::WritersGone { "writers-gone" } else { "closed" };
        let query = format!("{S}?slow={}&until={until}", plan.policy);
        let head = daemon.dir().join(format!("head-{number}"));
        let command = match plan.kind {
            ReaderKind::Library => {
                return Self::library(plan, client(daemon, link, plan.transport, plan.linked));
            }
            ReaderKind::Cat => {
                let cat =
                    pfs(daemon, link, plan.transport, plan.linked).args(["-v", "cat", "--stream"]);
                cat.arg("--slow").arg(plan.policy.to_string()).args(["--until", until, S])
            }
            ReaderKind::Curl => curl(daemon, link, plan.linked, &query).arg("-D").arg(&head),
            ReaderKind::Events => {
                let events = curl(daemon, link, plan.linked, &query).arg("-D").arg(&head);
                events.args(["-H", "accept: text/event-stream"])
            }
        };
        let (running, taker) = match plan.held_at {
            None => (command.spawn(), None),
            Some(most) => {
                let mut running = command.stdout_pipe().spawn();
                let taker = running.take_at_most(most);
                (running, Some(taker))
            }
        };
        Self::Process { kind: plan.kind, running, taker, head }
    }

    fn library(plan: &ReaderPlan, client: Client) -> Self {
        let options =
            ReadOptions { policy: plan.policy, until: plan.until, ..ReadOptions::default() };
        let attached = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&attached);
        let thread = std::thread::spawn(move || follow(&client, options, &told));
        Self::Library { thread, attached }
    }

    pub(super) fn is_attached(&mut self) -> bool {
        match self {
            Self::Process { kind: ReaderKind::Cat, running, .. } => {
                start_of(&running.stderr()).is_some() || !running.runs()
            }
            Self::Process { running, head, .. } => {
                start_of_response(head).is_some() || !running.runs()
            }
            Self::Library { attached, thread } => attached.load(Relaxed) || thread.is_finished(),
        }
    }

    /// Sends the reader a signal. Returns false if the reader has ended or is not a process.
    pub(super) fn signal(&mut self, signal: Signal) -> bool {
        let Self::Process { running, .. } = self else { return false };
        let runs = running.runs();
        if runs {
            kill(running.pid(), signal);
        }
        runs
    }

    /// Reads the rest of the output and waits until the reader ends.
    pub(super) fn finish(self) -> Outcome {
        match self {
            Self::Library { thread, .. } => thread.join().expect("the thread does not panic"),
            Self::Process { kind, running, taker, head } => {
                let taken = taker.map(Taker::rest);
                let mut run = running.finish();
                run.stdout = taken.unwrap_or(run.stdout);
                match kind {
                    ReaderKind::Cat => of_cat(run),
                    ReaderKind::Events => of_events(run, start_of_response(&head).flatten()),
                    ReaderKind::Curl | ReaderKind::Library => {
                        of_curl(run, start_of_response(&head).flatten())
                    }
                }
            }
        }
    }
}

/// Builds a `pfs` command line, through the proxy if `linked`.
pub(super) fn pfs(daemon: &Daemon, link: &Link, transport: Transport, linked: bool) -> Pfs {
    let pfs = daemon.pfs_on(transport, []);
    if linked { pfs.env("PFS_URL", link.url()) } else { pfs }
}

/// Builds a `curl` command line, through the proxy if `linked`.
pub(super) fn curl(daemon: &Daemon, link: &Link, linked: bool, path: &str) -> Pfs {
    let address = if linked { link.address() } else { daemon.http_address() };
    let curl = Pfs::new("curl").args(["-q", "-sS", "-f", "--noproxy", "*", "--no-buffer"]);
    curl.arg(format!("http://{address}{path}"))
}

/// Connects a client of the library, through the proxy if `linked`.
pub(super) fn client(daemon: &Daemon, link: &Link, transport: Transport, linked: bool) -> Client {
    let url = if linked { link.url() } else { daemon.url("") };
    let endpoint = match transport {
        Transport::Shm | Transport::Unix => Endpoint::Unix(daemon.socket()),
        Transport::Http => HttpEndpoint::new(&url).expect("a URL").into(),
    };
    Client::new(endpoint).with_shm(transport == Transport::Shm)
}

fn follow(client: &Client, options: ReadOptions, attached: &AtomicBool) -> Outcome {
    let mut outcome = Outcome::default();
    let mut reader = match client.reader(S, options) {
        Ok(reader) => reader,
        Err(error) => return Outcome { code: BROKEN, stderr: format!("{error:?}"), ..outcome },
    };
    loop {
        match reader.next() {
            Ok(Event::Waiting) => {}
            Ok(Event::Attached { start, .. }) => {
                outcome.start = Some(start);
                attached.store(true, Relaxed);
            }
            Ok(Event::Chunk(chunk)) => outcome.bytes.extend_from_slice(&chunk),
            Ok(Event::Resumed { .. }) => outcome.resumed = true,
            Ok(Event::Gap { from, to, chunks }) => {
                outcome.gaps.push(Gap { from, to, chunks: Some(chunks), path: S.to_owned() });
            }
            Ok(Event::End { reason, offset }) => {
                outcome.said = Some(offset);
                outcome.code = of_end(&reason.to_string(), !outcome.gaps.is_empty());
                return outcome;
            }
            Ok(other) => panic!("an event of an unknown kind: {other:?}"),
            Err(error) => {
                outcome.said = Some(reader.position());
                outcome.code = match error {
                    ReadError::Removed => 7,
                    ReadError::TooSlow { .. } => 6,
                    ReadError::DaemonGone(_) => 5,
                    _ => 1,
                };
                outcome.stderr = format!("{error:?}");
                return outcome;
            }
        }
    }
}

/// Returns the exit code of `cat` for this end reason.
fn of_end(reason: &str, lossy: bool) -> i32 {
    let died = [End::WriterDied, End::Failed].iter().any(|end| end.to_string() == reason);
    match died {
        true => 8,
        false if lossy => 4,
        false => 0,
    }
}

fn of_cat(run: Finished) -> Outcome {
    Outcome {
        code: run.code,
        start: start_of(&run.stderr),
        gaps: gaps(&run.stderr),
        said: after(&run.stderr, "printed up to offset "),
        resumed: run.stderr.contains("; resumed"),
        bytes: run.stdout,
        stderr: run.stderr,
    }
}

fn of_curl(run: Finished, start: Option<u64>) -> Outcome {
    let code = if [0, KILLED].contains(&run.code) { run.code } else { BROKEN };
    Outcome { code, start, bytes: run.stdout, stderr: run.stderr, ..Outcome::default() }
}

/// Parses complete events, like an EventSource.
fn of_events(run: Finished, start: Option<u64>) -> Outcome {
    let mut outcome = Outcome { code: BROKEN, start, ..Outcome::default() };
    let text = String::from_utf8_lossy(&run.stdout);
    let mut blocks: Vec<&str> = text.split("\n\n").collect();
    blocks.pop();
    for block in blocks {
        let (event, has_data) = ServerSentEvent::parse(block);
        if !has_data {
            continue;
        }
        match event.name.as_str() {
            "base64" => outcome.bytes.extend(BASE64_STANDARD.decode(&event.data).expect("base64")),
            "gap" => {
                let gap = event.json();
                let offset = |name: &str| gap[name].as_u64().expect("an offset");
                let gap = Gap {
                    from: offset("from"),
                    to: offset("to"),
                    chunks: gap["chunks"].as_u64(),
                    path: S.to_owned(),
                };
                outcome.gaps.push(gap);
            }
            "end" => {
                let end = event.json();
                outcome.said = end["offset"].as_u64();
                outcome.code =
                    of_end(end["reason"].as_str().expect("a reason"), !outcome.gaps.is_empty());
            }
            "failure" => {
                outcome.code = match event.json()["code"].as_str().expect("a code") {
                    "removed" => 7,
                    "too_slow" => 6,
                    "shutting_down" => 5,
                    _ => 1,
                };
            }
            other => panic!("an event {other:?}: {block}"),
        }
        if let Some(offset) = event.offset() {
            outcome.said = Some(offset);
        }
    }
    // An event reports how the stream ended, and only a proper end of the stream ends the
    // body properly.
    let proper = [0, 4].contains(&outcome.code);
    outcome.code = match run.code {
        KILLED => KILLED,
        0 if !proper => panic!("the body ended properly with {}: {text}", outcome.code),
        0 => outcome.code,
        _ if proper => BROKEN,
        _ => outcome.code,
    };
    outcome.stderr = run.stderr;
    outcome
}

/// Returns the start offset that `cat -v` reports.
fn start_of(stderr: &str) -> Option<u64> {
    after(stderr, "from offset ")
}

/// Returns the number after the last occurrence of `text`.
fn after(stderr: &str, text: &str) -> Option<u64> {
    let (_, rest) = stderr.rsplit_once(text)?;
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    rest[..end].parse().ok()
}

/// Returns the start offset of a response. The inner `None` means a refusal, the outer `None` that
/// the response has not arrived yet.
fn start_of_response(head: &PathBuf) -> Option<Option<u64>> {
    let head = std::fs::read_to_string(head).ok().filter(|head| head.ends_with("\r\n\r\n"))?;
    let start = head.lines().find_map(|line| line.strip_prefix("pfs-start: "));
    Some(start.and_then(|start| start.parse().ok()))
}
