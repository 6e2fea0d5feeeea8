//! Table `mounts`: chunks of 64 KiB to 1 and 16 readers over shm at a second daemon, which mounts
//! the streams of their owner, against readers over HTTP at the owner; and the costs of many
//! mounted streams.

mod links;

pub use links::arrive;

use super::{Bench, MISSING, by_readers, missing};
use crate::{
    job::Load,
    peers::Peer,
    report::{Metric, Results, Shown},
    session::Outcome,
};

const ADVANCE: Metric =
    Metric { name: "head advance at every reader", unit: "MB/s", shown: Shown::Chart };
const SENT: Metric = Metric {
    name: "bytes in the owner's HTTP responses for each byte written",
    unit: "bytes",
    shown: Shown::Table,
};
const OWNER_CPU: Metric =
    Metric { name: "CPU of the owner for each GB written", unit: "s", shown: Shown::Table };
const EDGE_CPU: Metric =
    Metric { name: "CPU of the second daemon for each GB written", unit: "s", shown: Shown::Table };

const PEERS: &[Peer] = &[Peer::PfsHttp, Peer::PfsHttpLibrary, Peer::PfsMount];

pub fn measure(bench: &Bench) -> anyhow::Result<Results> {
    let (peers, seconds) = (bench.peers(PEERS), bench.seconds(2.0));
    let title = "Streams of another daemon, to N readers, over loopback TCP";
    let mut results = bench.results("mounts", title, &peers, seconds);
    let notes = [
        "Chunks of 64 KiB from one writer at the owner of the stream, over shm. HTTP: a socket that is drained at the owner, and a \
         reader of pfs's library there, which checks every chunk. A second daemon: it mounts the owner's streams over HTTP, and its \
         readers use shm and check every chunk. All readers have the policy `block`, so that each gets every byte, and the link is \
         a `block` reader at the owner.",
        "The bytes of HTTP responses are those of the owner's metrics, without the headers of HTTP and TCP. 1 is one copy. \
         Server CPU is that of both daemons; peak memory is the owner's.",
        links::NOTE,
    ];
    results.notes.extend(notes.map(str::to_owned));
    let columns =
        by_readers(&bench.readers(&[1, 16]), |readers| Load::throughput(readers, seconds));
    bench.loads(&mut results, &peers, &columns, record);
    links::measure(bench, &mut results);
    goals(&mut results);
    Ok(results)
}

fn record(results: &mut Results, peer: Peer, column: &str, outcome: &Outcome) {
    let written = outcome.written_bytes.max(1) as f64;
    let advance = outcome.reached_all as f64 / outcome.written.max(1) as f64 * written;
    results.add(&ADVANCE, peer, column, advance / outcome.seconds / 1e6);
    if let Some(sent) = outcome.sent {
        results.add(&SENT, peer, column, sent as f64 / written);
    }
    for (metric, cpu) in [&OWNER_CPU, &EDGE_CPU].into_iter().zip(&outcome.server_cpus) {
        results.add(metric, peer, column, cpu * 1e9 / written);
    }
    missing(results, peer, column, outcome);
}

fn goals(results: &mut Results) {
    for reader in [Peer::PfsHttp, Peer::PfsHttpLibrary] {
        results.goal_against(&ADVANCE, (Peer::PfsMount, reader), "N=1", (0.8, false));
    }
    for column in ["N=1", "N=16"] {
        results.goal_value(&SENT, Peer::PfsMount, column, (1.01, true));
        results.goal_value(&MISSING, Peer::PfsMount, column, (0.0, true));
    }
    links::goals(results);
}
