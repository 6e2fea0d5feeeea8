//! Commands that are run a second time: streams of the first run are kept or replaced where the
//! command asks for that. Otherwise the command fails with its own exit code.

use harness::{Daemon, Transport, digest, eventually, noise};

const S: &str = "/streamfs/s";

harness::per_transport! {
    a_closed_or_existing_stream_ends_commands_with_9_and_a_missing_one_with_3,
    a_writer_with_replace_starts_over_whatever_state_the_stream_had,
    readers_of_a_replaced_stream_are_told_of_its_removal_and_later_ones_get_the_new_stream,
    create_replaces_or_keeps_only_where_that_is_asked_for,
}

fn a_closed_or_existing_stream_ends_commands_with_9_and_a_missing_one_with_3(transport: Transport) {
    let daemon = transport.daemon();
    daemon.pfs(["close", S]).run().exits(3);
    daemon.pfs(["create", S]).run().exits(0);
    daemon.pfs(["create", S]).run().exits(9).says("exists").says("--exist-ok");
    daemon.pfs(["write", "--close", S]).stdin("all").run().exits(0);
    daemon.pfs(["create", S]).run().exits(9);
    daemon.pfs(["create", "--exist-ok", S]).run().exits(9).says("closed");
    for flags in [&["--stream"][..], &["--stream", "--close"], &[], &["--wait-readers", "1"]] {
        let write = daemon.pfs(["write", S]).args(flags).stdin("more").run();
        write.exits(9).says("closed").says("--replace");
    }
    assert_eq!(daemon.pfs(["cat", "--stream", S]).run().exits(0).text(), "all");
}

fn a_writer_with_replace_starts_over_whatever_state_the_stream_had(transport: Transport) {
    let daemon = transport.daemon();
    let data = noise(1, 1024 * 1024);
    // No stream, a closed one, a failed one, and an open one.
    for before in [None, Some("close"), Some("close --failed"), Some("ls")] {
        if let Some(command) = before {
            daemon.pfs([]).args(command.split(' ')).arg(S).run().exits(0);
        }
        let write =
            daemon.pfs(["write", "--stream", "--replace", "--close", S]).stdin(data.clone());
        write.run().exits(0).quietly();
        let read = daemon.pfs(["cat", "--stream", S]).run().exits(0);
        assert_eq!(digest(&read.stdout), digest(&data), "after {before:?}");
        daemon.pfs(["write", "--replace", S]).stdin("one chunk").run().exits(0);
        assert_eq!(daemon.head(S), 9);
    }
    // Also when the input is empty: the old contents are gone before the first byte.
    daemon.pfs(["write", "--replace", S]).stdin("").run().exits(0);
    assert_eq!(daemon.head(S), 0);
    daemon
        .pfs(["write", "--stream", "--replace", "--close", S, "--", "echo", "all"])
        .run()
        .exits(0);
    assert_eq!(daemon.pfs(["cat", "--stream", S]).run().exits(0).text(), "all\n");
}

fn readers_of_a_replaced_stream_are_told_of_its_removal_and_later_ones_get_the_new_stream(
    transport: Transport,
) {
    let daemon = transport.daemon();
    daemon.append(S, "old");
    let old = daemon.reader(S, []);
    let mut writer = daemon.pfs(["write", "--stream", S]).stdin_pipe().spawn();
    writer.send(b", older");
    eventually("it is written", || daemon.head(S) == 10);
    let waiting = daemon.pfs(["cat", "--stream", "/streamfs/t"]).spawn();
    eventually("it waits", || waiting.stderr().contains("/streamfs/t"));

    let new = daemon
        .pfs(["write", "--replace", "--close", "--wait-readers", "1", S])
        .stdin("new")
        .spawn();
    assert_eq!(old.finish().exits(7).text(), "old, older");
    eventually("the writer is told", || !writer.runs());
    writer.finish().exits(1).says("removed");
    assert_eq!(daemon.pfs(["cat", "--stream", S]).run().exits(0).text(), "new");
    new.finish().exits(0);

    daemon.pfs(["write", "--replace", "--close", "/streamfs/t"]).stdin("new").run().exits(0);
    assert_eq!(waiting.finish().exits(0).text(), "new");
}

fn create_replaces_or_keeps_only_where_that_is_asked_for(transport: Transport) {
    let daemon = transport.daemon();
    daemon.pfs(["create", "--exist-ok", "--ring-buffer-size", "1MB", S]).run().exits(0).quietly();
    daemon.append(S, "all");
    daemon.pfs(["create", "--exist-ok", S]).run().exits(0).quietly();
    daemon.pfs(["create", "--exist-ok", "--ring-buffer-size", "1MB", S]).run().exits(0).quietly();
    let other = daemon
        .pfs(["create", "--exist-ok", "--ring-buffer-size", "2MB", "--ttl", "1h", S])
        .run()
        .exits(0);
    other.says("a ring buffer of 1.0 mib, not 2.0 mib").says("no ttl, not 1h");
    assert_eq!((daemon.head(S), daemon.stat_number(S, "ring_buffer_size")), (3, 1024 * 1024));
    daemon.pfs(["create", "--replace", "--ring-buffer-size", "2MB", S]).run().exits(0).quietly();
    assert_eq!((daemon.head(S), daemon.stat_number(S, "ring_buffer_size")), (0, 2 * 1024 * 1024));
    daemon.pfs(["close", S]).run().exits(0);
    daemon.pfs(["create", "--replace", S]).run().exits(0);
    assert_eq!(daemon.stat(S).unwrap()["state"], "open");
    daemon.pfs(["create", "--exist-ok", "--replace", S]).run().exits(2);
}

#[test]
fn an_upload_that_replaces_starts_a_new_stream() {
    let daemon = Daemon::with_http();
    for old in ["", "old"] {
        let put = daemon.ask("PUT", "/streamfs/s?replace&close", [], b"new").has(201);
        assert_eq!(
            (put.json()["created"].as_bool(), put.json()["offset"].as_u64()),
            (Some(true), Some(3))
        );
        assert_eq!(daemon.get(S).has(200).text(), "new", "after {old:?}");
    }
    // Without `replace`, the second request is still refused.
    daemon.ask("PUT", "/streamfs/s?close", [], b"more").has(409).refuses("closed");
    let sized = daemon.ask("POST", "/streamfs/s?replace&ring-buffer-size=1MB", [], b"").has(201);
    assert_eq!(sized.json()["bytes"], 0);
    assert_eq!((daemon.head(S), daemon.stat_number(S, "ring_buffer_size")), (0, 1024 * 1024));
    daemon.ask("PUT", "/streamfs/s?replace&create", [], b"").has(400).refuses("bad_option");

    let mut old = daemon.http();
    old.request("GET", S, &[], None);
    old.head().unwrap();
    daemon.ask("PUT", "/streamfs/s?replace", [], b"new").has(201);
    assert_eq!(old.piece(), None, "its connection breaks");
}

#[test]
fn no_client_finds_the_stream_missing_while_it_is_replaced() {
    let daemon = Daemon::with_http();
    daemon.create(S);
    std::thread::scope(|scope| {
        let replaces = scope.spawn(|| {
            (0..500)
                .for_each(|_| drop(daemon.ask("PUT", "/streamfs/s?replace", [], b"x").has(201)));
        });
        while !replaces.is_finished() {
            daemon.ask("HEAD", S, [], b"").has(200);
        }
    });
}
