//! Writers that name their header: late readers get it before the chunks that the ring holds.

use harness::{Daemon, Transport, noise};

const S: &str = "/streamfs/s";

const CHUNK: usize = 1000;

harness::per_transport! {
    late_readers_get_the_first_bytes_of_the_input_as_the_header,
    late_readers_get_a_file_as_the_header,
    a_header_may_be_a_part_of_the_only_chunk,
}

fn daemon(transport: Transport) -> Daemon {
    let daemon = transport.daemon_with_http();
    daemon.create_with_buffers(S, 8192, 8192);
    daemon
}

/// Prints what the stream holds.
#[track_caller]
fn read<const N: usize>(daemon: &Daemon, args: [&str; N]) -> Vec<u8> {
    daemon.pfs(["cat", "--stream", "--until", "caught-up", S]).args(args).run().exits(0).stdout
}

/// Checks what late readers of a stream with these contents get.
#[track_caller]
fn check(daemon: &Daemon, header: &[u8], contents: &[u8]) {
    let tail = daemon.stat_number(S, "tail") as usize;
    assert!(tail > header.len(), "the header is in the ring");
    assert!(read(daemon, []) == [header, &contents[tail..]].concat());
    let last = contents.len() - CHUNK;
    assert!(read(daemon, ["--tail", "10"]) == [header, &contents[last..]].concat(), "whole chunks");
    assert!(read(daemon, ["--join", "raw"]) == contents[tail..]);
    assert!(read(daemon, ["--offset", &last.to_string()]) == contents[last..]);
    let url = daemon.get(&format!("{S}?until=caught-up")).has(200);
    assert!(url.body == [header, &contents[tail..]].concat());
    assert_eq!(url.header("pfs-header-bytes"), Some(header.len().to_string().as_str()));
    let stat = daemon.pfs(["stat", S]).run().exits(0).stdout;
    let shown = "custom, header ";
    assert!(String::from_utf8_lossy(&stat).contains(shown), "{}", String::from_utf8_lossy(&stat));
}

fn late_readers_get_the_first_bytes_of_the_input_as_the_header(transport: Transport) {
    let daemon = daemon(transport);
    let contents = noise(1, 20 * CHUNK);
    let write = ["write", "--stream", "--chunk-size", "1000", "--header", "1500", S];
    daemon.pfs(write).stdin(&*contents).run().exits(0).quietly();
    check(&daemon, &contents[..1500], &contents);
}

fn late_readers_get_a_file_as_the_header(transport: Transport) {
    let daemon = daemon(transport);
    let (header, contents) = (noise(2, 3000), noise(3, 20 * CHUNK));
    let file = daemon.dir().join("header");
    std::fs::write(&file, &header).unwrap();
    let write = ["write", "--stream", "--chunk-size", "1000", S, "--header"];
    daemon.pfs(write).arg(&file).stdin(&*contents).run().exits(0).quietly();
    check(&daemon, &header, &[&header[..], &contents].concat());
}

fn a_header_may_be_a_part_of_the_only_chunk(transport: Transport) {
    let daemon = daemon(transport);
    let mut contents = Vec::new();
    for seed in 0..20 {
        let chunk = noise(seed, CHUNK);
        let args: &[&str] = if seed == 0 { &["--header", "10"] } else { &[] };
        daemon.pfs(["write", S]).args(args).stdin(&*chunk).run().exits(0).quietly();
        contents.extend(chunk);
    }
    check(&daemon, &contents[..10], &contents);
}

#[test]
fn a_header_that_cannot_be_used_is_refused_before_anything_is_appended() {
    let daemon = Daemon::start();
    let (empty, large) = (daemon.dir().join("empty"), daemon.dir().join("large"));
    std::fs::write(&empty, "").unwrap();
    std::fs::write(&large, vec![0; 1024 * 1024]).unwrap();
    let write =
        |header: &std::ffi::OsStr| daemon.pfs(["write", S, "--header"]).arg(header).stdin("x");
    write(empty.as_os_str()).run().exits(2).says("is empty");
    write(large.as_os_str()).run().exits(2).says("is too large: a header has 1 to 1044480 bytes");
    write("0".as_ref()).run().exits(2).says("./0 for a file of this name");
    write("/nowhere".as_ref()).run().exits(1).says("cannot read the header /nowhere");
    assert_eq!(daemon.stat(S), None);
}

#[test]
fn an_input_that_ends_within_its_header_is_reported() {
    let daemon = Daemon::start();
    let write = daemon.pfs(["write", S, "--header", "100"]).stdin("short");
    write
        .run()
        .exits(0)
        .says("the input ended after 5 bytes of the header, which should have 100 bytes");
    let write = ["write", "--stream", "--header", "100", S, "--", "printf", "short"];
    daemon.pfs(write).run().exits(0).says("after 5 bytes of the header");
    assert_eq!(read(&daemon, ["--new"]), b"");
}

#[test]
fn a_header_that_is_larger_than_a_chunk_is_told_from_an_input_that_is() {
    let daemon = Daemon::start();
    daemon.create_with_buffers(S, 4096, 4096);
    let file = daemon.dir().join("header");
    std::fs::write(&file, vec![1; 5000]).unwrap();
    let write = || daemon.pfs(["write", S, "--header"]).arg(&file).stdin("input");
    write().run().exits(1).says("the header is larger than 4096 bytes");
    write().args(["--stream"]).run().exits(0).quietly();
    assert_eq!(daemon.head(S), 5005);
    daemon.close(S);
    write().args(["--stream"]).run().exits(9).says("closed");
}

#[test]
fn text_with_a_marked_sync_point_that_is_gone_has_lines_again() {
    let daemon = Daemon::with_http();
    daemon.create_with_buffers(S, 4096, 4096);
    let mut http = daemon.http();
    http.request("POST", S, &[("pfs-sync", "1")], Some(b"marked\n"));
    http.response().has(200);
    let log: String = (0..1000).map(|number| format!("line {number}\n")).collect();
    daemon.pfs(["write", "--stream", "--chunk-size", "100", S]).stdin(log).run().exits(0).quietly();
    let read = String::from_utf8(read(&daemon, ["--join", "sync", "--tail", "12"])).unwrap();
    assert_eq!(read, "line 998\nline 999\n");
}

#[test]
fn a_request_may_say_that_its_body_begins_at_a_sync_point() {
    let daemon = Daemon::with_http();
    let mut http = daemon.http();
    for (number, body) in ["one ", "two ", "three ", "four "].iter().enumerate() {
        let sync = [("pfs-sync", if number % 2 == 1 { "1" } else { "0" })];
        http.request("POST", S, &sync, Some(body.as_bytes()));
        http.response().has(if number == 0 { 201 } else { 200 });
    }
    assert_eq!(read(&daemon, ["--new"]), b"four ");
    assert_eq!(read(&daemon, ["--tail", "7"]), b"two three four ");
    http.request("POST", S, &[("pfs-sync", "yes")], Some(b"x"));
    assert!(http.response().has(400).text().contains("pfs-sync must be 0 or 1"));
    assert_eq!(daemon.head(S), 19, "nothing is appended");
}
