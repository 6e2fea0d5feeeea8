//! HTTP/1.1 by hand, for requests that no client would send and answers that none would show. Every wait is bounded by the
//! paused clock.

use std::io::ErrorKind;

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    time::timeout,
};

use super::{DAY, address, pipe::Near};

/// The client's end of a connection, and what has come from it.
pub(crate) struct Client {
    near: BufReader<Near>,
    last_method: String,
}

/// An answer: its head, and what has been read of its body.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// The names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body ended as it should.
    pub(crate) whole: bool,
}

impl Client {
    pub(crate) fn new(near: Near) -> Self {
        Self { near: BufReader::new(near), last_method: String::new() }
    }

    /// Sends these bytes as they are. Panics if the server takes nothing any more.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        assert!(self.offer(bytes).await, "the server takes nothing any more");
    }

    /// Sends these bytes as they are, and tells whether the server still takes any.
    pub(crate) async fn offer(&mut self, bytes: &[u8]) -> bool {
        match patiently(self.near.write_all(bytes)).await {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::BrokenPipe => false,
            Err(error) => panic!("write to the server: {error}"),
        }
    }

    /// Sends a request with these headers, besides `Host` and the length of the body (if there is one).
    pub(crate) async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) {
        let mut head = self.head_of(method, path, headers);
        if let Some(body) = body {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        self.send(&[head.as_bytes(), body.unwrap_or_default()].concat()).await;
    }

    /// Sends the head of a request whose body comes with [`chunk`](Self::chunk) and [`end_chunks`](Self::end_chunks).
    pub(crate) async fn begin(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) {
        let mut head = self.head_of(method, path, headers);
        head.push_str("transfer-encoding: chunked\r\n\r\n");
        self.send(head.as_bytes()).await;
    }

    fn head_of(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
        self.last_method = method.to_owned();
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", address());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head
    }

    /// Sends a piece of a chunked body.
    pub(crate) async fn chunk(&mut self, bytes: &[u8]) {
        self.send(&[format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()).await;
    }

    /// Ends a chunked body.
    pub(crate) async fn end_chunks(&mut self) {
        self.send(b"0\r\n\r\n").await;
    }

    /// Sends nothing more, but still reads.
    pub(crate) async fn end_sending(&mut self) {
        self.near.get_mut().end_sending().await;
    }

    /// Reads the head of the next answer; `None` if the server hung up instead.
    pub(crate) async fn head(&mut self) -> Option<Response> {
        let first = self.line().await?;
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {first:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').expect("a header has a colon");
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Some(Response { status, headers, body: Vec::new(), whole: false })
    }

    /// Reads the next answer to its end, or to the end of the connection.
    pub(crate) async fn response(&mut self) -> Response {
        let mut response = self.head().await.expect("an answer, not the end of the connection");
        self.rest(&mut response).await;
        response
    }

    /// Reads what is left of the body of an answer.
    pub(crate) async fn rest(&mut self, response: &mut Response) {
        if self.last_method == "HEAD" || response.status == 204 {
            response.whole = true;
        } else if response.header("transfer-encoding") == Some("chunked") {
            while let Some(piece) = self.piece().await {
                response.whole = piece.is_empty();
                response.body.extend(piece);
                if response.whole {
                    break;
                }
            }
        } else {
            let length = response.header("content-length").expect("a body of known length");
            let body = self.exactly(length.parse().expect("a number")).await;
            response.whole = body.is_some();
            response.body = body.unwrap_or_default();
        }
    }

    /// Reads one piece of a chunked body: empty at its end, `None` if the connection broke before.
    pub(crate) async fn piece(&mut self) -> Option<Vec<u8>> {
        let line = self.line().await?;
        let length = usize::from_str_radix(&line, 16);
        let length = length.unwrap_or_else(|error| panic!("{error} in the length of a piece: {line:?}"));
        let mut piece = self.exactly(length + 2).await?;
        assert!(piece.ends_with(b"\r\n"), "a piece ends with a line end");
        piece.truncate(length);
        Some(piece)
    }

    /// Waits until the server hangs up; what it says until then is returned.
    pub(crate) async fn until_hung_up(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        patiently(self.near.read_to_end(&mut bytes)).await.unwrap();
        bytes
    }

    /// A line without its end; `None` if the connection ended before it was whole.
    async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        patiently(self.near.read_until(b'\n', &mut line)).await.unwrap();
        Some(String::from_utf8_lossy(line.strip_suffix(b"\r\n")?).into_owned())
    }

    async fn exactly(&mut self, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        patiently(self.near.read_exact(&mut bytes)).await.is_ok().then_some(bytes)
    }
}

/// Waits for the server. A paused clock gets to the end of this time only when nothing else will ever happen.
async fn patiently<T>(waited: impl Future<Output = T>) -> T {
    timeout(7 * DAY, waited).await.expect("the server does something")
}

impl Response {
    /// The first header of that name (in lower case).
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Checks the status, and shows the answer if it is another one.
    #[track_caller]
    pub(crate) fn has(self, status: u16) -> Self {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "the status; headers: {:?}\nbody: {text:?}", self.headers);
        self
    }

    /// Checks that the server has done what it was asked.
    #[track_caller]
    pub(crate) fn is_success(&self) {
        assert!((200..300).contains(&self.status), "{self:?}");
    }

    /// Checks that it is a refusal with this code, and returns its message.
    #[track_caller]
    pub(crate) fn refuses(&self, code: &str) -> String {
        let json: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(json["error"]["code"], code, "{json}");
        json["error"]["message"].as_str().expect("a message").to_owned()
    }
}
