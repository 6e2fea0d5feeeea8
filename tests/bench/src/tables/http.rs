//! Table `http`: HTTP to 1, 16 and 64 readers, against nginx with a file of the same bytes.

use super::{Bench, by_readers};
use crate::{
    job::Load,
    peers::Peer,
    report::{Metric, Results, Shown},
};

const DELIVERED: Metric = Metric { name: "delivered in total", unit: "MB/s", shown: Shown::Chart };

const PEERS: &[Peer] = &[Peer::PfsHttp, Peer::Nginx];

/// Maximum bytes for all readers together, and for one reader.
const IN_TOTAL: u64 = 4 * 1024 * 1024 * 1024;
const EACH: u64 = 2 * 1024 * 1024 * 1024;

pub fn measure(bench: &Bench) -> anyhow::Result<Results> {
    let peers = bench.peers(PEERS);
    let mut results = bench.results(
        "http",
        "HTTP to N readers, each a process that drains its socket",
        &peers,
        0.0,
    );
    let note = "pfs: a stream that is written while it is read, in chunks of 64 KiB; the readers have the policy `block`, so that \
        each gets every byte. nginx: a file in /dev/shm with the same bytes, sendfile, a worker for each processor. 4 GiB \
        in all, but at most 2 GiB for a reader.";
    results.notes.push(note.to_owned());
    let columns = by_readers(&bench.readers(&[1, 16, 64]), load);
    bench.loads(&mut results, &peers, &columns, |results, peer, column, outcome| {
        results.add(&DELIVERED, peer, column, outcome.delivered_rate());
    });
    for column in ["N=1", "N=16", "N=64"] {
        results.goal_against(&DELIVERED, (Peer::PfsHttp, Peer::Nginx), column, (0.7, false));
    }
    Ok(results)
}

fn load(readers: usize) -> Load {
    let load = Load::throughput(readers, 60.0);
    let bytes = EACH.min(IN_TOTAL / readers.max(1) as u64);
    Load { limit: Some((bytes / load.chunk as u64).max(1)), ..load }
}
