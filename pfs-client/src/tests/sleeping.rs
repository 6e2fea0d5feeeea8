//! Shm readers that sleep on a ring buffer's notifier: every event that they wait for must wake
//! them. The periodic wake-up is off in this crate's tests, so it cannot hide a missing wake.

use std::{future::poll_fn, io::IoSlice, mem::MaybeUninit, os::fd::BorrowedFd, task::Poll};

use bytes::BytesMut;
use pfs_proto::{Decoder, Hello, Reply, Request};
use pfs_stream::{ReadOptions, Stream, StreamConfig, shm::Handout};
use rustix::{
    cmsg_space,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::UnixStream,
};

use super::daemon::{path, promptly};
use crate::{End, Event, ReadError, Reader, connection::Connection};

/// Enough rounds for the thread to have fallen asleep in some of them.
const ROUNDS: usize = 30;

fn stream() -> Stream {
    Stream::new("s", StreamConfig::default().buffer_size(64 * 1024)).unwrap()
}

fn handout(stream: &Stream) -> Handout {
    let reader = stream.reader(ReadOptions::default()).unwrap();
    reader.hand_out(true).map_err(|(_, error)| error).unwrap()
}

/// The daemon's end of a connection over which it passed a ring buffer.
struct Host {
    socket: UnixStream,
    decoder: Decoder,
    stream: Stream,
    handout: Handout,
}

impl Host {
    async fn says(&mut self, reply: Reply) {
        let mut bytes = BytesMut::new();
        reply.encode(&mut bytes);
        self.socket.write_all(&bytes).await.unwrap();
    }

    /// Passes the next ring buffer, for which the reader asks.
    async fn moves_the_reader(&mut self) {
        assert_eq!(hears(&mut self.socket, &mut self.decoder).await, Request::Follow);
        let next = self.handout.follow().unwrap();
        let mut bytes = BytesMut::new();
        Reply::Ring { layout: next.layout(), leased: false }.encode(&mut bytes);
        send_with(&self.socket, &bytes, &[next.file()]);
    }
}

/// Sends a message with file descriptors.
fn send_with(socket: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let sent = socket.try_io(Interest::WRITABLE, || {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
        Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
    });
    assert_eq!(sent.unwrap(), bytes.len());
}

async fn hears(socket: &mut UnixStream, decoder: &mut Decoder) -> Request {
    loop {
        if let Some(frame) = decoder.next_frame().unwrap() {
            return Request::decode(frame).unwrap();
        }
        assert_ne!(socket.read_buf(decoder.buffer()).await.unwrap(), 0);
    }
}

/// A reader that has mapped the ring buffer of an empty stream, and its daemon.
async fn shm_reader() -> (Reader, Host) {
    let (ours, mut socket) = UnixStream::pair().unwrap();
    let reader = async {
        let connection = Connection::open_sharing(ours).await.unwrap();
        Reader::open(connection, None, &path(), ReadOptions::default()).await.unwrap()
    };
    let host = async {
        let mut decoder = Decoder::new();
        hears(&mut socket, &mut decoder).await;
        let mut bytes = BytesMut::new();
        Reply::Hello(Hello { capabilities: Hello::SHM | Hello::MOVING, ..Hello::OURS })
            .encode(&mut bytes);
        socket.write_all(&bytes).await.unwrap();
        hears(&mut socket, &mut decoder).await;

        let stream = stream();
        let handout = handout(&stream);
        bytes.clear();
        Reply::Shm(handout.start()).encode(&mut bytes);
        send_with(&socket, &bytes, &[handout.ring().unwrap(), handout.page().unwrap()]);
        let mut host = Host { socket, decoder, stream, handout };
        host.says(Reply::Reading { start: 0, head: 0, content_type: None }).await;
        host
    };
    let (mut reader, host) = tokio::join!(reader, host);
    assert!(reader.is_shm());
    assert!(matches!(reader.next().await, Ok(Event::Attached { .. })));
    (reader, host)
}

/// Lets the reader fall asleep, runs `event`, and returns the reader's next event.
async fn asleep(mut reader: Reader, event: impl AsyncFnOnce()) -> Result<Event, ReadError> {
    let falls_asleep = poll_fn(|cx| Poll::Ready(reader.poll_next(cx).is_pending())).await;
    assert!(falls_asleep, "there is nothing to read");
    let waits = tokio::spawn(async move { reader.next().await });
    tokio::task::yield_now().await;
    event().await;
    promptly(waits).await.unwrap()
}

#[tokio::test]
async fn a_sleeping_reader_is_woken_by_changes_of_its_stream() {
    for _ in 0..ROUNDS {
        let (reader, host) = shm_reader().await;
        let mut writer = host.stream.writer().unwrap();
        let read = asleep(reader, async || {
            writer.try_append(b"x").unwrap();
        });
        let read = read.await;
        assert!(matches!(&read, Ok(Event::Chunk(chunk)) if chunk == "x"), "{read:?}");

        let (reader, host) = shm_reader().await;
        let read = asleep(reader, async || host.stream.close()).await;
        assert!(matches!(read, Ok(Event::End { reason: End::Closed, offset: 0 })), "{read:?}");

        let (reader, host) = shm_reader().await;
        let read = asleep(reader, async || host.stream.remove()).await;
        assert!(matches!(read, Err(ReadError::Removed)), "{read:?}");
    }
}

#[tokio::test]
async fn a_sleeping_reader_is_woken_when_its_daemon_dies_or_shuts_down() {
    for _ in 0..ROUNDS {
        let (reader, Host { socket, stream, handout, .. }) = shm_reader().await;
        // The ring buffer stays unchanged, as after a daemon was killed.
        let read = asleep(reader, async || drop(socket)).await;
        assert!(matches!(read, Err(ReadError::DaemonGone(_))), "{read:?}");
        drop((stream, handout));

        let (reader, mut host) = shm_reader().await;
        let going =
            Reply::Error { code: crate::ErrorCode::ShuttingDown, message: "it ends".to_owned() };
        let read = asleep(reader, async || host.says(going).await).await;
        assert!(matches!(read, Err(ReadError::DaemonGone(_))), "{read:?}");
    }
}

#[tokio::test]
async fn a_sleeping_reader_is_woken_when_its_stream_moves_and_follows_to_the_next_ring() {
    for _ in 0..ROUNDS {
        let (mut reader, mut host) = shm_reader().await;
        let mut writer = host.stream.writer().unwrap();
        // Each chunk is larger than the ring buffer that the reader has at that moment.
        for chunk in [vec![b'x'; 10_000], vec![b'y'; 60_000]] {
            let falls_asleep = poll_fn(|cx| Poll::Ready(reader.poll_next(cx).is_pending())).await;
            assert!(falls_asleep, "there is nothing to read");
            let waits = tokio::spawn(async move {
                let read = reader.next().await;
                (reader, read)
            });
            tokio::task::yield_now().await;
            writer.try_append(&chunk).unwrap();
            promptly(host.moves_the_reader()).await;
            let (back, read) = promptly(waits).await.unwrap();
            assert!(matches!(&read, Ok(Event::Chunk(read)) if *read == chunk), "{read:?}");
            reader = back;
        }
        assert!(reader.is_shm());
        let read = asleep(reader, async || host.stream.close()).await;
        assert!(matches!(read, Ok(Event::End { reason: End::Closed, offset: 70_000 })), "{read:?}");
    }
}

#[tokio::test]
async fn a_reader_whose_next_ring_cannot_be_shared_continues_over_its_connection() {
    let (reader, mut host) = shm_reader().await;
    host.stream.writer().unwrap().try_append(vec![b'x'; 10_000]).unwrap();
    let waits = tokio::spawn(async move {
        let mut reader = reader;
        (reader.next().await, reader.is_shm())
    });
    promptly(async {
        assert_eq!(hears(&mut host.socket, &mut host.decoder).await, Request::Follow);
        host.says(Reply::Unshared).await;
        host.says(Reply::Data("over the connection".into())).await;
    })
    .await;
    let (read, is_shm) = promptly(waits).await.unwrap();
    assert!(matches!(&read, Ok(Event::Chunk(chunk)) if chunk == "over the connection"), "{read:?}");
    assert!(!is_shm);
}

#[tokio::test]
async fn a_reader_that_gets_no_descriptor_with_its_next_ring_reports_that_and_uses_its_connection()
{
    let (reader, mut host) = shm_reader().await;
    host.stream.writer().unwrap().try_append(vec![b'x'; 10_000]).unwrap();
    let waits = tokio::spawn(async move {
        let mut reader = reader;
        reader.next().await
    });
    promptly(async {
        assert_eq!(hears(&mut host.socket, &mut host.decoder).await, Request::Follow);
        let next = host.handout.follow().unwrap();
        host.says(Reply::Ring { layout: next.layout(), leased: false }).await;
        assert_eq!(hears(&mut host.socket, &mut host.decoder).await, Request::CannotMap);
        host.says(Reply::Data("over the connection".into())).await;
    })
    .await;
    let read = promptly(waits).await.unwrap();
    assert!(matches!(&read, Ok(Event::Chunk(chunk)) if chunk == "over the connection"), "{read:?}");
}

#[tokio::test]
async fn a_reader_does_not_fall_asleep_if_its_stream_has_just_moved() {
    let (mut reader, host) = shm_reader().await;
    let count = reader.notify_count();
    assert!(reader.try_next().unwrap().is_none());
    host.stream.writer().unwrap().try_append(vec![b'x'; 10_000]).unwrap();
    let ready = poll_fn(|cx| Poll::Ready(reader.poll_news(cx, count).is_ready())).await;
    assert!(ready, "the reader waits for a ring without a request");
}

#[tokio::test]
async fn a_thread_does_not_fall_asleep_on_a_ring_that_it_reached_after_taking_the_notifiers_count()
{
    let (mut reader, mut host) = shm_reader().await;
    let count = reader.notify_count().unwrap();
    host.stream.writer().unwrap().try_append(vec![b'x'; 10_000]).unwrap();
    let (read, ()) = promptly(async { tokio::join!(reader.next(), host.moves_the_reader()) }).await;
    assert!(matches!(read, Ok(Event::Chunk(_))));
    // The next ring buffer's notifier has the same count as the old one had at that time.
    promptly(tokio::task::spawn_blocking(move || reader.sleep(count))).await.unwrap();
}

#[tokio::test]
async fn sending_or_withdrawing_a_ring_without_a_request_is_a_protocol_error() {
    for unshared in [false, true] {
        let (mut reader, mut host) = shm_reader().await;
        let layout = host.handout.start().layout;
        host.stream.writer().unwrap().try_append(b"not read yet").unwrap();
        host.says(if unshared { Reply::Unshared } else { Reply::Ring { layout, leased: false } })
            .await;
        let read = promptly(reader.next()).await;
        assert!(matches!(&read, Ok(Event::Chunk(chunk)) if chunk == "not read yet"), "{read:?}");
        let read = promptly(reader.next()).await;
        assert!(matches!(&read, Err(ReadError::Other(_))), "{read:?}");
    }
}
