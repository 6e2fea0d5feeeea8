//! What is compared: how each peer's server is started, how chunks are written to it and read from
//! it.

mod baseline;
mod connection;
pub mod http;
pub mod idle;
pub mod many;
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

/// One of those that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
pub enum Peer {
    /// pfs's library, with shared memory.
    PfsShm,
    /// pfs's library, frames over the socket.
    PfsUnix,
    /// The tokio daemon of this package.
    Baseline,
    /// Redis, PUBLISH and SUBSCRIBE.
    RedisPubsub,
    /// Redis, XADD and XREAD.
    RedisStreams,
    /// nats-server.
    Nats,
    /// nats-server, JetStream in memory.
    #[value(name = "jetstream")]
    JetStream,
    /// mosquitto, QoS 0, and QoS 1 where messages are retained.
    Mosquitto,
    /// stdintap.
    Stdintap,
    /// tee into FIFOs.
    Tee,
    /// tee into FIFOs of 1 MiB.
    TeeLargePipes,
    /// `| pfs write --stream`, and `pfs cat --stream |` for each reader.
    PfsPipes,
    /// The same with `--no-shm`.
    PfsUnixPipes,
    /// A file in memory.
    File,
    /// pfs's library writes, HTTP reads.
    PfsHttp,
    /// nginx, which serves a file.
    Nginx,
    // The last, so that they are the last in every table.
    /// No peer: pfs's ring in memory that writer and readers share, without a daemon.
    Ring,
    /// No peer: one thread that passes on what it reads.
    Relay,
    /// No peer: a Unix socket with a writer of its own for each reader.
    SocketsAlone,
    /// No peer: `producer | consumer` for each reader.
    PipesAlone,
}

impl Peer {
    /// What tables call it.
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
            Self::Nginx => "nginx, a file",
            Self::Ring => "ring without a daemon (the ceiling)",
            Self::Relay => "bare relay (the ceiling of servers)",
            Self::SocketsAlone => "sockets alone (the ceiling of sockets)",
            Self::PipesAlone => "pipes alone, no fan-out (the ceiling)",
        }
    }

    /// Whether it is pfs.
    pub fn is_pfs(self) -> bool {
        matches!(
            self,
            Self::PfsShm | Self::PfsUnix | Self::PfsPipes | Self::PfsUnixPipes | Self::PfsHttp
        )
    }

    /// Whether it does only a part of the job, and shows what the machine gives for that part: no
    /// peer, and never the best of all in a goal.
    pub fn is_ceiling(self) -> bool {
        matches!(self, Self::Ring | Self::Relay | Self::SocketsAlone | Self::PipesAlone)
    }

    /// Whether goals are measured against it: it is somebody else's product.
    pub fn is_rival(self) -> bool {
        !self.is_pfs() && !self.is_ceiling() && !matches!(self, Self::Baseline | Self::File)
    }

    /// Whether it would drop chunks, disconnect readers or grow without bound if the writer ran
    /// ahead, so that this package's writer keeps to a window.
    pub fn needs_window(self) -> bool {
        matches!(self, Self::RedisPubsub | Self::RedisStreams | Self::Nats | Self::Mosquitto)
    }

    /// Whether somebody writes while others read; otherwise everything is there before.
    pub fn has_writer(self) -> bool {
        self != Self::Nginx
    }

    /// Whether readers attach to the writer's process, which has to be there before them.
    pub fn writer_is_first(self) -> bool {
        self == Self::Ring
    }

    /// How many write at the same time, each a process.
    pub fn writers(self, load: &Load) -> usize {
        if matches!(self, Self::SocketsAlone | Self::PipesAlone) {
            load.readers
        } else {
            load.writers.into()
        }
    }

    /// The role of its readers.
    pub fn reader_role(self) -> &'static str {
        if matches!(self, Self::PfsHttp | Self::Nginx) { "drain" } else { "reader" }
    }

    /// Starts its server.
    pub fn serve(self, start: &Start<'_>) -> anyhow::Result<Server> {
        let server = match self {
            Self::PfsShm | Self::PfsUnix | Self::PfsHttp => pfs::serve(start),
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

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    /// On this Unix socket.
    Unix(PathBuf),
    /// On this port of the loopback address.
    Tcp(u16),
    /// pfsd, with both.
    Http {
        /// Its Unix socket.
        socket: PathBuf,
        /// Its port.
        port: u16,
    },
    /// At the other end of standard input.
    Stdin,
    /// Readers read the FIFOs in this folder; the writer is [`Stdin`](Self::Stdin).
    Fifos(PathBuf),
    /// Readers read this file.
    File(PathBuf),
    /// The writer's process puts into this folder what readers need.
    Writer(PathBuf),
}

/// A reader of some peer.
pub trait Receive {
    /// Waits until there are chunks and hands over each one that is complete. `false`: nothing more
    /// will come.
    fn receive(&mut self, take: &mut impl FnMut(&[u8])) -> io::Result<bool>;
}

/// A writer of some peer.
pub trait Transmit {
    /// Appends a chunk in one call, which sends it at once.
    fn send(&mut self, chunk: &[u8]) -> io::Result<()>;
    /// Appends a chunk that may be held back to be sent with others.
    fn push(&mut self, chunk: &[u8]) -> io::Result<()>;
    /// Sends what is held back.
    fn flush(&mut self) -> io::Result<()>;
    /// Ends the writing, as it properly ends.
    fn finish(self) -> io::Result<()>;
}

/// The reader of any peer.
pub enum Receiver {
    // Boxed: the others are small.
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
    /// Attaches a reader, which gets everything that is written from then on (and with `history`
    /// what was before).
    pub fn attach(job: &Job) -> io::Result<Self> {
        Ok(match job.peer {
            Peer::PfsShm => Self::Pfs(pfs::Reader::open(job, Transport::Shm)?.into()),
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

/// The writer of any peer.
pub enum Sender {
    // Boxed: the others are small.
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
            Peer::PfsShm | Peer::PfsHttp => {
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
