//! Table `small`: chunks of 64 bytes to 1 and 16 readers, with one append call each, and batched by
//! the library.

use super::{Bench, NOTE_ON_LOSS, NOTE_ON_RING};
use crate::{
    job::Load,
    peers::Peer,
    report::{Metric, Results, Shown},
};

pub const RECORDS: Metric =
    Metric { name: "records reaching every reader", unit: "thousands/s", shown: Shown::Chart };

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
];

pub fn measure(bench: &Bench) -> anyhow::Result<Results> {
    let (peers, seconds) = (bench.peers(PEERS), bench.seconds(2.0));
    let title = "Chunks of 64 bytes to N readers";
    let mut results = bench.results("small", title, &peers, seconds);
    results.notes.push(NOTE_ON_LOSS.to_owned());
    let note = "One call each: every chunk is sent by a call of its own, which is not waited for. Batched: the library \
        may send several at once, up to 64 KiB.";
    results.notes.extend([note, NOTE_ON_RING].map(str::to_owned));
    let mut columns = Vec::new();
    for readers in bench.readers(&[1, 16]) {
        columns.push((format!("N={readers}, one call each"), Load::small(readers, seconds, false)));
        columns.push((format!("N={readers}, batched"), Load::small(readers, seconds, true)));
    }
    bench.loads(&mut results, &peers, &columns, |results, peer, column, outcome| {
        results.add(&RECORDS, peer, column, outcome.record_rate() / 1e3);
    });
    goals(&mut results);
    Ok(results)
}

pub fn goals(results: &mut Results) {
    let goals = [
        ("N=1, one call each", 1.3),
        ("N=16, one call each", 3.0),
        ("N=1, batched", 5.0),
        ("N=16, batched", 30.0),
    ];
    for (column, wanted) in goals {
        results.goal_against(&RECORDS, (Peer::PfsShm, Peer::Nats), column, (wanted, false));
        results.goal_against(&RECORDS, (Peer::PfsShm, Peer::Ring), column, (0.9, false));
    }
}
