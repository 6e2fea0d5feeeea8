//! Stream events, besides the bytes, that a program receives.

use harness::{Daemon, Transport};
use pfs_client::{
    CreateOptions, Event, Finish, Peer, ReadError, ReadOptions, SlowPolicy, State, StreamEvent,
    WriteOptions, blocking,
};

use super::{client, daemon, endpoint, path};

/// This process, as the daemon sees it.
fn us(transport: Transport) -> Peer {
    Peer { pid: Some(std::process::id()), uid: transport.uid() }
}

#[test]
fn a_thread_that_watches_sees_the_stream_end_and_last_the_loss_of_the_daemon() {
    for transport in Transport::ALL {
        let mut daemon = Daemon::with_http();
        let client = blocking::Client::new(endpoint(&daemon, transport));
        client.create(path(), &CreateOptions::default()).unwrap();
        let events = client.events(path()).unwrap();
        client.remove(path()).unwrap();
        let events: Vec<_> = events.take(9).map(Result::unwrap).collect();
        assert_eq!(events, [StreamEvent::Removed], "{transport:?}");

        client.create(path(), &CreateOptions::default()).unwrap();
        let events = client.events(path()).unwrap();
        daemon.kill9();
        let events: Vec<_> = events.take(9).collect();
        assert!(matches!(events[..], [Err(ReadError::DaemonGone(_))]), "{events:?}");
    }
}

#[tokio::test]
async fn a_watcher_sees_readers_come_and_go_and_the_stream_end() {
    for transport in Transport::ALL {
        let daemon = Daemon::with_http();
        let client = client(&daemon, transport).await;
        let stream = client.open(path()).unwrap();
        stream.create(&CreateOptions::default()).await.unwrap();
        let mut events = stream.events().await.unwrap();

        let first = stream.reader(ReadOptions::default()).await.unwrap();
        let subscribed = events.next().await.unwrap().unwrap();
        let StreamEvent::Subscribed { reader: 1, peer, readers: 1 } = subscribed else {
            panic!("{subscribed:?}")
        };
        assert_eq!(peer, us(transport));
        assert_eq!(events.next().await.unwrap(), Some(StreamEvent::FirstReader));

        let second = stream.reader(ReadOptions::default()).await.unwrap();
        let subscribed = events.next().await.unwrap();
        assert!(
            matches!(subscribed, Some(StreamEvent::Subscribed { reader: 2, readers: 2, .. })),
            "{subscribed:?}"
        );

        drop(first);
        let gone = events.next().await.unwrap();
        assert!(
            matches!(
                gone,
                Some(StreamEvent::Unsubscribed { reader: 1, readers: 1, lost_bytes: 0, .. })
            ),
            "{gone:?}"
        );
        drop(second);
        let gone = events.next().await.unwrap();
        assert!(
            matches!(gone, Some(StreamEvent::Unsubscribed { reader: 2, readers: 0, .. })),
            "{gone:?}"
        );
        assert_eq!(events.next().await.unwrap(), Some(StreamEvent::NoReaders));

        let mut writer = stream.writer(WriteOptions::default()).await.unwrap();
        writer.append(b"12345").await.unwrap();
        writer.finish(Finish::Close).await.unwrap();
        assert_eq!(
            events.next().await.unwrap(),
            Some(StreamEvent::Closed { offset: 5, failed: false })
        );
        stream.remove().await.unwrap();
        assert_eq!(events.next().await.unwrap(), Some(StreamEvent::Removed));
        assert_eq!(events.next().await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_reader_that_loses_something_is_an_event() {
    // An shm reader reports its losses only when it reads.
    for transport in [Transport::Unix, Transport::Http] {
        let daemon = daemon(4096);
        let client = client(&daemon, transport).await;
        let stream = client.open(path()).unwrap();
        stream.create(&CreateOptions::default()).await.unwrap();
        let mut events = stream.events().await.unwrap();
        let mut reader = stream
            .reader(ReadOptions { policy: SlowPolicy::Drop, ..ReadOptions::default() })
            .await
            .unwrap();
        let mut writer = stream.writer(WriteOptions::default()).await.unwrap();
        // Until the reader has lost bytes, whatever the buffers on the way to it hold.
        while !daemon.all_have_lost(path().as_str()) {
            for _ in 0..100 {
                writer.append(&[7; 4000]).await.unwrap();
            }
        }
        writer.flush().await.unwrap();
        let (from, to) = loop {
            if let Event::Gap { from, to, .. } = reader.next().await.unwrap() {
                break (from, to);
            }
        };
        let told = loop {
            if let Some(StreamEvent::Gap { reader: 1, from, to, .. }) = events.next().await.unwrap()
            {
                break (from, to);
            }
        };
        assert_eq!(told, (from, to));
        assert_eq!(reader.lost_bytes(), to - from);
    }
}

#[tokio::test]
async fn an_append_returns_the_number_of_readers_and_stat_the_owner_of_the_stream() {
    for transport in Transport::ALL {
        let daemon = Daemon::with_http();
        let client = client(&daemon, transport).await;
        let stream = client.open(path()).unwrap();
        let mut writer = stream.writer(WriteOptions::default()).await.unwrap();
        let mut readers = Vec::new();
        for count in 0..3 {
            writer.append(b"12345").await.unwrap();
            writer.flush().await.unwrap();
            assert_eq!(writer.readers(), count, "{transport:?}");
            readers.push(stream.reader(ReadOptions::default()).await.unwrap());
        }
        let stat = stream.stat().await.unwrap();
        assert_eq!(stat.owner, us(transport));
        assert_eq!((stat.chunks, stat.head, stat.state), (3, 15, State::Open));
    }
}
