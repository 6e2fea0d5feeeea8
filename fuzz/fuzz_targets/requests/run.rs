//! One run: the steps of its clients, and checks of the responses.

use std::{future::poll_fn, task::Poll, time::Duration};

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use tokio::time::timeout;

use crate::{
    answer::Answer,
    http1::{Asked, Connection},
    http2,
    request::Request,
    world::{Kind, World},
};

/// How long a client waits for the rest of a response: longer than the daemon waits for an idle
/// client.
const PATIENCE: Duration = Duration::from_secs(70);

/// Long enough for all work that needs no waiting.
const MOMENT: Duration = Duration::from_millis(1);

/// Number of HTTP/1.1 connections at a time.
const CONNECTIONS: usize = 8;

/// Connection preface of an HTTP/2 client, and empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// How an input is interpreted. The first byte of an input is a digit or a letter in seeds.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// True if the bytes describe the clients' steps; otherwise they are sent as they are.
    structured: bool,
    kind: Kind,
    http2: bool,
    /// Buffer size of a connection in each direction.
    capacity: usize,
    print: bool,
}

impl Setting {
    pub fn from_byte(byte: u8) -> Self {
        let is = |bit: u8| byte & 1 << bit != 0;
        Self {
            structured: is(0),
            kind: Kind { with_tokens: is(1), impatient: is(3) },
            http2: is(2),
            capacity: [4 * 1024, 64 * 1024, 700, 64 * 1024][usize::from(byte >> 4 & 3)],
            // Prints the input; set by `scripts/fuzz requests FILE`.
            print: std::env::var_os("PFS_FUZZ_PRINT").is_some(),
        }
    }
}

pub async fn run(setting: Setting, cut: u8, bytes: &[u8]) {
    if setting.print {
        eprintln!("{setting:?}");
    }
    let mut run = Run {
        world: World::new(setting.kind),
        setting,
        connections: Default::default(),
        multiplexed: None,
        disturbed: false,
    };
    if setting.structured {
        // An input that ends in the middle of a step ends before that step.
        let _ = run.act(&mut Unstructured::new(bytes)).await;
    } else {
        run.send(bytes, cut).await;
    }
    run.end().await;
}

struct Run {
    world: World,
    setting: Setting,
    connections: [Option<Connection>; CONNECTIONS],
    multiplexed: Option<http2::Connection>,
    /// True if an append that nobody waits for may still be in progress.
    disturbed: bool,
}

impl Run {
    /// Performs the steps that the bytes describe.
    async fn act(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        while !u.is_empty() {
            let step = u.int_in_range(0..=23)?;
            // Mostly the first connection: many faults take several requests on the same
            // connection.
            let at = [0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5, 6, 7][u.int_in_range(0..=15)?];
            match step {
                0..=15 => {
                    let request =
                        Request::arbitrary(u, &self.world.known, self.setting.kind.with_tokens)?;
                    if self.setting.print {
                        eprintln!("{at}: {request:?}, step {step}");
                    }
                    if self.setting.http2 {
                        self.ask_http2(request, step < 12, step > 13).await;
                    } else {
                        self.ask(at, request, step < 13).await;
                    }
                }
                16..=17 => {
                    if let Some(connection) = &mut self.connections[at] {
                        connection.stalled = !connection.stalled;
                    }
                    if let Some(reset) =
                        self.multiplexed.as_mut().and_then(|connection| connection.reset(at))
                    {
                        self.exchanged(reset);
                    }
                }
                18..=19 => self.wait(Duration::from_secs(u.int_in_range(0..=70)?)).await,
                20 => {
                    if let Some(connection) = &mut self.connections[at] {
                        connection.end_sending();
                    }
                }
                21..=22 => {
                    self.disconnect(at);
                    self.disconnect_http2();
                }
                _ => {
                    if u.int_in_range(0..=7)? == 0 {
                        self.world.daemon.shutdown().cancel();
                    }
                }
            }
        }
        Ok(())
    }

    async fn ask(&mut self, at: usize, request: Request, waits: bool) {
        if self.connections[at].as_ref().is_none_or(|connection| !connection.takes_requests()) {
            self.disconnect(at);
            self.connections[at] = self.world.connect(self.setting.capacity).map(Connection::new);
        }
        let is_alone =
            !self.disturbed && self.connections.iter().flatten().all(Connection::is_idle);
        let written = is_alone.then(|| self.world.written());
        let Some(connection) = &mut self.connections[at] else { return };
        connection.ask(request, written);
        self.wait_until(if waits { PATIENCE } else { MOMENT }, Some(at)).await;
        if let Some(connection) =
            self.connections[at].as_mut().filter(|connection| !connection.is_idle())
        {
            self.disturbed = true;
            connection.asked.iter_mut().for_each(|asked| asked.written = None);
        }
    }

    async fn ask_http2(&mut self, request: Request, waits: bool, stalled: bool) {
        if self.multiplexed.as_ref().is_none_or(http2::Connection::is_closed) {
            self.disconnect_http2();
            let Some(near) = self.world.connect(self.setting.capacity) else { return };
            // The pipe must have room for more than one response; otherwise both ends wait for each
            // other.
            let window = self.setting.capacity as u32 / 2;
            let opened = timeout(PATIENCE, http2::Connection::open(near, window)).await;
            self.multiplexed = opened.expect("the connection opens in time");
        }
        let Some(connection) = &mut self.multiplexed else { return };
        let is_alone = !self.disturbed && connection.is_idle();
        connection.ask(request, is_alone.then(|| self.world.written()), stalled);
        connection.wait(if waits { PATIENCE } else { MOMENT }).await;
        let ended = connection.ended();
        ended.into_iter().for_each(|ended| self.exchanged(ended));
        if let Some(connection) =
            self.multiplexed.as_mut().filter(|connection| !connection.is_idle())
        {
            self.disturbed = true;
            connection.exchanges.iter_mut().for_each(|exchange| exchange.written = None);
        }
    }

    fn exchanged(&self, (exchange, answer): (http2::Exchange, Option<Answer>)) {
        if let Some(answer) = answer {
            let http2::Exchange { request, written, .. } = exchange;
            self.answered(Some(Asked { request, written }), &answer);
        }
    }

    fn disconnect_http2(&mut self) {
        let Some(connection) = self.multiplexed.take() else { return };
        self.disturbed |= !connection.is_idle();
        connection.disconnect().into_iter().for_each(|given_up| self.exchanged(given_up));
    }

    /// Sends raw bytes, cut into pieces, and reads the responses.
    async fn send(&mut self, bytes: &[u8], cut: u8) {
        let Some(mut connection) = self.world.connect(self.setting.capacity).map(Connection::new)
        else {
            return;
        };
        let mut wire = self.filled_in(bytes);
        if self.setting.http2 {
            wire.splice(..0, PREFACE.iter().copied());
        }
        // Responses to HEAD and CONNECT do not end where their heads say, and PRI starts HTTP/2.
        let is_opaque =
            |method: &&str| wire.windows(method.len()).any(|part| part == method.as_bytes());
        if ["HEAD", "CONNECT", "PRI"].iter().any(is_opaque) {
            connection.ignore_answers();
        }
        self.connections[0] = Some(connection);
        // A zero byte is a pause.
        for part in wire.split(|byte| *byte == 0) {
            for piece in part.chunks(if cut < b' ' { usize::from(cut) + 1 } else { usize::MAX }) {
                if let Some(connection) = &mut self.connections[0] {
                    connection.send(piece);
                }
                self.wait_until(MOMENT, Some(0)).await;
            }
            self.wait(Duration::from_secs(6)).await;
        }
        if let Some(connection) = self.connections[0].as_mut().filter(|_| cut & 1 == 1) {
            connection.end_sending();
        }
        self.wait(PATIENCE).await;
    }

    /// Inserts identities of streams, which are not known in advance: a byte of 1 and a digit stand
    /// for one.
    fn filled_in(&self, bytes: &[u8]) -> Vec<u8> {
        let mut wire = Vec::with_capacity(bytes.len());
        let mut rest = bytes.iter();
        while let Some(byte) = rest.next() {
            match byte {
                1 => {
                    let at = usize::from(rest.next().copied().unwrap_or_default());
                    wire.extend(
                        self.world.known[at % self.world.known.len()].identity.to_string().bytes(),
                    );
                }
                byte => wire.push(*byte),
            }
        }
        wire
    }

    async fn wait(&mut self, time: Duration) {
        self.wait_until(time, None).await;
    }

    /// Lets all connections read and write for this time, or until connection `idle` has nothing to
    /// wait for.
    async fn wait_until(&mut self, time: Duration, idle: Option<usize>) {
        let polled = poll_fn(|cx| {
            self.connections.iter_mut().flatten().for_each(|connection| connection.poll(cx));
            let awaited = idle.and_then(|at| self.connections[at].as_ref());
            if awaited.is_some_and(Connection::is_idle) { Poll::Ready(()) } else { Poll::Pending }
        });
        let _ = timeout(time, polled).await;
        for at in 0..CONNECTIONS {
            let Some(connection) = &mut self.connections[at] else { continue };
            let answers = std::mem::take(&mut connection.answers);
            answers.into_iter().for_each(|(asked, answer)| self.answered(asked, &answer));
        }
    }

    fn disconnect(&mut self, at: usize) {
        let Some(mut connection) = self.connections[at].take() else { return };
        self.disturbed |= !connection.is_idle();
        if let Some((asked, answer)) = connection.rest() {
            self.answered(asked, &answer);
        }
    }

    fn answered(&self, asked: Option<Asked>, answer: &Answer) {
        if self.setting.print {
            eprintln!("  {answer:?}");
        }
        answer.check(&self.world, asked.as_ref().map(|asked| &asked.request));
        if let Some(Asked { request, written: Some(before) }) = &asked {
            self.check_appended(request, answer, self.world.written() - before);
        }
    }

    /// Checks that a request appended as much as its response says.
    fn check_appended(&self, request: &Request, answer: &Answer, appended: u64) {
        let path = request.target.split('?').next().unwrap_or_default();
        let len = request.body.len() as u64;
        if path == "/v1/frames" {
            return;
        }
        if !matches!(request.method, "PUT" | "POST") {
            assert_eq!(appended, 0, "{request:?} appended: {answer:?}");
            return;
        }
        let is_agfs = path.starts_with("/api/v1/");
        let is_durable = path.starts_with("/v1/stream/");
        match answer.status {
            // In the AGFS API, only PUT appends a body.
            200..300 if is_agfs && request.method == "POST" => {
                assert_eq!(appended, 0, "{request:?}: {answer:?}")
            }
            // JSON is appended without whitespace, one message per line, and a repeated append is
            // not appended again.
            200..300 if is_durable => assert!(appended <= len + 1, "{request:?}: {answer:?}"),
            200..300 => assert_eq!(appended, len, "{request:?}: {answer:?}"),
            // The part of a body that came before it broke off is in the stream.
            400 | 408 if !is_durable && !request.body.ends => {}
            _ => assert_eq!(
                appended, 0,
                "a refused append is in the stream: {request:?}: {answer:?}"
            ),
        }
    }

    async fn end(mut self) {
        (0..CONNECTIONS).for_each(|at| self.disconnect(at));
        self.disconnect_http2();
        self.world.check_settled().await;
    }
}
