//! Joins at any time, and losses: what a reader gets decodes, in every format.

use std::io::Read;

use harness::{Daemon, Finished, Random, Transport, eventually, gaps, variable};
use pfs_media::Format;

use super::{S, ffmpeg};

/// Formats by name, with the ffmpeg options that write them; `V` and `A` stand for the video and
/// audio inputs, and `G` for the distance of key frames.
const FORMATS: [(&str, &str); 22] = [
    ("MPEG-TS, H.264", "V A -c:v libx264 -preset ultrafast G -c:a aac -f mpegts"),
    ("MPEG-TS, MPEG-2", "V -c:v mpeg2video -b:v 800k G -f mpegts"),
    ("MPEG-TS, audio", "A -c:a aac -f mpegts"),
    ("Matroska, H.264", "V A -c:v libx264 -preset ultrafast G -c:a libvorbis -f matroska"),
    ("WebM", "V -c:v libvpx -deadline realtime -cpu-used 8 -b:v 800k G -f webm"),
    (
        "MP4, fragments",
        "V A -c:v libx264 -preset ultrafast G -c:a aac -f mp4 \
         -movflags frag_keyframe+empty_moov+default_base_moof",
    ),
    (
        "CMAF, a fragment a frame",
        "V -c:v libx264 -preset ultrafast G -f mp4 -movflags cmaf+frag_every_frame+empty_moov",
    ),
    ("FLV, H.264", "V A -c:v libx264 -preset ultrafast G -c:a aac -f flv"),
    ("FLV, Sorenson", "V -c:v flv1 -b:v 800k G -f flv"),
    ("Ogg Vorbis", "A -c:a libvorbis -b:a 128k -f ogg"),
    ("Ogg Opus", "A -c:a libopus -b:a 64k -f ogg"),
    ("Ogg FLAC", "A -c:a flac -f ogg"),
    ("Ogg Theora", "V -c:v libtheora G -f ogg"),
    ("FLAC", "A -c:a flac -f flac"),
    ("WAV", "A -f wav"),
    ("MP3", "A -c:a libmp3lame -b:a 128k -f mp3"),
    ("ADTS", "A -c:a aac -f adts"),
    ("AC-3", "A -c:a ac3 -f ac3"),
    ("Motion JPEG", "V -c:v mjpeg -f mjpeg"),
    ("H.264", "V -c:v libx264 -preset ultrafast G -f h264"),
    ("H.265", "V -c:v libx265 -preset ultrafast G -x265-params log-level=none -f hevc"),
    ("YUV4MPEG2", "V -s 64x48 -f yuv4mpegpipe"),
];

/// Length of a film in seconds: two and a half of the largest distances of key frames.
const SECONDS: u64 = 25;

/// Size of a first part that fits into a pipe without a reader.
const BEGINNING: usize = 32 * 1024;

/// Encodes a film of a test picture and noise with these options, and with a key frame every so
/// many seconds.
fn film(options: &str, distance: u64) -> Vec<u8> {
    let mut command = ffmpeg();
    let distance = (25 * distance).to_string();
    for word in options.split_whitespace() {
        command = match word {
            "V" => command.args(["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25"]),
            "A" => command.args(["-f", "lavfi", "-i", "anoisesrc=r=44100:amplitude=0.2:seed=1"]),
            "G" => command.args(["-g", &distance, "-keyint_min", &distance, "-sc_threshold", "0"]),
            word => command.arg(word),
        };
    }
    command.args(["-t", &SECONDS.to_string(), "-"]).run().exits(0).stdout
}

/// Decodes and prints the checksum of each frame.
fn decode(film: &[u8], bytes: Vec<u8>) -> Finished {
    let format = Format::sniff(&film[..film.len().min(Format::SNIFF_BYTES)]).expect("a format");
    // ffmpeg does not reliably detect these formats, which have no signature.
    let input: &[&str] = match format {
        Format::H264 => &["-f", "h264"],
        Format::Hevc => &["-f", "hevc"],
        _ => &[],
    };
    let frames = ["-map", "0:v?", "-map", "0:a?", "-f", "framecrc", "-"];
    ffmpeg().args(input).args(["-i", "-"]).args(frames).stdin(bytes).run()
}

/// The checksum of the last frame of the first track.
fn last_frame(decoded: &Finished) -> &str {
    let mut lines = decoded.text().lines().filter(|line| line.starts_with("0,"));
    lines.next_back().and_then(|line| line.rsplit(' ').next()).expect("a frame")
}

#[test]
#[ignore = "needs ffmpeg: scripts/programs"]
fn whoever_joins_at_any_time_decodes_everything_from_there_on_without_an_error() {
    let mut random = Random::from_the_system();
    let joins = variable("PFS_TEST_JOINS").unwrap_or(1);
    for (name, options) in FORMATS {
        for distance in [2, 10] {
            let film = film(options, distance);
            for nth in 0..joins {
                let at = film.len() / 3 + random.below(film.len() as u64 / 4) as usize;
                let ring = film.len() as u64 / [4, 10][random.below(2) as usize];
                let transport = Transport::ALL[random.below(3) as usize];
                let start: &[&str] = [&[][..], &["--new"], &["--tail", "20K"], &["--since", "1h"]]
                    [random.below(4) as usize];
                let what = format!(
                    "{name}, a key frame every {distance} s, join {nth} at {at} \
                                    of {}, ring {ring}, {transport:?} {start:?}",
                    film.len()
                );
                let daemon = transport.daemon_with_http();
                daemon.create_with_buffers(S, ring.max(8192), ring.max(8192));
                let mut writer =
                    daemon.pfs(["-q", "write", "--stream", "--close", S]).stdin_pipe().spawn();
                writer.send(&film[..at]);
                eventually("the first part is in the stream", || {
                    daemon.stat(S).is_some_and(|stat| stat["head"] == at)
                });
                let reader = daemon.pfs(["cat", "--stream", "--slow", "block", S]).args(start);
                let reader = daemon.attached(S, reader);
                writer.send(&film[at..]);
                writer.end_input();
                writer.finish().exits(0);
                let joined = reader.finish().exits(0);
                assert!(joined.stderr.contains("joined"), "{what}: {}", joined.stderr);
                assert!(joined.stdout.len() > film.len() / 20, "{what}: {}", joined.stderr);
                let decoded = decode(&film, joined.stdout);
                assert_eq!((decoded.code, &*decoded.stderr), (0, ""), "{what}: {}", joined.stderr);
            }
        }
    }
}

#[test]
#[ignore = "needs ffmpeg: scripts/programs"]
fn after_a_loss_decoding_goes_on_to_the_last_frame() {
    for (name, options) in FORMATS {
        let film = film(options, 2);
        let whole = decode(&film, film.clone());
        let daemon = Daemon::with_http();
        let ring = (film.len() as u64 / 4).max(8192);
        daemon.create_with_buffers(S, ring, ring);
        // This reader does not read until everything is written.
        let mut reader = daemon.piped_reader(S, []);
        let (first, rest) = film.split_at((film.len() / 8).min(BEGINNING));
        daemon.pfs(["-q", "write", "--stream", S]).stdin(first).run().exits(0);
        eventually("the reader has the beginning", || {
            daemon.reader_stat(S, reader.pid()).unwrap()["position"] == first.len()
        });
        reader.signal(harness::Signal::STOP);
        daemon.pfs(["-q", "write", "--stream", "--close", S]).stdin(rest).run().exits(0);
        reader.signal(harness::Signal::CONT);
        let mut output = Vec::new();
        reader.take_stdout().read_to_end(&mut output).unwrap();
        let run = reader.finish().exits(4);
        let gaps = gaps(&run.stderr);
        assert!(!gaps.is_empty(), "{name}");
        let decoded = decode(&film, output);
        assert_eq!(decoded.code, 0, "{name}: {}", decoded.stderr);
        // These decoders have a state that depends on all frames before.
        let is_exact = !["AC-3", "Ogg Opus", "MP3"].contains(&name);
        let is_last = last_frame(&decoded) == last_frame(&whole);
        assert!(is_last || !is_exact, "{name}: {gaps:?}: {}", decoded.stderr);
    }
}
