//! A real MPEG-TS stream at its real pace, recorded twice.

use std::path::Path;

use harness::{Daemon, Pfs, eventually};

const CAM: &str = "/streamfs/cam";
const SECONDS: &str = "6";

#[test]
#[ignore = "needs ffmpeg: scripts/media"]
fn a_transport_stream_at_its_real_pace_is_recorded_by_a_reader_from_the_start_and_one_that_joins_halfway() {
    let daemon = Daemon::with_config(
        "[plugins.streamfs]\nenabled = true\npath = \"/streamfs\"\n[plugins.streamfs.config]\n\
         channel_buffer_size = \"512KB\"\nring_buffer_size = \"256KB\"\n",
    );
    let source = daemon.dir().join("source.ts");
    encode(&source);
    let whole = std::fs::metadata(&source).unwrap().len();

    let from_start = daemon.pfs(["cat", "--stream", "--slow", "block", CAM]).spawn();
    let live = ["-v", "error", "-re", "-i", source.to_str().unwrap(), "-c", "copy", "-f", "mpegts", "-"];
    let mut ffmpeg = Pfs::new("ffmpeg").args(live).stdout_pipe().spawn();
    let write = daemon.pfs(["-q", "write", "--stream", "--close", "--wait-readers", "1", CAM]);
    let writer = write.stdin_from(ffmpeg.take_stdout()).spawn();
    eventually("half of it has passed", || daemon.head(CAM) >= whole / 2);
    let halfway = daemon.pfs(["cat", "--stream", "--slow", "block", CAM]).spawn();
    ffmpeg.finish().exits(0).quietly();
    writer.finish().exits(0).quietly();

    let from_start = from_start.finish().exits(0).stdout;
    let halfway = halfway.finish().exits(0).quietly().stdout;
    assert!(halfway.len() < from_start.len() && from_start.ends_with(&halfway));
    let of_start = frames(&daemon.dir().join("start.ts"), &from_start);
    let of_halfway = frames(&daemon.dir().join("halfway.ts"), &halfway);
    assert_eq!(of_start, 25 * 6);
    assert!((20..of_start).contains(&of_halfway), "{of_halfway} of {of_start} frames");
}

/// Six seconds of picture and tone. Each frame can be decoded by itself, as in a camera that lets
/// viewers in at any time.
fn encode(path: &Path) {
    let inputs =
        ["-f", "lavfi", "-i", "testsrc=size=320x240:rate=25", "-f", "lavfi", "-i", "sine=frequency=440"];
    let codecs = ["-c:v", "mpeg2video", "-g", "1", "-b:v", "1M", "-c:a", "mp2", "-f", "mpegts"];
    let run = Pfs::new("ffmpeg")
        .args(["-v", "error"])
        .args(inputs)
        .args(["-t", SECONDS])
        .args(codecs)
        .arg(path)
        .run();
    run.exits(0).quietly();
}

/// How many frames of picture ffprobe decodes from a recording. Panics if it complains about anything.
fn frames(path: &Path, recording: &[u8]) -> u32 {
    std::fs::write(path, recording).unwrap();
    let count = [
        "-count_frames",
        "-select_streams",
        "v:0",
        "-show_entries",
        "stream=nb_read_frames",
        "-of",
        "csv=p=0",
    ];
    let probe = Pfs::new("ffprobe").args(["-v", "error"]).args(count).arg(path).run().exits(0).quietly();
    let first = probe.text().lines().next().unwrap_or_default();
    first.trim_end_matches(',').parse().unwrap_or_else(|e| panic!("{e}: {:?}", probe.text()))
}
