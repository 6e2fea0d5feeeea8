//! Table `contested`: two concurrent writers of a stream, each a process, and readers that check
//! every byte.

use super::{Bench, NOTE_ON_LOSS};
use crate::{
    job::Load,
    peers::Peer,
    report::{Metric, Results, Shown},
};

const DELIVERED: Metric = Metric { name: "delivered in total", unit: "MB/s", shown: Shown::Chart };

const PEERS: &[Peer] = &[Peer::PfsShm, Peer::PfsUnix, Peer::Baseline];

pub fn measure(bench: &Bench) -> anyhow::Result<Results> {
    let (peers, seconds) = (bench.peers(PEERS), bench.seconds(2.0));
    let title = "Two writers at once, and N readers, each a process";
    let mut results = bench.results("contested", title, &peers, seconds);
    let note = "Readers check every byte, and the order of each writer's chunks.";
    results.notes.extend([NOTE_ON_LOSS, note].map(str::to_owned));
    let mut columns = Vec::new();
    for readers in bench.readers(&[1, 4]) {
        for (size, load) in [
            ("64 KiB", Load::throughput(readers, seconds)),
            ("64 bytes, one call each", Load::small(readers, seconds, false)),
            ("64 bytes, batched", Load::small(readers, seconds, true)),
        ] {
            columns.push((format!("N={readers}, {size}"), Load { writers: 2, full: true, ..load }));
        }
    }
    bench.loads(&mut results, &peers, &columns, |results, peer, column, outcome| {
        results.add(&DELIVERED, peer, column, outcome.delivered_rate());
    });
    results.goal_against(&DELIVERED, (Peer::PfsShm, Peer::Baseline), "N=4, 64 KiB", (1.0, false));
    Ok(results)
}
