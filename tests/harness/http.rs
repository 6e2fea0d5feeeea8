//! Blocking HTTP/1.1 client, written by hand: it can send requests that no HTTP library sends and
//! shows responses that no library exposes.

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use rustix::net::sockopt::set_socket_linger;
use serde_json::Value;

use crate::deadline;

/// TCP connection to the daemon, with the responses that were read from it. Every wait panics
/// after [`deadline`].
pub struct HttpConnection {
    reader: BufReader<TcpStream>,
    address: SocketAddr,
    last_method: String,
    trailers: Vec<(String, String)>,
}

/// Response: its head, and as much of its body as was read.
#[derive(Clone, Debug)]
pub struct HttpResponse {
    /// Status code.
    pub status: u16,
    /// Headers in their order, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
    /// Whether the body is complete; false if the connection broke before its end.
    pub whole: bool,
    /// Trailers after the body, with names in lower case.
    pub trailers: Vec<(String, String)>,
}

impl HttpConnection {
    /// Connects and sends nothing.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the daemon answers");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(deadline())).expect("a socket");
        stream.set_write_timeout(Some(deadline())).expect("a socket");
        Self {
            reader: BufReader::new(stream),
            address,
            last_method: String::new(),
            trailers: Vec::new(),
        }
    }

    /// Returns the TCP socket.
    pub fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    /// Sends `bytes` unchanged. Ignores that the daemon has hung up.
    pub fn send(&mut self, bytes: &[u8]) -> &mut Self {
        self.offer(bytes);
        self
    }

    /// Sends `bytes` unchanged. Returns false if the daemon has hung up.
    pub fn offer(&mut self, bytes: &[u8]) -> bool {
        match self.reader.get_mut().write_all(bytes) {
            Ok(()) => true,
            Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                false
            }
            Err(e) => panic!("write to the daemon: {e}"),
        }
    }

    /// Sends a request with these headers. Adds `Host` unless it is given, and `Content-Length` if
    /// there is a body.
    pub fn request(
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
        self.send(&[head.as_bytes(), body.unwrap_or_default()].concat());
    }

    /// Sends the head of a request. The body follows with [`chunk`](Self::chunk)
    /// and [`end_chunks`](Self::end_chunks).
    pub fn begin(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) {
        let mut head = self.head_of(method, path, headers);
        head.push_str("transfer-encoding: chunked\r\n\r\n");
        self.send(head.as_bytes());
    }

    fn head_of(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
        self.last_method = method.to_owned();
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("host: {}\r\n", self.address));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head
    }

    /// Sends one chunk of a chunked body.
    pub fn chunk(&mut self, bytes: &[u8]) -> &mut Self {
        self.send(&[format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat())
    }

    /// Ends a chunked body.
    pub fn end_chunks(&mut self) -> &mut Self {
        self.send(b"0\r\n\r\n")
    }

    /// Closes the sending direction. Reading still works.
    pub fn end_sending(&mut self) {
        // Fails only if the peer has hung up.
        let _ = self.stream().shutdown(Shutdown::Write);
    }

    /// Makes the kernel reset the connection (RST) when it is dropped, instead of closing it
    /// in order.
    #[track_caller]
    pub fn reset_when_dropped(&self) {
        set_socket_linger(self.stream(), Some(Duration::ZERO)).unwrap();
    }

    /// Reads the head of the next response; `None` if the daemon hung up instead.
    #[track_caller]
    pub fn head(&mut self) -> Option<HttpResponse> {
        let first = self.line()?;
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {first:?}"));
        let headers = self.fields()?;
        Some(HttpResponse { status, headers, body: Vec::new(), whole: false, trailers: Vec::new() })
    }

    /// Reads the lines of a head or of trailers, up to the empty line.
    fn fields(&mut self) -> Option<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Some(fields);
            }
            let (name, value) = line.split_once(':').expect("a header has a colon");
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// Reads the next response to its end, or to the end of the connection. Skips 1xx responses.
    #[track_caller]
    pub fn response(&mut self) -> HttpResponse {
        let mut response = loop {
            let response = self.head().expect("an answer, not the end of the connection");
            if response.status >= 200 {
                break response;
            }
        };
        self.rest(&mut response);
        response
    }

    /// Reads the rest of a response's body.
    #[track_caller]
    pub fn rest(&mut self, response: &mut HttpResponse) {
        if self.last_method == "HEAD" || matches!(response.status, 204 | 304) {
            response.whole = true;
        } else if response.header("transfer-encoding") == Some("chunked") {
            while let Some(piece) = self.piece() {
                response.whole = piece.is_empty();
                response.body.extend(piece);
                if response.whole {
                    response.trailers.clone_from(&self.trailers);
                    break;
                }
            }
        } else if let Some(length) = response.header("content-length") {
            let left = length.parse::<usize>().expect("a number") - response.body.len();
            let piece = self.exactly(left);
            response.whole = piece.is_some();
            response.body.extend(piece.unwrap_or_default());
        } else {
            response.whole = self.reader.read_to_end(&mut response.body).is_ok();
        }
    }

    /// Reads one chunk of a chunked body: empty at the end of the body, `None` if the connection
    /// broke before.
    #[track_caller]
    pub fn piece(&mut self) -> Option<Vec<u8>> {
        let line = self.line()?;
        let length = usize::from_str_radix(line.split(';').next()?, 16);
        let length = length.unwrap_or_else(|e| panic!("{e} in the length of a piece: {line:?}"));
        if length == 0 {
            self.trailers = self.fields()?;
            return Some(Vec::new());
        }
        let mut piece = self.exactly(length + 2)?;
        assert!(piece.ends_with(b"\r\n"), "a piece ends with a line end");
        piece.truncate(length);
        Some(piece)
    }

    /// Reads chunks of a chunked body until `len` bytes have arrived. Panics if the body
    /// ends before.
    #[track_caller]
    pub fn pieces(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let piece = self.piece().expect("the connection does not break");
            assert!(!piece.is_empty(), "the body ended after {} of {len} bytes", bytes.len());
            bytes.extend(piece);
        }
        bytes
    }

    /// Waits until the daemon hangs up, and returns the bytes that it sent until then.
    #[track_caller]
    pub fn until_hung_up(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.reader.read_to_end(&mut bytes) {
            Err(e) if e.kind() != ErrorKind::ConnectionReset => {
                panic!("the daemon does not hang up: {e}")
            }
            _ => bytes,
        }
    }

    /// Reads a line and strips its line end; `None` if the connection ended or broke within
    /// the line.
    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        match self.reader.read_until(b'\n', &mut line) {
            Err(e) if e.kind() != ErrorKind::ConnectionReset => {
                panic!("no answer from the daemon: {e}")
            }
            _ if !line.ends_with(b"\r\n") => None,
            _ => Some(String::from_utf8_lossy(&line[..line.len() - 2]).into_owned()),
        }
    }

    fn exactly(&mut self, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        match self.reader.read_exact(&mut bytes) {
            Ok(()) => Some(bytes),
            Err(e) if matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                None
            }
            Err(e) => panic!("no more from the daemon: {e}"),
        }
    }
}

impl HttpResponse {
    /// Returns the first header with this name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Checks the status. The panic message shows the headers and the start of the body.
    #[track_caller]
    pub fn has(self, status: u16) -> Self {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(400)]);
        assert_eq!(
            self.status, status,
            "the status; headers: {:?}\nbody begins: {text:?}",
            self.headers
        );
        self
    }

    /// Returns the body as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// Returns the body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {:?}", self.text()))
    }

    /// Checks that the body is an error with this code, and returns its message.
    #[track_caller]
    pub fn refuses(&self, code: &str) -> String {
        let json = self.json();
        assert_eq!(json["error"]["code"], code, "{json}");
        let message = json["error"]["message"].as_str().expect("a message");
        assert!(!message.is_empty(), "a refusal without a message");
        message.to_owned()
    }
}
