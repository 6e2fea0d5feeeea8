//! ffmpeg as a writer and as a reader of a stream's URL.

mod joins;

use harness::{Daemon, Running, Signal, eventually};

use super::{
    S,
    film::{FRAMES, LITTLE, decoder, ffmpeg, frames, frames_of_file, transport_stream, webm},
};
use crate::pages;

/// Starts ffmpeg as a writer, which appends the test's input to the stream.
#[track_caller]
fn pushing(daemon: &Daemon, query: &str) -> Running {
    let input = ["-f", "mpegts", "-i", "-"];
    let output =
        ["-c", "copy", "-f", "mpegts", "-method", "PUT", &daemon.url(&format!("{S}{query}"))];
    ffmpeg().args(LITTLE).args(input).args(output).stdin_pipe().spawn()
}

/// Sends the first half of a film and waits until most of it is in the stream.
#[track_caller]
fn half_sent(daemon: &Daemon, writer: &mut Running) -> &'static [u8] {
    let (first, second) = transport_stream().split_at(transport_stream().len() / 2);
    writer.send(first);
    eventually("most of the first half is in the stream", || {
        daemon.head(S) > first.len() as u64 / 2
    });
    second
}

/// Starts ffmpeg as a reader and waits until it decodes.
#[track_caller]
fn pulling(daemon: &Daemon, args: &[&str]) -> Running {
    let mut reader = decoder(&daemon.url(S), args).spawn();
    eventually("the first frames are decoded", || {
        assert!(reader.runs(), "the reader ended at once: {}", reader.stderr());
        reader.stdout_len() > 0
    });
    reader
}

#[test]
#[ignore = "needs ffmpeg: scripts/programs"]
fn a_film_that_ffmpeg_pushes_is_pulled_by_ffmpeg_with_every_frame() {
    let daemon = Daemon::with_http();
    for (format, film) in [("mpegts", transport_stream()), ("webm", webm())] {
        let source = daemon.dir().join(format);
        std::fs::write(&source, film).unwrap();
        let expected = frames_of_file(&source);
        assert_eq!(expected.len(), FRAMES, "{format}");
        for method in ["PUT", "POST"] {
            let stream = format!("/streamfs/{format}-{method}");
            let push = ["-c", "copy", "-f", format, "-method", method];
            let url = daemon.url(&format!("{stream}?close"));
            ffmpeg().arg("-i").arg(&source).args(push).arg(url).run().exits(0).quietly();
            // ffmpeg does not wait for the response.
            eventually("it is known how the writer ended", || {
                let stat = daemon.stat(&stream).unwrap_or_default();
                stat["writers_finished"] == 1 || stat["writers_died"] == 1
            });
            assert_eq!(daemon.stat(&stream).unwrap()["state"], "closed");
            let pulled = decoder(&daemon.url(&stream), &[]).run().exits(0).quietly();
            assert_eq!(frames(&pulled), expected, "{method} {format}");
        }
    }
}

#[test]
#[ignore = "needs ffmpeg: scripts/programs"]
fn ffmpeg_that_joins_halfway_gets_every_frame_to_the_end() {
    let daemon = Daemon::with_http();
    let mut writer = pushing(&daemon, "?close");
    let second = half_sent(&daemon, &mut writer);
    let reader = pulling(&daemon, &[]);
    writer.send(second);
    writer.finish().exits(0).quietly();
    assert_eq!(frames(&reader.finish().exits(0).quietly()).len(), FRAMES);
}

#[test]
#[ignore = "needs ffmpeg: scripts/programs"]
fn ffmpeg_that_is_killed_is_a_writer_that_died_and_its_readers_read_on() {
    let daemon = Daemon::with_http();
    let mut writer = pushing(&daemon, "?close");
    let second = half_sent(&daemon, &mut writer);
    let reader = pulling(&daemon, &[]);
    let last = daemon.reader(S, ["--until", "writers-gone"]);
    writer.signal(Signal::KILL);
    last.finish().exits(8);
    let stat = daemon.stat(S).unwrap();
    assert_eq!((&stat["state"], &stat["writers_died"]), (&"open".into(), &1.into()), "{stat}");
    daemon.append(S, second);
    daemon.close(S);
    // The messages of ffmpeg are about the frame in which the first writer died.
    let pulled = reader.finish().exits(0);
    assert!(frames(&pulled).len() > FRAMES * 3 / 4, "{}", pulled.text());
}

#[test]
#[ignore = "needs ffmpeg: scripts/programs"]
fn a_transport_stream_at_its_real_pace_is_recorded_by_a_reader_from_the_start_and_one_that_joins_halfway()
 {
    let daemon = Daemon::with_buffers(256 * 1024, 512 * 1024);
    let file = |name: &str| daemon.dir().join(name);
    std::fs::write(file("source"), transport_stream()).unwrap();

    let from_start = daemon.pfs(["cat", "--stream", "--slow", "block", S]).spawn();
    let live = ["-c", "copy", "-f", "mpegts", "-"];
    let mut source =
        ffmpeg().args(["-re", "-i"]).arg(file("source")).args(live).stdout_pipe().spawn();
    let write = daemon.pfs(["-q", "write", "--stream", "--close", "--wait-readers", "1", S]);
    let writer = write.stdin_from(source.take_stdout()).spawn();
    eventually("half of it has passed", || daemon.head(S) >= transport_stream().len() as u64 / 2);
    let halfway = daemon.pfs(["cat", "--stream", "--slow", "block", S]).spawn();
    source.finish().exits(0).quietly();
    writer.finish().exits(0).quietly();

    let from_start = from_start.finish().exits(0).stdout;
    let halfway = halfway.finish().exits(0).says("header of 376 bytes").stdout;
    // The header is the two tables that name the tracks, a packet each.
    assert!(halfway.len() < from_start.len() && from_start.ends_with(&halfway[2 * 188..]));
    std::fs::write(file("start"), &from_start).unwrap();
    std::fs::write(file("halfway"), &halfway).unwrap();
    let (of_start, of_halfway) = (frames_of_file(&file("start")), frames_of_file(&file("halfway")));
    assert_eq!(of_start.len(), FRAMES);
    assert!((20..FRAMES).contains(&of_halfway.len()), "{} of {FRAMES} frames", of_halfway.len());
}

#[test]
#[ignore = "needs ffmpeg: scripts/programs"]
fn ffmpeg_fails_where_its_stream_fails_or_is_removed_or_the_daemon_is_killed() {
    let ends: [fn(&mut Daemon); 4] = [
        |daemon| drop(daemon.pfs(["close", "--failed", S]).run().exits(0)),
        |daemon| daemon.remove(S),
        Daemon::kill9,
        |daemon| daemon.signal(Signal::TERM),
    ];
    for (number, end) in ends.into_iter().enumerate() {
        let mut daemon = Daemon::with_http();
        daemon.append(S, transport_stream());
        let reader = pulling(&daemon, &["-xerror"]);
        end(&mut daemon);
        let broken = reader.finish();
        assert_eq!(broken.code, 1, "end {number}: {}", broken.stderr);
        broken.says("Connection reset by peer");
    }
}

#[test]
#[ignore = "needs ffmpeg: scripts/programs"]
fn the_shell_lines_of_readme_work_with_ffmpeg() {
    pages::paste(pages::README, |_| true);
}
