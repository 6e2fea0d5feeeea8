//! pfs: its library, and its command line in pipelines. Readers use the policy `block`, so that
//! nothing is lost.

use std::{
    io,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::ensure;
use pfs_client::{
    Chunks, Client, CreateOptions, Endpoint, Event, Finish, PutOptions, ReadOptions, SlowPolicy,
    Start as From, StreamPath, WriteOptions, blocking,
};
use pfs_measure::clock;
use tokio::runtime::{Builder, Runtime};

use super::{
    Address, Peer, Receive, Transmit,
    server::{Server, Start, free_port},
};
use crate::job::{Job, name};

/// Path of the only stream.
pub const PATH: &str = "/streamfs/bench";

/// Name of the only stream.
const NAME: &str = "bench";

/// Mount of the second daemon.
pub const EDGE: &str = "/edge";

/// Whether this platform supports [`Transport::Shm`].
pub const MAPS: bool = cfg!(target_os = "linux");

/// Transport of a reader or writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Shared memory.
    Shm,
    /// Frames on the Unix socket.
    Unix,
    /// Frames over HTTP.
    Http,
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

async fn client(socket: &Path) -> io::Result<Client> {
    let patience = clock::after(Duration::from_secs(10));
    loop {
        match Client::connect(Endpoint::Unix(socket.to_owned())).await {
            Ok(client) => return Ok(client),
            Err(error) if clock::now() > patience => return Err(other(error)),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

fn path() -> StreamPath {
    PATH.parse().expect("a valid path")
}

/// Path of one of several streams, in the mount `/streamfs` or in the one of the second daemon.
pub fn path_in(mount: &str, stream: &str) -> io::Result<StreamPath> {
    format!("{mount}/{stream}").parse().map_err(other)
}

/// Path of one of several streams.
fn path_of(stream: &str) -> io::Result<StreamPath> {
    path_in("/streamfs", stream)
}

/// Path of the stream of a job for its writer.
fn path_for(job: &Job) -> io::Result<StreamPath> {
    if job.load.streams > 1 { path_of(&job.stream("")) } else { Ok(path()) }
}

/// Path of the stream of a job for its readers.
fn reader_path(job: &Job) -> io::Result<StreamPath> {
    match job.address {
        Address::Mounted { .. } => path_in(EDGE, &job.stream(NAME)),
        _ => path_for(job),
    }
}

/// Endpoint of the writer of a job.
fn writer_endpoint(job: &Job) -> io::Result<Endpoint> {
    match &job.address {
        Address::Unix(path)
        | Address::Http { socket: path, .. }
        | Address::Mounted { owner: path, .. } => Ok(Endpoint::Unix(path.clone())),
        address => Err(io::Error::other(format!("pfsd is not at {address:?}"))),
    }
}

/// Endpoint of the readers of a job.
fn reader_endpoint(job: &Job, transport: Transport) -> io::Result<Endpoint> {
    match &job.address {
        Address::Mounted { edge, .. } => Ok(Endpoint::Unix(edge.clone())),
        Address::Http { port, .. } if transport == Transport::Http => http_endpoint(*port),
        _ => writer_endpoint(job),
    }
}

fn http_endpoint(port: u16) -> io::Result<Endpoint> {
    format!("http://127.0.0.1:{port}").parse().map_err(other)
}

/// Builds the command that starts a daemon with its defaults.
fn daemon(start: &Start<'_>, socket: &Path) -> Command {
    let mut command = start.command(start.tools.program(start.peer));
    command.arg("--socket").arg(socket);
    for variable in ["PFSD_CONFIG", "PFSD_SOCKET", "PFSD_LOG", "PFSD_LOG_FORMAT", "PFSD_HTTP"] {
        command.env_remove(variable);
    }
    command
}

/// Creates the only stream, which holds as much as the window of all peers.
fn create(start: &Start<'_>, socket: &Path) -> io::Result<()> {
    let size = Some(start.load.window);
    let options = CreateOptions {
        ring_buffer_size: size,
        channel_buffer_size: size,
        ..CreateOptions::default()
    };
    runtime()?
        .block_on(async { client(socket).await?.create(&path(), &options).await.map_err(other) })
}

/// Starts the daemon with its defaults and creates the only stream.
pub fn serve(start: &Start<'_>) -> anyhow::Result<Server> {
    let socket = start.dir.join("pfsd.sock");
    let mut command = daemon(start, &socket);
    let address = if matches!(start.peer, Peer::PfsHttp | Peer::PfsHttpLibrary) {
        let port = free_port()?;
        command.arg("--http").arg(format!("127.0.0.1:{port}"));
        Address::Http { socket: socket.clone(), port }
    } else {
        Address::Unix(socket.clone())
    };
    let server = Server::new(start.spawn(&mut command)?, address);
    if start.load.streams == 1 {
        create(start, &socket)?;
    }
    Ok(server)
}

/// Connections of a daemon besides those of its streams.
const OTHER_CONNECTIONS: usize = 200;

/// Starts a daemon, the owner of the streams, and a second one that mounts them. With several
/// streams, both admit a connection for each.
pub fn serve_mounted(start: &Start<'_>) -> anyhow::Result<Server> {
    let (owner, edge) = (start.dir.join("owner.sock"), start.dir.join("edge.sock"));
    let port = free_port()?;
    let mut owning = daemon(start, &owner);
    owning.arg("--http").arg(format!("127.0.0.1:{port}"));
    let mut mounting = daemon(start, &edge);
    mounting.arg("--mount").arg(format!("{EDGE}=http://127.0.0.1:{port}/streamfs"));
    if start.load.streams > 1 {
        let (config, most) = (start.dir.join("pfsd.toml"), start.load.streams + OTHER_CONNECTIONS);
        let limits = "max_connections_per_address";
        std::fs::write(
            &config,
            format!("[limits]\nmax_connections = {most}\n{limits} = {most}\n"),
        )?;
        owning.arg("--config").arg(&config);
        mounting.arg("--config").arg(&config);
    }
    let address = Address::Mounted { owner: owner.clone(), port, edge };
    let mut server = Server::new(start.spawn(&mut owning)?, address);
    server.processes.push(start.spawn(&mut mounting)?);
    if start.load.streams == 1 {
        create(start, &owner)?;
    }
    Ok(server)
}

/// Starts the daemon, `pfs write --stream`, and a `pfs cat --stream` for each reader.
pub fn serve_pipes(start: &Start<'_>) -> anyhow::Result<Server> {
    let mut server = serve(start)?;
    let Address::Unix(socket) = std::mem::replace(&mut server.address, Address::Stdin) else {
        unreachable!("pfsd has a Unix socket");
    };
    let pfs = |command: &str| {
        let mut pfs = start.command(start.tools.bin.join("pfs"));
        pfs.arg("--socket").arg(&socket).args(["--quiet", command, "--stream", PATH]);
        if start.peer == Peer::PfsUnixPipes {
            pfs.arg("--no-shm");
        }
        pfs
    };
    for _ in 0..start.load.readers {
        let mut cat = start.spawn(pfs("cat").args(["--slow", "block"]).stdout(Stdio::piped()))?;
        server.taps.extend(cat.stdout().map(Into::into));
        server.processes.push(cat);
    }
    let mut write = start.spawn(pfs("write").arg("--close").stdin(Stdio::piped()))?;
    server.feeds.extend(write.stdin().map(Into::into));
    server.processes.push(write);
    let attached = runtime()?.block_on(attached(&socket, start.load.readers))?;
    ensure!(attached, "pfs cat and pfs write have not attached");
    Ok(server)
}

/// Returns true if the writer and all readers are attached.
async fn attached(socket: &Path, readers: usize) -> io::Result<bool> {
    let client = client(socket).await?;
    let patience = clock::after(Duration::from_secs(10));
    while clock::now() < patience {
        let stat = client.stat(&path()).await.map_err(other)?;
        if stat.readers.len() == readers && stat.writers.len() == 1 {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(false)
}

/// Client for many streams, with one connection.
pub struct Many {
    runtime: Runtime,
    client: Client,
}

impl Many {
    /// Connects, over HTTP if the daemon serves it.
    pub fn connect(address: &Address) -> io::Result<Self> {
        let endpoint = match address {
            Address::Unix(path) | Address::Mounted { owner: path, .. } => {
                Endpoint::Unix(path.clone())
            }
            Address::Http { port, .. } => http_endpoint(*port)?,
            address => return Err(io::Error::other(format!("pfsd is not at {address:?}"))),
        };
        let runtime = runtime()?;
        let client = runtime.block_on(Client::connect(endpoint)).map_err(other)?;
        Ok(Self { runtime, client })
    }

    /// Creates streams with this chunk each.
    pub fn make(&self, count: usize, chunk: &[u8], ttl: Option<Duration>) -> io::Result<()> {
        let options = ttl.map_or_else(PutOptions::default, |ttl| PutOptions::default().ttl(ttl));
        self.put(0..count, chunk, &options)
    }

    /// Puts this chunk into each of these streams.
    pub fn put(
        &self,
        streams: impl Iterator<Item = usize>,
        chunk: &[u8],
        options: &PutOptions,
    ) -> io::Result<()> {
        let puts = streams.map(|stream| Ok((path_of(&name(stream))?, chunk)));
        let puts: Vec<_> = puts.collect::<io::Result<_>>()?;
        let results = self.runtime.block_on(self.client.put_all(puts, options)).map_err(other)?;
        results.into_iter().try_for_each(|put| put.map(drop)).map_err(other)
    }

    /// Disables shm for this client.
    pub fn without_shm(self) -> Self {
        Self { client: self.client.with_shm(false), ..self }
    }

    /// Attaches a reader to a stream that holds only this chunk, and reads the chunk.
    pub fn follow(&self, stream: usize, chunk: &[u8]) -> io::Result<pfs_client::Reader> {
        self.runtime.block_on(async {
            let options = ReadOptions { start: From::Oldest, ..ReadOptions::default() };
            let mut reader =
                self.client.reader(path_of(&name(stream))?, options).await.map_err(other)?;
            loop {
                match reader.next().await.map_err(other)? {
                    Event::Attached { .. } => {}
                    Event::Chunk(bytes) if bytes == chunk => return Ok(reader),
                    event => {
                        return Err(io::Error::other(format!("{event:?} came and not the chunk")));
                    }
                }
            }
        })
    }

    /// Lists all streams and returns the length of the list.
    pub fn list(&self) -> io::Result<usize> {
        Ok(self.runtime.block_on(self.client.list("/")).map_err(other)?.len())
    }

    /// Returns the number of the daemon's connections, this client's included.
    pub fn connections(&self) -> io::Result<u64> {
        Ok(self.runtime.block_on(self.client.info()).map_err(other)?.connections)
    }

    /// Returns the number of streams and the memory that the daemon counts for them.
    pub fn count(&self) -> io::Result<(u64, u64)> {
        let info = self.runtime.block_on(self.client.info()).map_err(other)?;
        Ok((info.streams, info.memory))
    }
}

/// Reader of the stream.
pub struct Reader {
    reader: blocking::Reader,
    chunks: Chunks,
}

impl Reader {
    /// Attaches a reader.
    pub fn open(job: &Job, transport: Transport) -> io::Result<Self> {
        let start = if job.history { From::Oldest } else { From::New };
        let options = ReadOptions { start, policy: SlowPolicy::Block, ..ReadOptions::default() };
        let client = blocking_client(reader_endpoint(job, transport)?, transport);
        let reader = client.reader(reader_path(job)?, options).map_err(other)?;
        Ok(Self { reader, chunks: Chunks::new() })
    }
}

impl Receive for Reader {
    fn receive(&mut self, take: &mut impl FnMut(&[u8])) -> io::Result<bool> {
        let event = self.reader.next_batch(&mut self.chunks).map_err(other)?;
        if let Some(Event::End { .. }) = event {
            return Ok(false);
        }
        // Losses show in the stamps.
        self.chunks.iter().for_each(take);
        Ok(true)
    }
}

/// Writer of the stream.
pub struct Writer {
    writer: blocking::Writer,
    finish: Finish,
}

impl Writer {
    /// Attaches a writer.
    pub fn open(job: &Job, transport: Transport) -> io::Result<Self> {
        let client = blocking_client(writer_endpoint(job)?, transport);
        let writer = client.writer(path_for(job)?, WriteOptions::default()).map_err(other)?;
        // The first of several writers to end must not close the stream for the others.
        let finish = if job.load.writers > 1 { Finish::KeepOpen } else { Finish::Close };
        Ok(Self { writer, finish })
    }
}

fn blocking_client(endpoint: Endpoint, transport: Transport) -> blocking::Client {
    blocking::Client::new(endpoint).with_shm(transport == Transport::Shm)
}

impl Transmit for Writer {
    fn send(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.writer.append(chunk).map_err(other)
    }

    fn push(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.writer.push(chunk).map_err(other)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.send().map_err(other)
    }

    fn finish(self) -> io::Result<()> {
        self.writer.finish(self.finish).map(drop).map_err(other)
    }
}
