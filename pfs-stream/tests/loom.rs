//! Loom models of a ring buffer of two words: every interleaving, and every value that a weak
//! memory model lets a load see.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p pfs-stream --test loom`
#![cfg(loom)]
#![allow(clippy::unwrap_used)] // test helpers, not known to clippy as tests

use std::{future::poll_fn, task::Poll};

use loom::{future::block_on, model::Builder, thread};
use pfs_stream::*;

/// A ring buffer of 16 bytes that holds at most three chunks.
fn stream() -> Stream {
    let config = StreamConfig::default().buffer_size(16).reserve(true);
    Stream::new("s", config).unwrap()
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn bytes_at(from: u64, len: u64) -> Vec<u8> {
    (from..from + len).map(|offset| 1 + offset as u8).collect()
}

/// Reads the available data, checks and counts it; returns true at the end.
fn step(reader: &mut Reader, lost: &mut u64) -> bool {
    let position = reader.position();
    let mut bytes = Vec::new();
    match reader.try_read(&mut bytes, 16).unwrap() {
        None => {}
        Some(Read::Data { .. }) => assert_eq!(bytes, bytes_at(position, bytes.len() as u64)),
        Some(Read::Gap { from, to, .. }) => {
            assert!(from == position && to > from);
            *lost += to - from;
        }
        Some(Read::End(_)) => return true,
    }
    false
}

#[test]
fn a_read_that_is_overwritten_meanwhile_is_whole_or_a_gap() {
    check(|| {
        let stream = stream();
        let mut reader = stream.reader(ReadOptions::default()).unwrap();
        let mut writer = stream.writer().unwrap();
        writer.try_append(&bytes_at(0, 5)).unwrap();
        let appending = thread::spawn(move || {
            // The second chunk overwrites bytes that the reader may be copying, also inside a
            // shared word.
            for (from, len) in [(5, 9), (14, 10)] {
                writer.try_append(&bytes_at(from, len)).unwrap();
            }
            writer.finish(Finish::Close);
        });
        let mut lost = 0;
        for _ in 0..3 {
            step(&mut reader, &mut lost);
        }
        appending.join().unwrap();
        while !step(&mut reader, &mut lost) {}
        assert_eq!(reader.position(), 24);
        assert_eq!(reader.lost_bytes(), lost);
    });
}

#[test]
fn an_append_wakes_a_reader_that_is_falling_asleep() {
    check(|| {
        let stream = stream();
        let mut reader = stream.reader(ReadOptions::default()).unwrap();
        let mut writer = stream.writer().unwrap();
        let appending = thread::spawn(move || {
            writer.try_append(&bytes_at(0, 8)).unwrap();
            writer
        });
        let mut bytes = Vec::new();
        let read = block_on(reader.read(&mut bytes, 16)).unwrap();
        assert_eq!(read, Read::Data { chunks: 1, bytes: 8 });
        drop(appending.join().unwrap());
    });
}

#[test]
fn a_close_ends_a_reader_that_is_falling_asleep() {
    check(|| {
        let stream = stream();
        let mut reader = stream.reader(ReadOptions::default()).unwrap();
        let closing = thread::spawn(move || stream.close());
        let read = block_on(reader.read(&mut Vec::new(), 16)).unwrap();
        assert_eq!(read, Read::End(End::Closed));
        closing.join().unwrap();
    });
}

#[test]
fn a_close_wakes_a_writer_that_is_falling_asleep_until_the_end() {
    check(|| {
        let stream = stream();
        let mut failure = Box::pin(stream.writer().unwrap().failure());
        let closing = thread::spawn(move || stream.close());
        // Polled twice, as by a task that waits for other work as well.
        let twice = poll_fn(|cx| match failure.as_mut().poll(cx) {
            Poll::Pending => failure.as_mut().poll(cx),
            ready => ready,
        });
        let failure = block_on(twice);
        assert_eq!(failure, WriteError::Closed);
        closing.join().unwrap();
    });
}

#[test]
fn a_waiting_writer_goes_on_when_the_block_reader_has_read() {
    check(|| {
        let stream = stream();
        let options = ReadOptions { policy: SlowPolicy::Block, ..Default::default() };
        let mut reader = stream.reader(options).unwrap();
        let mut writer = stream.writer().unwrap();
        writer.try_append(&bytes_at(0, 16)).unwrap();
        let reading = thread::spawn(move || {
            let mut lost = 0;
            step(&mut reader, &mut lost);
            assert_eq!((lost, reader.position()), (0, 16));
            reader
        });
        block_on(writer.append(&bytes_at(16, 8))).unwrap();
        let mut lost = 0;
        let mut reader = reading.join().unwrap();
        step(&mut reader, &mut lost);
        assert_eq!((lost, reader.position()), (0, 24));
    });
}

#[test]
fn a_waiting_writer_goes_on_when_both_block_readers_have_read() {
    check(|| {
        let stream = stream();
        let options = ReadOptions { policy: SlowPolicy::Block, ..Default::default() };
        let mut readers = [0, 1].map(|_| stream.reader(options).unwrap());
        let mut writer = stream.writer().unwrap();
        writer.try_append(&bytes_at(0, 16)).unwrap();
        step(&mut readers[0], &mut 0);
        let mut late = readers;
        let reading = thread::spawn(move || {
            // The other reader is ahead already, so the writer asks only this one to notify it.
            step(&mut late[1], &mut 0);
            late
        });
        block_on(writer.append(&bytes_at(16, 8))).unwrap();
        let mut lost = 0;
        for reader in &mut reading.join().unwrap() {
            step(reader, &mut lost);
            assert_eq!((lost, reader.position()), (0, 24));
        }
    });
}

#[test]
fn a_block_reader_that_detaches_wakes_a_writer_that_is_falling_asleep() {
    check(|| {
        let stream = stream();
        let options = ReadOptions { policy: SlowPolicy::Block, ..Default::default() };
        let reader = stream.reader(options).unwrap();
        let mut writer = stream.writer().unwrap();
        writer.try_append(&bytes_at(0, 16)).unwrap();
        let going = thread::spawn(move || drop(reader));
        block_on(writer.append(&bytes_at(16, 8))).unwrap();
        going.join().unwrap();
    });
}

#[test]
fn the_loss_of_a_reader_is_counted_once_while_it_detaches() {
    check(|| {
        let stream = stream();
        let mut reader = stream.reader(ReadOptions::default()).unwrap();
        let mut writer = stream.writer().unwrap();
        for from in [0, 8, 16] {
            writer.try_append(&bytes_at(from, 8)).unwrap();
        }
        let mut lost = 0;
        step(&mut reader, &mut lost);
        assert_eq!(lost, 8);
        let going = thread::spawn(move || drop(reader));
        assert_eq!(stream.stat().lost_bytes, lost);
        going.join().unwrap();
        assert_eq!(stream.stat().lost_bytes, lost);
    });
}

/// A stream that grows: its first ring buffer holds one chunk of 8 bytes.
fn growing() -> Stream {
    Stream::new("s", StreamConfig::default().buffer_size(16)).unwrap()
}

#[test]
fn a_reader_gets_every_byte_once_while_the_stream_moves() {
    check(|| {
        let stream = growing();
        let mut reader = stream.reader(ReadOptions::default()).unwrap();
        let mut writer = stream.writer().unwrap();
        writer.try_append(&bytes_at(0, 5)).unwrap();
        let appending = thread::spawn(move || {
            writer.try_append(&bytes_at(5, 6)).unwrap();
            writer.finish(Finish::Close);
        });
        let mut lost = 0;
        for _ in 0..2 {
            step(&mut reader, &mut lost);
        }
        appending.join().unwrap();
        while !step(&mut reader, &mut lost) {}
        assert_eq!((stream.stat().moves, reader.position(), lost), (1, 11, 0));
    });
}

#[test]
fn an_append_that_moves_the_stream_wakes_a_reader_that_is_falling_asleep() {
    check(|| {
        let stream = growing();
        let mut reader = stream.reader(ReadOptions::default()).unwrap();
        let mut writer = stream.writer().unwrap();
        writer.try_append(&bytes_at(0, 5)).unwrap();
        assert!(!step(&mut reader, &mut 0));
        let appending = thread::spawn(move || {
            writer.try_append(&bytes_at(5, 6)).unwrap();
            writer
        });
        let mut bytes = Vec::new();
        let read = block_on(reader.read(&mut bytes, 16)).unwrap();
        assert_eq!((read, bytes), (Read::Data { chunks: 1, bytes: 6 }, bytes_at(5, 6)));
        assert_eq!(stream.stat().moves, 1);
        drop(appending.join().unwrap());
    });
}

#[test]
fn a_close_after_a_move_ends_a_reader_that_is_falling_asleep_in_the_old_ring() {
    check(|| {
        let stream = growing();
        let mut reader = stream.reader(ReadOptions::default()).unwrap();
        let mut writer = stream.writer().unwrap();
        writer.try_append(&bytes_at(0, 5)).unwrap();
        assert!(!step(&mut reader, &mut 0));
        let closing = thread::spawn(move || {
            writer.try_append(&bytes_at(5, 6)).unwrap();
            stream.close();
            writer
        });
        let mut bytes = Vec::new();
        while !matches!(block_on(reader.read(&mut bytes, 16)).unwrap(), Read::End(End::Closed)) {}
        assert_eq!(bytes, bytes_at(5, 6));
        drop(closing.join().unwrap());
    });
}

/// A stream that holds chunks of 8 bytes and more by reference, two of them in its ring buffer.
fn local() -> Stream {
    let config =
        StreamConfig { ring_buffer_size: 16, channel_buffer_size: 16, ..Default::default() };
    Stream::local("s", config).unwrap()
}

fn append_bytes(writer: &mut Writer, from: u64, len: u64) {
    writer.try_append(bytes::Bytes::from(bytes_at(from, len))).unwrap();
}

/// Takes one event and checks it; `None` at the live edge.
fn event(reader: &mut Reader) -> Option<()> {
    let position = reader.position();
    match reader.try_next().unwrap()? {
        Event::Chunk(chunk) => assert_eq!(chunk, bytes_at(position, chunk.len() as u64)),
        Event::Gap { from, to, .. } => assert!(from == position && to > from),
        other => panic!("{other:?}"),
    }
    Some(())
}

#[test]
fn a_writer_drops_no_chunk_while_a_lapped_reader_takes_a_reference() {
    check(|| {
        let stream = local();
        let mut reader = stream.reader(ReadOptions::default()).unwrap();
        let mut writer = stream.writer().unwrap();
        append_bytes(&mut writer, 0, 8);
        append_bytes(&mut writer, 8, 8);
        let appending = thread::spawn(move || {
            // These appends push both earlier chunks out of the ring buffer.
            append_bytes(&mut writer, 16, 8);
            append_bytes(&mut writer, 24, 8);
            writer
        });
        event(&mut reader);
        event(&mut reader);
        drop(appending.join().unwrap());
        while event(&mut reader).is_some() {}
        assert_eq!(reader.position(), 32);
    });
}

#[test]
fn a_reader_that_detaches_while_chunks_are_dropped_has_taken_whole_chunks() {
    check(|| {
        let stream = local();
        let mut readers = [0, 1].map(|_| stream.reader(ReadOptions::default()).unwrap());
        let mut writer = stream.writer().unwrap();
        append_bytes(&mut writer, 0, 16);
        let reading = thread::spawn(move || {
            event(&mut readers[0]);
            drop(readers);
        });
        append_bytes(&mut writer, 16, 16);
        append_bytes(&mut writer, 32, 16);
        reading.join().unwrap();
    });
}

#[test]
fn a_reader_finds_every_chunk_while_the_writer_leaves_the_first_index() {
    check(|| {
        let stream = local();
        let mut reader = stream.reader(ReadOptions::default()).unwrap();
        let mut writer = stream.writer().unwrap();
        append_bytes(&mut writer, 0, 7);
        append_bytes(&mut writer, 7, 7);
        let appending = thread::spawn(move || {
            // One chunk leaves the ring buffer, and then there are more chunks than the first index
            // has entries.
            append_bytes(&mut writer, 14, 5);
            append_bytes(&mut writer, 19, 3);
            writer
        });
        let mut lost = 0;
        step(&mut reader, &mut lost);
        step(&mut reader, &mut lost);
        drop(appending.join().unwrap());
        while reader.position() < 22 {
            step(&mut reader, &mut lost);
        }
        assert_eq!((reader.position(), reader.lost_bytes()), (22, lost));
    });
}
