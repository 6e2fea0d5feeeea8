//! Chunks of 64 KiB, as fast as it goes, to 1, 4, 16 and 64 readers.

use super::{Bench, NOTE_ON_LOSS, NOTE_ON_RING, SERVER_CPU, by_readers};
use crate::job::Load;
use crate::peers::Peer;
use crate::report::{Goal, Metric, Results, Shown};

pub const DELIVERED: Metric = Metric { name: "delivered in total", unit: "MB/s", shown: Shown::Chart };

pub const PEERS: &[Peer] = &[
    Peer::PfsMapped,
    Peer::PfsSocket,
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
    let columns = by_readers(&bench.readers(&[1, 4, 16, 64]), |readers| Load::throughput(readers, seconds));
    bench.loads(&mut results, &peers, &columns, |results, peer, column, outcome| {
        results.add(&DELIVERED, peer, column, outcome.delivered_rate());
    });
    goals(&mut results);
    Ok(results)
}

pub fn goals(results: &mut Results) {
    for (column, wanted) in [("N=1", 3.0), ("N=4", 4.0), ("N=16", 8.0), ("N=64", 10.0)] {
        results.goal_at_least(&DELIVERED, Peer::PfsMapped, column, wanted);
    }
    results.goal_against(&DELIVERED, (Peer::PfsSocket, Peer::Baseline), "N=16", (1.0, false));
    results.goals.extend(flat(results));
}

/// What the daemon does must not depend on the number of mapped readers.
fn flat(results: &Results) -> Option<Goal> {
    let cpu = |column| results.cell(&SERVER_CPU, Peer::PfsMapped, column).map(|cell| cell.spread().median);
    let (one, many) = (cpu("N=1")?, cpu("N=64")?);
    Some(Goal {
        text: format!("{}: {}, N=64", Peer::PfsMapped.name(), SERVER_CPU.name),
        wanted: 1.2,
        unit: "x",
        at_most: true,
        reached: Some(many / one),
        against: "the same, N=1".to_owned(),
    })
}
