//! Reverse proxies over HTTP/1.1 that buffer, truncate or alter requests, which writers must
//! cope with.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

/// Reverse proxy in front of a daemon. Each connection carries one request.
pub struct Proxy {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
}

/// How a [`Proxy`] misbehaves.
#[derive(Clone, Copy)]
enum Kind {
    /// Forwards no response before the request has ended, and aborts a request whose response
    /// begins before its end, as Go's servers do over HTTP/1.1. Names itself Caddy; a writer gives
    /// up on Caddy sooner.
    HalfDuplex,
    /// Forwards no part of a request before all of it has arrived, and names itself like this.
    Buffering(&'static str),
    /// Removes this request header, as if the daemon were an older one that does not know it.
    Without(&'static str),
    /// Aborts a request whose body is larger than this many bytes, and names itself like this.
    Limit(usize, &'static str),
}

impl Proxy {
    /// A proxy that answers only when the request has ended, such as Caddy.
    #[track_caller]
    pub fn half_duplex(daemon: SocketAddr) -> Self {
        Self::new(daemon, Kind::HalfDuplex)
    }

    /// A proxy with this name that buffers a whole request before it forwards it.
    #[track_caller]
    pub fn that_gathers_requests(daemon: SocketAddr, name: &'static str) -> Self {
        Self::new(daemon, Kind::Buffering(name))
    }

    /// A proxy that removes a request header, whose name is given in lower case.
    #[track_caller]
    pub fn without_header(daemon: SocketAddr, name: &'static str) -> Self {
        Self::new(daemon, Kind::Without(name))
    }

    /// A proxy with this name that aborts a request whose body exceeds `limit` bytes.
    #[track_caller]
    pub fn that_limits_requests(daemon: SocketAddr, limit: usize, name: &'static str) -> Self {
        Self::new(daemon, Kind::Limit(limit, name))
    }

    #[track_caller]
    fn new(daemon: SocketAddr, kind: Kind) -> Self {
        let listener = TcpListener::bind((daemon.ip(), 0)).expect("a free port");
        let address = listener.local_addr().expect("a socket");
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if over.load(SeqCst) {
                    break;
                }
                let Ok(client) = client else { continue };
                std::thread::spawn(move || serve(client, daemon, kind));
            }
        });
        Self { address, is_over }
    }

    /// URL of the proxy.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.is_over.store(true, SeqCst);
        // Unblocks the accepting thread, which then ends.
        let _ = TcpStream::connect(self.address);
    }
}

/// Forwards one request and its response.
fn serve(client: TcpStream, daemon: SocketAddr, kind: Kind) {
    let Ok(mut upstream) = TcpStream::connect(daemon) else { return };
    let ended = Arc::new(AtomicBool::new(false));
    let clone = |stream: &TcpStream| stream.try_clone().expect("a socket");
    let (from, to, is_ended) = (clone(&upstream), clone(&client), Arc::clone(&ended));
    let answering = std::thread::spawn(move || answer(from, to, kind, &is_ended));
    let mut request = BufReader::new(client);
    let mut gathered = Vec::new();
    let passed = pass_request(&mut request, kind, &ended, |bytes| match kind {
        Kind::Buffering(_) if !ended.load(SeqCst) => gathered.write_all(bytes),
        Kind::Buffering(_) => {
            gathered.write_all(bytes)?;
            upstream.write_all(&gathered)
        }
        _ => upstream.write_all(bytes),
    });
    if passed.is_none() {
        close(&upstream);
        close(request.get_ref());
    }
    // Fails only if the thread panicked.
    let _ = answering.join();
    close(request.get_ref());
}

/// Forwards a request and adds `Connection: close`. Sets `ended` before it forwards the last bytes.
/// Returns `None` if the client or the proxy aborted the request.
fn pass_request(
    request: &mut BufReader<TcpStream>,
    kind: Kind,
    ended: &AtomicBool,
    mut pass: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if request.read_until(b'\n', &mut head).ok()? == 0 {
            return None;
        }
    }
    let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length =
        text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let length = length.or_else(|| (!text.contains("transfer-encoding: chunked")).then_some(0));
    if let Kind::Without(header) = kind {
        let kept = text.split_inclusive("\r\n").zip(head.split_inclusive(|byte| *byte == b'\n'));
        head = kept
            .filter(|(line, _)| !line.starts_with(header))
            .flat_map(|(_, line)| line.to_vec())
            .collect();
    }
    head.truncate(head.len() - 2);
    head.extend(b"connection: close\r\n\r\n");
    if length == Some(0) {
        ended.store(true, SeqCst);
    }
    pass(&head).ok()?;
    if let Some(length) = length {
        let mut body = vec![0; length];
        request.read_exact(&mut body).ok()?;
        ended.store(true, SeqCst);
        return pass(&body).ok();
    }
    let mut sum = 0;
    loop {
        let mut chunk = Vec::new();
        request.read_until(b'\n', &mut chunk).ok()?;
        let size = usize::from_str_radix(std::str::from_utf8(&chunk).ok()?.trim_end(), 16).ok()?;
        let begin = chunk.len();
        chunk.resize(begin + size + 2, 0);
        request.read_exact(&mut chunk[begin..]).ok()?;
        sum += size;
        if matches!(kind, Kind::Limit(limit, _) if sum > limit) {
            return None;
        }
        if size == 0 {
            ended.store(true, SeqCst);
        }
        // A daemon that accepts no more bytes may still send a response.
        let _ = pass(&chunk);
        if size == 0 {
            return Some(());
        }
    }
}

/// Forwards the response as it arrives, and adds the name of the proxy.
fn answer(mut from: TcpStream, mut to: TcpStream, kind: Kind, ended: &AtomicBool) {
    let mut buffer = vec![0; 64 * 1024];
    let mut is_begun = false;
    loop {
        let len = match from.read(&mut buffer) {
            Ok(len) if len > 0 => len,
            _ => break,
        };
        let mut piece = buffer[..len].to_vec();
        if !std::mem::replace(&mut is_begun, true) {
            match kind {
                Kind::HalfDuplex if !ended.load(SeqCst) => return close(&from),
                Kind::HalfDuplex => name(&mut piece, "Caddy"),
                Kind::Buffering(proxy) | Kind::Limit(_, proxy) => name(&mut piece, proxy),
                Kind::Without(_) => {}
            }
        }
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    // Fails if the client has hung up already.
    let _ = to.shutdown(Shutdown::Write);
}

/// Adds the proxy's name to the head of a response, as the header `Server`.
fn name(head: &mut Vec<u8>, proxy: &str) {
    let line = head.windows(2).position(|end| end == b"\r\n").expect("a status line") + 2;
    head.splice(line..line, format!("server: {proxy}\r\n").into_bytes());
}

fn close(stream: &TcpStream) {
    // Fails if the other end has hung up already.
    let _ = stream.shutdown(Shutdown::Both);
}
