//! Table `smoke`: a short run for CI with pfs, its ring buffer, a mount and the baseline, a little of
//! everything, which checks every byte.

use anyhow::ensure;

use super::{Bench, CORRUPT, LOST, MISSING, missing, mounts};
use crate::{
    job::Load,
    peers::Peer,
    report::{Metric, Results, Shown},
};

const DELIVERED: Metric = Metric { name: "delivered in total", unit: "MB/s", shown: Shown::Chart };
const RECORDS: Metric =
    Metric { name: "records reaching every reader", unit: "thousands/s", shown: Shown::Table };
const P50: Metric =
    Metric { name: "from append to arrival, p50", unit: "microseconds", shown: Shown::Table };

const LIBRARY: &[Peer] = &[
    Peer::PfsShm,
    Peer::PfsUnix,
    Peer::Baseline,
    Peer::PfsHttpLibrary,
    Peer::PfsMount,
    Peer::Ring,
    Peer::Relay,
];
const PIPES: &[Peer] = &[Peer::PfsPipes, Peer::PfsUnixPipes, Peer::Tee];

pub fn measure(bench: &Bench) -> anyhow::Result<Results> {
    let all = bench.peers(&[LIBRARY, PIPES].concat());
    let bench = bench.once();
    let mut results = bench.results("smoke", "A short run that checks every byte", &all, 0.0);

    let whole = |load: Load, limit| Load { limit: Some(limit), full: true, seconds: 10.0, ..load };
    let chunks =
        [1, 4].map(|readers| (format!("N={readers}"), whole(Load::throughput(readers, 0.0), 2000)));
    bench.loads(&mut results, &all, &chunks, |results, peer, column, outcome| {
        results.add(&DELIVERED, peer, column, outcome.delivered_rate());
        missing(results, peer, column, outcome);
    });

    let library = bench.peers(LIBRARY);
    let small = [
        ("N=4, one call each".to_owned(), whole(Load::small(4, 0.0, false), 50_000)),
        ("N=4, batched".to_owned(), whole(Load::small(4, 0.0, true), 200_000)),
    ];
    bench.loads(&mut results, &library, &small, |results, peer, column, outcome| {
        results.add(&RECORDS, peer, column, outcome.record_rate() / 1e3);
        missing(results, peer, column, outcome);
    });

    let paced = [("N=4, 1,000/s".to_owned(), whole(Load::latency(4, 0.0), 500))];
    bench.loads(&mut results, &library, &paced, |results, peer, column, outcome| {
        results.add(&P50, peer, column, outcome.latencies.quantile(0.5) as f64 / 1e3);
        missing(results, peer, column, outcome);
    });

    if !bench.peers(&[Peer::PfsMount]).is_empty() {
        mounts::arrive(&bench, &mut results, 100, 2.0, 0.1)?;
    }
    Ok(results)
}

/// Returns an error unless everything was measured and every byte arrived.
pub fn verdict(results: &Results) -> anyhow::Result<()> {
    ensure!(results.notes.is_empty(), "not all could be measured: {}", results.notes.join("; "));
    for cell in
        results.cells.iter().filter(|cell| [&LOST, &CORRUPT, &MISSING].contains(&cell.metric))
    {
        let wrong: f64 = cell.values.iter().sum();
        ensure!(
            wrong == 0.0,
            "{}, {}: {} {}",
            cell.peer.name(),
            cell.column,
            wrong,
            cell.metric.name
        );
    }
    ensure!(results.cells.iter().any(|cell| cell.metric == &MISSING), "nothing was measured");
    eprintln!("every byte arrived");
    Ok(())
}
