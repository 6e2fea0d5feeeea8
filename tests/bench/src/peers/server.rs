//! Starting the server of a peer.

use std::{
    ffi::OsStr,
    io::{self, Read},
    net::{Ipv4Addr, TcpListener},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context;

use super::{Address, Peer};
use crate::{child::Running, job::Load};

/// Where the programs are that are not on PATH.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The folder of `pfs` and `pfsd`.
    pub bin: PathBuf,
    /// `stdintap`.
    pub stdintap: PathBuf,
}

impl Tools {
    /// The program of a peer.
    pub fn program(&self, peer: Peer) -> PathBuf {
        match peer {
            Peer::PfsShm | Peer::PfsUnix | Peer::PfsPipes | Peer::PfsUnixPipes | Peer::PfsHttp => {
                self.bin.join("pfsd")
            }
            Peer::RedisPubsub | Peer::RedisStreams => "redis-server".into(),
            Peer::Nats | Peer::JetStream => "nats-server".into(),
            Peer::Mosquitto => "mosquitto".into(),
            Peer::Stdintap => self.stdintap.clone(),
            Peer::Tee | Peer::TeeLargePipes => "tee".into(),
            Peer::Nginx => "nginx".into(),
            Peer::Baseline
            | Peer::File
            | Peer::Ring
            | Peer::Relay
            | Peer::SocketsAlone
            | Peer::PipesAlone => std::env::current_exe().unwrap_or_default(),
        }
    }

    /// What a program says of its version; nothing if it is not there.
    pub fn version(&self, peer: Peer) -> Option<String> {
        let program = self.program(peer);
        let option = match peer {
            // mosquitto has no option that only prints it.
            Peer::Mosquitto => "-h",
            Peer::Nginx => "-v",
            _ => "--version",
        };
        let mut command = Command::new(program);
        let output = command.arg(option).stdin(Stdio::null()).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        Some(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned())
    }
}

/// What a server is started for.
pub struct Start<'a> {
    /// The peer that it is the server of.
    pub peer: Peer,
    /// Where programs are.
    pub tools: &'a Tools,
    /// A folder of its own.
    pub dir: &'a Path,
    /// What will be written and read.
    pub load: &'a Load,
}

impl Start<'_> {
    /// A command that reads nothing and prints nothing.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Starts it.
    pub fn spawn(&self, command: &mut Command) -> anyhow::Result<Running> {
        Running::spawn(command)
    }
}

/// A server that runs.
pub struct Server {
    /// The server itself, and then what else runs between writer and readers.
    pub processes: Vec<Running>,
    /// Where readers and writer find it.
    pub address: Address,
    /// The pipes that the writers write to, where they are such. Open until all have read what was
    /// written.
    pub feeds: Vec<OwnedFd>,
    /// The pipes that the readers read, where they have such.
    pub taps: Vec<OwnedFd>,
}

impl Server {
    /// A server that is connected to.
    pub fn new(process: Running, address: Address) -> Self {
        Self { processes: vec![process], address, feeds: Vec::new(), taps: Vec::new() }
    }

    /// A server that gets its input through a pipe.
    pub fn fed(mut process: Running, address: Address) -> anyhow::Result<Self> {
        let feed = process.stdin().context("no pipe to feed it")?;
        Ok(Self { feeds: vec![feed.into()], ..Self::new(process, address) })
    }

    /// No server.
    pub fn none(address: Address) -> Self {
        Self { processes: Vec::new(), address, feeds: Vec::new(), taps: Vec::new() }
    }

    /// Processor time of all its processes.
    pub fn cpu(&self) -> Duration {
        self.processes.iter().map(Running::cpu).sum()
    }

    /// Memory of the server itself: now, and at most.
    pub fn memory(&self) -> (u64, u64) {
        self.processes.first().map_or((0, 0), Running::memory)
    }

    /// An error if one of its processes has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.processes.iter_mut().try_for_each(Running::check)
    }
}

/// A port of the loopback address that nobody listens on at the moment.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Waits until somebody listens there.
pub fn await_listener(address: &Address) -> io::Result<()> {
    match address {
        Address::Unix(_) | Address::Tcp(_) => super::connection::connect(address).map(drop),
        Address::Http { port, .. } => super::connection::connect(&Address::Tcp(*port)).map(drop),
        _ => Ok(()),
    }
}

/// What a small file holds; empty if it can't be read.
pub fn contents(path: &str) -> String {
    let mut text = String::new();
    _ = std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text));
    text
}
