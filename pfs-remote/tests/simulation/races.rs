//! Races that need two messages of a link to arrive together, or one just after the other.

use std::{sync::Arc, time::Duration};

use pfs_client::{Event, Reader, RequestError};
use pfs_proto::{End, ErrorCode, Join, ReadOptions, SlowPolicy, Until};
use pfs_remote::Keep;
use pfs_stream::{Finish, Stream, StreamConfig};
use tokio::time::{sleep, timeout};

use super::{
    network::{AT_OWNER, Direction, Door, MOUNTED, Network, Setup},
    random::Random,
};

/// Bytes of a ring that holds a few chunks.
const RING: u64 = 4096;

/// Bytes of a chunk.
const CHUNK: usize = 1000;

/// Chunks that are more than a ring and all connections hold.
const CHUNKS: u8 = 100;

/// An owner, and a daemon that mounts its streams.
fn network() -> Arc<Network> {
    network_that_keeps(Keep::default())
}

fn network_that_keeps(keep: Keep) -> Arc<Network> {
    Network::new(&[Setup { keep, max_block_time: None }; 2], &mut Random::new(0))
}

/// Appends more than the ring and all connections hold, and closes the stream.
async fn write_all(stream: Stream) {
    let mut writer = stream.writer().unwrap();
    for number in 0..CHUNKS {
        writer.append(vec![number; CHUNK]).await.unwrap();
    }
    writer.finish(Finish::Close);
}

/// Reads everything that [`write_all`] writes. Nothing may be lost.
async fn read_all(mut reader: Reader) {
    assert_eq!(attached(&mut reader).await, 0);
    for number in 0..CHUNKS {
        let event = next(&mut reader).await;
        assert!(matches!(&event, Event::Chunk(chunk) if chunk[0] == number), "{number}: {event:?}");
    }
    let offset = u64::from(CHUNKS) * CHUNK as u64;
    assert_eq!(next(&mut reader).await, Event::End { reason: End::Closed, offset });
}

fn create(network: &Network) -> Stream {
    let config = StreamConfig::default().buffer_size(RING);
    network.daemon(0).registry().create(AT_OWNER, config).unwrap()
}

fn options() -> ReadOptions {
    ReadOptions::default().join(Join::Raw)
}

/// The next event, which must come soon.
async fn next(reader: &mut Reader) -> Event {
    timeout(Duration::from_secs(60), reader.next()).await.expect("nothing comes").unwrap()
}

/// Waits until the reader is attached. Returns its start.
async fn attached(reader: &mut Reader) -> u64 {
    loop {
        match next(reader).await {
            Event::Waiting => {}
            Event::Attached { start, .. } => return start,
            event => panic!("{event:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_had_died_before_the_link_is_no_death_for_its_readers() {
    let network = network();
    let stream = create(&network);
    let mut dies = stream.writer().unwrap();
    dies.append("a").await.unwrap();
    drop(dies);
    let mut writer = stream.writer().unwrap();
    writer.append("b").await.unwrap();
    // The history arrives before the link is told of the writers, which needs several packets.
    network.link(1).set_packet(16);
    network.link(1).set_latency(Direction::Down, Duration::from_millis(10));
    let client = network.client(1).await.unwrap();
    let options = options().until(Until::WritersGone);
    let mut reader = client.reader(MOUNTED, options).await.unwrap();
    assert_eq!(attached(&mut reader).await, 0);
    sleep(Duration::from_secs(1)).await;
    writer.finish(Finish::KeepOpen);
    let mut bytes = Vec::new();
    let end = loop {
        match next(&mut reader).await {
            Event::Chunk(chunk) => bytes.extend_from_slice(&chunk),
            event => break event,
        }
    };
    assert_eq!(bytes, b"ab");
    assert_eq!(end, Event::End { reason: End::WritersGone, offset: 2 });
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_gets_the_first_byte_although_others_are_told_of_no_stream() {
    let network = network();
    let link = network.link(1);
    let client = network.client(1).await.unwrap();
    let mut waiting = client.reader(MOUNTED, options().wait(true)).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    // Leaves a connection to the owner that the next request uses.
    client.list("/").await.unwrap();
    // The owner answers that there is no stream. The answer is on its way when the stream is created,
    // and arrives after the stream.
    link.set_latency(Direction::Down, Duration::from_secs(1));
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.reader(MOUNTED, options()).await }
    });
    sleep(Duration::from_millis(1)).await;
    link.set_latency(Direction::Down, Duration::ZERO);
    let stream = create(&network);
    let mut writer = stream.writer().unwrap();
    writer.append(vec![0; CHUNK]).await.unwrap();
    // Then the ring is soon overwritten.
    sleep(Duration::from_millis(1)).await;
    for number in 1..10 {
        writer.append(vec![number; CHUNK]).await.unwrap();
    }
    assert_eq!(attached(&mut waiting).await, 0);
    assert_eq!(next(&mut waiting).await, Event::Chunk(vec![0; CHUNK].into()));
    // The other reader asked before.
    let refused = asking.await.unwrap().unwrap_err();
    let code = ErrorCode::NoSuchStream;
    assert!(
        matches!(&refused, RequestError::Daemon { code: told, .. } if *told == code),
        "{refused}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_block_reader_loses_nothing_although_replicas_are_kept_shorter_than_an_answer_takes() {
    let network = network_that_keeps(Keep::For(Duration::from_millis(1)));
    network.link(1).set_latency(Direction::Down, Duration::from_millis(100));
    let stream = create(&network);
    let client = network.client(1).await.unwrap();
    let reader = client.reader(MOUNTED, options().policy(SlowPolicy::Block)).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    tokio::join!(write_all(stream), read_all(reader));
}

#[tokio::test(start_paused = true)]
async fn a_block_reader_that_waits_loses_nothing_from_the_first_byte() {
    let network = network();
    network.link(1).set_latency(Direction::Up, Duration::from_millis(100));
    let client = network.client(1).await.unwrap();
    let options = options().wait(true).policy(SlowPolicy::Block);
    let reader = client.reader(MOUNTED, options).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    tokio::join!(write_all(create(&network)), read_all(reader));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_has_waited_survives_a_link_that_breaks_before_the_first_byte() {
    let network = network();
    let client = network.client(1).await.unwrap();
    let mut reader = client.reader(MOUNTED, options().wait(true)).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    // The next link begins with a history.
    network.link(1).set_door(Door::Refusing);
    network.link(1).cut();
    sleep(Duration::from_millis(10)).await;
    let mut writer = create(&network).writer().unwrap();
    writer.append(vec![0; CHUNK]).await.unwrap();
    network.link(1).set_packet(16);
    network.link(1).set_latency(Direction::Down, Duration::from_millis(10));
    network.link(1).set_door(Door::Open);
    assert_eq!(attached(&mut reader).await, 0);
    network.link(1).cut();
    writer.finish(Finish::Close);
    assert_eq!(next(&mut reader).await, Event::Chunk(vec![0; CHUNK].into()));
    let end = Event::End { reason: End::Closed, offset: CHUNK as u64 };
    assert_eq!(next(&mut reader).await, end);
}
