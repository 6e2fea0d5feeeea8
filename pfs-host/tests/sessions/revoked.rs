//! Revoked permissions: a reload of the tokens cuts off running sessions.

use std::{future::Future, sync::Arc, time::Duration};

use pfs_host::{Caller, Daemon, Failure, Grant, Grants, Owner, PageError, Rejected};
use pfs_proto::{
    CreateOptions, ErrorCode, Peer, ReadOptions, Reply, Request, SlowPolicy, StreamPath,
    WriteOptions,
};
use pfs_stream::StreamConfig;
use tokio::{join, time::Instant};

use crate::{
    CHUNK, NARROW, chunk, daemon,
    link::{Far, connect_as},
    path, read,
};

const WIDE: usize = 1024 * 1024;

fn other() -> StreamPath {
    "/streamfs/other".parse().unwrap()
}

/// Grants to read, write and block, each for a path of its own and all paths below it.
fn grants(read: &str, write: &str, block: &str) -> Grants {
    let grant = |read, write, block, prefix: &str| Grant {
        read,
        write,
        block,
        prefix: prefix.parse().unwrap(),
    };
    Grants::new(vec![
        grant(true, false, false, read),
        grant(false, true, false, write),
        grant(false, false, true, block),
    ])
}

fn all() -> Grants {
    grants("/", "/", "/")
}

fn caller(grants: &Grants) -> Caller {
    let (peer, owner) = (Peer::default(), Owner::Anonymous);
    Caller { peer, remote: None, owner, permissions: grants.permissions(), transport: "http" }
}

async fn greeted(daemon: &Arc<Daemon>, capacity: usize, grants: &Grants) -> Far {
    let mut far = connect_as::<true, false>(daemon, capacity, caller(grants));
    assert!(matches!(far.greet(0).await, Some(Reply::Hello(_))));
    far
}

/// The error that ends the connection.
async fn refusal(far: &mut Far) -> (ErrorCode, String) {
    let Some(Reply::Error { code, message }) = far.reply().await else { panic!("no error") };
    assert_eq!(far.reply().await, None);
    (code, message)
}

/// Revokes the client's token while a session waits, and returns the session's result.
async fn revoked<T>(session: impl Future<Output = T>, grants: &Grants) -> T {
    join!(biased; session, async { grants.revoke() }).0
}

#[tokio::test]
async fn a_waiting_session_is_refused_when_its_client_s_token_is_revoked() {
    const LONG: Duration = Duration::from_secs(3600);
    fn is_told(failure: &Failure, wish: &str) {
        assert_eq!(failure.code, ErrorCode::Denied);
        let words =
            format!("the daemon's tokens were reloaded: this token may not {wish} /streamfs/");
        assert!(failure.message.starts_with(&words), "{}", failure.message);
    }
    let (daemon, stream) = daemon();
    let options = ReadOptions { policy: SlowPolicy::Block, ..ReadOptions::default() };
    let _blocker = stream.reader(options).unwrap();

    let grants = all();
    let client = caller(&grants);
    let place = daemon.readable(&client, &path()).unwrap();
    let mut page = place.page(&stream, ReadOptions::default(), Vec::new(), CHUNK).unwrap();
    let Err(PageError::Failed(failure)) = revoked(page.wait(LONG), &grants).await else {
        panic!("a page")
    };
    is_told(&failure, "read");

    let grants = all();
    let client = caller(&grants);
    let mut watch = daemon.readable(&client, &path()).unwrap().watch().await.unwrap();
    is_told(&revoked(watch.next(), &grants).await.unwrap_err(), "read");

    let grants = all();
    let client = caller(&grants);
    let place = daemon.readable(&client, &other()).unwrap();
    let waits = ReadOptions { wait: true, ..ReadOptions::default() };
    is_told(&revoked(place.attach(waits), &grants).await.unwrap_err(), "read");

    let grants = all();
    let client = caller(&grants);
    let place = daemon.writable(&client, &path()).unwrap();
    let mut append = place.append(&stream).await.unwrap();
    for number in 0..4 {
        append.append(&chunk(number)).await.unwrap();
    }
    let (one, four) = (chunk(4), chunk(5));
    let Err(Rejected::CutOff(failure)) = revoked(append.append(&one), &grants).await else {
        panic!("room")
    };
    is_told(&failure, "write");
    let all = append.append_all(&[&four, &four]).await;
    assert!(matches!(all, Err(Rejected::CutOff(failure)) if failure.code == ErrorCode::Denied));
    // A protocol may have gathered a whole body since it checked the permission.
    assert_eq!(place.append(&stream).await.unwrap_err().code, ErrorCode::Denied);

    let grants = self::all();
    let client = caller(&grants);
    let place = daemon.writable(&client, &other()).unwrap();
    grants.revoke();
    assert_eq!(
        place.open_or_create_with(CreateOptions::default()).await.unwrap_err().code,
        ErrorCode::Denied
    );
    assert_eq!(stream.stat().head, 4 * CHUNK as u64);
}

#[tokio::test(start_paused = true)]
async fn readers_and_writers_are_told_of_a_revoked_token_and_the_writer_counts_as_dead() {
    let (daemon, stream) = daemon();
    let grants = all();
    let mut reader = greeted(&daemon, WIDE, &grants).await;
    read(&mut reader, path(), SlowPolicy::Drop).await;
    let mut waiting = greeted(&daemon, WIDE, &grants).await;
    let options = ReadOptions { wait: true, ..ReadOptions::default() };
    waiting.send(&Request::OpenReader(other(), options)).await;
    assert_eq!(waiting.reply().await, Some(Reply::Waiting));
    let mut writer = greeted(&daemon, WIDE, &grants).await;
    writer.send(&Request::OpenWriter(path(), WriteOptions::default())).await;
    assert!(matches!(writer.reply().await, Some(Reply::Writing { .. })));
    writer.send(&Request::Append(chunk(1).into())).await;
    assert!(matches!(writer.reply().await, Some(Reply::Ack { chunks: 1, .. })));
    let mut idle = greeted(&daemon, WIDE, &grants).await;
    assert_eq!(reader.reply().await, Some(Reply::Data(chunk(1).into())));

    grants.revoke();
    for (far, wish) in [(&mut reader, "read"), (&mut waiting, "read"), (&mut writer, "write")] {
        let (code, message) = refusal(far).await;
        assert_eq!(code, ErrorCode::Denied);
        assert!(message.contains(&format!("reloaded: this token may not {wish}")), "{message}");
    }
    let stat = stream.stat();
    assert_eq!(
        (stat.writers_died, stat.writers_finished, stat.readers.len(), stat.head),
        (1, 0, 0, 1000)
    );
    // Later requests are refused as well.
    idle.send(&Request::Stat(path())).await;
    assert!(matches!(idle.reply().await, Some(Reply::Error { code: ErrorCode::Denied, .. })));
}

#[tokio::test(start_paused = true)]
async fn only_sessions_that_need_a_revoked_permission_are_cut_off() {
    let (daemon, stream) = daemon();
    let sizes = StreamConfig {
        ring_buffer_size: 4096,
        channel_buffer_size: 4096,
        ..StreamConfig::default()
    };
    let another = daemon.registry().create(other().as_str(), sizes).unwrap();
    let grants = all();
    let mut kept = Vec::new();
    for (path, policy) in
        [(path(), SlowPolicy::Drop), (other(), SlowPolicy::Drop), (other(), SlowPolicy::Block)]
    {
        let mut far = greeted(&daemon, WIDE, &grants).await;
        read(&mut far, path, policy).await;
        kept.push(far);
    }
    let mut blocks = greeted(&daemon, WIDE, &grants).await;
    read(&mut blocks, path(), SlowPolicy::Block).await;
    let mut writes = greeted(&daemon, WIDE, &grants).await;
    writes.send(&Request::OpenWriter(path(), WriteOptions::default())).await;
    assert!(matches!(writes.reply().await, Some(Reply::Writing { .. })));

    grants.replace(&self::grants("/streamfs", "/streamfs/other", "/streamfs/other"));
    let (_, message) = refusal(&mut blocks).await;
    assert!(message.contains("may not block the writers of /streamfs/s"), "{message}");
    let (_, message) = refusal(&mut writes).await;
    assert!(message.contains("may not write /streamfs/s"), "{message}");
    for stream in [&stream, &another] {
        stream.writer().unwrap().try_append(chunk(1)).unwrap();
    }
    for far in &mut kept {
        assert_eq!(far.reply().await, Some(Reply::Data(chunk(1).into())));
    }
    // The grants can no longer change, and the sessions continue.
    drop(grants);
    tokio::time::sleep(Duration::from_secs(1)).await;
    stream.writer().unwrap().try_append(chunk(2)).unwrap();
    assert_eq!(kept[0].reply().await, Some(Reply::Data(chunk(2).into())));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_is_given_up_two_seconds_after_its_token_is_revoked() {
    let (daemon, stream) = daemon();
    let grants = all();
    let mut far = greeted(&daemon, NARROW, &grants).await;
    read(&mut far, path(), SlowPolicy::Drop).await;
    stream.writer().unwrap().try_append(chunk(0)).unwrap();
    tokio::task::yield_now().await;
    let begun = Instant::now();
    grants.revoke();
    (&mut far.transport.served).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
    assert_eq!(stream.readers(), 0);
}
