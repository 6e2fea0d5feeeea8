//! Idle readers, each of its own stream: each has read the chunk of its stream and waits for more.

use std::time::Duration;

use pfs_measure::clock;

use super::{CHUNK, MAKING_TIME, PATIENCE, counted, start};
use crate::{
    job::Load,
    peers::{Peer, idle::Readers, many},
    report::{Metric, Results, Shown, number},
    tables::{Bench, STEADY_CPU, a_second, settle},
};

const ATTACHED: Metric =
    Metric { name: "idle readers attached", unit: "readers", shown: Shown::Table };
const SHM: Metric = Metric { name: "idle readers over shm", unit: "readers", shown: Shown::Table };
const UNIX: Metric = Metric {
    name: "idle readers over unix, where shm was refused",
    unit: "readers",
    shown: Shown::Table,
};
const MEMORY: Metric = Metric {
    name: "server memory for each idle reader",
    unit: "KiB resident",
    shown: Shown::Table,
};
const COUNTED: Metric = Metric {
    name: "memory for each idle reader as the server counts it",
    unit: "KiB",
    shown: Shown::Table,
};
const ATTACHING: Metric = Metric {
    name: "server CPU for each idle reader attached",
    unit: "microseconds",
    shown: Shown::Table,
};

pub(super) const NOTE: &str = "Idle readers: each attaches to a stream of its own, reads the chunk that is there, and waits. pfs \
    over its Unix socket, over HTTP as server-sent events, and over shm as far as the descriptors of the server allow, where the \
    readers beyond that are served over the socket. Redis: XREAD with BLOCK. mosquitto: a subscription. JetStream: a push consumer \
    of as many streams as there was time to make. The memory is the growth of the server's resident memory while they attach.";

/// Peers whose readers are measured.
pub(super) const PEERS: &[Peer] = &[
    Peer::PfsShm,
    Peer::PfsUnix,
    Peer::PfsHttp,
    Peer::RedisStreams,
    Peer::JetStream,
    Peer::Mosquitto,
];

/// Interval of keep-alives in server-sent events. The processor time of idle readers includes one
/// keep-alive of each.
const KEEP_ALIVE_SECONDS: f64 = 15.0;

/// Number of readers, and of streams.
pub(super) const READERS: usize = 10_000;

pub(super) fn column(readers: usize) -> String {
    format!("{0} idle readers of {0} streams", number(readers as f64))
}

pub(super) fn goals(results: &mut Results) {
    for peer in [Peer::PfsShm, Peer::PfsUnix, Peer::PfsHttp] {
        results.goal_value(&ATTACHED, peer, &column(READERS), (READERS as f64, false));
        results.goal_value(&MEMORY, peer, &column(READERS), (16.0, true));
    }
}

/// Attaches as many readers as the peer accepts.
pub(super) fn wait(
    bench: &Bench,
    results: &mut Results,
    peer: Peer,
    column: &str,
    readers: usize,
    seconds: f64,
) -> anyhow::Result<()> {
    let session = start(bench, peer, &Load { streams: readers, ..Load::small(0, 0.0, true) })?;
    let (server, address) = (&session.server, &session.server.address);
    // Text, so that server-sent events carry it unencoded.
    let chunk = [b'x'; CHUNK];
    let streams = many::make(peer, address, readers, &chunk, clock::after(MAKING_TIME))?;
    settle();

    let (before, counted_before) = (server.memory().0, counted(peer, server)?);
    let (cpu, patience) = (server.cpu(), clock::after(PATIENCE));
    let mut attached = Readers::new(peer, address)?;
    while attached.len() < streams && clock::now() < patience {
        if let Err(error) = attached.attach(&chunk) {
            results.notes.push(format!("{}, reader {}: {error}", peer.name(), attached.len() + 1));
            break;
        }
    }
    let count = attached.len() as f64;
    let cpu = server.cpu().saturating_sub(cpu);
    results.add(&ATTACHED, peer, column, count);
    results.add(&ATTACHING, peer, column, cpu.as_secs_f64() * 1e6 / count);
    if peer == Peer::PfsShm {
        let over_shm = attached.over_shm() as f64;
        results.add(&SHM, peer, column, over_shm);
        results.add(&UNIX, peer, column, count - over_shm);
    }

    settle();
    let each = |now: u64, before: u64| now.saturating_sub(before) as f64 / 1024.0 / count;
    results.add(&MEMORY, peer, column, each(server.memory().0, before));
    if let (Some(now), Some(before)) = (counted(peer, server)?, counted_before) {
        results.add(&COUNTED, peer, column, each(now, before));
    }
    let seconds = if peer == Peer::PfsHttp { seconds.max(KEEP_ALIVE_SECONDS) } else { seconds };
    let cpu = server.cpu();
    std::thread::sleep(Duration::from_secs_f64(seconds));
    results.add(&STEADY_CPU, peer, column, a_second(server.cpu().saturating_sub(cpu), seconds));
    Ok(())
}
