//! Requests for a stream that is continually removed and created anew.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use pfs_peer::http::Response;
use pfs_stream::{Finish, Registry, StreamConfig};

use super::{S, Served};

/// Contents of the two streams. The first stream is closed, the second one stays open.
const CLOSED: &[u8] = b"AAAA";
const OPEN: &[u8] = b"BBBBBBBB";

/// Minimum number of requests of each kind: enough to catch a handler that looks up the path twice.
const REQUESTS: usize = 3000;

/// Minimum number of requests of each kind that find a stream. On a busy machine, more requests are
/// needed.
const FOUND: usize = REQUESTS / 10;

/// Alternates between the two streams until it is stopped.
fn take_turns(registry: &Registry, stopped: &AtomicBool) {
    let sizes =
        StreamConfig { ring_buffer_size: 64, channel_buffer_size: 64, ..StreamConfig::default() };
    while !stopped.load(Ordering::Relaxed) {
        for contents in [CLOSED, OPEN] {
            // No request finds the stream before it is complete.
            let begin = |stream: &pfs_stream::Stream| {
                let mut writer = stream.writer().unwrap();
                writer.try_append(contents).unwrap();
                writer.finish(Finish::KeepOpen);
                if contents == CLOSED {
                    stream.close();
                }
            };
            registry.create_with(S, sizes.clone(), begin).unwrap();
            thread::yield_now();
            assert!(registry.remove(S));
        }
    }
}

/// Asserts that all data in a response comes from one stream. The body may break, because the
/// stream was removed.
#[track_caller]
fn is_of_one_stream(answer: &Response) {
    let of = |contents: &[u8]| {
        let closed = contents == CLOSED;
        let told = |name, value: Option<&str>| {
            assert_eq!(answer.header(name), value, "{name}: {answer:?}")
        };
        let (len, state) = (contents.len(), if closed { "closed" } else { "open" });
        told("pfs-state", Some(state));
        told("pfs-head", Some(&len.to_string()));
        if answer.status == 206 {
            told("content-length", Some(&(len - 1).to_string()));
            let total = if closed { len.to_string() } else { "*".to_owned() };
            told("content-range", Some(&format!("bytes 1-{}/{total}", len - 1)));
        } else if !answer.body.is_empty() {
            told("content-length", closed.then(|| len.to_string()).as_deref());
        }
        let rest = contents.get(usize::from(answer.status == 206)..).unwrap();
        assert!(answer.body.is_empty() || answer.body == rest, "{answer:?}");
    };
    match answer.header("pfs-state") {
        Some("closed") => of(CLOSED),
        Some("open") => of(OPEN),
        _ => panic!("nothing tells which stream it is: {answer:?}"),
    }
}

#[tokio::test]
async fn an_answer_is_about_one_stream_even_if_another_takes_its_place_meanwhile() {
    let served = Served::new();
    let stopped = Arc::new(AtomicBool::new(false));
    let turns = thread::spawn({
        let (registry, stopped) = (served.daemon.registry().clone(), Arc::clone(&stopped));
        move || take_turns(&registry, &stopped)
    });
    for (method, headers) in
        [("GET", &[][..]), ("GET", &[("range", "bytes=1-")][..]), ("HEAD", &[][..])]
    {
        let (mut requests, mut found) = (0, 0);
        while requests < REQUESTS || found <= FOUND {
            requests += 1;
            let mut client = served.connect();
            client.request(method, S, headers, None).await;
            let answer = client.response().await;
            match answer.status {
                200 | 206 => {
                    is_of_one_stream(&answer);
                    found += 1;
                }
                404 => {}
                _ => panic!("{answer:?}"),
            }
        }
    }
    stopped.store(true, Ordering::Relaxed);
    turns.join().unwrap();
}
