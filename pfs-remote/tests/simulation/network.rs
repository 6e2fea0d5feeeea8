//! In-memory network: daemons at fixed addresses, links between them that are slow, stall and
//! break, and local clients, whose connections only end with their daemon.

use std::{
    io::{self, ErrorKind},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use pfs_client::{Client, Connector, Endpoint};
use pfs_host::{Caller, Daemon, Owner, Permissions, Settings};
use pfs_proto::Peer;
use pfs_remote::{Keep, RemoteMount, RemoteSettings};
use tokio::{sync::watch, time::sleep};

use super::{
    pipe::{End, Pipe},
    random::Random,
};

/// The stream at its owner, and at every other daemon.
pub(crate) const AT_OWNER: &str = "/streamfs/s";
pub(crate) const MOUNTED: &str = "/up/s";

/// Bytes that a direction of a link's connection holds at each end.
const LINK_CAPACITY: usize = 4096;

/// Bytes that a local client's connection holds in each direction.
const LOCAL_CAPACITY: usize = 1024;

/// The daemons of a chain. Daemon 0 owns the streams. Every other daemon mounts them at the one
/// before, over the link with its number.
#[derive(Debug)]
pub(crate) struct Network {
    nodes: Vec<Node>,
}

/// The address of a daemon.
#[derive(Debug)]
struct Node {
    keep: Keep,
    max_block_time: Option<Duration>,
    running: Mutex<Running>,
    /// The link to the daemon before. Unused for the owner.
    link: Arc<Link>,
    /// Counts the daemons that have run here.
    generation: AtomicU64,
}

#[derive(Debug)]
struct Running {
    daemon: Option<Arc<Daemon>>,
    /// The connections of local clients.
    local: Vec<[Pipe; 2]>,
}

/// How daemons of a chain are set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) keep: Keep,
    pub(crate) max_block_time: Option<Duration>,
}

/// A direction of a link: to the owner, or from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Up = 0,
    Down = 1,
}

impl Direction {
    fn opposite(self) -> Self {
        if self == Self::Up { Self::Down } else { Self::Up }
    }
}

/// What happens to those who connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Door {
    #[default]
    Open,
    /// The daemon's machine refuses connections.
    Refusing,
    /// Nothing answers.
    Silent,
}

/// How a link behaves now.
#[derive(Clone, Debug, Default)]
struct Weather {
    door: Door,
    /// By direction.
    latency: [Duration; 2],
    stalls: [bool; 2],
    /// The most bytes that travel together.
    packet: usize,
}

/// The most bytes that travel together on a link where nothing is wrong.
const PACKET: usize = 64 * 1024;

/// The link between two daemons: all connections from one to the other.
#[derive(Debug)]
pub(crate) struct Link {
    weather: watch::Sender<Weather>,
    random: Mutex<Random>,
    connections: Mutex<Vec<Connection>>,
}

#[derive(Clone, Debug)]
struct Connection {
    pipes: [Pipe; 4],
    /// By direction: bytes that still arrive before the connection breaks.
    left: [Arc<AtomicU64>; 2],
}

impl Connection {
    fn break_off(&self) {
        self.pipes.iter().for_each(Pipe::break_off);
    }
}

impl Link {
    fn new(random: Random) -> Self {
        let weather = Weather { packet: PACKET, ..Weather::default() };
        Self {
            weather: watch::Sender::new(weather),
            random: Mutex::new(random),
            connections: Mutex::default(),
        }
    }

    fn random(&self) -> MutexGuard<'_, Random> {
        self.random.lock().unwrap()
    }

    /// Sets what happens to new connections.
    pub(crate) fn set_door(&self, door: Door) {
        self.weather.send_modify(|weather| weather.door = door);
    }

    pub(crate) fn set_latency(&self, direction: Direction, latency: Duration) {
        self.weather.send_modify(|weather| weather.latency[direction as usize] = latency);
    }

    /// Sets whether bytes are held up in this direction.
    pub(crate) fn stall(&self, direction: Direction, stalls: bool) {
        self.weather.send_modify(|weather| weather.stalls[direction as usize] = stalls);
    }

    /// Sets how many bytes travel together at most.
    pub(crate) fn set_packet(&self, bytes: usize) {
        self.weather.send_modify(|weather| weather.packet = bytes);
    }

    /// Ends all stalls and delays. What is broken stays broken.
    pub(crate) fn heal(&self) {
        let weather = Weather { packet: PACKET, ..Weather::default() };
        self.weather.send_replace(weather);
        self.connections.lock().unwrap().iter().for_each(|connection| {
            connection.left.iter().for_each(|left| left.store(u64::MAX, SeqCst));
        });
    }

    /// Breaks all connections. What is on its way is lost.
    pub(crate) fn cut(&self) {
        self.connections.lock().unwrap().drain(..).for_each(|connection| connection.break_off());
    }

    /// Breaks each connection after this many more bytes in this direction.
    pub(crate) fn cut_after(&self, direction: Direction, bytes: u64) {
        for connection in &*self.connections.lock().unwrap() {
            connection.left[direction as usize].store(bytes, SeqCst);
        }
    }

    /// Waits until bytes move in this direction.
    async fn flows(&self, direction: Direction) {
        let mut weather = self.weather.subscribe();
        // Cannot fail: this is the sender.
        let _ = weather.wait_for(|weather| !weather.stalls[direction as usize]).await;
    }

    async fn delay(&self, direction: Direction) {
        let latency = self.weather.borrow().latency[direction as usize];
        if !latency.is_zero() {
            sleep(latency).await;
        }
        self.flows(direction).await;
    }

    /// The most bytes of the next packet.
    fn packet(&self) -> usize {
        let (most, mut random) = (self.weather.borrow().packet, self.random());
        if random.one_in(8) { random.size(most as u64) as usize } else { most }
    }

    /// Passes bytes of a connection on, until one of the sides has ended or the connection breaks.
    async fn carry(&self, direction: Direction, connection: &Connection, from: Pipe, to: Pipe) {
        let left = &connection.left[direction as usize];
        loop {
            tokio::select! {
                biased;
                () = to.unread() => {
                    // The other side learns that after what is on its way to it.
                    self.delay(direction.opposite()).await;
                    break;
                }
                () = from.readable() => {}
            }
            self.flows(direction).await;
            let Ok(bytes) = from.try_take(self.packet()) else { break };
            let is_last = bytes.is_empty();
            self.delay(direction).await;
            let budget = left.load(SeqCst);
            if budget <= bytes.len() as u64 {
                let _ = to.put(&bytes[..budget as usize]).await;
                let others = connection.pipes.iter().filter(|pipe| !pipe.is_same(&to));
                others.for_each(Pipe::break_off);
                break;
            }
            if budget != u64::MAX {
                left.store(budget - bytes.len() as u64, SeqCst);
            }
            if to.put(&bytes).await.is_err() || is_last {
                break;
            }
        }
        to.end();
        from.leave();
    }
}

impl Network {
    /// Creates a chain with one daemon for each setup.
    pub(crate) fn new(setups: &[Setup], random: &mut Random) -> Arc<Self> {
        let node = |setup: &Setup| Node {
            keep: setup.keep,
            max_block_time: setup.max_block_time,
            running: Mutex::new(Running { daemon: None, local: Vec::new() }),
            link: Arc::new(Link::new(random.fork())),
            generation: AtomicU64::new(0),
        };
        let network = Arc::new(Self { nodes: setups.iter().map(node).collect() });
        (0..setups.len()).for_each(|number| network.start(number));
        network
    }

    /// The number of daemons.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The link from this daemon to the one before.
    pub(crate) fn link(&self, number: usize) -> &Link {
        &self.nodes[number].link
    }

    /// The daemon that runs at this address.
    pub(crate) fn daemon(&self, number: usize) -> Arc<Daemon> {
        Arc::clone(self.nodes[number].running.lock().unwrap().daemon.as_ref().unwrap())
    }

    /// Counts the daemons that have run at this address.
    pub(crate) fn generation(&self, number: usize) -> u64 {
        self.nodes[number].generation.load(SeqCst)
    }

    /// The path of the stream at this daemon.
    pub(crate) fn path(number: usize) -> &'static str {
        if number == 0 { AT_OWNER } else { MOUNTED }
    }

    /// Starts a daemon at this address.
    fn start(self: &Arc<Self>, number: usize) {
        let node = &self.nodes[number];
        let settings = Settings {
            max_block_time: node.max_block_time,
            // No client shares memory.
            max_stream_descriptors: 0,
            ..Settings::default()
        };
        let mut daemon = Daemon::new(&settings);
        if let Some(before) = number.checked_sub(1) {
            let generation = self.generation(number);
            let weak = Arc::downgrade(self);
            let connector = Connector::new(&format!("daemon {before}"), move || {
                let network = weak.upgrade();
                async move {
                    let network = network.ok_or(ErrorKind::ConnectionRefused)?;
                    network.connect_link(number, generation).await
                }
            });
            let settings = RemoteSettings {
                path: "/up".to_owned(),
                endpoints: vec![connector.into()],
                mounted: if before == 0 { "/streamfs" } else { "/up" }.to_owned(),
                keep: node.keep,
                read_only: false,
            };
            let mount = RemoteMount::new(settings, &daemon);
            daemon = daemon.with_mount(Arc::new(mount));
        }
        node.running.lock().unwrap().daemon = Some(Arc::new(daemon));
    }

    /// Ends a daemon at once, with all its connections. Its address stays.
    pub(crate) fn kill(&self, number: usize) {
        let node = &self.nodes[number];
        node.generation.fetch_add(1, SeqCst);
        let (daemon, local) = {
            let mut running = node.running.lock().unwrap();
            (running.daemon.take(), std::mem::take(&mut running.local))
        };
        local.iter().flatten().for_each(Pipe::break_off);
        for link in self.nodes.iter().skip(number).take(2).map(|node| &node.link) {
            link.cut();
        }
        // The tasks of its replicas end with their streams, as they would with their process.
        let registry = daemon.iter().map(|daemon| daemon.registry());
        for registry in registry {
            registry.list().iter().for_each(|stream| {
                registry.remove_stream(stream);
            });
        }
    }

    /// Ends a daemon and starts another one at its address, without streams.
    pub(crate) fn restart(self: &Arc<Self>, number: usize) {
        let before = self.daemon(number).started();
        self.kill(number);
        loop {
            self.start(number);
            // An identity tells daemons apart that have started in different microseconds.
            let micros = |time: std::time::SystemTime| {
                time.duration_since(std::time::UNIX_EPOCH).unwrap().as_micros()
            };
            if micros(self.daemon(number).started()) != micros(before) {
                return;
            }
        }
    }

    /// A client of this daemon on the same machine.
    pub(crate) async fn client(self: &Arc<Self>, number: usize) -> Option<Client> {
        Client::connect(self.endpoint(number)).await.ok()
    }

    fn endpoint(self: &Arc<Self>, number: usize) -> Endpoint {
        let network = Arc::downgrade(self);
        let connect = move || {
            let network = network.upgrade();
            async move { network.ok_or(ErrorKind::ConnectionRefused)?.connect_local(number) }
        };
        Connector::new(&format!("local daemon {number}"), connect).into()
    }

    fn connect_local(&self, number: usize) -> io::Result<End> {
        let mut running = self.nodes[number].running.lock().unwrap();
        let daemon = running.daemon.clone().ok_or(ErrorKind::ConnectionRefused)?;
        let ([client, served], pipes) = End::pair(LOCAL_CAPACITY);
        running.local.retain(|[there, _]| !there.is_over());
        running.local.push(pipes);
        serve(daemon, served)?;
        Ok(client)
    }

    /// Connects this daemon to the one before.
    async fn connect_link(self: Arc<Self>, number: usize, generation: u64) -> io::Result<End> {
        let is_alive = || self.generation(number) == generation;
        let link = &self.nodes[number].link;
        let door = link.weather.borrow().door;
        match door {
            _ if !is_alive() => return Err(ErrorKind::ConnectionRefused.into()),
            Door::Open => {}
            Door::Refusing => return Err(ErrorKind::ConnectionRefused.into()),
            Door::Silent => std::future::pending().await,
        }
        link.delay(Direction::Up).await;
        link.delay(Direction::Down).await;
        let daemon = self.nodes[number - 1].running.lock().unwrap().daemon.clone();
        let daemon = daemon.filter(|_| is_alive()).ok_or(ErrorKind::ConnectionRefused)?;
        let pipes = [(); 4].map(|()| Pipe::new(LINK_CAPACITY));
        let [sent, arriving, answered, received] = pipes.clone();
        let client = End { input: received.clone(), output: sent.clone() };
        let served = End { input: arriving.clone(), output: answered.clone() };
        let left = [(); 2].map(|()| Arc::new(AtomicU64::new(u64::MAX)));
        let connection = Connection { pipes, left };
        {
            let mut connections = link.connections.lock().unwrap();
            connections.retain(|connection| !connection.pipes[0].is_over());
            connections.push(connection.clone());
        }
        serve(daemon, served)?;
        let link = Arc::clone(link);
        tokio::spawn(async move {
            tokio::join!(
                link.carry(Direction::Up, &connection, sent, arriving),
                link.carry(Direction::Down, &connection, answered, received),
            );
        });
        Ok(client)
    }

    /// Ends all daemons.
    pub(crate) fn stop(&self) {
        (0..self.len()).for_each(|number| self.kill(number));
    }
}

/// Serves a connection, if the daemon admits it.
fn serve(daemon: Arc<Daemon>, end: End) -> io::Result<()> {
    let admitted = daemon.admit().ok_or(ErrorKind::ConnectionRefused)?;
    let (owner, permissions) = (Owner::User(None), Permissions::all());
    let caller =
        Caller { peer: Peer::default(), remote: None, owner, permissions, transport: "unix" };
    tokio::spawn(async move {
        pfs_host::serve(end, caller, daemon).await;
        drop(admitted);
    });
    Ok(())
}
