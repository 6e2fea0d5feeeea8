//! Tests of registry totals.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::expect_used)] // test helpers, not known to clippy as tests

use std::time::Duration;

use pfs_stream::*;

const HERE: Peer = Peer { pid: Some(1), uid: Some(2) };
const ELSEWHERE: Peer = Peer { pid: None, uid: None };

fn registry() -> Registry {
    Registry::new(Limits::default())
}

fn create(registry: &Registry, name: &str, size: u64) -> Stream {
    let config = StreamConfig {
        ring_buffer_size: size,
        channel_buffer_size: size,
        ..StreamConfig::default()
    };
    registry.create(name, config).unwrap()
}

fn reader(stream: &Stream, policy: SlowPolicy, peer: Peer) -> Reader {
    stream.reader_of(ReadOptions { policy, ..ReadOptions::default() }, peer).unwrap()
}

fn read_all(reader: &mut Reader) {
    while let Ok(Some(Read::Data { .. } | Read::Gap { .. })) = reader.try_read(&mut Vec::new(), 100)
    {
    }
}

/// Lets two writers and two readers work, one of which loses a chunk. Calls `look` with the
/// registry before they detach.
fn work_and_go(registry: &Registry, look: impl FnOnce(&Registry)) {
    let (first, second) = (create(registry, "a", 4096), create(registry, "b", 4096));
    let mut writers = [first.writer_of(HERE).unwrap(), second.writer_of(ELSEWHERE).unwrap()];
    let mut readers =
        [reader(&first, SlowPolicy::Drop, HERE), reader(&first, SlowPolicy::Disconnect, ELSEWHERE)];
    writers[0].try_append(&[0; 10]).unwrap();
    writers[1].try_append(&[0; 3]).unwrap();
    readers.iter_mut().for_each(read_all);
    // Three chunks of 2000 bytes, while no reader may lag by more than 4096: the first chunk is
    // lost.
    for _ in 0..3 {
        writers[0].try_append(&[0; 2000]).unwrap();
    }
    read_all(&mut readers[0]);
    look(registry);
    let [finishes, dies] = writers;
    finishes.finish(Finish::Close);
    drop((dies, readers));
    registry.remove("b");
}

/// Checks the counters after `work_and_go`.
fn assert_counted(totals: &Totals) {
    assert_eq!(totals.written, ByTransport { unix: 6010, http: 3, shm: 0 });
    assert_eq!(totals.read, ByTransport { unix: 4010, http: 10, shm: 0 });
    assert_eq!((totals.gaps, totals.lost_bytes, totals.lost_chunks), (1, 2000, 1));
}

#[test]
fn attached_readers_and_writers_are_counted() {
    work_and_go(&registry(), |registry| {
        let totals = registry.totals();
        assert_counted(&totals);
        assert_eq!((totals.open, totals.closed, totals.writers), (2, 0, 2));
        assert_eq!(
            (totals.readers_drop, totals.readers_block, totals.readers_disconnect),
            (1, 0, 1)
        );
        assert_eq!((totals.finished, totals.died), (0, 0));
    });
}

#[test]
fn detached_readers_and_writers_stay_counted_without_an_earlier_query() {
    // No totals are requested in between: counters that were reported once never decrease, which
    // would hide that counts were forgotten.
    let registry = registry();
    work_and_go(&registry, |_| ());
    let totals = registry.totals();
    assert_counted(&totals);
    assert_eq!((totals.open, totals.closed, totals.writers), (0, 1, 0));
    assert_eq!((totals.readers_drop, totals.readers_disconnect), (0, 0));
    assert_eq!((totals.finished, totals.died), (1, 1));
}

#[test]
fn detached_readers_and_writers_are_not_counted_twice() {
    let registry = registry();
    work_and_go(&registry, |registry| assert_counted(&registry.totals()));
    assert_counted(&registry.totals());
}

#[test]
fn waiting_time_counts_during_the_wait_and_afterwards() {
    let registry = registry();
    let stream = create(&registry, "a", 4096);
    let mut writer = stream.writer_of(HERE).unwrap();
    let mut slow = reader(&stream, SlowPolicy::Block, HERE);
    writer.append_blocking(&[0; 4096]).unwrap();
    assert_eq!(registry.totals().waited, Duration::ZERO);
    let waits = std::thread::spawn(move || writer.append_blocking(&[0; 4096]).map(|_| writer));
    let mut during = Totals::default();
    while during.waited < Duration::from_millis(2) {
        assert!(!waits.is_finished(), "the writer does not wait");
        during = registry.totals();
    }
    assert_eq!(during.writers_waiting, 1);
    read_all(&mut slow);
    let writer = waits.join().unwrap().unwrap();
    let after = registry.totals();
    assert_eq!(after.writers_waiting, 0);
    assert!(after.waited >= during.waited, "{after:?} after {during:?}");
    drop(writer);
    assert_eq!(registry.totals().waited, after.waited);
}

#[test]
fn waiting_time_stays_counted_without_a_query_during_the_wait() {
    let registry = registry();
    let stream = create(&registry, "a", 4096);
    let mut writer = stream.writer_of(HERE).unwrap();
    let mut slow = reader(&stream, SlowPolicy::Block, HERE);
    writer.append_blocking(&[0; 4096]).unwrap();
    let waits = std::thread::spawn(move || writer.append_blocking(&[0; 4096]).map(|_| ()));
    while !stream.stat().writers.iter().any(|writer| writer.waiting) {
        assert!(!waits.is_finished(), "the writer does not wait");
    }
    read_all(&mut slow);
    waits.join().unwrap().unwrap();
    assert!(registry.totals().waited > Duration::ZERO);
}

#[cfg(all(target_os = "linux", not(miri)))]
#[test]
fn bytes_through_shared_memory_are_counted_separately() {
    // Totals with attached and with detached readers and writers.
    for look in [true, false] {
        share(look);
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
fn assert_shared(totals: &Totals) {
    assert_eq!(totals.written, ByTransport { shm: 111, unix: 7, http: 0 });
    assert_eq!(totals.read, ByTransport { shm: 118, unix: 0, http: 0 });
}

#[cfg(all(target_os = "linux", not(miri)))]
fn share(look: bool) {
    use pfs_stream::{lease::MappedOffer, shm::ShmReader};

    let own = |file: std::os::fd::BorrowedFd<'_>| file.try_clone_to_owned().unwrap();
    let registry = registry();
    let stream = create(&registry, "a", 1024 * 1024);
    let mut writer = stream.writer_of(HERE).unwrap();
    writer.try_append(&[2; 7]).unwrap();
    let offer = writer.offer_lease().unwrap();
    let [asleep, _] = offer.wake_files();
    let offered = MappedOffer::open(own(offer.ring()), own(asleep), offer.layout()).unwrap();
    let mut holder = offered.begin(writer.grant_lease(offer).unwrap().start(), []).unwrap();
    for len in [100, 11] {
        holder.try_push(vec![1; len]).unwrap();
        holder.publish().unwrap();
    }
    let handout =
        reader(&stream, SlowPolicy::Drop, HERE).hand_out(true).map_err(|(_, error)| error).unwrap();
    let (ring, page) = (own(handout.ring().unwrap()), own(handout.page().unwrap()));
    let mut reader = ShmReader::open(ring, page, &handout.start()).unwrap();
    while let Some(Read::Data { .. }) = reader.try_read(&mut Vec::new(), 100).unwrap() {}
    if look {
        assert_shared(&registry.totals());
    }
    drop((handout, writer));
    assert_shared(&registry.totals());
}
