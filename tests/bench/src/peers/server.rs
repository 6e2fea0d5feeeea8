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

use super::{Address, Peer, http};
use crate::{child::Running, job::Load};

/// Paths of programs that are not in PATH.
#[derive(Clone, Debug)]
pub struct Tools {
    /// Folder of `pfs` and `pfsd`.
    pub bin: PathBuf,
    /// Path of `stdintap`.
    pub stdintap: PathBuf,
}

impl Tools {
    /// Returns the program of a peer.
    pub fn program(&self, peer: Peer) -> PathBuf {
        match peer {
            peer if peer.is_pfs() => self.bin.join("pfsd"),
            Peer::RedisPubsub | Peer::RedisStreams => "redis-server".into(),
            Peer::Nats | Peer::JetStream => "nats-server".into(),
            Peer::Mosquitto => "mosquitto".into(),
            Peer::Stdintap => self.stdintap.clone(),
            Peer::Tee | Peer::TeeLargePipes => "tee".into(),
            Peer::Nginx => "nginx".into(),
            _ => std::env::current_exe().unwrap_or_default(),
        }
    }

    /// Returns the version that a program prints; `None` if the program is missing.
    pub fn version(&self, peer: Peer) -> Option<String> {
        let program = self.program(peer);
        let option = match peer {
            // mosquitto has no option that only prints its version.
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

/// Parameters for starting a server.
pub struct Start<'a> {
    /// Peer of the server.
    pub peer: Peer,
    /// Paths of programs.
    pub tools: &'a Tools,
    /// Folder for this server alone.
    pub dir: &'a Path,
    /// Load of the measurement.
    pub load: &'a Load,
}

impl Start<'_> {
    /// Builds a command whose stdin, stdout and stderr are null.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Starts a command.
    pub fn spawn(&self, command: &mut Command) -> anyhow::Result<Running> {
        Running::spawn(command)
    }
}

/// Running server.
pub struct Server {
    /// The server itself, followed by other processes between the writer and the readers.
    pub processes: Vec<Running>,
    /// Address for readers and the writer.
    pub address: Address,
    /// Pipes that the writers write to, if there are any. They stay open until all readers have
    /// read everything.
    pub feeds: Vec<OwnedFd>,
    /// Pipes that the readers read, if there are any.
    pub taps: Vec<OwnedFd>,
}

impl Server {
    /// Server that accepts connections.
    pub fn new(process: Running, address: Address) -> Self {
        Self { processes: vec![process], address, feeds: Vec::new(), taps: Vec::new() }
    }

    /// Server that gets its input through a pipe.
    pub fn fed(mut process: Running, address: Address) -> anyhow::Result<Self> {
        let feed = process.stdin().context("no pipe to feed it")?;
        Ok(Self { feeds: vec![feed.into()], ..Self::new(process, address) })
    }

    /// No server.
    pub fn none(address: Address) -> Self {
        Self { processes: Vec::new(), address, feeds: Vec::new(), taps: Vec::new() }
    }

    /// Processor time of all processes.
    pub fn cpu(&self) -> Duration {
        self.cpus().iter().sum()
    }

    /// Processor time of each process.
    pub fn cpus(&self) -> Vec<Duration> {
        self.processes.iter().map(Running::cpu).collect()
    }

    /// Bytes of all HTTP responses of pfs so far; `None` if there is no HTTP.
    pub fn sent(&self) -> io::Result<Option<u64>> {
        match self.address {
            Address::Http { port, .. } | Address::Mounted { port, .. } => {
                http::sent_bytes(port).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Current and peak memory of the server itself.
    pub fn memory(&self) -> (u64, u64) {
        self.processes.first().map_or((0, 0), Running::memory)
    }

    /// Returns an error if one of the processes has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.processes.iter_mut().try_for_each(Running::check)
    }
}

/// Returns a port of the loopback address that is free at the moment.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Waits until a process listens there.
pub fn await_listener(address: &Address) -> io::Result<()> {
    match address {
        Address::Unix(_) | Address::Tcp(_) => super::connection::connect(address).map(drop),
        Address::Http { port, .. } => super::connection::connect(&Address::Tcp(*port)).map(drop),
        Address::Mounted { port, edge, .. } => {
            await_listener(&Address::Tcp(*port))?;
            await_listener(&Address::Unix(edge.clone()))
        }
        _ => Ok(()),
    }
}

/// Returns the contents of a small file; empty if it cannot be read.
pub fn contents(path: &str) -> String {
    let mut text = String::new();
    _ = std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text));
    text
}
