//! A line between `pfs` and the daemon that a test can cut.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Passes what comes to its address on to a daemon's, both ways, until it is cut.
pub(super) struct Link {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    /// Both ends of what was passed on.
    open: Vec<TcpStream>,
    /// How many connections are still to be hung up on at once.
    refuse: usize,
    /// How many bytes that come from the daemon are passed on by one connection.
    most: usize,
}

impl Link {
    /// To this address. Where requests are below `prefix`, it is taken away, as a reverse proxy does it.
    pub(super) fn to(daemon: SocketAddr, prefix: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { open: Vec::new(), refuse: 0, most: usize::MAX }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let mut state = shared.lock().unwrap();
                if state.refuse > 0 {
                    state.refuse -= 1;
                    continue;
                }
                let Ok(daemon) = TcpStream::connect(daemon) else { continue };
                state.open.extend([client.try_clone().unwrap(), daemon.try_clone().unwrap()]);
                let (from, to) = (client.try_clone().unwrap(), daemon.try_clone().unwrap());
                let most = state.most;
                std::thread::spawn(move || pass(from, to, prefix, usize::MAX));
                std::thread::spawn(move || pass(daemon, client, "", most));
            }
        });
        Self { address, state }
    }

    /// Its URL.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Breaks everything that is open. What comes then is passed on again.
    pub(super) fn cut(&self) {
        let open = std::mem::take(&mut self.state.lock().unwrap().open);
        for stream in open {
            // It fails where the other end has hung up already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Breaks everything that is open, and hangs up on so many that come then.
    pub(super) fn cut_and_refuse(&self, count: usize) {
        self.state.lock().unwrap().refuse = count;
        self.cut();
    }

    /// Breaks each connection that is opened from now on when so many bytes have come from the daemon.
    pub(super) fn cut_each_after(&self, bytes: usize) {
        self.state.lock().unwrap().most = bytes;
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, prefix: &str, mut most: usize) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let room = buffer.len().min(most);
        let len = match from.read(&mut buffer[..room]) {
            Ok(len) if len > 0 => len,
            _ => break,
        };
        most -= len;
        let piece = &buffer[..len];
        let line = [b"POST ", prefix.as_bytes()].concat();
        let piece = match piece.strip_prefix(&line[..]) {
            Some(rest) => [b"POST ", rest].concat(),
            None => piece.to_vec(),
        };
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
