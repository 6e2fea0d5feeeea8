//! Tests of readers and writers under the I/O traits of std, futures and tokio.

use std::io::{BufRead, Read as _, Write};

use futures_util::StreamExt;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};

use super::*;

#[test]
fn a_write_is_one_chunk_and_a_write_beyond_the_maximum_is_several() {
    for stream in both(8192) {
        let mut writer = stream.writer().unwrap();
        assert_eq!(writer.write(b"small").unwrap(), 5);
        assert_eq!(writer.write(&[]).unwrap(), 0);
        assert_eq!(stream.stat().chunks, 1);
        let reader = blocking(&stream);
        let large: Vec<u8> = (0..20_000_u32).map(|n| (n % 251) as u8).collect();
        let written = large.clone();
        let writing = std::thread::spawn(move || {
            writer.write_all(&written).unwrap();
            Write::flush(&mut writer).unwrap();
            writer.finish(Finish::Close);
        });
        let chunks: Vec<_> = reader.into_iter().map(Result::unwrap).collect();
        assert_eq!(chunks.iter().map(bytes::Bytes::len).collect::<Vec<_>>(), [5, 8192, 8192, 3616]);
        assert!(chunks[1..].concat() == large);
        writing.join().unwrap();
        assert_eq!(stream.bytes_written(), 20_005);
    }
}

#[test]
fn a_formatted_line_is_one_chunk() {
    for stream in both(8192) {
        let mut writer = stream.writer().unwrap();
        // Variables, because the compiler would merge literals into the format string.
        let (number, count) = (1, 2);
        writeln!(writer, "line {number} of {count}").unwrap();
        assert_eq!(stream.stat().chunks, 1);
        assert_eq!(
            blocking(&stream).next_blocking().unwrap(),
            Event::Chunk("line 1 of 2\n".into())
        );
    }
}

#[test]
fn a_reader_works_as_std_read_and_bufread() {
    for stream in both(1 << 16) {
        let mut writer = stream.writer().unwrap();
        writer.write_all(b"first line\nsecond ").unwrap();
        writer.write_all(b"line\n").unwrap();
        writer.finish(Finish::Close);
        let lines: Vec<_> = reader(&stream).into_byte_iter().lines().map(Result::unwrap).collect();
        assert_eq!(lines, ["first line", "second line"]);
        let mut all = String::new();
        assert_eq!(reader(&stream).into_byte_iter().read_to_string(&mut all).unwrap(), 23);
        let mut part = reader(&stream).into_byte_iter();
        part.read_exact(&mut [0; 11]).unwrap();
        assert_eq!(
            part.next().unwrap().unwrap(),
            "second ",
            "the rest of a chunk comes before the next"
        );
    }
}

#[tokio::test]
async fn readers_and_writers_work_as_tokio_async_read_and_async_write() {
    for stream in both(8192) {
        let mut bytes = blocking(&stream).into_byte_stream();
        let mut writer = stream.writer().unwrap().into_async_write();
        let writing = tokio::spawn(async move {
            writer.write_all(&[b'x'; 30_000]).await.unwrap();
            writer.write_all(b"\nline\n").await.unwrap();
            writer.flush().await.unwrap();
            writer.shutdown().await.unwrap();
            writer.write_all(b"more").await.unwrap_err()
        });
        let mut first = Vec::new();
        bytes.read_until(b'\n', &mut first).await.unwrap();
        assert_eq!(first.len(), 30_001);
        assert_eq!(writing.await.unwrap().kind(), std::io::ErrorKind::BrokenPipe);
        let stat = stream.stat();
        assert_eq!(
            (stat.writers_finished, stat.writers_died),
            (1, 0),
            "a shutdown finishes the writer"
        );
        assert!(stream.is_active(), "a shutdown ends only the writer");
        let mut writer = stream.writer().unwrap().into_async_write().closing();
        writer.shutdown().await.unwrap();
        assert!(!stream.is_active(), "a closing shutdown also ends the stream");
        let mut rest = String::new();
        bytes.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "line\n");
    }
}

#[tokio::test]
async fn a_gap_is_an_error_after_which_reading_continues() {
    for stream in both(8192) {
        let mut bytes = reader(&stream).into_byte_stream();
        let mut read = reader(&stream).into_byte_iter();
        let mut writer = stream.writer().unwrap();
        for n in 0..10_u8 {
            writer.write_all(&[n; 4096]).unwrap();
        }
        let error = bytes.next().await.unwrap().unwrap_err();
        let lost = LostData::from_io_error(&error).expect("the error is a gap");
        assert_eq!((lost.from, lost.to, lost.chunks, lost.bytes()), (0, 8 * 4096, 8, 8 * 4096));
        assert_eq!(error.to_string(), "32768 bytes are lost, offsets 0 to 32768");
        assert_eq!(bytes.next().await.unwrap().unwrap(), [8; 4096][..]);
        assert_eq!(
            (bytes.lost_bytes(), bytes.lost_chunks(), bytes.position()),
            (32768, 8, 9 * 4096)
        );
        let mut buffer = [0; 100];
        bytes.read_exact(&mut buffer).await.unwrap();
        assert_eq!((buffer, bytes.position()), ([9; 100], 9 * 4096 + 100));
        assert_eq!(
            bytes.next().await.unwrap().unwrap().len(),
            3996,
            "the rest of the chunk that was read in part"
        );

        assert!(LostData::from_io_error(&read.read(&mut buffer).unwrap_err()).is_some());
        assert_eq!((read.read(&mut buffer).unwrap(), buffer[0]), (100, 8));
        stream.close();
        assert!(bytes.next().await.is_none());
        assert_eq!(bytes.read(&mut buffer).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_failed_async_write_is_reported_by_shutdown_at_the_latest() {
    for stream in both(8192) {
        let mut slow = blocking(&stream);
        let mut writer = stream.writer().unwrap().into_async_write();
        writer.write_all(&[1; 8192]).await.unwrap();
        assert_eq!(
            writer.write(&[2; 8192]).await.unwrap(),
            8192,
            "the chunk was accepted without room"
        );
        assert_eq!(stream.bytes_written(), 8192);
        stream.close();
        let error = writer.shutdown().await.unwrap_err();
        assert!(matches!(WriteError::from_io_error(&error), Some(WriteError::Closed)));
        assert!(matches!(slow.next().await.unwrap(), Event::Chunk(_)));
        assert!(matches!(slow.next().await.unwrap(), Event::End { offset: 8192, .. }));
    }
}

#[tokio::test]
async fn reader_events_and_stream_events_are_futures_streams() {
    let [stream, _] = both(8192);
    let watching = stream.events();
    let mut writer = stream.writer().unwrap();
    let events = reader(&stream).into_event_stream();
    writer.write_all(b"x").unwrap();
    writer.finish(Finish::Close);
    let events: Vec<_> = events.map(Result::unwrap).collect().await;
    assert_eq!(events, [Event::Chunk("x".into()), Event::End { reason: End::Closed, offset: 1 }]);
    stream.remove();
    let told: Vec<_> = watching.collect().await;
    assert_eq!(told.last(), Some(&StreamEvent::Removed));
}

#[test]
fn events_and_reads_can_be_mixed_without_loss_or_duplicates() {
    for stream in both(1 << 16) {
        let mut reader = reader(&stream);
        let mut writer = stream.writer().unwrap();
        for n in 0..10_u8 {
            writer.write_all(&[n; 5000]).unwrap();
            writer.write_all(&[n; 10]).unwrap();
        }
        let mut all = Vec::new();
        for step in 0_u64.. {
            let position = reader.position();
            assert_eq!(position, all.len() as u64);
            if step.is_multiple_of(2) {
                match reader.try_next().unwrap() {
                    Some(Event::Chunk(chunk)) => all.extend_from_slice(&chunk),
                    None => break,
                    other => panic!("{other:?}"),
                }
            } else if reader.try_read(&mut all, 6000).unwrap().is_none() {
                break;
            }
        }
        let expected: Vec<u8> = (0..10_u8).flat_map(|n| [n; 5010]).collect();
        assert!(all == expected);
    }
}
