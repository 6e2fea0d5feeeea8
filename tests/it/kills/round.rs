//! One round: starts everything, strikes the blows, lets everything continue, waits for the ends
//! and compares them with [`model`](super::model).

use std::sync::Arc;

use harness::{Daemon, Link, Signal, eventually, noise};
use pfs_client::{SlowPolicy, Until};
use serde_json::json;

use super::{
    S,
    model::{self, Fact},
    plan::{Blow, Break, Plan, ReaderPlan, What, WriterKind},
    reader::Reader,
    writer::{Writer, Written},
};

/// Contents of a stream that replaces another one.
const OTHER: &[u8] = b"of another stream";

struct Round<'a> {
    plan: &'a Plan,
    daemon: Daemon,
    link: Link,
    writer: Writer,
    readers: Vec<Option<Reader>>,
    facts: Vec<Fact>,
    /// End of the stream, if that is known.
    head: Option<u64>,
    writer_killed: bool,
    stalled: bool,
}

pub(super) fn run(plan: &Plan, seed: u64) {
    let data: Arc<[u8]> = noise(seed, plan.len).into();
    let daemon = plan.writer.transport.daemon_with_http();
    let link = Link::to(daemon.http_address(), "");
    let (ring, channel) = (plan.ring.to_string(), plan.channel.to_string());
    let create =
        daemon.pfs(["create", "--ring-buffer-size", &ring, "--channel-buffer-size", &channel]);
    create.args(["--content-type", "application/octet-stream", S]).run().exits(0);

    let mut readers: Vec<_> = plan.readers.iter().map(|_| None).collect();
    attach(plan, &daemon, &link, &mut readers, false);
    let writer = Writer::start(plan, &data, seed, &daemon, &link);
    let round = Round {
        plan,
        daemon,
        link,
        writer,
        readers,
        facts: Vec::new(),
        head: None,
        writer_killed: false,
        stalled: false,
    };
    round.go(&data);
}

/// Returns how the writer ends if nothing happens to it.
fn natural_end(plan: &Plan) -> Fact {
    match (plan.writer.kind, plan.writer.close) {
        (WriterKind::Command(1..), true) => Fact::Failed,
        (WriterKind::Command(1..), false) => Fact::WriterDied,
        (_, true) => Fact::Closed,
        (_, false) => Fact::Finished,
    }
}

/// Starts the readers that are due now and waits until they are attached.
fn attach(plan: &Plan, daemon: &Daemon, link: &Link, readers: &mut [Option<Reader>], late: bool) {
    for (number, (reader, plan)) in readers.iter_mut().zip(&plan.readers).enumerate() {
        if plan.late == late {
            let mut started = Reader::start(plan, number, daemon, link);
            eventually("the reader is attached", || started.is_attached());
            *reader = Some(started);
        }
    }
}

impl Round<'_> {
    fn go(mut self, data: &[u8]) {
        for (number, blow) in self.plan.blows.iter().enumerate() {
            self.wait_for(blow.at);
            if number == 0 {
                attach(self.plan, &self.daemon, &self.link, &mut self.readers, true);
            }
            if self.plan.races && number + 1 == self.plan.blows.len() {
                self.writer.go_on();
            }
            self.strike(blow);
        }
        self.link.stall(None);
        self.end(data);
    }

    /// Waits until everything has ended, and compares the outcomes with the model.
    fn end(self, data: &[u8]) {
        let Self {
            plan,
            daemon,
            link,
            writer,
            readers,
            mut facts,
            head: mut ended_at,
            writer_killed,
            ..
        } = self;
        writer.go_on();
        let written = writer.finish();
        let allowed = model::writer_codes(plan, &facts, writer_killed);
        let Written { code, said, stderr } = &written;
        assert!(
            allowed.contains(code),
            "the writer: {code}, not one of {allowed:?}; {facts:?}; {stderr}"
        );
        let is_there = !facts.iter().any(|fact| matches!(fact, Fact::Removed | Fact::DaemonGone));
        if !writer_killed && !model::concerns_the_writer(plan, &facts) {
            facts.push(natural_end(plan));
        } else if plan.races && !is_there {
            // The writer and its readers may have ended before the blow, whatever the writer was
            // told about the blow.
            facts.push(natural_end(plan));
        }
        if is_there {
            eventually("the writer has left", || {
                daemon.stat(S).expect("a stream")["writers"] == json!([])
            });
            let stat = daemon.stat(S).expect("a stream");
            let finished = stat["writers_finished"] == 1;
            assert!(*code != 0 || finished, "the writer ended with 0 and did not finish: {stat}");
            if plan.races {
                // The daemon knows whether the writer's end or the blow came first.
                facts.retain(|fact| *fact != Fact::WriterDied || !finished);
                facts.extend((stat["state"] == "closed").then_some(Fact::Closed));
                facts.extend((stat["state"] == "failed").then_some(Fact::Failed));
                facts.push(if finished { Fact::Finished } else { Fact::WriterDied });
            }
            let head = daemon.head(S);
            assert!(
                ended_at.is_none_or(|ended| ended == head),
                "a closed stream grew: {ended_at:?}, {head}"
            );
            assert!(
                *code != 0 || head == data.len() as u64,
                "the writer ended with 0 and head is {head}"
            );
            assert!(
                said.is_none_or(|said| said <= head),
                "the writer said {said:?} and head is {head}"
            );
            ended_at = Some(head);
        }

        let check = |number: usize, reader: Option<Reader>, facts: &[Fact]| {
            let outcome = reader.expect("a reader").finish();
            let checked = model::check_reader(plan, number, facts, data, ended_at, &outcome);
            checked.unwrap_or_else(|wrong| {
                let log = daemon.log();
                panic!("reader {number}: {wrong}; {facts:?}; {outcome:?}; the daemon's log: {log}");
            });
        };
        // Readers with `--until writers-gone` end by themselves, before the stream is closed.
        let over = facts.iter().any(|fact| matches!(fact, Fact::Finished | Fact::WriterDied));
        let is_over = |number: usize| over && plan.readers[number].until == Until::WritersGone;
        let (first, rest): (Vec<_>, Vec<_>) =
            readers.into_iter().enumerate().partition(|(number, _)| is_over(*number));
        for (number, reader) in first {
            check(number, reader, &facts);
        }
        if is_there && !facts.iter().any(|fact| matches!(fact, Fact::Closed | Fact::Failed)) {
            daemon.close(S);
            facts.push(Fact::Closed);
        }
        for (number, reader) in rest {
            check(number, reader, &facts);
        }
        if is_there {
            let whole =
                Reader::start(&ReaderPlan::of_what_is_left(), plan.readers.len(), &daemon, &link)
                    .finish();
            let code = if facts.contains(&Fact::Failed) { 8 } else { 0 };
            let end = model::delivered(data, &whole);
            assert_eq!(
                (whole.code, end),
                (code, Ok(ended_at.expect("known"))),
                "the ring; {whole:?}"
            );
        }
    }

    /// Returns true if the stream accepts appends.
    fn is_open(&self) -> bool {
        let ended = [Fact::Closed, Fact::Failed, Fact::Removed, Fact::DaemonGone];
        !self.facts.iter().any(|fact| ended.contains(fact))
    }

    /// Waits until the writer has started, and then until head is at `at` or cannot get there.
    fn wait_for(&mut self, at: u64) {
        if !self.is_open() || self.stalled {
            return;
        }
        eventually("head has come to the offset of the blow", || {
            let head = self.daemon.head(S);
            head >= at || !self.writer.runs() || (head > 0 && self.writer.is_held())
        });
    }

    fn strike(&mut self, blow: &Blow) {
        let stopped = blow.stopped.filter(|stopped| self.signal(*stopped, Signal::STOP));
        if let Some(stopped) = stopped {
            // A stopped `block` reader makes the writer wait.
            if self.plan.readers[stopped].policy == SlowPolicy::Block
                && self.is_open()
                && !self.stalled
            {
                eventually("the writer waits", || {
                    let stat = self.daemon.stat(S).expect("a stream");
                    stat["writers"][0]["waiting"] == true
                        || !self.writer.runs()
                        || self.writer.is_held()
                });
            }
        }
        self.do_it(blow.what);
        if let Some(stopped) = stopped {
            self.signal(stopped, Signal::CONT);
        }
    }

    fn signal(&mut self, reader: usize, signal: Signal) -> bool {
        self.readers[reader].as_mut().is_some_and(|reader| reader.signal(signal))
    }

    fn do_it(&mut self, what: What) {
        match what {
            What::Nothing => {}
            What::KillWriter => {
                if self.writer.kill() {
                    self.writer_killed = true;
                    self.facts.push(Fact::WriterDied);
                }
            }
            What::KillReader(reader) => {
                if self.signal(reader, Signal::KILL) {
                    self.facts.push(Fact::ReaderKilled(reader));
                }
            }
            What::Stall(direction) => {
                self.link.stall(Some(direction));
                self.stalled = true;
            }
            What::Break(how) => {
                match how {
                    Break::Cut => self.link.cut(),
                    Break::Gone => self.link.cut_and_refuse(usize::MAX),
                    Break::Reset => self.link.reset(),
                    Break::Half(direction) => self.link.half_close(direction),
                }
                self.facts.push(Fact::Broken(how));
                if self.plan.writer.linked {
                    self.facts.push(Fact::WriterDied);
                }
            }
            _ if !self.is_open() => {}
            What::KillDaemon => {
                self.facts.push(Fact::DaemonGone);
                self.daemon.kill9();
            }
            What::RestartDaemon => {
                self.facts.push(Fact::DaemonGone);
                self.daemon.kill9();
                self.daemon.restart();
                self.daemon.append(S, OTHER);
            }
            What::TerminateDaemon | What::TerminateDaemonTwice => {
                self.facts.push(Fact::DaemonGone);
                self.daemon.signal(Signal::TERM);
                if what == What::TerminateDaemonTwice {
                    self.daemon.signal(Signal::INT);
                }
                eventually("the daemon ends", || !self.daemon.runs());
            }
            What::Close => {
                self.facts.push(Fact::Closed);
                self.daemon.close(S);
                self.head = Some(self.daemon.head(S));
            }
            What::CloseFailed => {
                let run = self.daemon.pfs(["close", "--failed", S]).run();
                // The writer may have closed the stream before.
                let fact =
                    if run.code == 9 && self.plan.races { Fact::Closed } else { Fact::Failed };
                run.exits(if fact == Fact::Closed { 9 } else { 0 });
                self.facts.push(fact);
                self.head = Some(self.daemon.head(S));
            }
            What::Remove => {
                self.facts.push(Fact::Removed);
                self.daemon.remove(S);
            }
            What::Replace => {
                self.facts.push(Fact::Removed);
                self.daemon.pfs(["create", "--replace", S]).run().exits(0);
                self.daemon.append(S, OTHER);
            }
        }
    }
}
