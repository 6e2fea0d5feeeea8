//! Table `pipes`: complete pipelines, `producer | pfs write --stream` to consumers behind `pfs cat
//! --stream`, against `producer | tee`.

use super::{Bench, by_readers};
use crate::{
    job::Load,
    peers::Peer,
    report::{Metric, Results, Shown},
};

pub const DELIVERED: Metric =
    Metric { name: "delivered in total", unit: "MB/s", shown: Shown::Chart };

pub const PEERS: &[Peer] =
    &[Peer::PfsPipes, Peer::PfsUnixPipes, Peer::Tee, Peer::TeeLargePipes, Peer::PipesAlone];

pub fn measure(bench: &Bench) -> anyhow::Result<Results> {
    let (peers, seconds) = (bench.peers(PEERS), bench.seconds(2.0));
    let title = "Pipelines from one producer to N consumers";
    let mut results = bench.results("pipes", title, &peers, seconds);
    let note = "`producer | pfs write --stream` and `pfs cat --stream --slow block | consumer`, against `producer | tee` into as \
        many FIFOs. The consumers check every 64 KiB. Server CPU is that of everything between producer and consumers.";
    let ceiling = "`pipes alone, no fan-out (the ceiling)` is not a peer: it shows how much is left to \
        gain, and goals name the share of it that pfs reaches. Each consumer has a `producer | \
        consumer` of its own, with pipes of 256 KiB, the size that pfs gives the pipes at its \
        ends.";
    results.notes.extend([note, ceiling].map(str::to_owned));
    let columns =
        by_readers(&bench.readers(&[1, 16]), |readers| Load::throughput(readers, seconds));
    bench.loads(&mut results, &peers, &columns, |results, peer, column, outcome| {
        results.add(&DELIVERED, peer, column, outcome.delivered_rate());
    });
    goals(&mut results);
    Ok(results)
}

pub fn goals(results: &mut Results) {
    for (column, of_tee, of_ceiling) in [("N=1", 1.35, 0.78), ("N=16", 1.9, 0.72)] {
        results.goal_against(&DELIVERED, (Peer::PfsPipes, Peer::Tee), column, (of_tee, false));
        results.goal_against(
            &DELIVERED,
            (Peer::PfsPipes, Peer::PipesAlone),
            column,
            (of_ceiling, false),
        );
    }
}
