//! Reading files straight into a leased ring.

use std::{
    io::{self, Write as _},
    os::fd::AsFd as _,
};

use super::*;

#[test]
fn each_read_of_a_file_is_a_chunk_also_across_the_end_of_the_ring() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let mut holder = lease(&mut writer);
    let mut shm = Shm::new(&stream);
    let (input, mut output) = io::pipe().unwrap();
    // 3 does not divide the capacity: some chunks wrap around the end, at any place in a word.
    let (sizes, mut got, mut from) = ([3, 4099, 30_001], Vec::new(), 0);
    for len in sizes.into_iter().cycle().take(30) {
        output.write_all(&chunk(from, len)).unwrap();
        assert_eq!(holder.try_push_from(input.as_fd(), 32_000).unwrap().unwrap(), len as usize);
        holder.publish().unwrap();
        from += len;
        got.extend(shm.read());
    }
    assert!(got == chunk(0, from) && holder.offset() == from);
    assert_eq!((holder.published(), stream.stat().chunks), (30, 30));
    drop(output);
    assert_eq!(holder.try_push_from(input.as_fd(), 32_000).unwrap().unwrap(), 0);
    assert_eq!(
        (stream.stat().chunks, stream.stat().head),
        (30, from),
        "the end of the file is not a chunk"
    );
}

#[test]
fn a_file_that_would_block_leaves_the_stream_unchanged() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let mut holder = lease(&mut writer);
    append(&mut holder, 1000).unwrap();
    let (input, _output) = io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&input, true).unwrap();
    let nothing = holder.try_push_from(input.as_fd(), 1000).unwrap();
    assert_eq!(nothing.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    append(&mut holder, 500).unwrap();
    let mut reader = stream.reader(ReadOptions::default()).unwrap();
    assert_eq!((read(&mut reader), stream.stat().chunks), (chunk(0, 1500), 2));
}

#[test]
fn bytes_read_while_the_lease_ended_can_still_be_appended_through_the_stream() {
    let stream = stream();
    let mut writer = stream.writer().unwrap();
    let mut holder = lease(&mut writer);
    append(&mut holder, SIZE - 100).unwrap();
    let (input, mut output) = io::pipe().unwrap();
    let (started, is_reading) = std::sync::mpsc::channel();
    let reading = thread::spawn(move || {
        started.send(rustix::thread::gettid()).unwrap();
        assert_eq!(holder.try_push_from(input.as_fd(), 5000).unwrap().unwrap(), 3000);
        holder
    });
    let thread = is_reading.recv().unwrap();
    // The thread sleeps nowhere else.
    let state = format!("/proc/self/task/{}/stat", thread.as_raw_nonzero());
    while !std::fs::read_to_string(&state).unwrap().contains(") S ") {
        thread::yield_now();
    }
    let end = writer.end_lease().unwrap();
    assert_eq!((end.chunks, end.bytes, end.offset), (1, SIZE - 100, SIZE - 100));
    // Wraps around the end of the ring.
    output.write_all(&chunk(SIZE - 100, 3000)).unwrap();
    let mut holder = reading.join().unwrap();
    assert_eq!(holder.publish(), Err(HolderError::Ended));
    assert_eq!((holder.pushed(), holder.published()), (2, 1));
    assert!(holder.unpublished().eq([Ok(chunk(SIZE - 100, 3000))]));
    assert_eq!(append(&mut holder, 1), Err(HolderError::Ended));
    assert_eq!(stream.stat().head, SIZE - 100);
}

#[test]
fn a_file_is_not_read_if_a_block_reader_needs_the_room_or_the_lease_has_ended() {
    let stream = stream();
    let options = ReadOptions { policy: SlowPolicy::Block, ..ReadOptions::default() };
    let mut reader = stream.reader(options).unwrap();
    let mut writer = stream.writer().unwrap();
    let mut holder = lease(&mut writer);
    append(&mut holder, SIZE - 100).unwrap();
    let (input, mut output) = io::pipe().unwrap();
    output.write_all(&chunk(SIZE - 100, 200)).unwrap();
    let refused = holder.try_push_from(input.as_fd(), 200).unwrap_err();
    assert_eq!(refused, HolderError::Full { up_to: 1 });
    assert_eq!(read(&mut reader), chunk(0, SIZE - 100));
    pollster::block_on(writer.room_for_holder(1));
    assert_eq!(holder.try_push_from(input.as_fd(), 150).unwrap().unwrap(), 150);
    drop(writer);
    assert_eq!(holder.try_push_from(input.as_fd(), 50).unwrap_err(), HolderError::Ended);
    assert_eq!(rustix::io::ioctl_fionread(&input).unwrap(), 50);
}
