//! PUT and POST.

use harness::{Daemon, digest, digest_of_stream, eventually, noise, noise_file};

use super::{S, head_reaches, reading};

#[test]
fn curl_appends_a_file_and_gets_it_back_byte_for_byte() {
    let daemon = Daemon::with_http();
    let file = daemon.dir().join("file");
    noise_file(&file, 1, 3_000_001);
    let put = daemon.curl(["-f", "-T", file.to_str().unwrap()], S).run().exits(0);
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&put.stdout).unwrap(),
        serde_json::json!({
            "path": S, "offset": 3_000_001, "bytes": 3_000_001, "created": true, "closed": false, "failed": false
        })
    );
    let got = daemon.curl(["-f"], "/streamfs/s?until=caught-up").run().exits(0).stdout;
    assert_eq!(digest(&got), digest_of_stream(std::fs::File::open(&file).unwrap()));
}

#[test]
fn a_pipe_into_curl_is_appended_while_it_flows() {
    let daemon = Daemon::with_http();
    let mut put = daemon.curl(["-f", "-T", "-"], S).stdin_pipe().spawn();
    for (said, head) in [("abc", 3), ("de", 5), ("f", 6)] {
        put.send(said.as_bytes());
        head_reaches(&daemon, head);
    }
    assert!(put.runs());
    let stat = daemon.stat(S).unwrap();
    assert_eq!(stat["writers"][0]["bytes"], 6, "{stat}");
    put.finish().exits(0);
    assert_eq!(daemon.get("/streamfs/s?until=caught-up").has(200).text(), "abcdef");
}

#[test]
fn put_and_post_both_append_and_return_the_offset() {
    let daemon = Daemon::with_http();
    let first = daemon.ask("PUT", S, [], b"abc").has(201);
    assert_eq!((first.header("pfs-offset"), &first.json()["created"]), (Some("3"), &true.into()));
    let second = daemon.ask("POST", S, [], b"de").has(200);
    assert_eq!(
        (second.header("pfs-offset"), &second.json()["created"]),
        (Some("5"), &false.into())
    );
    assert_eq!(daemon.stat_number(S, "chunks"), 2);
    assert_eq!(daemon.stat_number(S, "writers_finished"), 2);
}

#[test]
fn a_body_larger_than_the_largest_chunk_is_cut_into_chunks() {
    let daemon = Daemon::with_http_config(
        "[plugins.streamfs]\nenabled = true\npath = \"/streamfs\"\n\
         [plugins.streamfs.config]\nring_buffer_size = 1000000\nchannel_buffer_size = 1000\n",
    );
    let sent = noise(2, 100_000);
    daemon.ask("PUT", S, [], &sent).has(201);
    assert_eq!(daemon.head(S), 100_000);
    assert!(daemon.stat_number(S, "chunks") >= 100);
    assert_eq!(daemon.get("/streamfs/s?until=caught-up").has(200).body, sent);
}

#[test]
fn a_client_that_breaks_off_is_a_writer_that_died_and_one_that_ends_its_body_is_not() {
    let daemon = Daemon::with_http();
    let mut whole = daemon.http();
    whole.begin("PUT", S, &[]);
    whole.chunk(b"abc").end_chunks();
    assert_eq!(whole.response().has(201).header("pfs-offset"), Some("3"));

    let mut announced = daemon.http();
    announced.send(
        format!("PUT {S} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nde").as_bytes(),
    );
    let mut chunked = daemon.http();
    chunked.begin("POST", S, &[]);
    chunked.chunk(b"fgh");
    head_reaches(&daemon, 8);
    drop((announced, chunked));
    eventually("both have died", || daemon.stat_number(S, "writers_died") == 2);
    assert_eq!(daemon.stat_number(S, "writers_finished"), 1);
    assert_eq!(daemon.head(S), 8, "what came is in the stream");
}

#[test]
fn a_killed_curl_is_reported_to_readers_as_a_dead_writer() {
    let daemon = Daemon::with_http();
    daemon.create(S);
    let reader = daemon.reader(S, ["--until", "writers-gone"]);
    let mut put = daemon.curl(["-T", "-"], S).stdin_pipe().spawn();
    put.send(b"abc");
    head_reaches(&daemon, 3);
    put.signal(harness::Signal::KILL);
    let run = reader.finish().exits(8);
    assert_eq!(run.stdout, b"abc");
}

#[test]
fn close_ends_readers_and_refuses_further_appends() {
    let daemon = Daemon::with_http();
    daemon.create(S);
    let reader = daemon.curl(["-f"], S).spawn();
    let put = daemon.ask("PUT", "/streamfs/s?close=true", [], b"abc").has(200);
    assert_eq!(put.json()["closed"], true);
    assert_eq!(reader.finish().exits(0).stdout, b"abc");
    daemon.ask("PUT", S, [], b"more").has(409).refuses("closed");
    assert_eq!(daemon.head(S), 3);
}

#[test]
fn an_empty_post_creates_and_closes_without_a_visible_writer() {
    let daemon = Daemon::with_http();
    let query = "?create&ring-buffer-size=64KB&channel-buffer-size=4096&ttl=1h";
    let created =
        daemon.ask("POST", &format!("{S}{query}"), [("content-type", "video/mp2t")], b"").has(201);
    assert_eq!(created.header("pfs-offset"), Some("0"));
    let stat = daemon.stat(S).unwrap();
    for (name, expected) in [
        ("ring_buffer_size", 65536),
        ("channel_buffer_size", 4096),
        ("ttl_ms", 3_600_000),
        ("writers_finished", 0),
    ] {
        assert_eq!(stat[name], expected, "{name}");
    }
    assert_eq!(stat["content_type"], "video/mp2t");
    daemon.ask("POST", "/streamfs/s?create", [], b"").has(409).refuses("already_exists");
    for _ in 0..2 {
        daemon.curl(["-f", "-X", "POST"], "/streamfs/s?close").run().exits(0);
        assert_eq!(daemon.stat(S).unwrap()["state"], "closed");
    }
    assert_eq!(daemon.stat_number(S, "writers_finished"), 0);
}

#[test]
fn the_media_type_is_that_of_the_creating_request_unless_it_is_curl_s_default() {
    let daemon = Daemon::with_http();
    daemon.curl(["-f", "--data-binary", "abc"], S).run().exits(0);
    assert!(daemon.stat(S).unwrap()["content_type"].is_null());
    let typed =
        daemon.curl(["-f", "-H", "Content-Type: text/csv", "--data-binary", "abc"], "/streamfs/t");
    typed.run().exits(0);
    daemon.ask("PUT", "/streamfs/t", [("content-type", "text/html")], b"def").has(200);
    assert_eq!(daemon.stat("/streamfs/t").unwrap()["content_type"], "text/csv");
    assert_eq!(daemon.get("/streamfs/t?until=caught-up").header("content-type"), Some("text/csv"));
}

#[test]
fn a_client_that_expects_100_continue_gets_it() {
    let daemon = Daemon::with_http();
    let mut put = daemon.http();
    put.begin("PUT", S, &[("expect", "100-continue")]);
    assert_eq!(put.head().unwrap().status, 100);
    put.chunk(b"abc").end_chunks();
    assert_eq!(put.response().has(201).header("pfs-offset"), Some("3"));
    let mut refused = daemon.http();
    refused.begin("PUT", "/streamfs/README", &[("expect", "100-continue")]);
    assert_eq!(refused.head().unwrap().status, 405, "nobody has to send a body for that");
}

#[test]
fn a_block_reader_holds_an_upload_up_and_no_byte_is_lost() {
    let daemon = Daemon::with_http();
    daemon.create_with_buffers(S, 64 * 1024, 64 * 1024);
    let mut reader = reading(&daemon, "/streamfs/s?slow=block");
    let file = daemon.dir().join("file");
    noise_file(&file, 3, 32 * 1024 * 1024);
    let mut put = daemon.curl(["-f", "-T", file.to_str().unwrap()], "/streamfs/s?close").spawn();
    eventually("the writer waits", || {
        daemon.stat(S).unwrap()["writers"].get(0).is_some_and(|writer| writer["waiting"] == true)
    });
    assert!(put.runs());
    let mut got = Vec::new();
    loop {
        match reader.piece().expect("the body ends properly") {
            piece if piece.is_empty() => break,
            piece => got.extend(piece),
        }
    }
    put.finish().exits(0);
    assert_eq!(digest(&got), digest_of_stream(std::fs::File::open(&file).unwrap()));
}

#[test]
fn a_silent_upload_is_answered_when_its_stream_is_closed_or_removed() {
    for (end, status, code) in [("close", 409, "closed"), ("rm", 410, "removed")] {
        let daemon = Daemon::with_http();
        let mut put = daemon.http();
        put.begin("PUT", S, &[]);
        put.chunk(b"abc");
        head_reaches(&daemon, 3);
        daemon.pfs([end, S]).run().exits(0);
        let message = put.response().has(status).refuses(code);
        assert!(message.starts_with(&format!("cannot append to {S}: ")), "{message}");
    }
}
