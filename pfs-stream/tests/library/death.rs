//! Tests of writer death: readers distinguish a writer that finished, one that died, and one that
//! is still attached.

use std::{io::Write, mem, panic, thread};

use super::*;

fn end(reader: &mut Reader) -> Option<End> {
    loop {
        match reader.try_next().unwrap() {
            Some(Event::End { reason, .. }) => return Some(reason),
            Some(_) => {}
            None => return None,
        }
    }
}

#[test]
fn the_writers_are_gone_when_the_last_one_finishes() {
    for stream in both(4096) {
        let mut reader = until_gone(&stream);
        let mut writer = stream.writer().unwrap();
        writer.write_all(b"all").unwrap();
        assert_eq!(end(&mut reader), None);
        writer.finish(Finish::KeepOpen);
        assert_eq!(end(&mut reader), Some(End::WritersGone));
        let stat = stream.stat();
        assert_eq!((stat.writers_finished, stat.writers_died, stat.writers.len()), (1, 0, 0));
    }
}

#[test]
fn a_dropped_writer_has_died() {
    for stream in both(4096) {
        let (mut reader, bytes) = (until_gone(&stream), until_gone(&stream));
        let mut writer = stream.writer().unwrap();
        writer.write_all(b"some").unwrap();
        drop(writer);
        assert_eq!(end(&mut reader), Some(End::WriterDied));
        assert_eq!(stream.stat().writers_died, 1);
        // Adapters that know only bytes and errors return an error.
        let items: Vec<_> = bytes.into_iter().collect();
        assert_eq!(items[0].as_ref().unwrap(), "some");
        let error = items[1].as_ref().unwrap_err();
        assert!(matches!(ReadError::from_io_error(error), Some(ReadError::WriterDied)));
        assert_eq!((error.kind(), items.len()), (std::io::ErrorKind::UnexpectedEof, 2));
    }
}

#[test]
fn a_writer_in_a_thread_that_panics_has_died() {
    for stream in both(4096) {
        let mut reader = until_gone(&stream);
        let mut writer = stream.writer().unwrap();
        let panics = thread::spawn(move || {
            writer.write_all(b"some").unwrap();
            panic!("on purpose");
        });
        assert!(panics.join().is_err());
        assert_eq!(end(&mut reader), Some(End::WriterDied));
        // The stream still works.
        let mut writer = stream.writer().unwrap();
        writer.write_all(b"more").unwrap();
        writer.finish(Finish::Close);
        assert_eq!(stream.bytes_written(), 8);
        assert_eq!(end(&mut super::reader(&stream)), Some(End::Closed));
    }
}

#[test]
fn a_forgotten_writer_stays_attached_until_the_stream_is_closed() {
    for stream in both(4096) {
        let mut reader = until_gone(&stream);
        let mut writer = stream.writer().unwrap();
        writer.write_all(b"some").unwrap();
        mem::forget(writer);
        assert_eq!(end(&mut reader), None, "a forgotten writer may still append");
        let stat = stream.stat();
        assert_eq!(
            (stat.writers.len(), stat.writers[0].bytes),
            (1, 4),
            "the stat shows the forgotten writer"
        );
        assert_eq!((stat.writers_finished, stat.writers_died), (0, 0));
        stream.close();
        assert_eq!(end(&mut reader), Some(End::Closed));
    }
}

#[test]
fn each_clone_of_a_writer_finishes_or_dies_for_itself() {
    for stream in both(4096) {
        let mut reader = until_gone(&stream);
        let mut first = stream.writer().unwrap();
        let mut second = first.clone();
        let third = second.clone();
        first.write_all(b"1").unwrap();
        second.write_all(b"2").unwrap();
        assert_eq!(
            (first.bytes_written(), second.bytes_written(), third.bytes_written()),
            (1, 1, 0)
        );
        assert_eq!(stream.stat().writers.len(), 3);
        first.finish(Finish::KeepOpen);
        drop(second);
        assert_eq!(end(&mut reader), None, "one writer is still attached");
        third.finish(Finish::KeepOpen);
        assert_eq!(end(&mut reader), Some(End::WriterDied), "one of the three writers has died");
        assert_eq!((stream.stat().writers_finished, stream.stat().writers_died), (2, 1));
    }
}

#[test]
fn a_clone_of_a_writer_whose_stream_is_closed_can_append_nothing() {
    for stream in both(4096) {
        let writer = stream.writer().unwrap();
        stream.close();
        let mut clone = writer.clone();
        let error = clone.write(b"x").unwrap_err();
        assert!(matches!(WriteError::from_io_error(&error), Some(WriteError::Closed)));
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
        writer.finish(Finish::KeepOpen);
        clone.finish(Finish::KeepOpen);
        assert!(panic::catch_unwind(|| stream.stat()).unwrap().writers.is_empty());
    }
}

#[test]
fn a_failed_writer_counts_as_died() {
    for stream in both(4096) {
        let mut reader = until_gone(&stream);
        let mut writer = stream.writer().unwrap();
        writer.write_all(b"some").unwrap();
        writer.finish(Finish::Failed);
        assert_eq!(end(&mut reader), Some(End::WriterDied));
        assert_eq!((stream.stat().writers_finished, stream.stat().writers_died), (0, 1));
        assert!(stream.is_active(), "another writer may continue");
    }
}

#[test]
fn a_stream_closed_as_failed_has_no_clean_end_for_any_reader() {
    for stream in both(4096) {
        let (mut patient, mut waiting, bytes) =
            (reader(&stream), until_gone(&stream), reader(&stream));
        let mut events = stream.events();
        let mut writer = stream.writer().unwrap();
        writer.write_all(b"some").unwrap();
        writer.finish(Finish::CloseFailed);
        // Closing the stream now, in either way, changes nothing.
        stream.close();
        assert!(stream.close_failed());
        for reader in [&mut patient, &mut waiting, &mut reader(&stream)] {
            assert_eq!(end(reader), Some(End::Failed));
        }
        let items: Vec<_> = bytes.into_iter().collect();
        assert_eq!(items[0].as_ref().unwrap(), "some");
        assert!(matches!(
            ReadError::from_io_error(items[1].as_ref().unwrap_err()),
            Some(ReadError::Failed)
        ));
        assert_eq!(items.len(), 2);
        let stat = stream.stat();
        assert_eq!((stat.state, stat.writers_finished, stat.writers_died), (State::Failed, 0, 1));
        assert!(stream.extent().closed && !stream.extent().is_complete());
        let told = std::iter::from_fn(|| events.try_next());
        let closed: Vec<_> =
            told.filter(|event| matches!(event, StreamEvent::Closed { .. })).collect();
        assert_eq!(closed, [StreamEvent::Closed { offset: 4, failed: true }]);
    }
}

#[test]
fn a_closed_stream_cannot_fail_afterwards() {
    for stream in both(4096) {
        let writer = stream.writer().unwrap();
        stream.close();
        assert_eq!(end(&mut reader(&stream)), Some(End::Closed));
        assert!(!stream.close_failed());
        writer.finish(Finish::CloseFailed);
        assert_eq!(end(&mut reader(&stream)), Some(End::Closed));
        assert_eq!(stream.stat().writers_died, 1);
    }
}
