//! Table `many`: 100,000 streams with a chunk of 100 bytes each, 10,000 streams with an idle reader
//! each, and 1,000 streams that are written and read at the same time.

mod idle;

use std::{fs::File, process::Stdio, sync::mpsc, time::Duration};

use anyhow::{Context, ensure};
use pfs_measure::{
    clock,
    stamp::{Checker, Chunk, Seen},
};

use super::{Bench, CORRUPT, LOST, STEADY_CPU, a_second, settle};
use crate::{
    child::Running,
    job::{Job, Load, WRITER},
    peers::{Address, Peer, Receive, Receiver, Sender, Transmit, many, pfs, server::Server},
    report::{Metric, Results, Shown, number},
    session::Session,
};

const MADE: Metric = Metric { name: "streams made", unit: "thousands/s", shown: Shown::Chart };
const MISSING: Metric = Metric {
    name: "streams that there was no time for",
    unit: "of 100,000",
    shown: Shown::Trouble,
};
const MEMORY: Metric =
    Metric { name: "server memory for each stream", unit: "KiB resident", shown: Shown::Table };
const COUNTED: Metric = Metric {
    name: "memory for each stream as the server counts it",
    unit: "KiB",
    shown: Shown::Table,
};
const MAKING: Metric =
    Metric { name: "server CPU for each stream made", unit: "microseconds", shown: Shown::Table };
const LIST: Metric = Metric { name: "until all are listed", unit: "ms", shown: Shown::Table };
const END: Metric =
    Metric { name: "from SIGTERM to the server's end", unit: "ms", shown: Shown::Table };
const EXPIRY: Metric =
    Metric { name: "until streams with a time to live are gone", unit: "ms", shown: Shown::Table };

/// Number of streams with one chunk each.
const STREAMS: usize = 100_000;
/// Chunk size, in bytes.
const CHUNK: usize = 100;
/// Time limit for creating the streams; a slow peer creates fewer.
const MAKING_TIME: Duration = Duration::from_secs(10);

/// Chunks per second in each stream that is written and read.
const RATE: u64 = 10;
/// Time to live of the streams that expire: long enough to create all of them.
const TTL: Duration = Duration::from_secs(5);
/// Time limit for each wait.
const PATIENCE: Duration = Duration::from_secs(30);

const HELD: &str = "100,000 streams";
const LISTED: &str = "by the library";
const LISTED_BY_COMMAND: &str = "by `pfs ls`, to a file";
const IDLE: &str = "100,000 streams, idle";
const FIRST_TO_LAST: &str = "from the first to the last";
const AFTER_LAST: &str = "after the last was due";

const HOLDERS: &[Peer] =
    &[Peer::PfsUnix, Peer::PfsHttp, Peer::RedisStreams, Peer::JetStream, Peer::Mosquitto];
const FOLLOWED: &[Peer] = &[Peer::PfsShm, Peer::PfsUnix, Peer::RedisStreams];

pub fn measure(bench: &Bench) -> anyhow::Result<Results> {
    let seconds = bench.seconds(5.0);
    let (holders, followed) = (bench.peers(HOLDERS), bench.peers(FOLLOWED));
    let all = bench.peers(&[&[Peer::PfsShm], HOLDERS].concat());
    let mut results = bench.results("many", "Many streams", &all, seconds);
    let notes = [
        "100,000 streams with one chunk of 100 bytes each, made over one connection; requests are sent before the answers to \
         earlier ones are there. pfs: `put_all` of its library, over the Unix socket and over HTTP, where a request carries many \
         puts. Redis: XADD, a key for each. mosquitto: a retained message for each, QoS 1. JetStream: a stream in memory \
         and an acknowledged message for each, as many as fit into 10 s; its other stats are for those.",
        "The growth of the server's resident memory, shared pages included (what the kernel holds for it is not), by the number \
         of streams.",
        "Listed by a list of pfs's library, by SCAN, by `$JS.API.STREAM.NAMES`, and by a subscription to `#`, which gets the \
         messages as well.",
        "With a writer and a reader each: 10 chunks of 100 bytes a second in every stream, checked by its reader. Each writer and \
         each reader has a connection of its own.",
        idle::NOTE,
    ];
    results.notes.extend(notes.map(str::to_owned));
    let columns = [(HELD.to_owned(), ())];
    bench.rounds(&mut results, &holders, &columns, |results, peer, _, ()| {
        hold(bench, results, peer, seconds)
    });
    let expiring = bench.peers(&[Peer::PfsUnix]);
    bench.rounds(&mut results, &expiring, &[("expiry".to_owned(), ())], |results, peer, _, ()| {
        expire(bench, results, peer)
    });
    let readers = bench.readers(&[idle::READERS]);
    let columns: Vec<_> =
        readers.iter().map(|readers| (idle::column(*readers), *readers)).collect();
    bench.rounds(
        &mut results,
        &bench.peers(idle::PEERS),
        &columns,
        |results, peer, column, readers| {
            idle::wait(bench, results, peer, column, *readers, seconds)
        },
    );
    let streams = bench.readers(&[1000]);
    let columns: Vec<_> =
        streams.iter().map(|streams| (followed_column(*streams), *streams)).collect();
    bench.rounds(&mut results, &followed, &columns, |results, peer, column, streams| {
        follow(bench, results, peer, column, *streams, seconds)
    });
    goals(&mut results);
    Ok(results)
}

fn followed_column(streams: usize) -> String {
    format!("{} with a writer and a reader each", number(streams as f64))
}

fn goals(results: &mut Results) {
    for (peer, made) in [(Peer::PfsUnix, 50.0), (Peer::PfsHttp, 20.0)] {
        results.goal_value(&MADE, peer, HELD, (made, false));
        results.goal_value(&MEMORY, peer, HELD, (4.0, true));
        results.goal_value(&COUNTED, peer, HELD, (4.0, true));
        results.goal_value(&LIST, peer, LISTED, (1000.0, true));
        results.goal_value(&STEADY_CPU, peer, IDLE, (1.0, true));
        results.goal_value(&END, peer, HELD, (2000.0, true));
    }
    results.goal_value(&LIST, Peer::PfsUnix, LISTED_BY_COMMAND, (1000.0, true));
    idle::goals(results);
}

/// Starts a server without streams.
fn start(bench: &Bench, peer: Peer, load: &Load) -> anyhow::Result<Session> {
    let session = Session::start(&bench.tools, peer, load)?;
    settle();
    Ok(session)
}

fn milliseconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e6
}

/// Memory as pfs counts it; `None` for other peers.
fn counted(peer: Peer, server: &Server) -> anyhow::Result<Option<u64>> {
    Ok(if peer.is_pfs() { Some(pfs::Many::connect(&server.address)?.count()?.1) } else { None })
}

/// Measures streams that hold a chunk and have no reader.
fn hold(bench: &Bench, results: &mut Results, peer: Peer, seconds: f64) -> anyhow::Result<()> {
    let load = Load { streams: STREAMS, ..Load::small(0, 0.0, true) };
    let mut session = start(bench, peer, &load)?;
    let address = session.server.address.clone();
    let (before, counted_before) = (session.server.memory().0, counted(peer, &session.server)?);

    let mut chunk = Chunk::new(WRITER, CHUNK);
    let (cpu, began) = (session.server.cpu(), clock::now());
    let made = many::make(peer, &address, STREAMS, chunk.stamped(0, 0), clock::after(MAKING_TIME))?;
    let took = clock::now() - began;
    let cpu = session.server.cpu().saturating_sub(cpu);
    results.add(&MADE, peer, HELD, made as f64 * 1e6 / took as f64);
    results.add(&MAKING, peer, HELD, cpu.as_secs_f64() * 1e6 / made as f64);
    results.add(&MISSING, peer, HELD, (STREAMS - made) as f64);

    settle();
    let each = |now: u64, before: u64| now.saturating_sub(before) as f64 / 1024.0 / made as f64;
    results.add(&MEMORY, peer, HELD, each(session.server.memory().0, before));
    if let (Some(now), Some(before)) = (counted(peer, &session.server)?, counted_before) {
        results.add(&COUNTED, peer, HELD, each(now, before));
    }

    let began = clock::now();
    let listed = many::list(peer, &address)?;
    results.add(&LIST, peer, LISTED, milliseconds(began, clock::now()));
    ensure!(listed == made, "{listed} of {made} streams are listed");
    if let Address::Unix(socket) = &address
        && peer.is_pfs()
    {
        let file = session.dir().join("list");
        let mut ls = std::process::Command::new(bench.tools.bin.join("pfs"));
        ls.arg("--socket").arg(socket).args(["ls", "/streamfs"]);
        ls.stdin(Stdio::null()).stdout(File::create(&file)?);
        let began = clock::now();
        Running::spawn(&mut ls)?.finish()?;
        results.add(&LIST, peer, LISTED_BY_COMMAND, milliseconds(began, clock::now()));
        let lines = std::fs::read_to_string(&file)?.lines().count();
        ensure!(lines >= made, "`pfs ls` prints {lines} lines for {made} streams");
    }

    settle();
    let cpu = session.server.cpu();
    std::thread::sleep(Duration::from_secs_f64(seconds));
    results.add(
        &STEADY_CPU,
        peer,
        IDLE,
        a_second(session.server.cpu().saturating_sub(cpu), seconds),
    );

    let server = session.server.processes.first_mut().context("there is no server")?;
    results.add(&END, peer, HELD, server.terminate()?.as_secs_f64() * 1e3);
    Ok(())
}

/// Measures streams that expire.
fn expire(bench: &Bench, results: &mut Results, peer: Peer) -> anyhow::Result<()> {
    let load = Load { streams: STREAMS, ..Load::small(0, 0.0, true) };
    let session = start(bench, peer, &load)?;
    let client = pfs::Many::connect(&session.server.address)?;
    let mut chunk = Chunk::new(WRITER, CHUNK);
    client.make(STREAMS, chunk.stamped(0, 0), Some(TTL))?;
    let due = clock::after(TTL);
    let streams = client.count()?.0;
    ensure!(streams == STREAMS as u64, "{streams} streams before the first may expire");
    let (patience, mut first) = (clock::after(TTL + PATIENCE), None);
    loop {
        let (streams, now) = (client.count()?.0, clock::now());
        if streams < STREAMS as u64 {
            first.get_or_insert(now);
        }
        if streams == 0 {
            results.add(&EXPIRY, peer, FIRST_TO_LAST, milliseconds(first.unwrap_or(now), now));
            results.add(&EXPIRY, peer, AFTER_LAST, milliseconds(due, now));
            return Ok(());
        }
        ensure!(now < patience, "{streams} streams do not expire");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Measures streams with a writer and a reader each.
fn follow(
    bench: &Bench,
    results: &mut Results,
    peer: Peer,
    column: &str,
    streams: usize,
    seconds: f64,
) -> anyhow::Result<()> {
    let load = Load { streams, chunk: CHUNK, ..Load::throughput(streams, seconds) };
    let session = start(bench, peer, &load)?;
    let (before, counted_before) = (session.server.memory().0, counted(peer, &session.server)?);
    let (attach, attached) = mpsc::channel();
    let (end, ended) = mpsc::channel();
    let mut senders = Vec::with_capacity(streams);
    for stream in 0..streams {
        let job = session.job(stream);
        senders.push(Sender::connect(&job).context("cannot attach a writer")?);
        let (attach, end) = (attach.clone(), end.clone());
        let read = move || _ = end.send(read(&job, &attach));
        std::thread::Builder::new().stack_size(256 * 1024).spawn(read)?;
    }
    drop((attach, end));
    for _ in 0..streams {
        if attached.recv_timeout(PATIENCE).is_err() {
            let failed = ended.try_iter().find_map(Result::err);
            return Err(failed.unwrap_or_else(|| anyhow::anyhow!("not all readers have attached")));
        }
    }
    settle();

    let (cpu, began) = (session.server.cpu(), clock::now());
    let mut chunk = Chunk::new(WRITER, CHUNK);
    let rounds = (seconds * RATE as f64) as u64;
    for round in 0..rounds {
        for (stream, sender) in senders.iter_mut().enumerate() {
            let turn = round * streams as u64 + stream as u64;
            clock::sleep_until(began + turn * 1_000_000_000 / (RATE * streams as u64));
            sender.send(chunk.stamped(round, 0))?;
        }
    }
    let took = (clock::now() - began) as f64 / 1e9;
    results.add(
        &STEADY_CPU,
        peer,
        column,
        a_second(session.server.cpu().saturating_sub(cpu), took),
    );
    let each = |now: u64, before: u64| now.saturating_sub(before) as f64 / 1024.0 / streams as f64;
    results.add(&MEMORY, peer, column, each(session.server.memory().0, before));
    if let (Some(now), Some(before)) = (counted(peer, &session.server)?, counted_before) {
        results.add(&COUNTED, peer, column, each(now, before));
    }

    for mut sender in senders {
        sender.send(chunk.end(rounds))?;
        sender.finish()?;
    }
    let (mut received, mut lost, mut corrupt) = (0, 0, 0);
    for _ in 0..streams {
        let checker =
            ended.recv_timeout(PATIENCE).context("a reader does not come to its end")??;
        received += checker.received;
        lost += checker.lost;
        corrupt += checker.corrupt;
    }
    results.add(&LOST, peer, column, lost as f64);
    results.add(&CORRUPT, peer, column, corrupt as f64);
    let written = rounds * streams as u64;
    ensure!(received == written, "{received} of {written} chunks have arrived");
    ensure!(
        took < 1.1 * seconds,
        "the writer took {took:.1} s for what it should write in {seconds} s"
    );
    Ok(())
}

/// Reads to the end.
fn read(job: &Job, attached: &mpsc::Sender<()>) -> anyhow::Result<Checker> {
    let mut receiver = Receiver::attach(job).context("cannot attach a reader")?;
    _ = attached.send(());
    let (mut checker, mut ended) = (Checker::new(WRITER, CHUNK, true), false);
    while !ended {
        let more = receiver.receive(&mut |chunk| ended |= checker.check(chunk) == Ok(Seen::End))?;
        ensure!(more || ended, "the end came before the mark of it");
    }
    Ok(checker)
}
