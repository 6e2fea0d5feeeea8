//! Table `latency`: from append to arrival, at 1,000 chunks of 64 bytes per second.

use super::{Bench, NOTE_ON_RING, by_readers};
use crate::{
    job::Load,
    peers::Peer,
    report::{Metric, Results, Shown},
};

pub const LATENCY: Metric =
    Metric { name: "from append to arrival", unit: "microseconds", shown: Shown::Chart };
const EXTREMES: Metric =
    Metric { name: "from append to arrival, further", unit: "microseconds", shown: Shown::Json };

const NOTE_ON_WARM_UP: &str = "2 s more come before, in which no latencies are counted: in the first of them, pfs's writer \
    has no lease yet. The server's processor time has them.";

pub const PEERS: &[Peer] = &[
    Peer::PfsShm,
    Peer::PfsUnix,
    Peer::Baseline,
    Peer::RedisPubsub,
    Peer::RedisStreams,
    Peer::Nats,
    Peer::Mosquitto,
    Peer::Stdintap,
    Peer::Tee,
    Peer::Ring,
    Peer::Relay,
];

pub fn measure(bench: &Bench) -> anyhow::Result<Results> {
    let (peers, seconds) = (bench.peers(PEERS), bench.seconds(5.0));
    let title = "Latency at 1,000 chunks of 64 bytes a second to N readers";
    let mut results = bench.results("latency", title, &peers, seconds);
    results.notes.extend([NOTE_ON_WARM_UP, NOTE_ON_RING].map(str::to_owned));
    let columns = by_readers(&bench.readers(&[1, 16]), |readers| Load::latency(readers, seconds));
    bench.loads(&mut results, &peers, &columns, |results, peer, column, outcome| {
        let at = |quantile| outcome.latencies.quantile(quantile) as f64 / 1e3;
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
            results.add(&LATENCY, peer, &format!("{column}, {name}"), at(quantile));
        }
        for (name, quantile) in [("p90", 0.9), ("p99.9", 0.999), ("max", 1.0)] {
            results.add(&EXTREMES, peer, &format!("{column}, {name}"), at(quantile));
        }
    });
    goals(&mut results);
    Ok(results)
}

pub fn goals(results: &mut Results) {
    for column in ["N=1, p50", "N=1, p99", "N=16, p50", "N=16, p99"] {
        results.goal_at_most(&LATENCY, Peer::PfsShm, column, 1.0, |rival| rival != Peer::Tee);
    }
    for column in ["N=1, p50", "N=1, p99", "N=16, p50"] {
        results.goal_against(&LATENCY, (Peer::PfsShm, Peer::Tee), column, (1.0, true));
    }
    for column in ["N=1, p50", "N=1, p99"] {
        results.goal_against(&LATENCY, (Peer::PfsShm, Peer::Ring), column, (1.3, true));
    }
}
