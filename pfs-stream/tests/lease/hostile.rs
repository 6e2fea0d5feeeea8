//! Hostile holders, which write anything into their leased ring.

use std::{
    os::fd::AsFd,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use pfs_stream::{lease::Holder, *};
use proptest::prelude::*;
use rustix::mm::{MapFlags, ProtFlags, mmap};

use super::{SIZE, Shm, append, append_chunk, begin, chunk, map, own, stream};

#[test]
fn a_holder_that_corrupts_its_ring_loses_its_lease_and_harms_nothing_else() {
    let registry = Registry::new(Limits::default());
    for word in 0..200 {
        for (value, is_short) in [0, 1, u64::MAX, 1 << 62, 1 << 63, 0x5555]
            .into_iter()
            .flat_map(|value| [(value, false), (value, true)])
        {
            let stream = registry.create("s", StreamConfig::default().buffer_size(SIZE)).unwrap();
            let mut writer = stream.writer().unwrap();
            let offer = writer.offer_lease().unwrap();
            let (words, mapped) = (words(&own(offer.ring())), map(&offer));
            let mut holder = begin(mapped, &writer.grant_lease(offer).unwrap());
            let mut here = stream.reader(ReadOptions::default()).unwrap();
            for _ in 0..5 {
                append(&mut holder, 100).unwrap();
            }
            let _ = stream.stat();
            // The header's words, and then the first words of the index.
            let at = if word < 128 { word } else { 512 + word - 128 };
            words[at].store(value, Relaxed);
            let _ =
                (stream.stat(), stream.extent(), stream.reader(ReadOptions::default()).map(drop));
            let _ = here.try_read(&mut Vec::new(), 1000);
            let _ = append(&mut holder, 100);
            let _ = stream.stat();
            let mut other = stream.writer().unwrap();
            if is_short {
                // Enough for a ring that holds a part of the history.
                let max_memory = registry.memory() + 1000;
                registry.set_limits(Limits { max_memory, ..Limits::UNLIMITED }, u64::MAX);
            }
            other.try_append(b"goes on").unwrap();
            let mut late =
                stream.reader(ReadOptions { start: Start::Tail(7), ..Default::default() }).unwrap();
            let mut bytes = Vec::new();
            assert!(late.try_read(&mut bytes, 1000).is_ok(), "word {at}, {value:x}");
            assert_eq!(bytes, b"goes on", "word {at}, {value:x}");
            registry.remove("s");
            registry.set_limits(Limits::UNLIMITED, u64::MAX);
        }
    }
    assert!(registry.is_empty());
}

#[test]
fn a_holder_that_scribbles_on_the_pages_of_block_readers_keeps_no_reader_from_reading() {
    let options = ReadOptions { policy: SlowPolicy::Block, ..Default::default() };
    for word in 0..12 {
        for value in [0, 1, 3, u64::MAX, 1 << 62, 1 << 63] {
            let stream = stream();
            let mut writer = stream.writer().unwrap();
            let mut there = Shm::with(&stream, options);
            let offer = writer.offer_lease().unwrap();
            let mapped = map(&offer);
            let grant = writer.grant_lease(offer).unwrap();
            let page = words(&own(grant.pages().next().unwrap()));
            let mut holder = begin(mapped, &grant);
            append(&mut holder, 1000).unwrap();
            page[word].store(value, Relaxed);
            assert!(there.read() == chunk(0, 1000), "word {word}, {value:x}");
            page[word].store(value, Relaxed);
            append(&mut holder, 1000).unwrap();
            let stat = stream.stat();
            assert_eq!(stat.head, 2000);
            let reader = &stat.readers[0];
            assert!(
                reader.position <= 2000 && reader.lost_bytes <= 2000,
                "word {word}, {value:x}: {reader:?}"
            );
            // Also after the lease.
            let mut other = stream.writer().unwrap();
            other.try_append(chunk(2000, 1000)).unwrap();
            page[word].store(value, Relaxed);
            assert!(there.read() == chunk(1000, 2000), "word {word}, {value:x}");
        }
    }
}

/// The words of a file that may still be mapped for writing, now and later.
#[allow(unsafe_code, reason = "no safe call creates a mapping")]
pub(super) fn words(file: &impl AsFd) -> &'static [AtomicU64] {
    let len = rustix::fs::fstat(file).unwrap().st_size as usize;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the kernel chooses the address of the mapping, which is never unmapped, and the file
    // keeps its size.
    unsafe {
        let address =
            mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, file, 0).unwrap();
        std::slice::from_raw_parts(address.cast(), len / 8)
    }
}

/// Actions on a leased stream, done one after the other.
#[derive(Clone, Debug)]
enum Step {
    Corrupt(usize, u64),
    CorruptPages(usize, u64),
    Append(u64),
    Stat,
    Read(usize),
    Attach(SlowPolicy),
    Map(SlowPolicy),
    ReadThere,
    AppendHere(u64),
    Grant,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let word = prop_oneof![4 => 0..128_usize, 4 => 512..700_usize, 1 => 0..11_000_usize];
    let value = prop_oneof![
        Just(0),
        1..100_u64,
        any::<u64>(),
        (0..64_u32).prop_map(|bit| 1 << bit),
        Just(u64::MAX),
        Just((1 << 63) - 1)
    ];
    prop_oneof![
        6 => (word, value.clone()).prop_map(|(word, value)| Step::Corrupt(word, value)),
        2 => (0..12_usize, value).prop_map(|(word, value)| Step::CorruptPages(word, value)),
        6 => (1..3000_u64).prop_map(Step::Append),
        2 => Just(Step::Stat),
        3 => (1..5000_usize).prop_map(Step::Read),
        1 => prop_oneof![Just(SlowPolicy::Drop), Just(SlowPolicy::Block), Just(SlowPolicy::Disconnect)].prop_map(Step::Attach),
        1 => prop_oneof![Just(SlowPolicy::Drop), Just(SlowPolicy::Block)].prop_map(Step::Map),
        2 => Just(Step::ReadThere),
        1 => (1..3000_u64).prop_map(Step::AppendHere),
        2 => Just(Step::Grant),
        1 => Just(Step::Close),
    ]
}

proptest! {
    #[test]
    fn whatever_a_holder_writes_nothing_that_is_done_with_its_stream_panics_or_goes_on_for_ever(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let stream = stream();
        let mut writer = stream.writer().unwrap();
        let mut readers = vec![stream.reader(ReadOptions::default()).unwrap()];
        let (mut holders, mut there): (Vec<(Holder, &[AtomicU64])>, Vec<Shm>) = (Vec::new(), Vec::new());
        let mut pages: Vec<&[AtomicU64]> = Vec::new();
        for step in steps {
            match step {
                // Also holders whose leases have ended: their processes may still write.
                Step::Corrupt(word, value) => holders.iter().for_each(|(_, words)| {
                    words[word % words.len()].store(value, Relaxed);
                }),
                Step::CorruptPages(word, value) => pages.iter().for_each(|words| words[word].store(value, Relaxed)),
                Step::Append(len) => holders.iter_mut().for_each(|(holder, _)| {
                    let _ = append_chunk(holder, vec![7; len as usize]);
                }),
                Step::Stat => {
                    let stat = stream.stat();
                    prop_assert!(stat.tail <= stat.head && stat.head - stat.tail <= stat.capacity);
                    prop_assert!(stat.chunks_held <= stat.head - stat.tail);
                }
                Step::Read(most) => readers.iter_mut().for_each(|reader| {
                    let _ = reader.try_read(&mut Vec::new(), most);
                }),
                Step::Attach(policy) => {
                    readers.extend(stream.reader(ReadOptions { policy, ..Default::default() }));
                }
                Step::Map(policy) => there.push(Shm::with(&stream, ReadOptions { policy, ..Default::default() })),
                Step::ReadThere => there.iter_mut().for_each(|shm| {
                    let _ = shm.reader.try_read(&mut Vec::new(), 1000);
                    let _ = shm.reader.room_is_wanted();
                    if shm.reader.has_to_follow() && let Ok(next) = shm.handout.follow() {
                        shm.go_on(&next);
                    }
                }),
                Step::AppendHere(len) => _ = writer.try_append(vec![8; len as usize]),
                Step::Grant => {
                    let Some(offer) = writer.offer_lease() else { continue };
                    let (words, mapped) = (words(&own(offer.ring())), map(&offer));
                    if let Some(grant) = writer.grant_lease(offer) {
                        pages.extend(grant.pages().map(|page| self::words(&own(page))));
                        holders.push((begin(mapped, &grant), words));
                    }
                }
                Step::Close => stream.close(),
            }
        }
        let stat = stream.stat();
        prop_assert!(stat.tail <= stat.head && stat.head - stat.tail <= stat.capacity);
    }
}
