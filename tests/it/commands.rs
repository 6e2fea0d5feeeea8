//! `ls`, `stat`, `rm` and `close` in scripts: output and exit codes.

use harness::{Daemon, Pfs, Transport, binary, eventually};
use serde_json::Value;

const S: &str = "/streamfs/s";

fn some_streams() -> Daemon {
    let daemon = Daemon::start();
    for name in [
        "/streamfs/b",
        "/streamfs/lab/one",
        "/streamfs/lab/two",
        "/streamfs/laboratory",
        "/streamfs/a",
    ] {
        daemon.append(name, name);
    }
    daemon
}

#[test]
fn ls_prints_one_path_a_line_in_order() {
    let daemon = some_streams();
    let all =
        "/streamfs/a\n/streamfs/b\n/streamfs/lab/one\n/streamfs/lab/two\n/streamfs/laboratory\n";
    for args in [&["ls"][..], &["ls", "/"], &["ls", "/streamfs"], &["ls", "/streamfs/"]] {
        assert_eq!(daemon.pfs([]).args(args).run().exits(0).quietly().text(), all, "{args:?}");
    }
    let lab = daemon.pfs(["ls", "/streamfs/lab"]).run().exits(0);
    assert_eq!(lab.text(), "/streamfs/lab/one\n/streamfs/lab/two\n");
    assert_eq!(daemon.pfs(["ls", "/streamfs/a"]).run().exits(0).text(), "/streamfs/a\n");
}

#[test]
fn ls_ends_paths_with_nul_for_xargs_so_that_any_name_survives() {
    let daemon = Daemon::start();
    let names = [
        "/streamfs/t/a b",
        "/streamfs/t/it's",
        "/streamfs/t/\"quoted\"",
        "/streamfs/t/back\\slash",
    ];
    for name in names {
        daemon.append(name, "x");
    }
    daemon.append("/streamfs/other", "x");
    let mut expected: Vec<&str> = names.to_vec();
    expected.sort_unstable();
    let listed = daemon.pfs(["ls", "-0", "/streamfs/t"]).run().exits(0).quietly();
    assert_eq!(listed.text(), expected.iter().map(|name| format!("{name}\0")).collect::<String>());
    // The example of the manual page.
    let path = format!("{}:{}", harness::folder().display(), std::env::var("PATH").unwrap());
    let line = Pfs::shell("pfs ls -0 /streamfs/t | xargs -0r pfs close").env("PATH", path);
    line.env("PFS_SOCKET", daemon.socket()).run().exits(0).quietly();
    for name in names {
        assert_eq!(daemon.stat(name).unwrap()["state"], "closed", "{name}");
    }
    assert_eq!(daemon.stat("/streamfs/other").unwrap()["state"], "open");
    assert_eq!(
        daemon.pfs(["ls", "--null", "/streamfs/other"]).run().exits(0).text(),
        "/streamfs/other\0"
    );
}

#[test]
fn ls_without_streams_prints_nothing_and_succeeds() {
    let daemon = Daemon::start();
    assert_eq!(daemon.pfs(["ls", "/streamfs"]).run().exits(0).quietly().text(), "");
    assert_eq!(daemon.pfs(["ls", "--json", "/streamfs"]).run().exits(0).text(), "");
}

#[test]
fn ls_prints_the_same_streams_as_json_and_as_text() {
    let daemon = some_streams();
    daemon.close("/streamfs/b");
    let json = daemon.pfs(["ls", "--json", "/streamfs"]).run().exits(0);
    let streams: Vec<Value> =
        json.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(streams.len(), 5);
    assert_eq!(
        (&streams[0]["path"], &streams[0]["state"]),
        (&"/streamfs/a".into(), &"open".into())
    );
    assert_eq!(
        (&streams[1]["path"], &streams[1]["state"]),
        (&"/streamfs/b".into(), &"closed".into())
    );
    assert_eq!(streams[0]["head"], 11);
    let long = daemon.pfs(["ls", "-l", "/streamfs"]).run().exits(0);
    for stream in &streams {
        assert!(long.text().contains(stream["path"].as_str().unwrap()), "{}", long.text());
    }
    assert!(long.text().contains("closed"), "{}", long.text());
}

#[test]
fn stat_shows_writers_and_readers_with_their_process_ids() {
    let daemon = Daemon::start();
    let mut writer = daemon.pfs(["write", "--stream", S]).stdin_pipe().spawn();
    writer.send(b"12345");
    eventually("it is written", || daemon.head(S) == 5);
    let reader = daemon.reader(S, ["--slow", "disconnect"]);
    eventually("it has read all", || reader.stdout_len() == 5);
    let stat = daemon.stat(S).unwrap();
    for (name, number) in
        [("head", 5), ("tail", 0), ("chunks", 1), ("chunks_held", 1), ("lost_bytes", 0)]
    {
        assert_eq!(stat[name], number, "{name} in {stat}");
    }
    let writers = stat["writers"].as_array().unwrap();
    assert_eq!(writers.len(), 1);
    assert_eq!((&writers[0]["pid"], &writers[0]["bytes"]), (&writer.pid().into(), &5.into()));
    assert_eq!(writers[0]["waiting"], false);
    let shown = daemon.reader_stat(S, reader.pid()).unwrap();
    for (name, number) in
        [("start", 0), ("position", 5), ("lag", 0), ("lost_bytes", 0), ("lost_chunks", 0)]
    {
        assert_eq!(shown[name], number, "{name} in {shown}");
    }
    assert_eq!(shown["policy"], "disconnect");
    assert_eq!(shown["uid"], serde_json::json!(Transport::Shm.uid()));
    let people = daemon.pfs(["stat", S]).run().exits(0).quietly();
    for part in [S, "disconnect", &writer.pid().to_string(), &reader.pid().to_string()] {
        assert!(people.text().contains(part), "nothing of {part:?} in {}", people.text());
    }
}

#[test]
fn stat_shows_a_stream_or_all_streams_below_a_path_and_without_a_path_all_streams() {
    let daemon = Daemon::with_http();
    let shown = |pfs: Pfs, args: &[&str]| -> Vec<String> {
        let run = pfs.args(["stat", "--json"]).args(args).run().exits(0).quietly();
        let path = |line: &str| {
            serde_json::from_str::<Value>(line).unwrap()["path"].as_str().unwrap().to_owned()
        };
        run.text().lines().map(path).collect()
    };
    assert!(shown(daemon.pfs([]), &[]).is_empty());
    for name in [
        "/streamfs/b",
        "/streamfs/lab/two",
        "/streamfs/lab/one",
        "/streamfs/both",
        "/streamfs/both/below",
    ] {
        daemon.append(name, name);
    }
    let all = [
        "/streamfs/b",
        "/streamfs/both",
        "/streamfs/both/below",
        "/streamfs/lab/one",
        "/streamfs/lab/two",
    ];
    for pfs in [|daemon: &Daemon| daemon.pfs([]), |daemon: &Daemon| daemon.pfs_http([])] {
        for args in [&[][..], &["/"], &["/streamfs"], &["/streamfs/"]] {
            assert_eq!(shown(pfs(&daemon), args), all, "{args:?}");
        }
        assert_eq!(shown(pfs(&daemon), &["/streamfs/lab"]), all[3..]);
        assert_eq!(shown(pfs(&daemon), &["/streamfs/both"]), all[1..2]);
        pfs(&daemon)
            .args(["stat", "/streamfs/la"])
            .run()
            .exits(3)
            .says("there is no stream /streamfs/la");
    }
    // The text for people has the same streams, one block each.
    let people = daemon.pfs(["stat"]).run().exits(0).quietly();
    let blocks: Vec<&str> =
        people.text().split("\n\n").filter_map(|block| block.lines().next()).collect();
    assert_eq!(blocks, all);
}

#[test]
fn a_missing_stream_exits_with_3_and_the_others_are_still_served() {
    let daemon = some_streams();
    daemon.pfs(["stat", "/streamfs/none"]).run().exits(3).says("/streamfs/none");
    daemon.pfs(["close", "/streamfs/none"]).run().exits(3).says("/streamfs/none");
    daemon.pfs(["rm", "/streamfs/none"]).run().exits(3).says("/streamfs/none");
    let two = daemon.pfs(["stat", "--json", "/streamfs/none", "/streamfs/a"]).run().exits(3);
    assert_eq!(two.text().lines().count(), 1);
    daemon.pfs(["rm", "/streamfs/none", "/streamfs/a"]).run().exits(3);
    assert_eq!(daemon.streams().len(), 4);
}

#[test]
fn rm_removes_the_given_streams_and_nothing_else() {
    let daemon = some_streams();
    daemon.pfs(["rm", "-f", "/streamfs/none"]).run().exits(0).quietly();
    daemon.pfs(["rm", "/streamfs/a", "/streamfs/b"]).run().exits(0).quietly();
    daemon
        .pfs(["rm", "-r", "/streamfs/lab"])
        .run()
        .exits(0)
        .says("removed 2 streams at or below /streamfs/lab");
    assert_eq!(daemon.streams(), ["/streamfs/laboratory"]);
    daemon.pfs(["rm", "-r", "/streamfs/lab"]).run().exits(3);
    daemon.pfs(["rm", "-rf", "/streamfs/lab"]).run().exits(0).quietly();
    daemon.pfs(["rm", "-rq", "/streamfs"]).run().exits(0).quietly();
    assert!(daemon.streams().is_empty());
}

#[test]
fn closing_twice_changes_nothing() {
    let daemon = some_streams();
    for _ in 0..2 {
        daemon.pfs(["close", "/streamfs/a", "/streamfs/b"]).run().exits(0).quietly();
        assert_eq!(daemon.stat("/streamfs/a").unwrap()["state"], "closed");
    }
    assert_eq!(daemon.stat("/streamfs/laboratory").unwrap()["state"], "open");
}

#[test]
fn every_command_has_a_help_with_an_example() {
    for command in ["write", "cat", "create", "close", "rm", "ls", "stat", "bench"] {
        let help = Pfs::usual().args(["help", command]).run().exits(0);
        let (_, examples) = help.text().split_once("Examples:").unwrap_or_default();
        assert!(
            examples.contains(&format!("pfs {command} ")),
            "no example in the help of {command}"
        );
    }
    for name in ["pfs", "pfsd"] {
        let version = Pfs::new(binary(name)).arg("--version").run().exits(0);
        assert_eq!(version.text(), format!("{name} {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn a_closed_stdout_pipe_ends_a_listing_quietly() {
    let daemon = some_streams();
    for args in
        [&["ls", "/streamfs"][..], &["stat", "--json", "/streamfs/a"], &["cat", "/streamfs/README"]]
    {
        let (reading, writing) = std::io::pipe().unwrap();
        drop(reading);
        let run = daemon.pfs([]).args(args).stdout_into(writing).run();
        run.exits(0).quietly();
    }
}
