//! Table `join`: the time for a reader to read a history of 64 MiB, against copying a file of that
//! size in memory.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::ensure;
use pfs_measure::{clock, stamp::Chunk};

use super::Bench;
use crate::{
    child::Running,
    job::{Load, WRITER},
    peers::{Address, Peer, pfs},
    report::{Metric, Results, Shown},
    session::Session,
};

const TIME: Metric = Metric { name: "until a reader has 64 MiB", unit: "ms", shown: Shown::Chart };

const PEERS: &[Peer] = &[Peer::PfsShm, Peer::PfsUnix, Peer::RedisStreams, Peer::File];

const HISTORY: u64 = 64 * 1024 * 1024;

#[derive(Clone, Copy)]
enum How {
    Library,
    Command,
}

const LIBRARY: &str = "into memory, checked";
const COMMAND: &str = "command line, to a file";

pub fn measure(bench: &Bench) -> anyhow::Result<Results> {
    let peers = bench.peers(PEERS);
    let mut results =
        bench.results("join", "A reader that joins with a history of 64 MiB", &peers, 0.0);
    let note = "Into memory: a running process connects, reads everything and checks every 64 KiB; of the file, it reads in pieces \
        of 256 KiB. Command line: `pfs cat --stream --until caught-up > file`, and `cp`, all files in /dev/shm.";
    results.notes.push(note.to_owned());
    let columns = [(LIBRARY.to_owned(), How::Library), (COMMAND.to_owned(), How::Command)];
    bench.rounds(&mut results, &peers, &columns, |results, peer, column, how| {
        let time = match how {
            How::Library => Some(library(bench, peer)?),
            How::Command => command(bench, peer)?,
        };
        if let Some(time) = time {
            results.add(&TIME, peer, column, time);
        }
        Ok(())
    });
    for column in [LIBRARY, COMMAND] {
        results.goal_against(&TIME, (Peer::PfsShm, Peer::File), column, (2.0, true));
    }
    Ok(results)
}

/// Starts a server, or creates a file, that holds the history.
fn filled(bench: &Bench, peer: Peer) -> anyhow::Result<Session> {
    let load = Load::throughput(1, 60.0);
    let load =
        Load { limit: Some(HISTORY / load.chunk as u64), stay: true, window: HISTORY, ..load };
    let mut session = Session::start(&bench.tools, peer, &load)?;
    if let Address::File(path) = &session.server.address {
        let (mut file, mut chunk) =
            (BufWriter::new(File::create(path)?), Chunk::new(WRITER, load.chunk));
        for counter in 0..HISTORY / load.chunk as u64 {
            file.write_all(chunk.stamped(counter, 0))?;
        }
        file.flush()?;
    } else {
        session.write()?;
        // Some of the bytes may still be in the server's socket.
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    Ok(session)
}

fn library(bench: &Bench, peer: Peer) -> anyhow::Result<f64> {
    let mut session = filled(bench, peer)?;
    let mut job = session.job(0);
    job.history = true;
    session.spawn_reader("reader", &job)?;
    session.await_done()?;
    let report = session.reports()?.remove(0);
    let chunks = HISTORY / job.load.chunk as u64;
    ensure!(report.failure.is_none(), "the reader failed: {}", report.failure.unwrap_or_default());
    ensure!(
        report.received == chunks && report.corrupt == 0,
        "got {} of {chunks} chunks",
        report.received
    );
    Ok(report.took as f64 / 1e6)
}

/// Returns `None` for a peer without such a command.
fn command(bench: &Bench, peer: Peer) -> anyhow::Result<Option<f64>> {
    let pfs = bench.tools.bin.join("pfs");
    let no_shm: &[&str] = if peer == Peer::PfsUnix { &["--no-shm"] } else { &[] };
    if !matches!(peer, Peer::PfsShm | Peer::PfsUnix | Peer::File) {
        return Ok(None);
    }
    let session = filled(bench, peer)?;
    let copy = session.dir().join("copy");
    let mut command = match &session.server.address {
        Address::File(file) => {
            let mut cp = Command::new("cp");
            cp.arg(file).arg(&copy);
            cp
        }
        Address::Unix(socket) => {
            let mut cat = Command::new(pfs);
            cat.arg("--socket").arg(socket).args(["cat", "--stream", "--until", "caught-up"]);
            cat.args(no_shm).arg(pfs::PATH).stdout(File::create(&copy)?);
            cat
        }
        address => anyhow::bail!("no command reads {address:?}"),
    };
    let began = clock::now();
    Running::spawn(command.stdin(Stdio::null()))?.finish()?;
    let took = clock::now() - began;
    ensure!(size(&copy) == HISTORY, "the copy has {} bytes", size(&copy));
    Ok(Some(took as f64 / 1e6))
}

fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}
