//! Fuzz target: shm readers of ring buffers whose words may hold any value, as a malicious process
//! with write access could leave them. Each read returns, and no byte outside the ring buffer is
//! touched.
#![no_main]

use std::{fs::File, os::unix::fs::FileExt, sync::OnceLock};

use libfuzzer_sys::fuzz_target;
use pfs_stream::{
    Finish, Read, ReadError, ReadOptions, ShmStart, Sink, SlowPolicy, Stream, StreamConfig,
    shm::{ShmReader, WriteToError},
};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

const SIZE: u64 = 4096;

/// A ring buffer as an honest writer leaves it, and where a reader starts.
struct Honest {
    ring: Vec<u8>,
    page: usize,
    start: ShmStart,
}

fn honest() -> &'static Honest {
    static HONEST: OnceLock<Honest> = OnceLock::new();
    HONEST.get_or_init(|| {
        let config = StreamConfig {
            ring_buffer_size: SIZE,
            channel_buffer_size: SIZE,
            ..Default::default()
        };
        let stream = Stream::new("s", config).expect("a stream");
        let reader = stream.reader(ReadOptions::default()).expect("a reader");
        let mut writer = stream.writer().expect("a writer");
        for len in 1..60 {
            writer.try_append(&vec![7; len]).expect("room");
        }
        writer.finish(Finish::KeepOpen);
        let handout = reader.hand_out(false).expect("memory");
        let length = |file: Option<std::os::fd::BorrowedFd<'_>>| {
            let file =
                File::from(file.expect("a file").try_clone_to_owned().expect("a descriptor"));
            let length = file.metadata().expect("a length").len() as usize;
            (file, length)
        };
        let (file, len) = length(handout.ring());
        let mut ring = vec![0; len];
        file.read_exact_at(&mut ring, 0).expect("the ring");
        Honest { ring, page: length(handout.page()).1, start: handout.start() }
    })
}

/// A file sealed against resizing, as readers require.
fn file(len: usize) -> File {
    let file =
        memfd_create("pfs-fuzz", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("a file");
    let file = File::from(file);
    file.set_len(len as u64).expect("memory");
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW).expect("seals");
    file
}

/// A sink that takes parts of chunks, and adds headers.
#[derive(Default)]
struct Parts(Vec<u8>);

impl Sink for Parts {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    fn takes_parts(&self) -> bool {
        true
    }

    fn header_len(&self) -> usize {
        5
    }
}

fuzz_target!(|input: &[u8]| {
    let honest = honest();
    let (ring, page) = (file(honest.ring.len()), file(honest.page));
    ring.write_all_at(&honest.ring, 0).expect("memory");
    let Some((&first, mut rest)) = input.split_first() else { return };
    let mut start = honest.start;
    start.policy =
        [SlowPolicy::Drop, SlowPolicy::Block, SlowPolicy::Disconnect][usize::from(first) % 3];
    let own = ring.try_clone().expect("a descriptor");
    let mut reader = ShmReader::open(own.into(), page.into(), &start).expect("a reader");
    let sink = File::options().write(true).open("/dev/null").expect("/dev/null");

    // Each step: two bytes select the word, one selects the kind of read, and eight are the word's
    // new value.
    while let Some((step, after)) = rest.split_first_chunk::<11>() {
        rest = after;
        let [a, b, what, value @ ..] = *step;
        let words = honest.ring.len() / 8;
        let word = usize::from(u16::from_le_bytes([a, b])) % words;
        ring.write_all_at(&value, 8 * word as u64).expect("memory");
        let position = reader.position();
        let mut parts = Parts::default();
        let most = 1 + usize::from(what) * 16;
        let read = match what % 3 {
            0 => reader.try_read(&mut Vec::new(), most),
            1 => reader.try_read(&mut parts, most),
            _ => {
                use std::os::fd::AsFd;
                reader.try_write_to(sink.as_fd(), 1, most).map_err(|error| match error {
                    WriteToError::File(error) => panic!("/dev/null: {error}"),
                    _ => ReadError::Removed,
                })
            }
        };
        match read {
            Ok(Some(Read::Data { bytes, .. })) => {
                assert!(bytes as u64 <= SIZE && reader.position() == position + bytes as u64);
            }
            Ok(Some(Read::Gap { from, to, .. })) => assert!(from < to && to == reader.position()),
            Ok(_) => assert_eq!(reader.position(), position),
            Err(_) => assert!(reader.position() <= position),
        }
    }
});
