//! Hostile daemon, such as one behind a URL: `pfs` escapes the daemon's text before it reaches
//! a terminal.

use std::{path::Path, time::SystemTime};

use bytes::Bytes;
use harness::Pfs;
use pfs_peer::Peer;
use pfs_proto::{
    End, ErrorCode, MediaStat, Peer as Owner, Reply, Request, State, StreamStat, StreamSummary,
    Unprintable,
};
use tokio::{
    net::{UnixListener, UnixStream},
    runtime::Runtime,
};

/// Text that sets the title of a terminal, colors it, reverses its direction and starts a new line.
const WORDS: &str = "/streamfs/\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\u{2028}\npfs: all is well";
/// The same text, escaped for display.
const SHOWN: &str = r"/streamfs/\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\u{2028}\npfs: all is well";

/// Stream whose bytes the daemon invents.
const FORGED: &str = "/streamfs/forged";
const BYTES: &[u8] = b"\x1b]0;owned\x07 as the daemon likes";

const TIME: SystemTime = SystemTime::UNIX_EPOCH;

fn summary() -> StreamSummary {
    StreamSummary {
        path: WORDS.to_owned(),
        state: State::Open,
        created: TIME,
        last_append: None,
        head: 0,
        tail: 0,
        writers: 0,
        readers: 0,
    }
}

fn stat() -> StreamStat {
    StreamStat {
        path: WORDS.to_owned(),
        state: State::Open,
        created: TIME,
        last_append: None,
        owner: Owner::default(),
        ring_buffer_size: 1,
        channel_buffer_size: 1,
        capacity: 1,
        memory: 1,
        head: 0,
        tail: 0,
        chunks: 0,
        chunks_held: 0,
        moves: 0,
        rate: 0,
        writers_finished: 0,
        writers_died: 0,
        lost_bytes: 0,
        ttl: None,
        content_type: Some(WORDS.to_owned()),
        media: Some(Box::new(MediaStat {
            format: WORDS.to_owned(),
            header_bytes: 0,
            last_sync: None,
            gop_bytes: None,
            gop: None,
        })),
        hops: Vec::new(),
        writers: Vec::new(),
        readers: Vec::new(),
    }
}

async fn serve(connection: UnixStream) {
    let mut client = Peer::new(connection);
    client.welcome().await;
    while let Some(request) = client.request().await {
        let reply = match request {
            Request::List(_) => Reply::Summary(summary()),
            Request::Stat(_) => Reply::Stat(stat()),
            Request::OpenReader(path, _) if path.as_str() == FORGED => {
                client
                    .send(&Reply::Reading {
                        start: 0,
                        head: BYTES.len() as u64,
                        content_type: None,
                    })
                    .await;
                client.send(&Reply::Data(Bytes::from_static(BYTES))).await;
                client.send(&Reply::End { reason: End::Closed, offset: BYTES.len() as u64 }).await;
                continue;
            }
            Request::OpenReader(..) => {
                Reply::Reading { start: 0, head: 0, content_type: Some(WORDS.to_owned()) }
            }
            _ => Reply::Error { code: ErrorCode::Internal, message: WORDS.to_owned() },
        };
        client.send(&reply).await;
        client
            .send(&match reply {
                Reply::Reading { .. } => {
                    Reply::Error { code: ErrorCode::Internal, message: WORDS.to_owned() }
                }
                _ => Reply::Done,
            })
            .await;
    }
}

/// Runs a hostile daemon until the runtime is dropped.
fn hostile_daemon(socket: &Path) -> Runtime {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = {
        let _within = runtime.enter();
        UnixListener::bind(socket).unwrap()
    };
    runtime.spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(serve(connection));
        }
    });
    runtime
}

#[test]
fn text_from_a_daemon_is_escaped_wherever_it_is_shown() {
    const S: &str = "/streamfs/s";
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let _daemon = hostile_daemon(&socket);
    let commands: [&[&str]; 12] = [
        &["ls"],
        &["ls", "-l"],
        &["stat", S],
        &["rm", S],
        &["close", S],
        &["create", S],
        &["create", "--exist-ok", "--content-type", "text/plain", S],
        &["write", S],
        &["write", "--stream", S],
        &["cat", S],
        &["-v", "cat", "--stream", S],
        &["bench"],
    ];
    for command in commands {
        let run = Pfs::usual().arg("--socket").arg(&socket).args(command).stdin("x").run();
        let said = format!("{}{}", run.text(), run.stderr);
        assert!(said.contains(SHOWN), "{command:?}: {said:?}");
        for line in said.lines() {
            assert_eq!(Unprintable::find(line), None, "{command:?}: {line:?}");
            assert_ne!(line, "pfs: all is well", "{command:?}");
        }
    }
    for command in [&["ls", "--json"][..], &["stat", "--json", S]] {
        let run = Pfs::usual().arg("--socket").arg(&socket).args(command).run().exits(0);
        assert_eq!(Unprintable::find(run.text().trim_end()), None, "{command:?}: {:?}", run.text());
        let object: serde_json::Value = serde_json::from_str(run.text()).unwrap();
        assert_eq!(object["path"], WORDS);
    }
}

/// Nothing exists to check the bytes against: users who do not trust a daemon must sign the data.
#[test]
fn stream_bytes_from_a_daemon_are_trusted_and_passed_on_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let _daemon = hostile_daemon(&socket);
    let run =
        Pfs::usual().arg("--socket").arg(&socket).args(["cat", "--stream", FORGED]).run().exits(0);
    assert_eq!(run.stdout, BYTES);
}
