//! Table `idle`: the cost of idle readers, as server memory per reader and processor time of all.

use std::time::Duration;

use super::{Bench, a_second, settle};
use crate::{
    job::Load,
    peers::Peer,
    report::{Metric, Results, Shown},
    session::Session,
};

const MEMORY: Metric =
    Metric { name: "server memory for each idle reader", unit: "KiB", shown: Shown::Chart };
const CPU: Metric =
    Metric { name: "processor time while idle", unit: "ms in a second", shown: Shown::Table };

const ATTACHED: &str = "attached";
const USED: &str = "after 256 KiB";

const PEERS: &[Peer] = &[
    Peer::PfsShm,
    Peer::PfsUnix,
    Peer::Baseline,
    Peer::RedisPubsub,
    Peer::RedisStreams,
    Peer::Nats,
    Peer::Mosquitto,
    Peer::Stdintap,
];

/// Chunks that are written before the readers are idle again.
const CHUNKS: u64 = 4;

pub fn measure(bench: &Bench) -> anyhow::Result<Results> {
    let (peers, seconds) = (bench.peers(PEERS), bench.seconds(5.0));
    let mut results = bench.results("idle", "1,000 idle readers", &peers, seconds);
    let note = "The growth of the server's resident memory, shared pages included (what the kernel holds for it is not), by the \
        number of readers: when they are attached, and when each has then got four chunks of 64 KiB.";
    results.notes.push(note.to_owned());
    let readers = bench.readers(&[1000]);
    let columns: Vec<_> =
        readers.iter().map(|readers| (format!("{readers} readers"), *readers)).collect();
    bench.rounds(&mut results, &peers, &columns, |results, peer, _, readers| {
        one(bench, results, peer, *readers, seconds)
    });
    for (peer, wanted) in [(Peer::PfsShm, 16.0), (Peer::PfsUnix, 32.0)] {
        results.goal_value(&MEMORY, peer, USED, (wanted, true));
    }
    for column in ["server", "readers"] {
        results.goal_value(&CPU, Peer::PfsShm, column, (1.0, true));
    }
    Ok(results)
}

fn one(
    bench: &Bench,
    results: &mut Results,
    peer: Peer,
    readers: usize,
    seconds: f64,
) -> anyhow::Result<()> {
    let load = Load { limit: Some(CHUNKS), stay: true, ..Load::throughput(readers, 60.0) };
    let mut session = Session::start(&bench.tools, peer, &load)?;
    settle();
    let (before, _) = session.server.memory();
    let each = |now: u64| now.saturating_sub(before) as f64 / 1024.0 / readers as f64;

    let mut job = session.job(0);
    job.threads = readers;
    session.spawn_reader("idle", &job)?;
    session.await_attached(readers)?;
    settle();
    results.add(&MEMORY, peer, ATTACHED, each(session.server.memory().0));

    session.write()?;
    let patience = Duration::from_secs(30);
    session.wait("all readers have the chunks", patience, |board| board.slowest() >= CHUNKS)?;
    settle();
    results.add(&MEMORY, peer, USED, each(session.server.memory().0));

    let (server, reader) = (session.server.cpu(), session.first_reader()?.cpu());
    std::thread::sleep(Duration::from_secs_f64(seconds));
    results.add(
        &CPU,
        peer,
        "server",
        a_second(session.server.cpu().saturating_sub(server), seconds),
    );
    results.add(
        &CPU,
        peer,
        "readers",
        a_second(session.first_reader()?.cpu().saturating_sub(reader), seconds),
    );
    Ok(())
}
