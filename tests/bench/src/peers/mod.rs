//! Peers of the benchmark: how each server is started, and how chunks are written and read.

mod baseline;
mod connection;
pub mod http;
pub mod idle;
pub mod many;
pub mod mounted;
mod mqtt;
mod nats;
pub mod pfs;
mod pipes;
mod relay;
mod resp;
mod ring;
pub mod server;
#[cfg(test)]
mod tests;

use std::{io, path::PathBuf};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub use baseline::daemon;
use connection::{Fixed, FramedReader, FramedWriter, Plain};
use pfs::Transport;
pub use relay::relay;
use server::{Server, Start};

use crate::job::{Job, Load};

/// Program that is compared, or a ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
pub enum Peer {
    /// pfs's library over shm.
    PfsShm,
    /// pfs's library over the Unix socket.
    PfsUnix,
    /// The tokio daemon of this package.
    Baseline,
    /// Redis with PUBLISH and SUBSCRIBE.
    RedisPubsub,
    /// Redis with XADD and XREAD.
    RedisStreams,
    /// nats-server.
    Nats,
    /// nats-server with JetStream in memory.
    #[value(name = "jetstream")]
    JetStream,
    /// mosquitto with QoS 0, and with QoS 1 where messages are retained.
    Mosquitto,
    /// stdintap.
    Stdintap,
    /// tee into FIFOs.
    Tee,
    /// tee into FIFOs of 1 MiB.
    TeeLargePipes,
    /// `| pfs write --stream`, and `pfs cat --stream |` for each reader.
    PfsPipes,
    /// Like `PfsPipes`, with `--no-shm`.
    PfsUnixPipes,
    /// A file in memory.
    File,
    /// pfs with a writer that uses the library and readers over HTTP.
    PfsHttp,
    /// Like `PfsHttp`, with readers that use the library.
    PfsHttpLibrary,
    /// pfs with a second daemon that mounts the streams of the first one, and readers over shm there.
    PfsMount,
    /// nginx with a file.
    Nginx,
    // Last in this enum, so that they are last in every table.
    /// Ceiling, not a peer: pfs's ring buffer in memory that the writer and the readers share,
    /// without a daemon.
    Ring,
    /// Ceiling, not a peer: one thread that forwards the bytes that it reads.
    Relay,
    /// Ceiling, not a peer: a Unix socket with its own writer for each reader.
    SocketsAlone,
    /// Ceiling, not a peer: `producer | consumer` for each reader.
    PipesAlone,
}

impl Peer {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::PfsShm => "pfs, shm",
            Self::PfsUnix => "pfs, unix",
            Self::Baseline => "100-line tokio daemon",
            Self::RedisPubsub => "Redis pub/sub",
            Self::RedisStreams => "Redis streams",
            Self::Nats => "nats-server",
            Self::JetStream => "NATS JetStream",
            Self::Mosquitto => "mosquitto",
            Self::Stdintap => "stdintap",
            Self::Tee => "tee into FIFOs",
            Self::TeeLargePipes => "tee, pipes of 1 MiB",
            Self::PfsPipes => "pfs write, pfs cat",
            Self::PfsUnixPipes => "pfs write, pfs cat, --no-shm",
            Self::File => "file in /dev/shm",
            Self::PfsHttp => "pfs, HTTP",
            Self::PfsHttpLibrary => "pfs, HTTP, its library",
            Self::PfsMount => "pfs, shm at a second daemon",
            Self::Nginx => "nginx, a file",
            Self::Ring => "ring without a daemon (the ceiling)",
            Self::Relay => "bare relay (the ceiling of servers)",
            Self::SocketsAlone => "sockets alone (the ceiling of sockets)",
            Self::PipesAlone => "pipes alone, no fan-out (the ceiling)",
        }
    }

    /// Returns true for pfs.
    pub fn is_pfs(self) -> bool {
        matches!(
            self,
            Self::PfsShm
                | Self::PfsUnix
                | Self::PfsPipes
                | Self::PfsUnixPipes
                | Self::PfsHttp
                | Self::PfsHttpLibrary
                | Self::PfsMount
        )
    }

    /// Returns true for a ceiling: it does only a part of the job and shows the machine's limit for
    /// that part. A ceiling is not a peer, and is never the best of all in a goal.
    pub fn is_ceiling(self) -> bool {
        matches!(self, Self::Ring | Self::Relay | Self::SocketsAlone | Self::PipesAlone)
    }

    /// Returns true for the products of others, against which goals are measured.
    pub fn is_rival(self) -> bool {
        !self.is_pfs() && !self.is_ceiling() && !matches!(self, Self::Baseline | Self::File)
    }

    /// Returns true if the server would drop chunks, disconnect readers or grow without bound when
    /// the writer runs ahead, so that the benchmark's writer must keep to a window.
    pub fn needs_window(self) -> bool {
        matches!(self, Self::RedisPubsub | Self::RedisStreams | Self::Nats | Self::Mosquitto)
    }

    /// Returns true if a writer writes while readers read. Otherwise all bytes are there before.
    pub fn has_writer(self) -> bool {
        self != Self::Nginx
    }

    /// Returns true if readers attach to the writer's process, which must start first.
    pub fn writer_is_first(self) -> bool {
        self == Self::Ring
    }

    /// Number of concurrent writers, each a process.
    pub fn writers(self, load: &Load) -> usize {
        if matches!(self, Self::SocketsAlone | Self::PipesAlone) {
            load.readers
        } else {
            load.writers.into()
        }
    }

    /// Role of the readers.
    pub fn reader_role(self) -> &'static str {
        if matches!(self, Self::PfsHttp | Self::Nginx) { "drain" } else { "reader" }
    }

    /// Starts the server.
    pub fn serve(self, start: &Start<'_>) -> anyhow::Result<Server> {
        let server = match self {
            Self::PfsShm | Self::PfsUnix | Self::PfsHttp | Self::PfsHttpLibrary => {
                pfs::serve(start)
            }
            Self::PfsMount => pfs::serve_mounted(start),
            Self::PfsPipes | Self::PfsUnixPipes => pfs::serve_pipes(start),
            Self::Baseline => baseline::serve(start),
            Self::Relay => relay::serve(start),
            Self::RedisPubsub | Self::RedisStreams => resp::serve(start),
            Self::Nats | Self::JetStream => nats::serve(start),
            Self::Mosquitto => mqtt::serve(start),
            Self::Stdintap => pipes::stdintap(start),
            Self::Tee | Self::TeeLargePipes => pipes::tee(start),
            Self::Nginx => http::nginx(start),
            Self::File => Ok(Server::none(Address::File(start.dir.join("file")))),
            Self::Ring => Ok(Server::none(Address::Writer(start.dir.to_owned()))),
            Self::SocketsAlone | Self::PipesAlone => pipes::alone(start),
        }?;
        server::await_listener(&server.address)?;
        Ok(server)
    }
}

/// Address of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A port of the loopback address.
    Tcp(u16),
    /// pfsd with a Unix socket and HTTP.
    Http {
        /// Path of the Unix socket.
        socket: PathBuf,
        /// HTTP port.
        port: u16,
    },
    /// pfsd with a Unix socket and HTTP, and a second pfsd that mounts its streams.
    Mounted {
        /// Path of the Unix socket of the owner of the streams.
        owner: PathBuf,
        /// HTTP port of the owner.
        port: u16,
        /// Path of the Unix socket of the daemon that mounts them.
        edge: PathBuf,
    },
    /// The other end of standard input.
    Stdin,
    /// FIFOs in this folder for the readers; the writer uses [`Stdin`](Self::Stdin).
    Fifos(PathBuf),
    /// A file for the readers.
    File(PathBuf),
    /// Folder where the writer's process puts the files that readers need.
    Writer(PathBuf),
}

/// Reader of a peer.
pub trait Receive {
    /// Waits for chunks and passes each complete one to `take`. Returns false at the end of the
    /// stream.
    fn receive(&mut self, take: &mut impl FnMut(&[u8])) -> io::Result<bool>;
}

/// Writer of a peer.
pub trait Transmit {
    /// Appends a chunk with one call, which sends the chunk at once.
    fn send(&mut self, chunk: &[u8]) -> io::Result<()>;
    /// Appends a chunk that may be held back and sent with others.
    fn push(&mut self, chunk: &[u8]) -> io::Result<()>;
    /// Sends the chunks that were held back.
    fn flush(&mut self) -> io::Result<()>;
    /// Ends the writer properly.
    fn finish(self) -> io::Result<()>;
}

/// Reader of any peer.
pub enum Receiver {
    // Boxed because the other variants are small.
    Pfs(Box<pfs::Reader>),
    Baseline(FramedReader<baseline::Frames>),
    Messages(FramedReader<resp::Messages>),
    Entries(FramedReader<resp::Entries>),
    Nats(FramedReader<nats::Messages>),
    Mqtt(FramedReader<mqtt::Packets>),
    Fixed(FramedReader<Fixed>),
    Ring(Box<ring::Reader>),
}

impl Receiver {
    /// Attaches a reader, which gets everything that is written from then on, and with `history`
    /// the earlier bytes too.
    pub fn attach(job: &Job) -> io::Result<Self> {
        Ok(match job.peer {
            Peer::PfsShm | Peer::PfsMount => {
                Self::Pfs(pfs::Reader::open(job, Transport::Shm)?.into())
            }
            Peer::PfsHttpLibrary => Self::Pfs(pfs::Reader::open(job, Transport::Http)?.into()),
            Peer::PfsUnix => Self::Pfs(pfs::Reader::open(job, Transport::Unix)?.into()),
            Peer::Baseline | Peer::Relay => Self::Baseline(baseline::reader(job)?),
            Peer::RedisPubsub => Self::Messages(resp::subscribe(job)?),
            Peer::RedisStreams => Self::Entries(resp::follow(job)?),
            Peer::Nats => Self::Nats(nats::subscribe(job)?),
            Peer::Mosquitto => Self::Mqtt(mqtt::subscribe(job)?),
            Peer::Stdintap => Self::Fixed(pipes::tap(job)?),
            Peer::Tee
            | Peer::TeeLargePipes
            | Peer::PfsPipes
            | Peer::PfsUnixPipes
            | Peer::SocketsAlone
            | Peer::PipesAlone
            | Peer::File => Self::Fixed(pipes::reader(job)?),
            Peer::Ring => Self::Ring(ring::Reader::open(job)?.into()),
            Peer::PfsHttp | Peer::Nginx => return Err(io::Error::other("HTTP is only drained")),
            Peer::JetStream => {
                return Err(io::Error::other("the streams of JetStream are only made"));
            }
        })
    }
}

impl Receive for Receiver {
    fn receive(&mut self, take: &mut impl FnMut(&[u8])) -> io::Result<bool> {
        match self {
            Self::Pfs(reader) => reader.receive(take),
            Self::Baseline(reader) => reader.receive(take),
            Self::Messages(reader) => reader.receive(take),
            Self::Entries(reader) => reader.receive(take),
            Self::Nats(reader) => reader.receive(take),
            Self::Mqtt(reader) => reader.receive(take),
            Self::Fixed(reader) => reader.receive(take),
            Self::Ring(reader) => reader.receive(take),
        }
    }
}

/// Writer of any peer.
pub enum Sender {
    // Boxed because the other variants are small.
    Pfs(Box<pfs::Writer>),
    Baseline(FramedWriter<baseline::Length>),
    Redis(FramedWriter<resp::Command>),
    Nats(FramedWriter<nats::Publish>),
    Mqtt(FramedWriter<mqtt::Publish>),
    Plain(FramedWriter<Plain>),
    Ring(Box<ring::Writer>),
}

impl Sender {
    /// Connects a writer.
    pub fn connect(job: &Job) -> io::Result<Self> {
        Ok(match job.peer {
            Peer::PfsShm | Peer::PfsHttp | Peer::PfsHttpLibrary | Peer::PfsMount => {
                Self::Pfs(pfs::Writer::open(job, Transport::Shm)?.into())
            }
            Peer::PfsUnix => Self::Pfs(pfs::Writer::open(job, Transport::Unix)?.into()),
            Peer::Baseline | Peer::Relay => Self::Baseline(baseline::writer(job)?),
            Peer::RedisPubsub | Peer::RedisStreams => Self::Redis(resp::writer(job)?),
            Peer::Nats => Self::Nats(nats::writer(job)?),
            Peer::Mosquitto => Self::Mqtt(mqtt::writer(job)?),
            Peer::Stdintap
            | Peer::Tee
            | Peer::TeeLargePipes
            | Peer::PfsPipes
            | Peer::PfsUnixPipes
            | Peer::SocketsAlone
            | Peer::PipesAlone
            | Peer::File => Self::Plain(pipes::writer()?),
            Peer::Ring => Self::Ring(ring::Writer::create(job)?.into()),
            Peer::Nginx => return Err(io::Error::other("nginx serves what is there")),
            Peer::JetStream => {
                return Err(io::Error::other("the streams of JetStream are only made"));
            }
        })
    }
}

macro_rules! each {
    ($self:ident, $writer:ident => $call:expr) => {
        match $self {
            Sender::Pfs($writer) => $call,
            Sender::Baseline($writer) => $call,
            Sender::Redis($writer) => $call,
            Sender::Nats($writer) => $call,
            Sender::Mqtt($writer) => $call,
            Sender::Plain($writer) => $call,
            Sender::Ring($writer) => $call,
        }
    };
}

impl Transmit for Sender {
    fn send(&mut self, chunk: &[u8]) -> io::Result<()> {
        each!(self, writer => writer.send(chunk))
    }

    fn push(&mut self, chunk: &[u8]) -> io::Result<()> {
        each!(self, writer => writer.push(chunk))
    }

    fn flush(&mut self) -> io::Result<()> {
        each!(self, writer => writer.flush())
    }

    fn finish(self) -> io::Result<()> {
        each!(self, writer => writer.finish())
    }
}
