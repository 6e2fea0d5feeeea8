//! HTTP/1.1 client for tests, written by hand: it can send requests that no HTTP library sends and
//! shows responses that no library exposes. Every wait has a time limit on tokio's clock, which a
//! test may pause.

use std::{fmt::Display, io::ErrorKind, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    time::timeout,
};

/// Longer than any time limit of the server.
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Client end of a connection.
pub struct Client<T> {
    near: BufReader<T>,
    host: String,
    last_method: String,
}

/// Response: its head, and as much of its body as was read.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Headers, with names in lower case.
    headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
    /// Whether the body is complete.
    pub whole: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Client<T> {
    /// Creates a client that sends this `Host`.
    pub fn new(near: T, host: impl Display) -> Self {
        Self { near: BufReader::new(near), host: host.to_string(), last_method: String::new() }
    }

    /// Returns the transport.
    pub fn transport(&mut self) -> &mut T {
        self.near.get_mut()
    }

    /// Sends `bytes` unchanged. Panics if the server has hung up.
    pub async fn send(&mut self, bytes: &[u8]) {
        assert!(self.offer(bytes).await, "the server takes nothing any more");
    }

    /// Sends `bytes` unchanged. Returns false if the server has hung up.
    pub async fn offer(&mut self, bytes: &[u8]) -> bool {
        match patiently(self.near.write_all(bytes)).await {
            Ok(()) => true,
            Err(error) if is_over(error.kind()) => false,
            Err(error) => panic!("write to the server: {error}"),
        }
    }

    /// Sends a request with these headers, with `Host`, and with `Content-Length` if there is a
    /// body.
    pub async fn request(
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

    /// Sends the head of a request. The body follows with [`chunk`](Self::chunk) and
    /// [`end_chunks`](Self::end_chunks).
    pub async fn begin(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) {
        let mut head = self.head_of(method, path, headers);
        head.push_str("transfer-encoding: chunked\r\n\r\n");
        self.send(head.as_bytes()).await;
    }

    fn head_of(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
        self.last_method = method.to_owned();
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.host);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head
    }

    /// Sends one chunk of a chunked body.
    pub async fn chunk(&mut self, bytes: &[u8]) {
        self.send(&[format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()).await;
    }

    /// Ends a chunked body.
    pub async fn end_chunks(&mut self) {
        self.send(b"0\r\n\r\n").await;
    }

    /// Reads the head of the next response; `None` if the server hung up instead.
    pub async fn head(&mut self) -> Option<Response> {
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

    /// Reads the next response to its end, or to the end of the connection.
    pub async fn response(&mut self) -> Response {
        let mut response = self.head().await.expect("an answer, not the end of the connection");
        self.rest(&mut response).await;
        response
    }

    /// Reads the rest of a response's body.
    pub async fn rest(&mut self, response: &mut Response) {
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

    /// Reads one chunk of a chunked body: empty at the end of the body, `None` if the connection
    /// broke before.
    pub async fn piece(&mut self) -> Option<Vec<u8>> {
        let line = self.line().await?;
        let length = usize::from_str_radix(&line, 16);
        let length =
            length.unwrap_or_else(|error| panic!("{error} in the length of a piece: {line:?}"));
        let mut piece = self.exactly(length + 2).await?;
        assert!(piece.ends_with(b"\r\n"), "a piece ends with a line end");
        piece.truncate(length);
        Some(piece)
    }

    /// Waits until the server hangs up, and returns the bytes that it sent until then.
    pub async fn until_hung_up(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match patiently(self.near.read_to_end(&mut bytes)).await {
            Err(error) if !is_over(error.kind()) => panic!("read from the server: {error}"),
            _ => bytes,
        }
    }

    /// Reads a line and strips its line end; `None` if the connection ended or broke within the
    /// line.
    async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        match patiently(self.near.read_until(b'\n', &mut line)).await {
            Err(error) if !is_over(error.kind()) => panic!("read from the server: {error}"),
            _ => {}
        }
        Some(String::from_utf8_lossy(line.strip_suffix(b"\r\n")?).into_owned())
    }

    async fn exactly(&mut self, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        patiently(self.near.read_exact(&mut bytes)).await.is_ok().then_some(bytes)
    }
}

/// Returns true if the error means that the peer closed the connection abruptly, as a TCP peer may.
fn is_over(error: ErrorKind) -> bool {
    matches!(error, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof)
}

/// Waits for the server. A paused clock advances to this time limit only if nothing else is
/// pending, so a timeout means that the server hangs.
async fn patiently<T>(waited: impl Future<Output = T>) -> T {
    timeout(PATIENCE, waited).await.expect("the server does something")
}

impl Response {
    /// Returns the first header with this name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Checks the status. The panic message shows the response.
    #[track_caller]
    pub fn has(self, status: u16) -> Self {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "the status; headers: {:?}\nbody: {text:?}", self.headers);
        self
    }

    /// Checks that the status is 2xx.
    #[track_caller]
    pub fn is_success(&self) {
        assert!((200..300).contains(&self.status), "{self:?}");
    }

    /// Checks that the body is an error with this code, and returns its message.
    #[track_caller]
    pub fn refuses(&self, code: &str) -> String {
        let json: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(json["error"]["code"], code, "{json}");
        json["error"]["message"].as_str().expect("a message").to_owned()
    }
}
