//! Leases of streams whose registry has little memory.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, Waker},
};

use pfs_stream::{lease::HolderError, *};

use super::{SIZE, Shm, Woken, append, chunk, lease, read};

fn set_memory(registry: &Registry, max_memory: u64) {
    registry.set_limits(Limits { max_memory, ..Limits::UNLIMITED }, u64::MAX);
}

#[test]
fn a_wait_for_the_end_of_a_lease_is_woken_by_an_append_that_waits_for_memory() {
    type Append = fn(&mut Writer) -> bool;
    let appends: [Append; 2] = [
        |writer| writer.try_append(b"x") == Err(WriteError::Full),
        |writer| writer.try_append_all(&["x", "y"]) == Ok(None),
    ];
    for waits in appends {
        let registry = Registry::new(Limits::UNLIMITED);
        let stream = registry.create("s", StreamConfig::default().buffer_size(SIZE)).unwrap();
        let mut writer = stream.writer().unwrap();
        let _reader =
            stream.reader(ReadOptions { policy: SlowPolicy::Block, ..Default::default() }).unwrap();
        let mut holder = lease(&mut writer);
        append(&mut holder, 100).unwrap();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert!(writer.poll_lease_end(&mut Context::from_waker(&waker)).is_pending());
        set_memory(&registry, 0);
        let mut other = stream.writer().unwrap();
        assert!(waits(&mut other));
        assert_eq!(append(&mut holder, 10), Err(HolderError::Ended));
        assert_eq!(woken.0.load(Relaxed), 1);
    }
}

#[test]
fn a_leased_ring_and_its_wake_files_take_three_descriptors_whatever_the_stream_had_before() {
    let config = StreamConfig::default().buffer_size(1024 * 1024);
    for was_shared in [true, false] {
        let registry = Registry::with_descriptors(Limits::UNLIMITED, 3 + u64::from(!was_shared));
        let (stream, other) = (
            registry.create("s", config.clone()).unwrap(),
            registry.create("o", config.clone()).unwrap(),
        );
        let mut writer = stream.writer().unwrap();
        writer.try_append(chunk(0, 100)).unwrap();
        let there = was_shared.then(|| Shm::new(&stream));
        let offer = writer.offer_lease().unwrap();
        drop(there);
        // If its ring was shared, the stream moves to a ring of this process, and otherwise to a
        // shared ring.
        writer.try_append(chunk(100, 30_000)).unwrap();
        let _there = (!was_shared).then(|| Shm::new(&stream));
        writer.grant_lease(offer).unwrap();
        assert_eq!(other.is_shared(), !was_shared);
        drop((writer, stream));
        registry.remove("s");
        assert!(other.is_shared());
    }
}

/// A stream whose lease has ended, with as many chunks of 1,000 bytes as fit, and with only this
/// much more memory. Its readers, of this policy, were attached from the beginning.
fn ended(
    more: u64,
    policy: SlowPolicy,
    is_read_elsewhere: bool,
) -> (Registry, Stream, Writer, Reader, Option<Shm>) {
    let registry = Registry::new(Limits::UNLIMITED);
    let stream = registry.create("s", StreamConfig::default().buffer_size(SIZE)).unwrap();
    let mut writer = stream.writer().unwrap();
    let reader = stream.reader(ReadOptions { policy, ..Default::default() }).unwrap();
    let mut holder = lease(&mut writer);
    let there = is_read_elsewhere.then(|| Shm::new(&stream));
    while holder.offset() < 64_000 {
        append(&mut holder, 1000).unwrap();
    }
    set_memory(&registry, registry.memory() + more);
    (registry, stream, writer, reader, there)
}

#[test]
fn the_append_after_a_lease_takes_as_large_a_ring_as_there_is_memory_for() {
    for is_read_elsewhere in [false, true] {
        let (registry, stream, mut writer, reader, there) =
            ended(24_000, SlowPolicy::Drop, is_read_elsewhere);
        drop(reader);
        writer.try_append(chunk(64_000, 1000)).unwrap();
        let stat = stream.stat();
        assert!(
            (15_000..20_000).contains(&(stat.head - stat.tail)) && stat.capacity < SIZE / 2,
            "{stat:?}"
        );
        let mut late = stream.reader(ReadOptions::default()).unwrap();
        assert!(read(&mut late) == chunk(stat.tail, stat.head - stat.tail));
        if let Some(mut there) = there {
            assert!(there.read() == chunk(0, 65_000));
        }
        // The ring grows when there is memory again.
        set_memory(&registry, u64::MAX);
        for offset in 65..165 {
            writer.try_append(chunk(1000 * offset, 1000)).unwrap();
            assert!(read(&mut late) == chunk(1000 * offset, 1000));
        }
        assert_eq!(stream.stat().capacity, SIZE);
    }
}

#[test]
fn a_smaller_ring_after_a_lease_holds_all_that_block_readers_have_to_read() {
    let (_registry, stream, mut writer, mut reader, _) = ended(60_000, SlowPolicy::Block, false);
    let mut bytes = Vec::new();
    reader.try_read(&mut bytes, 30_000).unwrap();
    writer.try_append(chunk(64_000, 1000)).unwrap();
    let stat = stream.stat();
    assert!(stat.capacity < SIZE && stat.tail <= 30_000, "{stat:?}");
    bytes.extend(read(&mut reader));
    assert!(bytes == chunk(0, 65_000));
}

#[test]
fn an_append_after_a_lease_waits_for_block_readers_without_memory_for_their_unread_chunks() {
    let (registry, stream, mut writer, mut reader, _) = ended(20_000, SlowPolicy::Block, false);
    assert_eq!(writer.try_append("x"), Err(WriteError::Full));
    assert_eq!(writer.try_append_all(&["x"]), Ok(None));
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    {
        let mut appending = pin!(writer.append(chunk(64_000, 1000)));
        assert!(appending.as_mut().poll(&mut cx).is_pending());
        let mut bytes = Vec::new();
        reader.try_read(&mut bytes, 60_000).unwrap();
        assert_eq!(woken.0.load(Relaxed), 0, "the reader has not read everything yet");
        bytes.extend(read(&mut reader));
        assert_eq!(woken.0.load(Relaxed), 1);
        assert!(appending.as_mut().poll(&mut cx) == Poll::Ready(Ok(())));
        bytes.extend(read(&mut reader));
        assert!(bytes == chunk(0, 65_000));
    }
    assert!(stream.stat().capacity < SIZE);
    drop((registry, stream));
}

#[test]
fn a_wait_for_room_does_not_touch_the_ring_that_the_stream_has_after_the_lease() {
    let registry = Registry::new(Limits::UNLIMITED);
    let stream = registry.create("s", StreamConfig::default().buffer_size(SIZE)).unwrap();
    let (mut writer, mut other) = (stream.writer().unwrap(), None);
    let options = ReadOptions { policy: SlowPolicy::Block, ..Default::default() };
    let mut reader = stream.reader(options).unwrap();
    let mut holder = lease(&mut writer);
    append(&mut holder, SIZE).unwrap();
    let Err(HolderError::Full { up_to }) = append(&mut holder, 10) else {
        panic!("the ring has no room")
    };
    {
        let mut cx = Context::from_waker(Waker::noop());
        let mut room = pin!(writer.room_for_holder(up_to));
        assert!(room.as_mut().poll(&mut cx).is_pending());
        read(&mut reader);
        set_memory(&registry, registry.memory() + 20_000);
        let other = other.insert(stream.writer().unwrap());
        for offset in 0..40 {
            other.try_append(chunk(SIZE + offset, 1)).unwrap();
        }
        assert!(stream.stat().capacity < SIZE);
        assert!(room.as_mut().poll(&mut cx).is_ready());
    }
    assert!(read(&mut reader) == chunk(SIZE, 40));
}

#[test]
fn an_append_after_a_lease_without_memory_replaces_the_leased_ring_by_a_small_one() {
    const SMALLEST: u64 = 4096;
    for is_read_elsewhere in [false, true] {
        let (registry, stream, mut writer, mut reader, mut there) =
            ended(0, SlowPolicy::Block, is_read_elsewhere);
        let before = registry.memory();
        set_memory(&registry, 100);
        assert_eq!(
            writer.try_append("x"),
            Err(WriteError::Full),
            "the reader has not read anything yet"
        );
        assert!(read(&mut reader) == chunk(0, 64_000));
        for byte in 0..100 {
            writer.try_append(chunk(64_000 + byte, 1)).unwrap();
            assert!(read(&mut reader) == chunk(64_000 + byte, 1));
            if let Some(there) = &mut there {
                assert!(there.read().ends_with(&chunk(64_000 + byte, 1)));
            }
            let most = before + SMALLEST;
            assert!(
                registry.memory() <= most,
                "{} bytes, but {before} under the lease",
                registry.memory()
            );
        }
        drop(stream);
        registry.remove("s");
        drop((writer, reader, there));
        assert_eq!(registry.memory(), 0);
    }
}
