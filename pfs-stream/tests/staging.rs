//! Writers of other processes, with both sides in one process.
#![cfg(all(target_os = "linux", not(loom)))]
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests, which clippy does not know as such

use std::{io::Write as _, sync::mpsc, thread};

use pfs_stream::{
    Finish,
    staging::{BadStaging, MAX_STAGED, Staging, StagingError, StagingWriter},
    *,
};

fn pair() -> (Staging, StagingWriter) {
    let staging = Staging::new().unwrap();
    let file = staging.file().unwrap().try_clone_to_owned().unwrap();
    (staging, StagingWriter::open(file).unwrap())
}

fn stream() -> (Stream, Writer, Reader) {
    let stream = Stream::new("s", StreamConfig::default()).unwrap();
    let options = ReadOptions { policy: SlowPolicy::Block, ..Default::default() };
    let reader = stream.reader(options).unwrap();
    let writer = stream.writer().unwrap();
    (stream, writer, reader)
}

fn chunk(number: u64) -> Vec<u8> {
    let len = 1 + number.wrapping_mul(0x9E37_79B9_7F4A_7C15) as usize % 3000;
    (0..len).map(|at| (number as usize ^ at) as u8).collect()
}

/// Appends what is staged until told to stop; rings and sleeps as the daemon would.
fn consume(mut staging: Staging, mut writer: Writer, rung: mpsc::Receiver<()>, ring: mpsc::Sender<()>) {
    loop {
        while let Some(chunk) = staging.next_chunk().unwrap() {
            pollster::block_on(writer.push_staged(&staging, chunk)).unwrap();
            staging.consume(chunk);
            if staging.producer_is_to_be_rung() {
                ring.send(()).unwrap();
            }
        }
        writer.wake();
        if staging.may_sleep() && rung.recv().is_err() {
            assert!(staging.next_chunk().unwrap().is_none());
            writer.finish(Finish::Close);
            return;
        }
    }
}

#[test]
fn what_is_staged_is_appended_in_order_and_nobody_sleeps_for_ever() {
    const CHUNKS: u64 = 20_000;
    let (staging, mut stage) = pair();
    let (_stream, writer, mut reader) = stream();
    let (to_consumer, rung_consumer) = mpsc::channel();
    let (to_producer, rung_producer) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| consume(staging, writer, rung_consumer, to_producer));
        scope.spawn(move || {
            for number in 0..CHUNKS {
                let chunk = chunk(number);
                while !stage.try_push(&chunk) {
                    stage.publish();
                    if stage.consumer_is_to_be_rung() {
                        to_consumer.send(()).unwrap();
                    }
                    if stage.may_sleep(StagingWriter::pending_with_room_for(chunk.len())) {
                        rung_producer.recv().unwrap();
                    }
                }
                // Held back for a while, as a library does with small chunks.
                if number % 3 == 0 || number + 1 == CHUNKS {
                    stage.publish();
                }
                if stage.consumer_is_to_be_rung() {
                    to_consumer.send(()).unwrap();
                }
            }
            while stage.may_sleep(0) {
                rung_producer.recv().unwrap();
            }
            assert_eq!(stage.pending(), 0);
        });
        let mut bytes = Vec::new();
        for number in 0..CHUNKS {
            let expected = chunk(number);
            while bytes.len() < expected.len() {
                assert!(matches!(reader.read_blocking(&mut bytes, 1).unwrap(), Read::Data { chunks: 1, .. }));
            }
            assert_eq!(bytes, expected);
            bytes.clear();
        }
        assert_eq!(reader.read_blocking(&mut bytes, 1).unwrap(), Read::End(End::Closed));
    });
}

#[test]
fn a_file_is_read_straight_into_the_stream_also_where_the_area_goes_round() {
    let (mut staging, mut stage) = pair();
    let (_stream, mut writer, mut reader) = stream();
    let (input, mut output) = std::io::pipe().unwrap();
    let mut bytes = Vec::new();
    for number in 0..2000 {
        let chunk = chunk(number);
        output.write_all(&chunk).unwrap();
        assert_eq!(stage.try_push_from(&input, MAX_STAGED).unwrap(), Some(chunk.len()));
        assert!(staging.next_chunk().unwrap().is_none(), "what is held back is not there yet");
        stage.publish();
        let staged = staging.next_chunk().unwrap().unwrap();
        pollster::block_on(writer.push_staged(&staging, staged)).unwrap();
        staging.consume(staged);
        reader.try_read(&mut bytes, usize::MAX).unwrap().unwrap();
        assert_eq!(bytes, chunk);
        bytes.clear();
    }
    drop(output);
    assert_eq!(stage.try_push_from(&input, MAX_STAGED).unwrap(), Some(0));
    assert!(staging.next_chunk().unwrap().is_none());
}

#[test]
fn a_full_area_takes_nothing_more_until_something_was_consumed() {
    let (mut staging, mut stage) = pair();
    while stage.try_push(&[7; MAX_STAGED]) {}
    stage.publish();
    let (input, _output) = std::io::pipe().unwrap();
    assert_eq!(stage.try_push_from(&input, MAX_STAGED).unwrap(), None);
    let staged = staging.next_chunk().unwrap().unwrap();
    staging.consume(staged);
    assert!(stage.try_push(&[7; MAX_STAGED]));
    assert!(!stage.try_push(&[7; 8]), "there is no more room than was given back");
}

#[test]
fn counters_that_cannot_be_are_refused_and_nothing_is_read_beside_the_area() {
    for (at, garbage) in [(0, u64::MAX), (0, 1 << 40), (0, 8), (4096, u64::MAX), (4096, 0), (4096, 200_000)] {
        let (staging, mut stage) = pair();
        assert!(stage.try_push(b"chunk"));
        stage.publish();
        rustix::io::pwrite(staging.file().unwrap(), &garbage.to_ne_bytes(), at).unwrap();
        assert_eq!(staging.next_chunk().err(), Some(BadStaging), "{garbage} at {at}");
    }
}

#[test]
fn all_that_is_staged_is_appended_at_once_up_to_what_a_block_reader_needs() {
    let (mut staging, mut stage) = pair();
    let config = StreamConfig { ring_buffer_size: 4096, channel_buffer_size: 4096, ..Default::default() };
    let stream = Stream::new("s", config).unwrap();
    let mut reader = stream.reader(ReadOptions { policy: SlowPolicy::Block, ..Default::default() }).unwrap();
    let mut writer = stream.writer().unwrap();
    for number in 0..50u8 {
        assert!(stage.try_push(&[number; 100]));
    }
    stage.publish();
    let pushed = writer.try_push_staged(&mut staging, 1000);
    assert_eq!(pushed, Pushed { chunks: 10, bytes: 1000, offset: 1000, end: PushEnd::Enough });
    let pushed = writer.try_push_staged(&mut staging, u64::MAX);
    assert_eq!(pushed, Pushed { chunks: 30, bytes: 3000, offset: 4000, end: PushEnd::Full });
    let mut bytes = Vec::new();
    reader.try_read(&mut bytes, 4000).unwrap();
    let pushed = writer.try_push_staged(&mut staging, u64::MAX);
    assert_eq!(pushed, Pushed { chunks: 10, bytes: 1000, offset: 5000, end: PushEnd::Empty });
    assert_eq!(stage.pending(), 0);
    assert!(stage.try_push(&[0; 5000]));
    stage.publish();
    let end = writer.try_push_staged(&mut staging, u64::MAX).end;
    assert!(matches!(end, PushEnd::Failed(StagingError::Append(WriteError::TooLarge { .. }))));
}
