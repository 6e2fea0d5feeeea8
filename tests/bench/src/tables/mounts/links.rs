//! Links: many mounted streams at the same time, each with a reader at the second daemon and one
//! chunk a second.

use std::time::Duration;

use anyhow::ensure;
use pfs_client::PutOptions;
use pfs_measure::{clock, stamp::Chunk};

use crate::{
    job::{Load, WRITER},
    peers::{Peer, mounted::Readers, pfs::Many, server::Server},
    report::{Metric, Results, Shown, number},
    session::Session,
    tables::{Bench, CORRUPT, LOST, MISSING, a_second, settle},
};

const OPEN: Metric =
    Metric { name: "links open at the same time", unit: "links", shown: Shown::Table };
const OPENING: Metric =
    Metric { name: "until all links are open", unit: "ms", shown: Shown::Table };
const OPENING_CPU: Metric = Metric {
    name: "CPU of both daemons for each link opened",
    unit: "microseconds",
    shown: Shown::Table,
};
const CONNECTIONS: Metric =
    Metric { name: "owner's connections for each link", unit: "of all", shown: Shown::Table };
const OWNER_MEMORY: Metric =
    Metric { name: "owner's memory for each link", unit: "KiB resident", shown: Shown::Table };
const EDGE_MEMORY: Metric = Metric {
    name: "second daemon's memory for each link, with its reader",
    unit: "KiB resident",
    shown: Shown::Table,
};
const OWNER_ALONE: Metric = Metric {
    name: "CPU of the owner, written to, without links",
    unit: "ms in a second",
    shown: Shown::Table,
};
const OWNER_IDLE: Metric = Metric {
    name: "CPU of the owner, with idle links",
    unit: "ms in a second",
    shown: Shown::Table,
};
const EDGE_IDLE: Metric = Metric {
    name: "CPU of the second daemon, with idle links",
    unit: "ms in a second",
    shown: Shown::Table,
};
const OWNER_CPU: Metric = Metric {
    name: "CPU of the owner, with a chunk a second for each link",
    unit: "ms in a second",
    shown: Shown::Table,
};
const EDGE_CPU: Metric = Metric {
    name: "CPU of the second daemon, with a chunk a second for each link",
    unit: "ms in a second",
    shown: Shown::Table,
};
const P50: Metric =
    Metric { name: "from the put to the arrival, p50", unit: "ms", shown: Shown::Table };
const P99: Metric =
    Metric { name: "from the put to the arrival, p99", unit: "ms", shown: Shown::Table };

pub(super) const NOTE: &str = "Links: N streams with one chunk of 100 bytes a second each, put over one connection to the owner; a \
    reader of each at the second daemon, over its Unix socket, from the first chunk on, which checks every byte. 64 readers at a \
    time attach. Each opens a link, which is a connection between the daemons. The memory is the growth of the resident memory from \
    before the links are opened until their chunks have arrived. The processor time of idle links includes a heartbeat of each.";

/// Numbers of links. The second daemon needs two descriptors for each link, one of them for its
/// reader. A usual limit on open files is 20,000.
const LINKS: [usize; 3] = [100, 1000, 9000];

/// Chunk size, in bytes.
const CHUNK: usize = 100;

/// Each stream gets a chunk once a second, and this many parts of the streams take turns.
const PARTS: u64 = 20;
const SECOND: u64 = 1_000_000_000;

/// How long links are measured without chunks, in seconds: the interval of heartbeats.
const IDLE_SECONDS: f64 = 15.0;

/// Time limit for the chunks to arrive after they were written.
const PATIENCE: Duration = Duration::from_secs(30);

fn column(links: usize) -> String {
    format!("{} links", number(links as f64))
}

pub(super) fn measure(bench: &Bench, results: &mut Results) {
    let seconds = bench.seconds(5.0).max(2.0);
    let columns = LINKS.map(|links| (column(links), links));
    bench.rounds(results, &bench.peers(&[Peer::PfsMount]), &columns, |results, _, _, links| {
        arrive(bench, results, *links, seconds, IDLE_SECONDS)
    });
}

pub(super) fn goals(results: &mut Results) {
    for links in LINKS {
        let all = links as f64;
        results.goal_value(&OPEN, Peer::PfsMount, &column(links), (all, false));
    }
}

/// Opens links and measures them, first without chunks for `idle_seconds`, then with a chunk a second
/// for each link.
pub fn arrive(
    bench: &Bench,
    results: &mut Results,
    links: usize,
    seconds: f64,
    idle_seconds: f64,
) -> anyhow::Result<()> {
    let (peer, column) = (Peer::PfsMount, &column(links));
    let load = Load { streams: links, ..Load::small(0, 0.0, true) };
    let session = Session::start(&bench.tools, peer, &load)?;
    let (server, mut writer) = (&session.server, Writer::new(&session.server)?);
    let all: Vec<usize> = (0..links).collect();
    writer.put(&all, false)?;
    settle();

    let cpu = server.cpus();
    let took = writer.write(&all, seconds)?;
    add_cpu(results, column, &[&OWNER_ALONE], server, &cpu, took);
    settle();

    let (memory, connections) = (memory(server), writer.client.connections()?);
    let (cpu, began) = (server.cpu(), clock::now());
    let readers = Readers::attach(&server.address, links, CHUNK)?;
    let opening = clock::now() - began;
    let cpu = server.cpu().saturating_sub(cpu);
    let streams = readers.streams().to_vec();
    if let Some(failure) = readers.failure() {
        results.notes.push(format!("{column}: after {} links: {failure}", streams.len()));
    }
    let open = streams.len().max(1) as f64;
    results.add(&OPEN, peer, column, streams.len() as f64);
    results.add(&OPENING, peer, column, opening as f64 / 1e6);
    results.add(&OPENING_CPU, peer, column, cpu.as_secs_f64() * 1e6 / open);
    let connections = writer.client.connections()?.saturating_sub(connections);
    results.add(&CONNECTIONS, peer, column, connections as f64 / open);
    settle();

    let cpu = server.cpus();
    std::thread::sleep(Duration::from_secs_f64(idle_seconds));
    add_cpu(results, column, &[&OWNER_IDLE, &EDGE_IDLE], server, &cpu, idle_seconds);

    _ = readers.take_latencies();
    let (cpu, before) = (server.cpus(), writer.chunks);
    let took = writer.write(&streams, seconds)?;
    add_cpu(results, column, &[&OWNER_CPU, &EDGE_CPU], server, &cpu, took);
    let new = (writer.chunks - before) * streams.len() as u64;
    let patience = clock::after(PATIENCE);
    while readers.arrived() < new && clock::now() < patience {
        std::thread::sleep(Duration::from_millis(1));
    }
    let latencies = readers.take_latencies();
    for (metric, part) in [(&P50, 0.5), (&P99, 0.99)] {
        results.add(metric, peer, column, latencies.quantile(part) as f64 / 1e6);
    }
    let now = self::memory(server);
    for ((metric, before), now) in [&OWNER_MEMORY, &EDGE_MEMORY].into_iter().zip(memory).zip(now) {
        results.add(metric, peer, column, now.saturating_sub(before) as f64 / 1024.0 / open);
    }

    writer.put(&streams, true)?;
    let checkers = readers.finish()?;
    let written = writer.chunks * streams.len() as u64;
    let received: u64 = checkers.iter().map(|checker| checker.received).sum();
    results.add(&MISSING, peer, column, written.abs_diff(received) as f64);
    results.add(&LOST, peer, column, checkers.iter().map(|it| it.lost).sum::<u64>() as f64);
    results.add(&CORRUPT, peer, column, checkers.iter().map(|it| it.corrupt).sum::<u64>() as f64);
    Ok(())
}

/// Resident memory of each daemon, in bytes.
fn memory(server: &Server) -> Vec<u64> {
    server.processes.iter().map(|daemon| daemon.memory().0).collect()
}

/// Adds the processor time of the daemons since `before`.
fn add_cpu(
    results: &mut Results,
    column: &str,
    metrics: &[&'static Metric],
    server: &Server,
    before: &[Duration],
    seconds: f64,
) {
    let daemons = metrics.iter().zip(server.cpus()).zip(before);
    for ((metric, now), before) in daemons {
        let time = a_second(now.saturating_sub(*before), seconds);
        results.add(metric, Peer::PfsMount, column, time);
    }
}

/// Writer of all streams.
struct Writer {
    client: Many,
    chunk: Chunk,
    /// Chunks in each stream.
    chunks: u64,
}

impl Writer {
    fn new(server: &Server) -> anyhow::Result<Self> {
        let client = Many::connect(&server.address)?;
        Ok(Self { client, chunk: Chunk::new(WRITER, CHUNK), chunks: 0 })
    }

    /// Puts the next chunk, or the end mark, into each of these streams at once.
    fn put(&mut self, streams: &[usize], is_end: bool) -> anyhow::Result<()> {
        let chunk =
            if is_end { self.chunk.end(self.chunks) } else { self.chunk.stamped(self.chunks, 0) };
        let options = PutOptions::default().close(is_end);
        self.client.put(streams.iter().copied(), chunk, &options)?;
        self.chunks += u64::from(!is_end);
        Ok(())
    }

    /// Puts a chunk a second into each of these streams. Returns the time that took, in seconds.
    fn write(&mut self, streams: &[usize], seconds: f64) -> anyhow::Result<f64> {
        let began = clock::now();
        let part = streams.len().div_ceil(PARTS as usize).max(1);
        for second in 0..seconds as u64 {
            for (turn, streams) in streams.chunks(part).enumerate() {
                clock::sleep_until(began + second * SECOND + turn as u64 * SECOND / PARTS);
                let chunk = self.chunk.stamped(self.chunks, clock::now());
                self.client.put(streams.iter().copied(), chunk, &PutOptions::default())?;
            }
            self.chunks += 1;
        }
        clock::sleep_until(began + seconds as u64 * SECOND);
        let took = (clock::now() - began) as f64 / 1e9;
        ensure!(took < 1.1 * seconds, "the writer took {took:.1} s instead of {seconds} s");
        Ok(took)
    }
}
