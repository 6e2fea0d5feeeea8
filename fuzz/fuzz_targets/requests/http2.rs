//! Client end of an HTTP/2 connection: concurrent requests, each of which can be reset or left
//! unread.

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use tokio::{task::JoinHandle, time::timeout};

use crate::{answer::Answer, pipe::Near, request::Request};

pub struct Connection {
    sender: SendRequest<Bytes>,
    driver: JoinHandle<()>,
    /// Exchanges in progress.
    pub exchanges: Vec<Exchange>,
}

/// A request, and its response so far.
pub struct Exchange {
    pub request: Request,
    /// Total bytes appended before the request, if nothing else can append meanwhile.
    pub written: Option<u64>,
    answer: Arc<Mutex<Option<Answer>>>,
    task: JoinHandle<()>,
}

impl Connection {
    /// Performs the HTTP/2 handshake over the pipe, with an initial window of `window` bytes for
    /// each response. Returns `None` if the server hangs up.
    pub async fn open(near: Near, window: u32) -> Option<Self> {
        let (sender, connection) =
            Builder::new().initial_window_size(window).handshake(near).await.ok()?;
        let driver = tokio::spawn(async move { _ = connection.await });
        Some(Self { sender, driver, exchanges: Vec::new() })
    }

    pub fn is_closed(&self) -> bool {
        self.driver.is_finished()
    }

    pub fn is_idle(&self) -> bool {
        self.exchanges.is_empty()
    }

    /// Sends a request. If `stalled`, only the head of the response is read.
    pub fn ask(&mut self, request: Request, written: Option<u64>, stalled: bool) {
        let Some(head) = head(&request) else { return };
        let ends = request.body.ends && request.body.pieces.is_empty();
        let Ok((answered, mut body)) = self.sender.send_request(head, ends) else { return };
        if !ends {
            for piece in &request.body.pieces {
                let _ = body.send_data(piece.clone().into(), false);
            }
            if request.body.ends {
                let _ = body.send_data(Bytes::new(), true);
            }
        }
        let answer = Arc::default();
        let answering = read(answered, Arc::clone(&answer), stalled);
        let task = tokio::spawn(async move {
            answering.await;
            // Keep the body until here: dropping an unfinished body earlier would reset the
            // request.
            drop(body);
        });
        self.exchanges.push(Exchange { request, written, answer, task });
    }

    /// Waits for the response to the newest request.
    pub async fn wait(&mut self, time: Duration) {
        if let Some(newest) = self.exchanges.last_mut() {
            let _ = timeout(time, &mut newest.task).await;
        }
    }

    /// Removes and returns the exchanges that have ended.
    pub fn ended(&mut self) -> Vec<(Exchange, Option<Answer>)> {
        self.exchanges
            .extract_if(.., |exchange| exchange.task.is_finished())
            .map(Exchange::given_up)
            .collect()
    }

    /// Resets a request.
    pub fn reset(&mut self, at: usize) -> Option<(Exchange, Option<Answer>)> {
        let at = at.checked_rem(self.exchanges.len())?;
        Some(self.exchanges.swap_remove(at).given_up())
    }

    /// Closes the connection abruptly.
    pub fn disconnect(self) -> Vec<(Exchange, Option<Answer>)> {
        self.driver.abort();
        self.exchanges.into_iter().map(Exchange::given_up).collect()
    }
}

impl Exchange {
    fn given_up(self) -> (Self, Option<Answer>) {
        self.task.abort();
        let answer = self.answer.lock().unwrap().take();
        (self, answer)
    }
}

/// Reads a response.
async fn read(answered: ResponseFuture, answer: Arc<Mutex<Option<Answer>>>, stalled: bool) {
    let Ok(response) = answered.await else { return };
    let (head, mut body) = response.into_parts();
    let headers = head.headers.iter();
    let headers = headers
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect();
    let status = head.status.as_u16();
    *answer.lock().unwrap() = Some(Answer { status, headers, body: Vec::new(), whole: false });
    if stalled {
        return pending().await;
    }
    while let Some(Ok(piece)) = body.data().await {
        let _ = body.flow_control().release_capacity(piece.len());
        answer.lock().unwrap().iter_mut().for_each(|answer| answer.body.extend(&piece));
    }
    answer.lock().unwrap().iter_mut().for_each(|answer| answer.whole = body.is_end_stream());
}

/// The request's head in HTTP/2 form, without its body; `None` if it cannot be expressed.
fn head(request: &Request) -> Option<http::Request<()>> {
    let mut head = http::Request::builder().method(request.method).version(http::Version::HTTP_2);
    for (name, value) in &request.headers {
        // These headers exist only in HTTP/1.1.
        if !matches!(*name, "connection" | "te") {
            head = head.header(*name, &value[..]);
        }
    }
    if request.body.has_length {
        // A client that falls silent has promised one byte more than it sends.
        head = head.header("content-length", request.body.len() + usize::from(!request.body.ends));
    }
    head.uri(format!("http://{}{}", crate::address(), request.target)).body(()).ok()
}
