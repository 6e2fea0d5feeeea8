//! Refusals are counted, and logged at a bounded rate.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use pfs_host::{
    Daemon, Settings,
    refusals::{Asked, Reason, report},
};
use pfs_proto::{CreateOptions, ErrorCode, Peer, Reply, Request, Unprintable, WriteOptions};
use pfs_stream::Limits;
use tokio::time::sleep;
use tracing::subscriber::DefaultGuard;

use crate::link::{Far, connect, greeted};

/// Captures log lines.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn begin() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let lines = tracing_subscriber::fmt().with_ansi(false).without_time();
        let lines = lines.with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(lines))
    }

    /// Takes the lines about refusals since the last call.
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        text.lines().filter(|line| line.contains("refus")).map(str::to_owned).collect()
    }
}

fn daemon(max_streams: usize, max_memory: u64) -> Arc<Daemon> {
    let limits = Limits { max_streams, max_memory };
    Arc::new(Daemon::new(&Settings { limits, ..Settings::default() }))
}

fn count(daemon: &Daemon, reason: Reason) -> u64 {
    daemon.refusals().counts().into_iter().find(|(name, _)| *name == reason.name()).unwrap().1
}

fn deny(daemon: &Daemon, times: usize) {
    for _ in 0..times {
        daemon.refusals().refuse(Reason::Denied, &Asked::default(), "no");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_counted_exactly_and_logged_as_ten_lines_and_then_one_a_second() {
    let ((log, _logging), daemon) = (Log::begin(), daemon(1, 1024 * 1024));
    deny(&daemon, 10_000);
    assert_eq!(count(&daemon, Reason::Denied), 10_000);
    let lines = log.lines();
    assert_eq!(lines.len(), 10, "{lines:#?}");
    assert!(
        lines.iter().all(|line| line.contains("reason=\"denied\"") && !line.contains("unlogged"))
    );
    for _ in 0..3 {
        sleep(Duration::from_millis(999)).await;
        deny(&daemon, 50);
    }
    let lines = log.lines();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].ends_with("unlogged=10040"), "{lines:#?}");
    assert!(lines[1].ends_with("unlogged=49"), "{lines:#?}");
    // A bucket is full after ten seconds, and never holds more than ten tokens.
    sleep(Duration::from_secs(1000)).await;
    deny(&daemon, 50);
    assert_eq!(log.lines().len(), 10);
    assert_eq!(count(&daemon, Reason::Denied), 10_200);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_one_reason_does_not_hide_another_reason() {
    let ((log, _logging), daemon) = (Log::begin(), daemon(1, 1024 * 1024));
    deny(&daemon, 100);
    daemon.refusals().refuse(Reason::Streams, &Asked::default(), "too many");
    let lines = log.lines();
    assert!(lines.last().unwrap().contains("refused: too many reason=\"streams\""), "{lines:#?}");
    for (name, count) in daemon.refusals().counts() {
        assert_eq!(
            count,
            u64::from(name == "streams") + 100 * u64::from(name == "denied"),
            "{name}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn unlogged_refusals_are_reported_once_within_a_second_after_the_flood() {
    let ((log, _logging), daemon) = (Log::begin(), daemon(1, 1024 * 1024));
    tokio::spawn(report(Arc::clone(&daemon)));
    for _ in 0..2 {
        deny(&daemon, 1000);
        assert_eq!(log.lines().len(), 10);
        sleep(Duration::from_millis(1001)).await;
        let lines = log.lines();
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert!(lines[0].ends_with("reason=\"denied\" unlogged=990"), "{lines:#?}");
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(log.lines(), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn unlogged_refusals_are_reported_at_the_end_of_the_daemon() {
    let ((log, _logging), daemon) = (Log::begin(), daemon(1, 1024 * 1024));
    deny(&daemon, 1000);
    log.lines();
    daemon.refusals().finish();
    let lines = log.lines();
    assert!(lines.len() == 1 && lines[0].ends_with("unlogged=990"), "{lines:#?}");
    daemon.refusals().finish();
    assert_eq!(log.lines(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_line_names_client_and_request_without_control_characters() {
    let ((log, _logging), daemon) = (Log::begin(), daemon(1, 1024 * 1024));
    let asked = Asked {
        peer: Peer { pid: Some(7), uid: Some(8) },
        remote: Some(([192, 0, 2, 1], 9).into()),
        method: Some("GET"),
        path: Some("/streamfs/\u{202e}txt"),
    };
    daemon.refusals().refuse(
        Reason::ForeignHost,
        &asked,
        &format!("not \u{202e}moc{}", "x".repeat(10_000)),
    );
    let line = log.lines().remove(0);
    for part in [
        "WARN",
        "reason=\"foreign_host\"",
        "remote=192.0.2.1:9",
        "pid=7",
        "uid=8",
        "method=\"GET\"",
    ] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    assert!(line.contains("path=\"/streamfs/"), "{line}");
    assert_eq!(Unprintable::find(&line), None, "{line:?}");
    assert!(line.len() < 1000, "{} bytes", line.len());
}

async fn refusal(far: &mut Far) -> (ErrorCode, String) {
    match far.reply().await {
        Some(Reply::Error { code, message }) => (code, message),
        other => panic!("{other:?}"),
    }
}

fn create(name: &str, ring_buffer_size: u64) -> Request {
    let size = Some(ring_buffer_size);
    let sizes = CreateOptions {
        ring_buffer_size: size,
        channel_buffer_size: size,
        reserve: true,
        ..Default::default()
    };
    Request::Create(format!("/streamfs/{name}").parse().unwrap(), sizes)
}

#[tokio::test(start_paused = true)]
async fn each_refusal_of_a_connection_for_a_limit_is_counted_and_logged_once() {
    let ((log, _logging), daemon) = (Log::begin(), daemon(2, 1024 * 1024));
    let refused = |reason: Reason, message: &str| {
        let lines = log.lines();
        assert_eq!(count(&daemon, reason), 1, "{reason:?}");
        let expected = format!("refused: {message} reason=\"{}\"", reason.name());
        assert!(lines.len() == 1 && lines[0].contains(&expected), "no {expected} in {lines:#?}");
    };
    let mut far = greeted(&daemon, 64 * 1024).await;

    far.send(&create("large", 1 << 21)).await;
    let (code, message) = refusal(&mut far).await;
    assert_eq!(code, ErrorCode::Limit);
    refused(Reason::StreamMemory, &message);

    for name in ["one", "two"] {
        far.send(&create(name, 4096)).await;
        assert_eq!(far.reply().await, Some(Reply::Done));
    }
    far.send(&create("three", 4096)).await;
    let (code, message) = refusal(&mut far).await;
    assert_eq!(code, ErrorCode::Limit);
    refused(Reason::Streams, &message);

    let write = |name: &str| {
        Request::OpenWriter(format!("/streamfs/{name}").parse().unwrap(), WriteOptions::default())
    };
    let mut writer = greeted(&daemon, 64 * 1024).await;
    writer.send(&write("one")).await;
    assert!(matches!(writer.reply().await, Some(Reply::Writing { .. })));
    writer.send(&Request::Append(vec![0; 5000].into())).await;
    let (code, message) = refusal(&mut writer).await;
    assert_eq!(code, ErrorCode::TooLarge);
    refused(Reason::TooLarge, &message);

    let _all = daemon.arriving().reserve(daemon.arriving().limit()).unwrap();
    let mut writer = greeted(&daemon, 64 * 1024).await;
    writer.send(&write("one")).await;
    assert!(matches!(writer.reply().await, Some(Reply::Writing { .. })));
    writer.send(&Request::AppendPart(vec![0; 5000].into())).await;
    let (code, message) = refusal(&mut writer).await;
    assert_eq!(code, ErrorCode::Limit);
    refused(Reason::MessageMemory, &message);

    let mut silent = connect::<true>(&daemon, 4096);
    let (code, message) = refusal(&mut silent).await;
    assert_eq!(code, ErrorCode::Timeout);
    refused(Reason::TooSlow, &message);

    // An error of the client is not a refusal.
    far.send(&Request::Stat("/streamfs/none".parse().unwrap())).await;
    assert_eq!(refusal(&mut far).await.0, ErrorCode::NoSuchStream);
    assert_eq!(log.lines(), [""; 0]);
    assert_eq!(daemon.refusals().counts().iter().map(|(_, count)| count).sum::<u64>(), 5);
}
