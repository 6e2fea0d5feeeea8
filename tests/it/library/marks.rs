//! Writers that name their header and their sync points.

use harness::{Daemon, Transport};
use pfs_client::{
    Client, CreateOptions, Event, Finish, Join, ReadOptions, Start, Until, WriteOptions, Writer,
    blocking,
};

use super::{block_on, client, endpoint, path};

const RING: u64 = 2 * 1024 * 1024;

/// Size of the chunks: a hundred of them are more than the ring holds.
const CHUNK: usize = 30_000;

const HEADER: usize = 1000;

/// A writer that marks every seventh chunk, and the offsets of the marked chunks.
struct Marking {
    writer: Writer,
    appended: u64,
    marked: Vec<u64>,
}

impl Marking {
    async fn append(&mut self, client: &Client, chunks: usize) {
        for number in 0..chunks {
            if number.is_multiple_of(7) {
                self.marked.push(client.stat(path()).await.unwrap().head);
                self.writer.mark_sync().unwrap();
            }
            let chunk = vec![self.appended as u8; CHUNK];
            self.writer.append(&chunk).await.unwrap();
            self.writer.flush().await.unwrap();
            self.appended += 1;
        }
    }
}

/// Returns the header that a reader gets, and where the reader starts.
async fn joined(client: &Client, start: Start) -> (Vec<u8>, u64) {
    let options = ReadOptions::default().join(Join::Auto).until(Until::CaughtUp).start(start);
    let mut reader = client.reader(path(), options).await.unwrap();
    loop {
        match reader.next().await.unwrap() {
            Event::Joined { header, skipped } => return (header.to_vec(), skipped.end),
            Event::Attached { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn readers_join_where_a_writer_marked_a_sync_point_before_under_and_after_a_lease() {
    for transport in Transport::ALL {
        block_on(async {
            let daemon = Daemon::with_http();
            let client = client(&daemon, transport).await;
            let sizes = CreateOptions::default().ring_buffer_size(RING).channel_buffer_size(RING);
            client.create(path(), &sizes).await.unwrap();
            let options = WriteOptions::default().header_bytes(HEADER as u32);
            let writer = client.writer(path(), options).await.unwrap();
            let mut marking = Marking { writer, appended: 0, marked: Vec::new() };
            let is_leased = async || client.stat(path()).await.unwrap().writers[0].leased;
            for round in 0..3 {
                marking.append(&client, 120).await;
                assert_eq!(is_leased().await, transport == Transport::Shm && round != 1);
                let tail = client.stat(path()).await.unwrap().tail;
                let marked = &marking.marked;
                let oldest = marked.iter().find(|point| **point >= tail).unwrap();
                let newest = marked.last().unwrap();
                let header = vec![0; HEADER];
                for (start, at) in [(Start::Oldest, oldest), (Start::New, newest)] {
                    let (found, begin) = joined(&client, start).await;
                    assert_eq!((begin, &found), (*at, &header), "{transport:?} {round} {start:?}");
                }
                let stat = client.stat(path()).await.unwrap().media.unwrap();
                assert_eq!((&*stat.format, stat.last_sync), ("custom", Some(*newest)));
                if round == 0 {
                    // A second writer ends the lease.
                    let mut second = client.writer(path(), WriteOptions::default()).await.unwrap();
                    second.append(b"unmarked").await.unwrap();
                    second.finish(Finish::KeepOpen).await.unwrap();
                }
                if round == 1 {
                    // After a pause, the writer gets a lease again.
                    while transport == Transport::Shm && !is_leased().await {
                        marking.append(&client, 7).await;
                    }
                }
            }
        });
    }
}

#[test]
fn a_chunk_from_a_file_and_a_pushed_chunk_can_be_sync_points() {
    for transport in Transport::ALL {
        block_on(async {
            let daemon = Daemon::with_http();
            let client = client(&daemon, transport).await;
            let mut writer = client.writer(path(), WriteOptions::default()).await.unwrap();
            for (number, chunk) in [&b"one"[..], b"", b"two", b"three"].iter().enumerate() {
                if number == 1 {
                    // An empty chunk is none, so the next one is marked.
                    writer.mark_sync().unwrap();
                }
                writer.push(chunk).await.unwrap();
            }
            writer.flush().await.unwrap();
            assert_eq!(joined(&client, Start::New).await, (Vec::new(), 3));
            let file = std::io::Cursor::new(b"four");
            let mut input = tempfile::tempfile().unwrap();
            std::io::copy(&mut { file }, &mut input).unwrap();
            std::io::Seek::rewind(&mut input).unwrap();
            writer.mark_sync().unwrap();
            assert_eq!(writer.append_from(&input, 100).await.unwrap().unwrap(), 4);
            writer.flush().await.unwrap();
            assert_eq!(joined(&client, Start::New).await, (Vec::new(), 11));
        });
    }
}

#[test]
fn a_blocking_writer_marks_sync_points_too() {
    let daemon = Daemon::with_http();
    let client = blocking::Client::new(endpoint(&daemon, Transport::Unix));
    let mut writer = client.writer(path(), WriteOptions::default()).unwrap();
    writer.append(b"one").unwrap();
    writer.mark_sync().unwrap();
    writer.append(b"two").unwrap();
    writer.flush().unwrap();
    block_on(async {
        let client = super::client(&daemon, Transport::Unix).await;
        assert_eq!(joined(&client, Start::New).await, (Vec::new(), 3));
    });
}
