//! TCP proxy between a client and the daemon that a test can cut, reset, half-close, stall and delay.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{JoinHandle, sleep, spawn},
    time::{Duration, Instant},
};

use rustix::net::connect_unspec;

/// Bytes that are forwarded at a time.
const PIECE: usize = 64 * 1024;

/// Maximum number of pieces that are on their way in one direction of a delayed connection.
const PIECES_ON_THE_WAY: usize = 64;

/// Proxy that forwards bytes in both directions between a client and the daemon, until the test
/// cuts the connections.
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// Direction of a [`Link`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the daemon.
    ToDaemon,
    /// From the daemon to the client.
    ToClient,
}

struct Shared {
    state: Mutex<State>,
    /// Notified when a stall ends.
    moving: Condvar,
}

struct State {
    open: Vec<Pair>,
    /// Number of coming connections to close immediately.
    refuse: usize,
    /// Bytes from the daemon that each new connection forwards before it breaks.
    most: usize,
    /// The direction that forwards nothing now.
    stalled: Option<Direction>,
    /// How long each new connection delays its bytes, to the daemon and to the client.
    delays: [Duration; 2],
    /// Whether the test has ended.
    over: bool,
}

/// Both sockets of a proxied connection.
struct Pair {
    client: TcpStream,
    daemon: TcpStream,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while this direction is stalled.
    fn wait_while_stalled(&self, direction: Direction) {
        let stalled = |state: &mut State| state.stalled == Some(direction);
        drop(self.moving.wait_while(self.state(), stalled).unwrap_or_else(PoisonError::into_inner));
    }
}

impl Link {
    /// Starts a proxy to `daemon`, on another port of the same host, so that the daemon accepts the
    /// `Host` header. Removes `prefix` from the paths of requests, as a reverse proxy does.
    #[track_caller]
    pub fn to(daemon: SocketAddr, prefix: &'static str) -> Self {
        let listener = TcpListener::bind((daemon.ip(), 0)).expect("a free port");
        let address = listener.local_addr().expect("a socket");
        let state = State {
            open: Vec::new(),
            refuse: 0,
            most: usize::MAX,
            stalled: None,
            delays: [Duration::ZERO; 2],
            over: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), moving: Condvar::new() });
        let accepting = Arc::clone(&shared);
        spawn(move || {
            for client in listener.incoming() {
                let client = client.expect("a connection");
                let mut state = accepting.state();
                if state.over {
                    break;
                }
                if state.refuse > 0 {
                    state.refuse -= 1;
                    continue;
                }
                let Ok(daemon) = TcpStream::connect(daemon) else { continue };
                let clone = || Pair {
                    client: client.try_clone().expect("a socket"),
                    daemon: daemon.try_clone().expect("a socket"),
                };
                let (up, down, most) = (clone(), clone(), state.most);
                let [to_daemon, to_client] = state.delays;
                state.open.push(clone());
                let (shared_up, shared_down) = (Arc::clone(&accepting), Arc::clone(&accepting));
                spawn(move || {
                    let to = Sender::new(up.daemon, to_daemon, shared_up, Direction::ToDaemon);
                    pass(up.client, to, prefix, usize::MAX);
                });
                spawn(move || {
                    let to = Sender::new(down.client, to_client, shared_down, Direction::ToClient);
                    pass(down.daemon, to, "", most);
                });
            }
        });
        Self { address, shared }
    }

    /// Address of the proxy.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// URL of the proxy.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Breaks all open connections. Later connections work again.
    pub fn cut(&self) {
        for pair in std::mem::take(&mut self.shared.state().open) {
            close(&pair.client);
            close(&pair.daemon);
        }
    }

    /// Breaks all open connections, and closes the next `count` connections immediately.
    pub fn cut_and_refuse(&self, count: usize) {
        self.shared.state().refuse = count;
        self.cut();
    }

    /// Breaks each later connection once the daemon has sent `bytes` bytes on it.
    pub fn cut_each_after(&self, bytes: usize) {
        self.shared.state().most = bytes;
    }

    /// Resets all open connections: both ends get an RST, and bytes in flight are lost.
    pub fn reset(&self) {
        for pair in std::mem::take(&mut self.shared.state().open) {
            // Both fail if the other end has hung up already.
            let _ = connect_unspec(&pair.client);
            let _ = connect_unspec(&pair.daemon);
        }
    }

    /// Ends one direction of all open connections. The other direction stays open.
    pub fn half_close(&self, direction: Direction) {
        for pair in &self.shared.state().open {
            let receiver = match direction {
                Direction::ToDaemon => &pair.daemon,
                Direction::ToClient => &pair.client,
            };
            end(receiver);
        }
    }

    /// Delays the bytes of each later connection in this direction. The rate stays the same.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        let [to_daemon, to_client] = &mut self.shared.state().delays;
        *match direction {
            Direction::ToDaemon => to_daemon,
            Direction::ToClient => to_client,
        } = delay;
    }

    /// Stalls one direction; `None` ends the stall.
    pub fn stall(&self, direction: Option<Direction>) {
        self.shared.state().stalled = direction;
        self.shared.moving.notify_all();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.state().over = true;
        self.stall(None);
        self.cut();
        // Unblocks the accepting thread, which then ends.
        let _ = TcpStream::connect(self.address);
    }
}

/// The sending end of one direction of a connection.
struct Sender {
    to: TcpStream,
    shared: Arc<Shared>,
    direction: Direction,
    /// The pieces on their way, and the thread that sends them, if they are delayed.
    later: Option<(Duration, SyncSender<Piece>, JoinHandle<()>)>,
}

/// Bytes, and when they are due.
type Piece = (Instant, Vec<u8>);

impl Sender {
    fn new(to: TcpStream, delay: Duration, shared: Arc<Shared>, direction: Direction) -> Self {
        let later = (!delay.is_zero()).then(|| {
            let (queue, pieces) = sync_channel(PIECES_ON_THE_WAY);
            let (to, shared) = (to.try_clone().expect("a socket"), Arc::clone(&shared));
            (delay, queue, spawn(move || send_later(to, &pieces, &shared, direction)))
        });
        Self { to, shared, direction, later }
    }

    /// Sends a piece. Returns false if the receiver accepts no more bytes.
    fn send(&mut self, piece: Vec<u8>) -> bool {
        match &self.later {
            Some((delay, queue, _)) => queue.send((Instant::now() + *delay, piece)).is_ok(),
            None => {
                self.shared.wait_while_stalled(self.direction);
                self.to.write_all(&piece).is_ok()
            }
        }
    }

    /// Returns the socket, once all pieces have arrived.
    fn finish(self) -> TcpStream {
        if let Some((_, queue, sending)) = self.later {
            drop(queue);
            sending.join().expect("the thread does not panic");
        }
        self.to
    }
}

fn send_later(mut to: TcpStream, pieces: &Receiver<Piece>, shared: &Shared, direction: Direction) {
    for (due, piece) in pieces {
        sleep(due.saturating_duration_since(Instant::now()));
        shared.wait_while_stalled(direction);
        if to.write_all(&piece).is_err() {
            return;
        }
    }
}

fn pass(mut from: TcpStream, mut to: Sender, prefix: &str, mut most: usize) {
    let direction = to.direction;
    let mut buffer = vec![0; PIECE];
    while most > 0 {
        let room = buffer.len().min(most);
        let len = match from.read(&mut buffer[..room]) {
            Ok(len) if len > 0 => len,
            // The daemon's last bytes are on their way to the client. Resetting the connection
            // would discard them, because the client is still sending.
            _ if direction == Direction::ToClient => return end(&to.finish()),
            _ => break,
        };
        most -= len;
        let piece = &buffer[..len];
        let line = [b"POST ", prefix.as_bytes()].concat();
        let piece = match piece.strip_prefix(&line[..]) {
            Some(rest) => [b"POST ", rest].concat(),
            None => piece.to_vec(),
        };
        // A daemon that accepts no more bytes may still send a response.
        if !to.send(piece) && direction == Direction::ToClient {
            break;
        }
    }
    close(&from);
    close(&to.finish());
}

fn end(stream: &TcpStream) {
    // Fails if the other end has hung up already.
    let _ = stream.shutdown(Shutdown::Write);
}

fn close(stream: &TcpStream) {
    // Fails if the other end has hung up already.
    let _ = stream.shutdown(Shutdown::Both);
}
