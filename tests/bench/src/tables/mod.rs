//! Tables of the benchmark, and their measurements.

mod contested;
mod http;
mod idle;
mod join;
mod latency;
mod many;
mod mounts;
mod pipes;
mod small;
mod smoke;
#[cfg(test)]
mod tests;
mod throughput;

use std::{path::PathBuf, time::Duration};

use anyhow::{bail, ensure};
use clap::ValueEnum;

use crate::{
    job::Load,
    peers::{Peer, pfs, server::Tools},
    report::{Machine, Metric, Results, Shown},
    session::{Outcome, measure},
};

/// Options of a measurement.
#[derive(clap::Args)]
pub struct Args {
    /// Tables to measure
    #[arg(required = true, value_enum)]
    tables: Vec<Table>,
    /// How often each value is measured [default: 5]
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// How long each value is measured [default: depends on the table]
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// Only these peers
    #[arg(long, value_enum, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Only these numbers of readers
    #[arg(long, value_name = "N", value_delimiter = ',')]
    readers: Vec<usize>,
    /// Folder for the results
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Folder of pfs and pfsd
    #[arg(long, value_name = "DIR")]
    bin: PathBuf,
    /// The program stdintap
    #[arg(long, value_name = "FILE", default_value = "stdintap")]
    stdintap: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Table {
    /// Chunks of 64 KiB to 1, 4, 16 and 64 readers
    Throughput,
    /// Chunks of 64 bytes to 1 and 16 readers, one call each and batched
    Small,
    /// Latency from append to arrival at 1,000 chunks a second
    Latency,
    /// Two concurrent writers of a stream
    Contested,
    /// Complete pipelines to 1 and 16 consumers
    Pipes,
    /// Reading a history of 64 MiB
    Join,
    /// Memory and processor time of 1,000 idle readers
    Idle,
    /// HTTP to 1, 16 and 64 readers
    Http,
    /// 100,000 streams, 10,000 with an idle reader each, and 1,000 with a writer and a reader each
    Many,
    /// Streams of another daemon, to 1 and 16 readers, and 100, 1,000 and 9,000 of them at once
    Mounts,
    /// A short run, without servers of others, that checks every byte
    Smoke,
    /// All but the smoke test
    All,
}

/// Parameters of all tables.
#[derive(Clone)]
pub struct Bench {
    tools: Tools,
    peers: Vec<Peer>,
    readers: Vec<usize>,
    rounds: usize,
    seconds: Option<f64>,
}

/// Measures and publishes the tables.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let absolute = |path: &PathBuf| std::path::absolute(path);
    let stdintap =
        if args.stdintap.exists() { absolute(&args.stdintap)? } else { args.stdintap.clone() };
    let bench = Bench {
        tools: Tools { bin: absolute(&args.bin)?, stdintap },
        peers: args.peers.clone(),
        readers: args.readers.clone(),
        rounds: args.rounds.unwrap_or(5).max(1),
        seconds: args.seconds,
    };
    for program in ["pfs", "pfsd"] {
        let path = bench.tools.bin.join(program);
        ensure!(path.exists(), "there is no {}: tests/bench/run builds it", path.display());
    }
    for table in &args.tables {
        for table in table.parts() {
            let results = table.measure(&bench)?;
            results.publish(&args.out)?;
            if *table == Table::Smoke {
                smoke::verdict(&results)?;
            }
        }
    }
    eprintln!("results are in {}", args.out.display());
    Ok(())
}

impl Table {
    fn parts(&self) -> &[Self] {
        const ALL: &[Table] = &[
            Table::Throughput,
            Table::Small,
            Table::Latency,
            Table::Contested,
            Table::Pipes,
            Table::Join,
            Table::Idle,
            Table::Http,
            Table::Many,
            Table::Mounts,
        ];
        if *self == Self::All { ALL } else { std::slice::from_ref(self) }
    }

    fn measure(self, bench: &Bench) -> anyhow::Result<Results> {
        match self {
            Self::Throughput => throughput::measure(bench),
            Self::Small => small::measure(bench),
            Self::Latency => latency::measure(bench),
            Self::Contested => contested::measure(bench),
            Self::Pipes => pipes::measure(bench),
            Self::Join => join::measure(bench),
            Self::Idle => idle::measure(bench),
            Self::Http => http::measure(bench),
            Self::Many => many::measure(bench),
            Self::Mounts => mounts::measure(bench),
            Self::Smoke => smoke::measure(bench),
            Self::All => bail!("not one table"),
        }
    }
}

impl Bench {
    /// Returns the same parameters with one round.
    fn once(&self) -> Self {
        Self { rounds: 1, ..self.clone() }
    }

    /// Returns those of `peers` that are selected and installed.
    fn peers(&self, peers: &[Peer]) -> Vec<Peer> {
        let asked = |peer: &&Peer| self.peers.is_empty() || self.peers.contains(peer);
        peers.iter().filter(asked).filter(|peer| self.is_there(**peer)).copied().collect()
    }

    fn is_there(&self, peer: Peer) -> bool {
        let is_there = match peer {
            Peer::PfsShm | Peer::PfsMount | Peer::Ring => pfs::MAPS,
            Peer::PfsUnix
            | Peer::PfsPipes
            | Peer::PfsUnixPipes
            | Peer::PfsHttp
            | Peer::PfsHttpLibrary
            | Peer::Baseline
            | Peer::File
            | Peer::Relay
            | Peer::SocketsAlone
            | Peer::PipesAlone => true,
            _ => self.tools.version(peer).is_some(),
        };
        if !is_there {
            eprintln!("left out, because it is not there: {}", peer.name());
        }
        is_there
    }

    fn readers(&self, readers: &[usize]) -> Vec<usize> {
        if self.readers.is_empty() { readers.to_vec() } else { self.readers.clone() }
    }

    fn seconds(&self, default: f64) -> f64 {
        self.seconds.unwrap_or(default)
    }

    fn results(
        &self,
        table: &'static str,
        title: &'static str,
        peers: &[Peer],
        seconds: f64,
    ) -> Results {
        Results::new(table, title, Machine::here(&self.tools, peers, self.rounds, seconds))
    }

    /// Calls a function for each column and peer in turn, in every round. Each round starts with
    /// another peer. A failure is noted, and its value is omitted.
    fn rounds<C>(
        &self,
        results: &mut Results,
        peers: &[Peer],
        columns: &[(String, C)],
        mut measure: impl FnMut(&mut Results, Peer, &str, &C) -> anyhow::Result<()>,
    ) {
        for round in 0..self.rounds {
            for (name, column) in columns {
                for turn in 0..peers.len() {
                    let peer = peers[(turn + round) % peers.len()];
                    eprintln!(
                        "{} {}/{}: {name}: {}",
                        results.table,
                        round + 1,
                        self.rounds,
                        peer.name()
                    );
                    if let Err(error) = measure(results, peer, name, column) {
                        let note =
                            format!("{}, {name}, round {}: {error:#}", peer.name(), round + 1);
                        eprintln!("    {note}");
                        results.notes.push(note);
                    }
                }
            }
        }
    }

    /// Measures loads on peers.
    fn loads(
        &self,
        results: &mut Results,
        peers: &[Peer],
        columns: &[(String, Load)],
        record: impl Fn(&mut Results, Peer, &str, &Outcome),
    ) {
        self.rounds(results, peers, columns, |results, peer, column, load| {
            let outcome = measure(&self.tools, peer, load)?;
            record(results, peer, column, &outcome);
            costs(results, peer, column, load, &outcome);
            Ok(())
        });
    }
}

const SERVER_CPU: Metric =
    Metric { name: "server CPU for each GB written", unit: "s", shown: Shown::Table };
const CHUNK_CPU: Metric =
    Metric { name: "server CPU for each chunk written", unit: "microseconds", shown: Shown::Table };
const STEADY_CPU: Metric =
    Metric { name: "server CPU", unit: "ms in a second", shown: Shown::Table };
const PEAK: Metric = Metric { name: "peak memory of the server", unit: "MB", shown: Shown::Table };
const LOST: Metric =
    Metric { name: "chunks lost by all readers together", unit: "of all", shown: Shown::Trouble };
const CORRUPT: Metric =
    Metric { name: "chunks damaged or out of order", unit: "of all", shown: Shown::Trouble };
const MISSING: Metric =
    Metric { name: "chunks that did not arrive", unit: "of all", shown: Shown::Trouble };
const READERS_CPU: Metric = Metric { name: "CPU of all readers", unit: "s", shown: Shown::Json };
const WRITER_CPU: Metric = Metric { name: "CPU of the writer", unit: "s", shown: Shown::Json };
const WRITTEN: Metric = Metric { name: "written", unit: "MB", shown: Shown::Json };
const TOOK: Metric =
    Metric { name: "from the first append to the last arrival", unit: "s", shown: Shown::Json };

/// Waits until work in progress is done, so that the processes are really idle.
fn settle() {
    std::thread::sleep(Duration::from_secs(1));
}

/// Returns milliseconds of processor time per second.
fn a_second(time: Duration, seconds: f64) -> f64 {
    time.as_secs_f64() * 1e3 / seconds
}

/// Adds the costs besides time: processor time and memory.
fn costs(results: &mut Results, peer: Peer, column: &str, load: &Load, outcome: &Outcome) {
    // A ceiling has no server, and must not look as if its server needed nothing.
    if !peer.is_ceiling() {
        let cpu = outcome.server_cpu;
        if load.rate.is_some() {
            results.add(&STEADY_CPU, peer, column, cpu * 1e3 / outcome.seconds);
        } else if load.chunk < 4096 {
            results.add(&CHUNK_CPU, peer, column, cpu * 1e6 / outcome.written.max(1) as f64);
        } else {
            results.add(&SERVER_CPU, peer, column, cpu * 1e9 / outcome.written_bytes.max(1) as f64);
        }
        results.add(&PEAK, peer, column, outcome.peak as f64 / 1e6);
    }
    results.add(&LOST, peer, column, outcome.lost as f64);
    results.add(&CORRUPT, peer, column, outcome.corrupt as f64);
    results.add(&READERS_CPU, peer, column, outcome.readers_cpu);
    results.add(&WRITER_CPU, peer, column, outcome.writer_cpu);
    results.add(&WRITTEN, peer, column, outcome.written_bytes as f64 / 1e6);
    results.add(&TOOK, peer, column, outcome.seconds);
}

/// Adds the number of chunks that readers did not receive.
fn missing(results: &mut Results, peer: Peer, column: &str, outcome: &Outcome) {
    let expected = outcome.written * outcome.readers.len() as u64;
    let received: u64 = outcome.readers.iter().map(|reader| reader.received).sum();
    results.add(&MISSING, peer, column, expected.abs_diff(received) as f64);
}

/// Returns columns for these numbers of readers.
fn by_readers(readers: &[usize], load: impl Fn(usize) -> Load) -> Vec<(String, Load)> {
    readers.iter().map(|readers| (format!("N={readers}"), load(*readers))).collect()
}

/// Note for all measurements with a window or a slow policy.
const NOTE_ON_LOSS: &str = "Nothing may be lost: pfs readers have the policy `block`; writers to Redis, nats-server and \
    mosquitto, which would drop chunks or readers, or grow, keep at most 6 MiB ahead of the slowest reader; stdintap runs with \
    `--backpressure`; the 100-line daemon queues at most 96 reads, of up to 256 KiB, for each reader.";

/// Note for the tables with [`Peer::Ring`].
const NOTE_ON_RING: &str = "`ring without a daemon (the ceiling)` is not a peer: it shows how much is left to gain, and \
    goals name the share of it that pfs reaches. The writer's process creates pfs's ring. Each \
    reader maps the ring, reads it with pfs's own reader and sleeps on its futex. No process is \
    between them: the writer does the work of a server. Readers have the policy `block`. A \
    reader that makes room for a waiting writer reports that through a FIFO. The writer wakes \
    the readers if one of them has announced in a shared word that it goes to sleep.";
