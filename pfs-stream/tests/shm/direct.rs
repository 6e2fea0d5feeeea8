//! Zero-copy output: what readers of other processes are promised that write to a file straight
//! from the ring.

use std::{
    io::{self, PipeReader, PipeWriter, Read as _},
    os::fd::AsFd,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Release},
    },
    thread,
};

use pfs_stream::{
    Finish,
    shm::{Handout, ShmReader, WriteToError},
    *,
};
use rustix::event::{PollFd, PollFlags, poll};

use super::{byte_at, hand_out, open};

const BLOCK: ReadOptions = ReadOptions {
    start: Start::Oldest,
    policy: SlowPolicy::Block,
    until: Until::Closed,
    wait: false,
    join: Join::Raw,
};

fn stream(size: u64) -> Stream {
    let config =
        StreamConfig { ring_buffer_size: size, channel_buffer_size: size, ..Default::default() };
    Stream::new("s", config).unwrap()
}

fn bytes(from: u64, len: u64) -> Vec<u8> {
    (from..from + len).map(byte_at).collect()
}

/// A pipe that holds 4 KiB.
fn small_pipe() -> (PipeReader, PipeWriter) {
    let (output, input) = io::pipe().unwrap();
    assert_eq!(rustix::pipe::fcntl_setpipe_size(&input, 4096).unwrap(), 4096);
    (output, input)
}

/// A stream of 16 KiB that one chunk has filled, and a reader for which its writer waits.
fn full() -> (Stream, Handout, Writer) {
    let stream = stream(16 * 1024);
    let handout = hand_out(&stream, BLOCK);
    let mut writer = stream.writer().unwrap();
    writer.try_append(bytes(0, 16 * 1024)).unwrap();
    (stream, handout, writer)
}

fn await_bytes(output: &PipeReader) {
    poll(&mut [PollFd::new(output, PollFlags::IN)], None).unwrap();
}

/// Removes a stream when its reader has panicked, because the writer would wait for ever.
struct Ends<'a>(&'a Stream);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.remove();
        }
    }
}

/// Passes a stream of this many chunks through a pipe.
fn pass_on(chunks: u64, input: PipeWriter, mut output: PipeReader) {
    let stream = stream(8192);
    let handout = hand_out(&stream, BLOCK);
    let mut writer = stream.writer().unwrap();
    let end = AtomicU64::new(u64::MAX);
    thread::scope(|scope| {
        let (handout, end, stream) = (&handout, &end, &stream);
        scope.spawn(move || {
            let _ends = Ends(stream);
            let mut reader = open(handout);
            let notifier = reader.notifier();
            loop {
                let count = notifier.count();
                let position = reader.position();
                match reader.try_write_to(input.as_fd(), 1, 2000).unwrap() {
                    Some(Read::Data { bytes, .. }) => {
                        assert_eq!(reader.position(), position + bytes as u64)
                    }
                    Some(other) => panic!("{other:?} was written"),
                    None if position == end.load(Acquire) => break,
                    None => notifier.sleep(count, None),
                }
                if reader.room_is_wanted() {
                    handout.made_room();
                }
            }
            // All bytes are there, but perhaps not yet the close.
            let read = loop {
                let count = notifier.count();
                match reader.try_read(&mut Vec::new(), 1).unwrap() {
                    Some(read) => break read,
                    None => notifier.sleep(count, None),
                }
            };
            assert_eq!(read, Read::End(End::Closed));
        });
        let got = scope.spawn(move || {
            let mut got = Vec::new();
            output.read_to_end(&mut got).unwrap();
            got
        });
        let mut head = 0;
        for number in 0..chunks {
            let len = 1 + (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) % 5000;
            writer.append_blocking(bytes(head, len)).unwrap();
            head = writer.offset();
        }
        end.store(head, Release);
        writer.finish(Finish::Close);
        assert!(got.join().unwrap() == bytes(0, head), "other bytes than were appended");
    });
}

#[test]
fn a_file_gets_every_byte_of_the_stream_while_the_ring_wraps_around() {
    let (output, input) = small_pipe();
    pass_on(2000, input, output);
}

#[test]
fn a_non_blocking_file_that_takes_a_little_at_a_time_gets_every_byte_too() {
    let (output, input) = small_pipe();
    rustix::io::ioctl_fionbio(&input, true).unwrap();
    pass_on(500, input, output);
}

#[test]
fn a_chunk_is_not_overwritten_before_it_is_written_to_its_end() {
    let (_stream, handout, mut writer) = full();
    let (mut output, input) = small_pipe();
    thread::scope(|scope| {
        let mut reader = open(&handout);
        let written = scope.spawn(move || reader.try_write_to(input.as_fd(), 1, 100));
        await_bytes(&output);
        let mut got = vec![0; (16 * 1024) - 1];
        output.read_exact(&mut got[..8192]).unwrap();
        assert_eq!((writer.try_append(b"x"), handout.position()), (Err(WriteError::Full), 0));
        output.read_exact(&mut got[8192..]).unwrap();
        assert!(matches!(
            written.join().unwrap(),
            Ok(Some(Read::Data { chunks: 1, bytes: 16_384 }))
        ));
        assert!(got == bytes(0, got.len() as u64));
        assert_eq!(handout.position(), 16 * 1024);
        writer.try_append(b"x").unwrap();
    });
}

#[test]
fn a_chunk_is_written_to_its_end_even_if_its_stream_is_removed_meanwhile() {
    let (stream, handout, _writer) = full();
    let (mut output, input) = small_pipe();
    thread::scope(|scope| {
        let mut reader = open(&handout);
        let written = scope.spawn(move || {
            let written = reader.try_write_to(input.as_fd(), 1, 100);
            (written, reader.try_read(&mut Vec::new(), 1))
        });
        await_bytes(&output);
        stream.remove();
        let mut got = Vec::new();
        output.read_to_end(&mut got).unwrap();
        let (written, then) = written.join().unwrap();
        assert!(
            matches!(written, Ok(Some(Read::Data { chunks: 1, bytes: 16_384 }))),
            "{written:?}"
        );
        assert!(got == bytes(0, 16 * 1024), "other bytes than were appended");
        assert_eq!(then, Err(ReadError::Removed));
    });
}

#[test]
fn a_reader_that_is_overtaken_while_it_writes_reports_where() {
    let (_stream, handout, mut writer) = full();
    let (mut output, input) = small_pipe();
    thread::scope(|scope| {
        let mut reader = open(&handout);
        let written = scope.spawn(move || {
            let written = reader.try_write_to(input.as_fd(), 1, 100);
            (written, reader.position())
        });
        await_bytes(&output);
        // The daemon does this with a reader that has gone or breaks the rules.
        drop(handout);
        writer.try_append(&[0xEE; 100]).unwrap();
        output.read_to_end(&mut Vec::new()).unwrap();
        let (written, position) = written.join().unwrap();
        assert!(
            matches!(written, Err(WriteToError::Overtaken { from: 0, to }) if to == 16 * 1024),
            "{written:?}"
        );
        assert_eq!(position, 0);
    });
}

#[test]
fn nothing_is_written_without_the_block_policy_below_the_least_bytes_or_when_no_chunk_is_next() {
    let stream = stream(16 * 1024);
    let drops = hand_out(&stream, ReadOptions { policy: SlowPolicy::Drop, ..BLOCK });
    let blocks = hand_out(&stream, BLOCK);
    let until_now = ReadOptions { until: Until::CaughtUp, ..BLOCK };
    let mut writer = stream.writer().unwrap();
    writer.try_append(bytes(0, 1000)).unwrap();
    let caught_up = hand_out(&stream, until_now);
    writer.try_append(bytes(1000, 1000)).unwrap();
    let (mut output, input) = io::pipe().unwrap();
    let write = |reader: &mut ShmReader, least| match reader.try_write_to(
        input.as_fd(),
        least,
        1024 * 1024,
    ) {
        Ok(None) => 0,
        Ok(Some(Read::Data { bytes, .. })) => bytes,
        other => panic!("{other:?}"),
    };
    assert_eq!(write(&mut open(&drops), 1), 0);
    let mut reader = open(&blocks);
    assert_eq!(
        (write(&mut reader, 2001), write(&mut reader, 2000), write(&mut reader, 1)),
        (0, 2000, 0)
    );
    let mut reader = open(&caught_up);
    assert_eq!(
        (write(&mut reader, 1), write(&mut reader, 1)),
        (1000, 0),
        "no more than the stream holds"
    );
    assert!(matches!(reader.try_read(&mut Vec::new(), 1), Ok(Some(Read::End(End::CaughtUp)))));
    stream.remove();
    assert_eq!(write(&mut open(&blocks), 1), 0, "no data of a removed stream");
    drop((writer, input));
    let mut got = Vec::new();
    output.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), 3000);
}

#[test]
fn writing_to_a_pipe_without_a_reader_is_an_error_of_the_file() {
    let stream = stream(16 * 1024);
    let handout = hand_out(&stream, BLOCK);
    stream.writer().unwrap().try_append(bytes(0, 1000)).unwrap();
    let (output, input) = small_pipe();
    drop(output);
    let mut reader = open(&handout);
    let written = reader.try_write_to(input.as_fd(), 1, 100);
    assert!(
        matches!(&written, Err(WriteToError::File(error)) if error.kind() == io::ErrorKind::BrokenPipe),
        "{written:?}"
    );
    assert_eq!(reader.position(), 0);
}
