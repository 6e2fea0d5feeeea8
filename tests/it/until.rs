//! When a reader ends.

use std::time::{Duration, Instant};

use harness::{Daemon, Transport, eventually};

const S: &str = "/streamfs/s";

harness::per_transport! {
    readers_wait_for_more_until_the_stream_is_closed,
    caught_up_ends_at_what_there_is,
    writers_gone_ends_when_the_last_writer_has_finished,
    idle_ends_a_reader_when_nothing_arrives_for_that_time,
    removing_the_stream_ends_its_readers_with_7,
    writers_of_a_stream_that_is_removed_or_closed_are_told_so,
}

fn readers_wait_for_more_until_the_stream_is_closed(transport: Transport) {
    let daemon = transport.daemon();
    daemon.append(S, "a");
    let mut reader = daemon.reader(S, []);
    let mut explicit = daemon.reader(S, ["--until", "closed"]);
    daemon.pfs(["write", "--stream", S]).stdin("b").run().exits(0);
    eventually("both have all there is", || (reader.stdout_len(), explicit.stdout_len()) == (2, 2));
    assert!(reader.runs() && explicit.runs());
    daemon.pfs(["close", S]).run().exits(0);
    assert_eq!(reader.finish().exits(0).quietly().text(), "ab");
    assert_eq!(explicit.finish().exits(0).quietly().text(), "ab");
}

fn caught_up_ends_at_what_there_is(transport: Transport) {
    let daemon = transport.daemon();
    let mut writer = daemon.pfs(["write", "--stream", S]).stdin_pipe().spawn();
    writer.send(b"so far");
    eventually("it is written", || daemon.head(S) == 6);
    let read = daemon.pfs(["cat", "--stream", "--until", "caught-up", S]).run().exits(0).quietly();
    assert_eq!(read.text(), "so far");
    let none = daemon.pfs(["cat", "--stream", "--new", "--until", "caught-up", S]).run().exits(0);
    assert_eq!(none.text(), "");
    assert!(writer.runs());
}

#[test]
fn caught_up_does_not_wait_for_a_missing_stream() {
    let daemon = Daemon::start();
    daemon.pfs(["cat", "--stream", "--until", "caught-up", S]).run().exits(3).says(S);
    assert!(daemon.streams().is_empty());
}

fn writers_gone_ends_when_the_last_writer_has_finished(transport: Transport) {
    let daemon = transport.daemon();
    let mut reader = daemon.pfs(["cat", "--stream", "--until", "writers-gone", S]).spawn();
    let mut one = daemon.pfs(["write", "--stream", S]).stdin_pipe().spawn();
    let mut two = daemon.pfs(["write", "--stream", S]).stdin_pipe().spawn();
    one.send(b"1");
    eventually("the first is written", || daemon.head(S) == 1);
    two.send(b"2");
    eventually("the second is written", || daemon.head(S) == 2);
    one.end_input();
    one.finish().exits(0);
    eventually("all is read", || reader.stdout_len() == 2);
    assert!(reader.runs());
    two.send(b"3");
    two.end_input();
    two.finish().exits(0);
    assert_eq!(reader.finish().exits(0).text(), "123");
}

fn idle_ends_a_reader_when_nothing_arrives_for_that_time(transport: Transport) {
    let daemon = transport.daemon();
    daemon.append(S, "all");
    let mut idle = Duration::from_millis(500);
    // A machine that is too busy to deliver anything within the idle time decides nothing: the test
    // tries again with more time.
    eventually("what is there comes in time", || {
        let start = Instant::now();
        let until = format!("idle={}ms", idle.as_millis());
        let read = daemon.pfs(["cat", "--stream", "--until", &until, S]).run().exits(0).quietly();
        assert!(start.elapsed() >= idle, "it did not wait for {idle:?}");
        assert!(["", "all"].contains(&read.text()), "{:?}", read.text());
        idle *= 2;
        read.text() == "all"
    });
}

fn removing_the_stream_ends_its_readers_with_7(transport: Transport) {
    let daemon = transport.daemon();
    let mut writer = daemon.pfs(["write", "--stream", S]).stdin_pipe().spawn();
    writer.send(b"all");
    let reader = daemon.pfs(["cat", "--stream", S]).spawn();
    eventually("it has read all", || reader.stdout_len() == 3);
    let gone = daemon.reader(S, ["--until", "writers-gone", "--new"]);
    daemon.pfs(["rm", S]).run().exits(0);
    assert_eq!(reader.finish().exits(7).says("removed").text(), "all");
    gone.finish().exits(7);
    // A new stream of the same name is another stream.
    daemon.pfs(["write", "--close", S]).stdin("new").run().exits(0);
    assert_eq!(daemon.pfs(["cat", "--stream", S]).run().exits(0).text(), "new");
}

fn writers_of_a_stream_that_is_removed_or_closed_are_told_so(transport: Transport) {
    let daemon = transport.daemon();
    for (command, word, code) in [("rm", "removed", 1), ("close", "closed", 9)] {
        let name = format!("/streamfs/{word}");
        let waiting =
            daemon.pfs(["write", "--stream", "--wait-readers", "1", &name]).stdin("never").spawn();
        eventually("the one that waits has created it", || daemon.stat(&name).is_some());
        let mut writer = daemon.pfs(["write", "--stream", &name]).stdin_pipe().spawn();
        writer.send(b"x");
        eventually("it is written", || daemon.head(&name) == 1);
        daemon.pfs([command, &name]).run().exits(0);
        eventually("the writer is told", || !writer.offer(b"y") || !writer.runs());
        writer.finish().exits(code).says(word);
        waiting.finish().exits(code).says(word);
    }
}
