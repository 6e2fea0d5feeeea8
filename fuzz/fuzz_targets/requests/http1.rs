//! Client end of an HTTP/1.1 connection. It reads and writes only when the run polls it.

use std::{
    collections::VecDeque,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{answer::Answer, pipe::Near, request::Request};

/// A request that was sent.
#[derive(Debug)]
pub struct Asked {
    pub request: Request,
    /// Total bytes appended before the request, if nothing else can append meanwhile.
    pub written: Option<u64>,
}

#[derive(Debug, Default)]
enum Framing {
    #[default]
    None,
    Length(usize),
    Chunked,
}

pub struct Connection {
    near: Near,
    to_send: Vec<u8>,
    sent: usize,
    /// True if nothing follows the queued bytes.
    ends: bool,
    has_ended: bool,
    /// True if the body of the last request has not ended.
    in_body: bool,
    received: Vec<u8>,
    /// True if the client reads nothing.
    pub stalled: bool,
    /// True if the server has ended its side.
    hung_up: bool,
    /// Requests without a response so far.
    pub asked: VecDeque<Asked>,
    /// The response being received.
    answer: Option<(Answer, Framing)>,
    pub answers: Vec<(Option<Asked>, Answer)>,
    /// True if the requests are unknown, so that the responses cannot be separated.
    opaque: bool,
}

impl Connection {
    pub fn new(near: Near) -> Self {
        Self {
            near,
            to_send: Vec::new(),
            sent: 0,
            ends: false,
            has_ended: false,
            in_body: false,
            received: Vec::new(),
            stalled: false,
            hung_up: false,
            asked: VecDeque::new(),
            answer: None,
            answers: Vec::new(),
            opaque: false,
        }
    }

    pub fn ask(&mut self, request: Request, written: Option<u64>) {
        self.in_body = !request.body.ends;
        self.to_send.extend(request.encode());
        self.asked.push_back(Asked { request, written });
    }

    /// Returns true if another request can be sent. While a body is unfinished, another request
    /// would be taken for the rest of that body.
    pub fn takes_requests(&self) -> bool {
        !self.hung_up && !self.ends && !self.in_body
    }

    /// Sends raw bytes, which may be any number of requests or none.
    pub fn send(&mut self, bytes: &[u8]) {
        self.to_send.extend(bytes);
    }

    /// Ignores responses, for requests whose responses may have a length but no body.
    pub fn ignore_answers(&mut self) {
        self.opaque = true;
    }

    pub fn end_sending(&mut self) {
        self.ends = true;
    }

    /// Reads and writes as much as possible without waiting.
    pub fn poll(&mut self, cx: &mut Context<'_>) {
        self.poll_send(cx);
        while !self.stalled && !self.hung_up {
            let mut buffer = [0; 16 * 1024];
            let mut read = ReadBuf::new(&mut buffer);
            match Pin::new(&mut self.near).poll_read(cx, &mut read) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                    self.received.extend(read.filled())
                }
                Poll::Ready(_) => self.hung_up = true,
            }
            if !self.opaque {
                self.parse();
            }
        }
        if self.hung_up {
            // The last response is over, and no other one comes.
            let rest = self.rest();
            self.answers.extend(rest);
            self.asked.clear();
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) {
        while self.sent < self.to_send.len() {
            match Pin::new(&mut self.near).poll_write(cx, &self.to_send[self.sent..]) {
                Poll::Pending => return,
                Poll::Ready(Ok(len)) => self.sent += len,
                // The server has stopped reading.
                Poll::Ready(Err(_)) => self.sent = self.to_send.len(),
            }
        }
        if self.ends && !self.has_ended {
            self.has_ended = true;
            let ended = pin!(self.near.end_sending()).poll(&mut Context::from_waker(Waker::noop()));
            assert!(ended.is_ready(), "a pipe in memory ends at once");
        }
    }

    /// Returns true if every request has its response, or never will.
    pub fn is_idle(&self) -> bool {
        self.hung_up || self.asked.is_empty() && self.sent == self.to_send.len()
    }

    /// The response that is incomplete.
    pub fn rest(&mut self) -> Option<(Option<Asked>, Answer)> {
        let (answer, _) = self.answer.take()?;
        Some((self.asked.pop_front(), answer))
    }

    fn parse(&mut self) {
        loop {
            if self.answer.is_none() {
                match self.parse_head() {
                    Some(begun) => self.answer = Some(begun),
                    None => return,
                }
            }
            let Some((answer, framing)) = &mut self.answer else { return };
            if !take_body(&mut self.received, framing, &mut answer.body) {
                return;
            }
            if let Some((mut answer, _)) = self.answer.take() {
                answer.whole = true;
                self.answers.push((self.asked.pop_front(), answer));
            }
        }
    }

    /// Takes the head of the next response, if all of it has come.
    fn parse_head(&mut self) -> Option<(Answer, Framing)> {
        if self.received.is_empty() {
            return None;
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(&self.received).unwrap_or_else(|error| {
            panic!("{error} in {:?}", String::from_utf8_lossy(&self.received));
        });
        let httparse::Status::Complete(len) = parsed else { return None };
        let status = response.code.expect("a whole head has a status");
        let headers = response.headers.iter();
        let headers = headers
            .map(|header| (header.name.to_ascii_lowercase(), header.value.to_vec()))
            .collect();
        let answer = Answer { status, headers, body: Vec::new(), whole: false };
        self.received.drain(..len);
        if status == 100 {
            return self.parse_head();
        }
        assert!(status >= 200, "unsolicited interim answer: {answer:?}");
        let is_head = self.asked.front().is_some_and(|asked| asked.request.method == "HEAD");
        let lengths = answer.headers.iter().filter(|(name, _)| name == "content-length").count();
        let framing = match answer.header("transfer-encoding") {
            _ if is_head || matches!(status, 204 | 304) => Framing::None,
            Some("chunked") if lengths == 0 => Framing::Chunked,
            None if lengths == 1 => {
                let length = answer.header("content-length").and_then(|length| length.parse().ok());
                Framing::Length(length.unwrap_or_else(|| panic!("no length: {answer:?}")))
            }
            _ => panic!("an answer without a known end: {answer:?}"),
        };
        Some((answer, framing))
    }
}

/// Moves the received part of a body; returns true if the body is complete.
fn take_body(received: &mut Vec<u8>, framing: &mut Framing, body: &mut Vec<u8>) -> bool {
    match framing {
        Framing::None => true,
        Framing::Length(length) => {
            let len = received.len().min(*length);
            body.extend(received.drain(..len));
            *length -= len;
            *length == 0
        }
        Framing::Chunked => loop {
            let Ok(httparse::Status::Complete((start, len))) = httparse::parse_chunk_size(received)
            else {
                assert!(httparse::parse_chunk_size(received).is_ok(), "not a chunk: {received:?}");
                return false;
            };
            let end = start + usize::try_from(len).expect("a length");
            if received.len() < end + 2 {
                return false;
            }
            assert_eq!(received[end..end + 2], *b"\r\n", "a chunk ends with a line end");
            body.extend(&received[start..end]);
            received.drain(..end + 2);
            if len == 0 {
                return true;
            }
        },
    }
}
