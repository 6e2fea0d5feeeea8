//! Table `throughput`: chunks of 64 KiB at full speed to 1, 4, 16 and 64 readers.

use super::{Bench, NOTE_ON_LOSS, NOTE_ON_RING, SERVER_CPU, by_readers};
use crate::{
    job::Load,
    peers::Peer,
    report::{Metric, Results, Shown},
};

pub const DELIVERED: Metric =
    Metric { name: "delivered in total", unit: "MB/s", shown: Shown::Chart };

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
    Peer::SocketsAlone,
];

pub fn measure(bench: &Bench) -> anyhow::Result<Results> {
    let (peers, seconds) = (bench.peers(PEERS), bench.seconds(2.0));
    let title = "Chunks of 64 KiB to N readers, each a process that checks every chunk";
    let mut results = bench.results("throughput", title, &peers, seconds);
    results.notes.extend([NOTE_ON_LOSS, NOTE_ON_RING].map(str::to_owned));
    let columns =
        by_readers(&bench.readers(&[1, 4, 16, 64]), |readers| Load::throughput(readers, seconds));
    bench.loads(&mut results, &peers, &columns, |results, peer, column, outcome| {
        results.add(&DELIVERED, peer, column, outcome.delivered_rate());
    });
    goals(&mut results);
    Ok(results)
}

pub fn goals(results: &mut Results) {
    for (column, of_best, of_ceiling) in
        [("N=1", 4.3, 0.9), ("N=4", 5.0, 0.9), ("N=16", 9.0, 0.93), ("N=64", 9.0, 1.0)]
    {
        results.goal_at_least(&DELIVERED, Peer::PfsShm, column, of_best);
        results.goal_against(&DELIVERED, (Peer::PfsShm, Peer::Ring), column, (of_ceiling, false));
        // The work of the daemon must not depend on the number of readers.
        results.goal_value(&SERVER_CPU, Peer::PfsShm, column, (0.01, true));
    }
    results.goal_against(&DELIVERED, (Peer::PfsUnix, Peer::Baseline), "N=16", (1.0, false));
}
