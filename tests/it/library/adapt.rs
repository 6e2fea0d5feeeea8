//! Adapters of readers and writers to foreign traits, on a real daemon, with futures cancelled at
//! every await.

use std::{
    future::{Future, poll_fn},
    io::{Read as _, Write as _},
    num::NonZeroU64,
    pin::Pin,
    rc::Rc,
    thread,
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use harness::{Daemon, Transport};
use pfs_client::{
    BlockingReader, Client, Endpoint, Event, Finish, Rate, ReadError, ReadOptions, Reader,
    SlowPolicy, StreamReader, StreamWriter, WriteOptions, blocking,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    block_on, client, daemon, endpoint,
    giving_up::{Side, Still, TIMES, chunks},
    path,
};

/// Capacity of the stream, in bytes.
const BUFFER: u64 = 256 * 1024;

fn block() -> ReadOptions {
    ReadOptions { policy: SlowPolicy::Block, ..ReadOptions::default() }
}

/// Rate so high that it limits nothing.
fn fast() -> Rate {
    Rate::Chunks(NonZeroU64::new(100_000).unwrap())
}

/// Writes all chunks through an `AsyncWrite`, reads them with `read`, over all transports, and
/// compares both. Both sides cancel at every await. The daemon is stopped now and then, so that the
/// sides have to wait.
async fn all_arrives<T: Future<Output = Vec<u8>>>(read: impl Fn(Reader, Rc<Side>) -> T) {
    let sent = chunks().concat();
    for transport in Transport::ALL {
        let daemon = daemon(BUFFER);
        let client = client(&daemon, transport).await;
        let writer = client.writer(&path(), WriteOptions::default()).await.unwrap();
        let reader = client.reader(&path(), block()).await.unwrap();
        let (writes, reads) = (Side::default(), Rc::<Side>::default());
        let writing = async {
            let mut writer = writer.throttled(fast()).into_async_write().closing();
            let mut rest = &sent[..];
            for (n, size) in [3, 5_000, 150_000, 70_000].into_iter().cycle().enumerate() {
                if rest.is_empty() {
                    break;
                }
                let still = if n % 10 == 0 { Some(Still::new(&daemon)) } else { None };
                let written = loop {
                    if let Some(written) =
                        writes.once(writer.write(&rest[..size.min(rest.len())])).await
                    {
                        break written.unwrap();
                    }
                    if still.is_some() {
                        break 0;
                    }
                };
                rest = &rest[written..];
                if still.is_some() {
                    for _ in 0..TIMES {
                        assert!(
                            writes.once(writer.flush()).await.is_none(),
                            "{transport:?}: nobody can have taken it"
                        );
                    }
                    reads.gives_up().await;
                }
            }
            while writes.once(writer.flush()).await.is_none() {}
            while writes.once(writer.shutdown()).await.is_none() {}
        };
        let ((), got) = tokio::join!(writing, read(reader, Rc::clone(&reads)));
        assert!(got == sent, "{transport:?}: {} of {} bytes, or other ones", got.len(), sent.len());
    }
}

#[tokio::test]
async fn an_async_reader_that_is_cancelled_all_the_time_gets_all_bytes_once() {
    all_arrives(async |reader, side| {
        let mut bytes = reader.into_byte_stream();
        let (mut got, mut buffer) = (Vec::new(), vec![0; 10_007]);
        loop {
            match side.once(bytes.read(&mut buffer)).await.transpose().unwrap() {
                None => {}
                Some(0) => return got,
                Some(len) => got.extend_from_slice(&buffer[..len]),
            }
            assert_eq!(bytes.position(), got.len() as u64);
        }
    })
    .await;
}

#[tokio::test]
async fn a_stream_of_chunks_that_is_cancelled_all_the_time_yields_each_chunk_once() {
    all_arrives(async |reader, side| {
        let mut chunks = reader.into_byte_stream();
        let mut got = Vec::new();
        loop {
            match side.once(chunks.next()).await {
                None => {}
                Some(Some(chunk)) => got.extend_from_slice(&chunk.unwrap()),
                Some(None) => return got,
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_throttled_stall_detector_that_is_cancelled_all_the_time_gets_each_event_once() {
    all_arrives(async |reader, side| {
        let mut events =
            reader.throttled(fast()).stalls_after(Duration::from_secs(600)).into_event_stream();
        let mut got = Vec::new();
        loop {
            match side.once(events.next()).await {
                None => {}
                Some(Some(Ok(Event::Chunk(chunk)))) => got.extend_from_slice(&chunk),
                Some(Some(Ok(Event::End { .. } | Event::Attached { .. }))) => {}
                Some(None) => return got,
                Some(Some(other)) => panic!("{other:?}"),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_stall_is_reported_and_the_next_event_is_not_lost() {
    for transport in Transport::ALL {
        let daemon = Daemon::with_http();
        let client = client(&daemon, transport).await;
        let mut writer = client.writer(&path(), WriteOptions::default()).await.unwrap();
        let reader = client.reader(&path(), ReadOptions::default()).await.unwrap();
        let mut reader = reader.stalls_after(Duration::from_millis(20));
        assert!(matches!(reader.next().await, Ok(Event::Attached { .. })));
        for text in ["one", "two"] {
            for _ in 0..2 {
                let stalled = reader.next().await;
                assert!(matches!(stalled, Err(ReadError::Stalled { .. })), "{stalled:?}");
            }
            writer.append(text.as_bytes()).await.unwrap();
            writer.flush().await.unwrap();
            let event = loop {
                match reader.next().await {
                    // The machine may be busy.
                    Err(ReadError::Stalled { .. }) => {}
                    event => break event.unwrap(),
                }
            };
            assert_eq!(event, Event::Chunk(text.into()));
        }
    }
}

harness::per_transport! {
    events_of_a_stream_are_a_stream,
}

fn events_of_a_stream_are_a_stream(transport: Transport) {
    block_on(events_are_a_stream(transport));
}

async fn events_are_a_stream(transport: Transport) {
    let daemon = transport.daemon();
    let client = client(&daemon, transport).await;
    let stream = client.open(path()).unwrap();
    stream.create(&pfs_client::CreateOptions::default()).await.unwrap();
    let mut events = stream.events().await.unwrap();
    drop(daemon);
    let mut events = Pin::new(&mut events);
    let failed = poll_fn(|cx| events.as_mut().poll_next(cx)).await;
    assert!(matches!(failed, Some(Err(pfs_client::ReadError::DaemonGone(_)))), "{failed:?}");
    assert!(poll_fn(|cx| events.as_mut().poll_next(cx)).await.is_none());
}

#[test]
fn a_formatted_line_that_a_thread_writes_is_one_chunk() {
    for transport in Transport::ALL {
        let daemon = daemon(BUFFER);
        let client = blocking::Client::new(endpoint(&daemon, transport));
        let mut writer = client.writer(path(), WriteOptions::default()).unwrap();
        // Variables instead of literals, which the compiler would merge into the text.
        let (number, count) = (1, 2);
        writeln!(writer, "line {number} of {count}").unwrap();
        writer.finish(Finish::Close).unwrap();
        assert_eq!(client.stat(path()).unwrap().chunks, 1, "{transport:?}");
    }
}

#[test]
fn threads_write_and_read_as_they_do_with_files() {
    let sent = chunks().concat();
    for transport in Transport::ALL {
        let daemon = daemon(BUFFER);
        let client = || {
            blocking::Client::new(endpoint(&daemon, transport))
                .with_shm(transport == Transport::Shm)
        };
        let mut writer = client().writer(path(), WriteOptions::default()).unwrap();
        let readers = [(); 3].map(|()| client().reader(path(), block()).unwrap());
        let [bytes, chunks, events] = readers;
        let bytes = thread::spawn(move || {
            let mut got = Vec::new();
            bytes.into_byte_iter().read_to_end(&mut got).unwrap();
            got
        });
        let chunks = thread::spawn(move || {
            chunks.into_iter().collect::<Result<Vec<_>, _>>().unwrap().concat()
        });
        let events = thread::spawn(move || {
            let mut got = Vec::new();
            for event in events.into_event_iter() {
                if let Event::Chunk(chunk) = event.unwrap() {
                    got.extend_from_slice(&chunk);
                }
            }
            got
        });
        // More than one chunk can hold.
        writer.write_all(&sent).unwrap();
        std::io::Write::flush(&mut writer).unwrap();
        assert_eq!(writer.finish(Finish::Close).unwrap(), sent.len() as u64);
        for got in [bytes, chunks, events] {
            assert!(got.join().unwrap() == sent, "{transport:?}");
        }
    }
}

#[test]
fn a_thread_that_reads_bytes_gets_an_error_when_the_daemon_dies() {
    let daemon = Daemon::start();
    let client = blocking::Client::new(Endpoint::Unix(daemon.socket()));
    let mut writer = client.writer(path(), WriteOptions::default()).unwrap();
    writer.write_all(b"the last words").unwrap();
    std::io::Write::flush(&mut writer).unwrap();
    let mut reader = client.reader(path(), ReadOptions::default()).unwrap().into_byte_iter();
    assert_eq!(reader.next().unwrap().unwrap(), "the last words");
    drop(daemon);
    let error = reader.next().unwrap().unwrap_err();
    assert!(
        matches!(ReadError::from_io_error(&error), Some(ReadError::DaemonGone(_))),
        "{error:?}"
    );
    assert!(reader.next().is_none());
}

#[tokio::test]
async fn requests_need_no_asynchronous_code() {
    let daemon = Daemon::start();
    let socket = Endpoint::Unix(daemon.socket());
    let requests = tokio::task::spawn_blocking(move || {
        let client = blocking::Client::new(socket);
        client.create(path(), &pfs_client::CreateOptions::default()).unwrap();
        assert_eq!(client.list("/").unwrap().len(), 1);
        client.close(path()).unwrap();
        assert_eq!(client.stat(path()).unwrap().state, pfs_client::State::Closed);
        client.remove(path()).unwrap();
        assert_eq!(client.list("/").unwrap().len(), 0);
    });
    requests.await.unwrap();
    assert!(Client::connect(Endpoint::Unix(daemon.socket())).await.is_ok());
}
