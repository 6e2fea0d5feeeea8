//! wget, which resumes a broken download by itself, with a Range but without an If-Range.

use harness::{Daemon, Finished, Pfs, Running, eventually, noise};

use super::S;

/// wget of the stream into a file of the same name, without a configuration file, a proxy, or a
/// pause between attempts.
#[track_caller]
fn wget<const N: usize>(daemon: &Daemon, args: [&str; N]) -> Pfs {
    let always = ["--no-config", "--no-proxy", "--no-verbose", "--waitretry=0", "--tries=3"];
    Pfs::new("wget").current_dir(daemon.dir()).args(always).args(args).arg(daemon.url(S))
}

#[track_caller]
fn downloaded(daemon: &Daemon) -> Vec<u8> {
    std::fs::read(daemon.dir().join("s")).unwrap_or_default()
}

/// Starts wget on an open stream and waits until it has all these bytes.
#[track_caller]
fn following<const N: usize>(daemon: &Daemon, bytes: &[u8], args: [&str; N]) -> Running {
    let mut wget = wget(daemon, args).spawn();
    eventually("wget has what is there", || {
        assert!(wget.runs(), "wget ended at once: {}", wget.stderr());
        downloaded(daemon).len() == bytes.len()
    });
    wget
}

/// Calls `happens` while wget reads an open stream, and returns the result of wget.
#[track_caller]
fn interrupted(happens: impl FnOnce(&mut Daemon)) -> Finished {
    let mut daemon = Daemon::with_http();
    let bytes = noise(0, 300_000);
    daemon.append(S, &bytes[..]);
    let wget = following(&daemon, &bytes, []);
    happens(&mut daemon);
    let ended = wget.finish();
    assert!(downloaded(&daemon) == bytes, "the file is what the stream held");
    ended
}

#[test]
#[ignore = "needs wget: scripts/programs"]
fn wget_downloads_a_stream_to_its_end_and_continues_a_part_of_it() {
    let daemon = Daemon::with_http();
    let bytes = noise(0, 3 * 1024 * 1024);
    let (first, second) = bytes.split_at(1024 * 1024);
    daemon.append(S, first);
    let live = following(&daemon, first, []);
    daemon.append(S, second);
    daemon.close(S);
    live.finish().exits(0);
    assert!(downloaded(&daemon) == bytes);
    for part in [&bytes[..1234], first, &bytes] {
        std::fs::write(daemon.dir().join("s"), part).unwrap();
        wget(&daemon, ["-c"]).run().exits(0);
        assert!(downloaded(&daemon) == bytes, "continued after {} bytes", part.len());
    }
}

#[test]
#[ignore = "needs wget: scripts/programs"]
fn wget_never_takes_a_stream_that_broke_for_a_whole_one() {
    interrupted(|daemon| daemon.remove(S)).exits(8).says("404");
    interrupted(|daemon| {
        daemon.pfs(["close", "--failed", S]).run().exits(0);
    })
    .exits(8)
    .says("409");
    interrupted(Daemon::kill9).exits(4);
}

#[test]
#[ignore = "needs wget: scripts/programs"]
fn wget_with_the_tag_of_its_stream_takes_nothing_of_another_one() {
    let daemon = Daemon::with_http();
    let bytes = noise(0, 300_000);
    daemon.append(S, &bytes[..]);
    let head = daemon.ask("HEAD", S, [], b"").has(200);
    let condition = format!("If-Match: {}", head.header("etag").unwrap());
    let live = following(&daemon, &bytes, ["--header", &condition]);
    daemon.ask("PUT", "/streamfs/s?replace&close", [], &noise(7, 500_000)).has(201);
    live.finish().exits(8).says("412");
    assert!(downloaded(&daemon) == bytes, "nothing of the other is in the file");
    wget(&daemon, ["-c", "--header", &condition]).run().exits(8).says("412");
    assert!(downloaded(&daemon) == bytes, "nothing of the other is in the file");
}
