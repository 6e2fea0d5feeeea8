//! The daemon's log for operators.

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::unix::net::UnixStream,
};

use harness::{Daemon, HttpConnection, Pfs, Signal, Transport, binary, eventually};
use pfs_proto::Unprintable;

const S: &str = "/streamfs/s";

harness::per_transport! {
    the_log_tells_who_joined_lost_and_left,
}

fn the_log_tells_who_joined_lost_and_left(transport: Transport) {
    let daemon = transport.daemon_with_buffers(1024 * 1024, 1024 * 1024);
    daemon.create(S);
    let mut reader = daemon.piped_reader(S, []);
    let pid = format!("pid={}", reader.pid());
    let uid = transport.uid().map(|uid| format!("uid={uid}")).unwrap_or_default();
    let tells = |event: &str| {
        let log = daemon.log();
        log.lines().any(|line| [event, &pid, &uid, S].iter().all(|part| line.contains(part)))
    };
    eventually("the log tells who joined", || tells("joined"));
    let mut writer = daemon.appender(S);
    writer.append_until(64 * 1024, || daemon.all_have_lost(S));
    writer.close();
    let got = reader.digest_stdout();
    reader.finish().exits(4);
    got.join().unwrap();
    eventually("the log tells who lost something", || tells("gap"));
    eventually("the log tells who left, and why", || tells("left") && tells("reason=\"closed\""));
    assert!(!daemon.log().contains('\u{1b}'), "colours in a file");
}

/// Returns the log lines about streams and requests.
fn lines_about_streams(daemon: &Daemon) -> Vec<String> {
    daemon.log().lines().filter(|line| line.contains("/streamfs/")).map(str::to_owned).collect()
}

#[test]
fn an_append_over_http_logs_one_line_with_its_result() {
    let daemon = Daemon::with_http();
    let text = [("content-type", "text/plain")];
    let before = lines_about_streams(&daemon).len();
    for (number, (method, path, told)) in [
        ("PUT", "/streamfs/a", &["path=\"/streamfs/a\"", "status=201", "created=true"][..]),
        ("POST", "/streamfs/a?close", &["path=\"/streamfs/a\"", "status=200", "closed=true"]),
        ("PUT", "/streamfs/b?create&close", &["created=true", "closed=true"]),
        ("PUT", "/v1/stream/streamfs/c", &["path=\"/v1/stream/streamfs/c\"", "created=true"]),
        ("POST", "/v1/stream/streamfs/c", &["path=\"/v1/stream/streamfs/c\"", "status=204"]),
        ("PUT", "/api/v1/files?path=/streamfs/d", &["stream=\"/streamfs/d\"", "created=true"]),
        ("PUT", "/api/v1/files?path=/streamfs/d", &["stream=\"/streamfs/d\"", "status=200"]),
    ]
    .into_iter()
    .enumerate()
    {
        daemon.ask(method, path, text, b"12345");
        let lines = || lines_about_streams(&daemon).split_off(before + number);
        eventually("it is logged", || lines().iter().any(|line| line.contains(" request ")));
        let lines = lines();
        assert_eq!(lines.len(), 1, "{method} {path}: {lines:#?}");
        for part in told.iter().chain(&["INFO", "received=5", "end=\"whole\""]) {
            assert!(lines[0].contains(part), "nothing of {part} in {}", lines[0]);
        }
    }
}

#[test]
fn a_long_request_body_is_logged_before_it_ends() {
    let daemon = Daemon::with_http();
    let mut writer = daemon.http();
    writer.begin("PUT", S, &[]);
    writer.chunk(b"12345");
    let tells =
        |event: &str| daemon.log().lines().any(|line| line.contains(event) && line.contains(S));
    eventually("the log tells who writes", || tells("writer joined"));
    writer.end_chunks();
    writer.response().has(201);
    eventually("the log tells that it has finished", || {
        tells("writer finished") && tells(" request ")
    });
}

#[test]
fn the_log_contains_no_terminal_control_character_from_a_client() {
    for format in ["text", "json"] {
        let dir = tempfile::tempdir().unwrap();
        let pfsd = Pfs::new(binary("pfsd")).arg("--socket").arg(dir.path().join("s"));
        let daemon = pfsd.args(["--http", "127.0.0.1:0", "--log-format", format]).spawn();
        let address = || {
            let log = daemon.stderr();
            let (_, rest) = log.split_once("127.0.0.1:")?;
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().ok()?)))
        };
        eventually("it serves HTTP", || address().is_some());
        let mut client = HttpConnection::connect(address().unwrap());
        let agent = "\u{9b}31m\u{202e}";
        let head = format!(
            "GET /streamfs/{agent} HTTP/1.1\r\nhost: localhost\r\nuser-agent: {agent}\r\n\r\n"
        );
        client.send(head.as_bytes());
        client.response().has(400);
        eventually("the request is logged", || {
            daemon.stderr().contains("/streamfs/%C2%9B31m%E2%80%AE")
        });
        daemon.signal(Signal::TERM);
        let log = daemon.finish().exits(0).stderr;
        for line in log.lines() {
            assert_eq!(Unprintable::find(line), None, "{line:?}");
        }
    }
}

#[test]
fn the_log_can_be_json() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("pfsd.sock");
    let daemon = Pfs::new(binary("pfsd"))
        .arg("--socket")
        .arg(&socket)
        .args(["--log-format", "json"])
        .spawn();
    eventually("it answers", || UnixStream::connect(&socket).is_ok());
    Pfs::usual().arg("--socket").arg(&socket).args(["write", S]).stdin("x").run().exits(0);
    daemon.signal(Signal::TERM);
    let ended = daemon.finish().exits(0);
    assert!(ended.stderr.lines().count() >= 3, "{}", ended.stderr);
    for line in ended.stderr.lines() {
        let line: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(line["fields"]["message"].is_string() || line["message"].is_string(), "{line}");
    }
}
