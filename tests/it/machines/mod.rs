//! Remote mounts between three machines: network namespaces with cables of a limited rate, which are
//! pulled, and daemons that are stopped and killed: `scripts/machines`.

mod chain;
mod rounds;

use std::time::{Duration, Instant};

use harness::{Cable, Running, Signal, Transport, digest, eventually, gaps, kept, noise};

use self::chain::{AT_EDGE, AT_OWNER, Chain, Place};

/// Waits until a reader is attached.
#[track_caller]
fn attached(reader: &mut Running) {
    eventually("the reader is attached", || {
        assert!(reader.runs(), "the reader ended at once; stderr: {}", reader.stderr());
        start_of(&reader.stderr()).is_some()
    });
}

/// Returns the start offset that `pfs -v cat` reports.
fn start_of(stderr: &str) -> Option<u64> {
    let (_, rest) = stderr.split_once("from offset ")?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit())?;
    rest[..end].parse().ok()
}

/// Waits until a reader has printed or reported as lost everything below this offset.
#[track_caller]
fn reads_up_to(reader: &Running, offset: usize) {
    eventually("everything is read", || {
        let mut stderr = reader.stderr();
        // The last line may still be being written.
        stderr.truncate(stderr.rfind('\n').map_or(0, |end| end + 1));
        let lost: u64 = gaps(&stderr).iter().map(|gap| gap.to - gap.from).sum();
        start_of(&stderr).unwrap_or(0) + reader.stdout_len() + lost == offset as u64
    });
}

#[test]
#[ignore = "needs network namespaces: scripts/machines"]
fn one_copy_crosses_each_cable_however_many_read() {
    let chain = Chain::new();
    chain.network.limit_rate(20);
    let data = noise(1, 8_000_000);
    chain.owner.create_with_buffers(AT_OWNER, 16_000_000, 16_000_000);
    let mut readers = Vec::new();
    for place in [Place::Middle, Place::Edge] {
        for transport in [Transport::Shm, Transport::Shm, Transport::Unix, Transport::Http] {
            readers.push(chain.start_reader(place, transport, []));
        }
    }
    readers.iter_mut().for_each(attached);
    chain.owner.pfs(["write", "--stream", "--close", AT_OWNER]).stdin(&*data).run().exits(0);
    for reader in readers {
        assert_eq!(digest(&reader.finish().exits(0).stdout), digest(&data));
    }
    for host in [&chain.network.owner, &chain.network.middle] {
        let (sent, len) = (host.sent(Cable::Down), data.len() as u64);
        assert!(sent > len && sent < len * 13 / 10, "{sent} bytes for {len}");
    }
}

#[test]
#[ignore = "needs network namespaces: scripts/machines"]
fn what_a_slow_cable_loses_is_reported_exactly() {
    let chain = Chain::new();
    chain.network.limit_rate(20);
    chain.owner.create_with_buffers(AT_OWNER, 512 * 1024, 512 * 1024);
    let mut readers: Vec<Running> = [Place::Middle, Place::Edge]
        .into_iter()
        .flat_map(|place| Transport::ALL.map(|transport| chain.start_reader(place, transport, [])))
        .collect();
    readers.iter_mut().for_each(attached);
    let data = noise(2, 32 << 20);
    let write = ["write", "--stream", "--close", "--chunk-size", "16KB", AT_OWNER];
    chain.owner.pfs(write).stdin(&*data).run().exits(0);
    for reader in readers {
        let read = reader.finish().exits(4);
        let lost = gaps(&read.stderr);
        assert!(!read.stdout.is_empty() && !lost.is_empty(), "{}", read.stderr);
        assert_eq!(digest(&read.stdout), digest(&kept(&data, 0, &lost)), "{}", read.stderr);
    }
}

#[test]
#[ignore = "needs network namespaces: scripts/machines"]
fn a_cable_that_was_pulled_loses_what_the_owner_has_overwritten_and_nothing_else() {
    let chain = Chain::new();
    let data = noise(3, 660_000);
    let (before, meanwhile, after) = (&data[..30_000], &data[30_000..630_000], &data[630_000..]);
    let rings = [("kept", 1024 * 1024), ("lapped", 64 * 1024)];
    let readers = rings.map(|(name, ring)| {
        chain.owner.create_with_buffers(&format!("/streamfs/{name}"), ring, ring);
        let stream = format!("/edge/{name}");
        let mut reader = chain.edge.pfs(["-v", "cat", "--stream", &stream]).spawn();
        attached(&mut reader);
        reader
    });
    let append = |bytes: &[u8]| {
        for (name, _) in rings {
            let mut appender = chain.owner.appender(&format!("/streamfs/{name}"));
            appender.append(bytes, 10_000);
            appender.finish();
        }
    };
    append(before);
    readers.iter().for_each(|reader| reads_up_to(reader, before.len()));

    let pulled = Instant::now();
    chain.network.owner.pull(Cable::Down);
    append(meanwhile);
    eventually("both links are lost", || chain.middle.log().matches("link lost").count() == 2);
    assert!(pulled.elapsed() > Duration::from_secs(20), "only silence tells of the cable");
    chain.edge.pfs(["stat", "/edge/kept"]).run().exits(5);
    chain.network.owner.put_back(Cable::Down);
    readers.iter().for_each(|reader| reads_up_to(reader, 630_000));
    append(after);
    readers.iter().for_each(|reader| reads_up_to(reader, data.len()));
    assert!(!chain.edge.log().contains("link lost"), "{}", chain.edge.log());

    for (name, _) in rings {
        chain.owner.close(&format!("/streamfs/{name}"));
    }
    let [kept_here, lapped] = readers.map(Running::finish);
    let kept_here = kept_here.exits(0);
    assert_eq!(gaps(&kept_here.stderr), []);
    assert_eq!(digest(&kept_here.stdout), digest(&data));
    let lapped = lapped.exits(4);
    let lost = gaps(&lapped.stderr);
    assert_eq!((lost.len(), lost[0].from), (1, 30_000), "{}", lapped.stderr);
    assert_eq!(digest(&lapped.stdout), digest(&kept(&data, 0, &lost)));
}

#[test]
#[ignore = "needs network namespaces: scripts/machines"]
fn an_owner_that_stands_still_for_a_while_loses_nothing() {
    let chain = Chain::new();
    let data = noise(4, 600_000);
    let (before, after) = data.split_at(300_000);
    chain.owner.append(AT_OWNER, before);
    let mut reader = chain.start_reader(Place::Edge, Transport::Shm, []);
    attached(&mut reader);
    reads_up_to(&reader, before.len());

    chain.signal(Place::Owner, Signal::STOP);
    let stopped = Instant::now();
    // Each waits for the owner for a while.
    while stopped.elapsed() < Duration::from_secs(12) {
        chain.edge.pfs(["stat", AT_EDGE]).run().exits(5);
    }
    // What is at the edge can be read.
    let now = ["cat", "--stream", "--until", "caught-up", AT_EDGE];
    assert!(chain.edge.pfs(now).run().exits(0).stdout == before);
    assert!(reader.runs(), "the reader waits");
    chain.signal(Place::Owner, Signal::CONT);
    chain.owner.append(AT_OWNER, after);
    chain.owner.close(AT_OWNER);
    let read = reader.finish().exits(0);
    assert_eq!(gaps(&read.stderr), []);
    assert_eq!(digest(&read.stdout), digest(&data));
    for daemon in [&chain.middle, &chain.edge] {
        assert!(!daemon.log().contains("link lost"), "{}", daemon.log());
    }
}

#[test]
#[ignore = "needs network namespaces: scripts/machines"]
fn a_stopped_block_reader_at_the_edge_holds_up_the_writer_at_the_owner_until_it_is_killed() {
    let chain = Chain::new();
    chain.owner.create_with_buffers(AT_OWNER, 64 * 1024, 64 * 1024);
    let block = ["--slow", "block"];
    let [mut stopped, mut other] =
        [Transport::Shm, Transport::Unix].map(|on| chain.start_reader(Place::Edge, on, block));
    attached(&mut stopped);
    attached(&mut other);
    let mut writer =
        chain.owner.pfs(["write", "--stream", "--close", AT_OWNER]).stdin_pipe().spawn();
    let input = writer.feed(|number| noise(number as u64, 1024 * 1024));
    let waits = || chain.owner.stat(AT_OWNER).unwrap()["writers"][0]["waiting"] == true;

    stopped.signal(Signal::STOP);
    eventually("the writer waits for the reader", waits);
    let head = chain.owner.head(AT_OWNER);
    stopped.signal(Signal::CONT);
    eventually("the reader has what the writer waited for", || stopped.stdout_len() > head);
    stopped.signal(Signal::STOP);
    eventually("the writer waits again", waits);
    let head = chain.owner.head(AT_OWNER);
    stopped.signal(Signal::KILL);
    let killed = stopped.finish().exits(137);
    eventually("the writer goes on", || chain.owner.head(AT_OWNER) > head);

    let data = input.end();
    writer.finish().exits(0);
    let read = other.finish().exits(0);
    assert_eq!(digest(&read.stdout), digest(&data));
    assert!(data.starts_with(&killed.stdout) && gaps(&killed.stderr).is_empty());
}
