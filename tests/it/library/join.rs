//! Readers that join media: exact bytes by default, the header as an event, and the header as the
//! first bytes of the adapters.

use std::io::Read as _;

use harness::{Daemon, Transport};
use pfs_client::{
    BlockingReader, CreateOptions, Event, Join, ReadOptions, Reader, StreamReader, Until,
    WriteOptions, blocking,
};
use tokio::io::AsyncReadExt;

use super::{block_on, client, endpoint, path};

/// Sizes of the stream's buffers. The film is more than twice as large.
const RING: u64 = 4096;

fn film() -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../pfs-media/tests/samples");
    std::fs::read(format!("{folder}/video.webm")).unwrap()
}

fn joining() -> ReadOptions {
    ReadOptions::default().join(Join::Auto).until(Until::CaughtUp)
}

async fn daemon_with_film(transport: Transport) -> Daemon {
    let daemon = Daemon::with_http();
    let client = client(&daemon, transport).await;
    let sizes = CreateOptions::default().ring_buffer_size(RING).channel_buffer_size(RING);
    client.create(&path(), &sizes).await.unwrap();
    let mut writer = client.writer(&path(), WriteOptions::default()).await.unwrap();
    for chunk in film().chunks(100) {
        writer.append(chunk).await.unwrap();
    }
    writer.flush().await.unwrap();
    writer.finish(pfs_client::Finish::KeepOpen).await.unwrap();
    daemon
}

/// Returns the header, the start and the bytes of a reader.
async fn events(mut reader: Reader) -> (Vec<u8>, u64, Vec<u8>) {
    let Event::Attached { start, content_type, .. } = reader.next().await.unwrap() else {
        panic!("not attached")
    };
    assert_eq!(content_type.as_deref(), Some("video/webm"), "recognised");
    let (mut header, mut bytes) = (Vec::new(), Vec::new());
    loop {
        match reader.next().await.unwrap() {
            Event::Joined { header: found, skipped } => {
                assert!(skipped.end == start && header.is_empty() && bytes.is_empty());
                header = found.to_vec();
            }
            Event::Chunk(chunk) => {
                bytes.extend_from_slice(&chunk);
                assert_eq!(reader.position(), start + bytes.len() as u64);
            }
            Event::End { offset, .. } => {
                assert_eq!(offset, start + bytes.len() as u64);
                return (header, start, bytes);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_reader_joins_only_if_told_to_and_gets_the_header_in_an_event() {
    for transport in Transport::ALL {
        block_on(async {
            let film = film();
            let daemon = daemon_with_film(transport).await;
            let client = client(&daemon, transport).await;
            let raw = joining().join(Join::default());
            let (header, tail, bytes) = events(client.reader(&path(), raw).await.unwrap()).await;
            assert!(header.is_empty() && bytes == film[tail as usize..]);
            let reader = client.reader(&path(), joining()).await.unwrap();
            let (header, start, bytes) = events(reader).await;
            assert!(!header.is_empty() && bytes == film[start as usize..], "{transport:?}");
            assert!(start > tail, "{transport:?}: the ring begins inside a cluster");
            assert!(film[start as usize..].starts_with(&[0x1F, 0x43, 0xB6, 0x75]));
        });
    }
}

#[test]
fn the_adapters_of_a_joined_reader_begin_with_the_header() {
    for transport in Transport::ALL {
        block_on(async {
            let daemon = daemon_with_film(transport).await;
            let client = client(&daemon, transport).await;
            let (header, start, bytes) =
                events(client.reader(&path(), joining()).await.unwrap()).await;
            let expected = [header, bytes].concat();
            let reader = client.reader(&path(), joining()).await.unwrap();
            let mut adapter = reader.into_byte_stream();
            let mut first = [0; 10];
            adapter.read_exact(&mut first).await.unwrap();
            assert_eq!(adapter.position(), start, "the header belongs to no offset");
            let mut rest = Vec::new();
            adapter.read_to_end(&mut rest).await.unwrap();
            assert!([&first[..], &rest].concat() == expected, "{transport:?}");

            let endpoint = endpoint(&daemon, transport);
            let blocking = std::thread::spawn(move || {
                let client = blocking::Client::new(endpoint);
                let client = client.with_shm(transport == Transport::Shm);
                let reader = client.reader(path(), joining()).unwrap();
                let mut all = Vec::new();
                reader.into_byte_iter().read_to_end(&mut all).unwrap();
                all
            });
            assert!(blocking.join().unwrap() == expected, "{transport:?}");
        });
    }
}
