//! Chunks larger than 64 KiB, which are sent in parts straight from the ring buffer: the cost of a
//! reader that stalls on such a chunk, and what the reader is told when the chunk is overwritten.

use bytes::BytesMut;
use harness::{Daemon, HttpConnection, Signal, Transport, digest, eventually, gaps, kept, noise};
use pfs_proto::{Hello, ReadOptions, Reply, Request};

const S: &str = "/streamfs/s";

/// More than all buffers on the way to a reader hold.
const LARGE: usize = 16 * 1024 * 1024;

harness::per_transport! {
    a_reader_that_is_stopped_while_a_large_chunk_is_overwritten_loses_all_of_it_and_nothing_else,
}

/// Starts a daemon whose streams hold one large chunk.
fn daemon(transport: Transport) -> Daemon {
    let daemon = transport.daemon_with_buffers(LARGE as u64, LARGE as u64);
    daemon.create(S);
    daemon
}

fn a_reader_that_is_stopped_while_a_large_chunk_is_overwritten_loses_all_of_it_and_nothing_else(
    transport: Transport,
) {
    let daemon = daemon(transport);
    let mut data = b"before".to_vec();
    let reader = daemon.reader(S, []);
    daemon.append(S, &data[..]);
    eventually("it is live", || reader.stdout() == b"before");
    reader.signal(Signal::STOP);
    for seed in [1, 2] {
        let chunk = noise(seed, LARGE);
        daemon.append(S, &chunk[..]);
        data.extend(chunk);
    }
    daemon.close(S);
    reader.signal(Signal::CONT);
    let run = reader.finish().exits(4);
    let gaps = gaps(&run.stderr);
    let end = (6 + LARGE) as u64;
    assert!(
        matches!(&gaps[..], [gap] if (gap.from, gap.to, gap.chunks) == (6, end, Some(1))),
        "{gaps:?}"
    );
    assert_eq!(digest(&run.stdout), digest(&kept(&data, 0, &gaps)));
}

#[test]
fn a_raw_body_breaks_inside_a_chunk_that_is_overwritten() {
    let daemon = daemon(Transport::Http);
    let chunk = noise(1, LARGE);
    daemon.append(S, &chunk[..]);
    let mut reader = daemon.http();
    reader.request("GET", S, &[], None);
    let mut response = reader.head().unwrap();
    response.body = reader.pieces(1);
    daemon.append(S, noise(2, LARGE));
    daemon.close(S);
    reader.rest(&mut response);
    assert!(!response.whole && response.body.len() < LARGE);
    assert!(chunk.starts_with(&response.body), "it got bytes of another chunk");
}

#[test]
fn stalled_readers_of_a_large_chunk_cost_a_constant_each_over_every_protocol() {
    const EACH: usize = 64;
    /// Per stalled reader 128 KiB, as `README.txt` promises, and 32 MiB for the large buffers that
    /// all readers share.
    const BOUND: u64 = (128 * 1024) * 4 * EACH as u64 + (32 * 1024 * 1024);
    let daemon = Transport::Http.daemon();
    daemon.create(S);
    daemon.append(S, noise(1, 6 * 1024 * 1024));
    let mut open = BytesMut::new();
    Request::Hello(Hello { capabilities: 0, ..Hello::OURS }).encode(&mut open);
    let options = ReadOptions::default();
    Request::OpenReader(S.parse().unwrap(), options).encode(&mut open);
    let before = daemon.memory();

    let frames = [("content-type", pfs_proto::MEDIA_TYPE)];
    let asked = |method, path, headers: &[(&str, &str)], body| {
        let mut reader: HttpConnection = daemon.http();
        reader.request(method, path, headers, body);
        assert_eq!(reader.head().unwrap().status, 200);
        // The daemon sends fewer bytes than this before the chunk, so the chunk is being sent.
        reader.pieces(4 * 1024);
        reader
    };
    let mut over_http = Vec::new();
    let mut over_unix = Vec::new();
    for _ in 0..EACH {
        over_http.push(asked("GET", S, &[], None));
        over_http.push(asked("GET", S, &[("accept", "text/event-stream")], None));
        over_http.push(asked("POST", "/v1/frames", &frames, Some(&open[..])));
        let mut reader = daemon.wire().greeted();
        reader.send(&Request::OpenReader(S.parse().unwrap(), options));
        assert!(matches!(reader.reply(), Some(Reply::Reading { .. })));
        assert!(matches!(reader.reply(), Some(Reply::DataPart(_))), "a part of the chunk");
        over_unix.push(reader);
    }
    let grown = daemon.memory().saturating_sub(before);
    assert!(grown < BOUND, "the daemon grew by {grown} bytes for {} stalled readers", 4 * EACH);
    assert_eq!(daemon.stat(S).unwrap()["readers"].as_array().unwrap().len(), 4 * EACH);
}
