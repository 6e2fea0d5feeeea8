//! Joins at any time: the header and the bytes from a sync point decode without an error.

use harness::Random;
use pfs_media::{Format, Indexer, Mark};

use super::ffmpeg;

/// Formats by name, with the ffmpeg options that write them; `V` and `A` stand for the video and
/// audio inputs. Video has a key frame every two seconds.
const FORMATS: [(&str, &str); 22] = [
    ("MPEG-TS, H.264", "V A -c:v libx264 -preset ultrafast -g 50 -c:a aac -f mpegts"),
    ("MPEG-TS, MPEG-2", "V -c:v mpeg2video -b:v 800k -g 50 -f mpegts"),
    ("MPEG-TS, audio", "A -c:a aac -f mpegts"),
    ("Matroska, H.264", "V A -c:v libx264 -preset ultrafast -g 50 -c:a libvorbis -f matroska"),
    ("WebM", "V -c:v libvpx -deadline realtime -cpu-used 8 -b:v 800k -g 50 -f webm"),
    (
        "MP4, fragments",
        "V A -c:v libx264 -preset ultrafast -g 50 -c:a aac -f mp4 \
         -movflags frag_keyframe+empty_moov+default_base_moof",
    ),
    (
        "CMAF, a fragment a frame",
        "V -c:v libx264 -preset ultrafast -g 50 -f mp4 -movflags cmaf+frag_every_frame+empty_moov",
    ),
    ("FLV, H.264", "V A -c:v libx264 -preset ultrafast -g 50 -c:a aac -f flv"),
    ("FLV, Sorenson", "V -c:v flv1 -b:v 800k -g 50 -f flv"),
    ("Ogg Vorbis", "A -c:a libvorbis -b:a 128k -f ogg"),
    ("Ogg Opus", "A -c:a libopus -b:a 64k -f ogg"),
    ("Ogg FLAC", "A -c:a flac -f ogg"),
    ("Ogg Theora", "V -c:v libtheora -g 50 -f ogg"),
    ("FLAC", "A -c:a flac -f flac"),
    ("WAV", "A -f wav"),
    ("MP3", "A -c:a libmp3lame -b:a 128k -f mp3"),
    ("ADTS", "A -c:a aac -f adts"),
    ("AC-3", "A -c:a ac3 -f ac3"),
    ("Motion JPEG", "V -c:v mjpeg -f mjpeg"),
    ("H.264", "V -c:v libx264 -preset ultrafast -g 50 -f h264"),
    ("H.265", "V -c:v libx265 -preset ultrafast -g 50 -x265-params log-level=none -f hevc"),
    ("YUV4MPEG2", "V -s 64x48 -f yuv4mpegpipe"),
];

/// Encodes ten seconds of a test picture and noise with these options.
fn film(options: &str) -> Vec<u8> {
    let mut command = ffmpeg();
    for word in options.split_whitespace() {
        command = match word {
            "V" => command.args(["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25"]),
            "A" => command.args(["-f", "lavfi", "-i", "anoisesrc=r=44100:amplitude=0.2:seed=1"]),
            word => command.arg(word),
        };
    }
    command.args(["-t", "10", "-"]).run().exits(0).stdout
}

/// Returns what a reader that joins at offset `at` gets: the header in effect, and the bytes from
/// the newest sync point at or before `at`.
fn join(film: &[u8], at: usize) -> (Format, Vec<u8>) {
    let format = Format::sniff(&film[..film.len().min(Format::SNIFF_BYTES)]).expect("a format");
    let (mut indexer, mut marks) = (Indexer::new(format, 0), Vec::new());
    // Pieces of the size that a pipe delivers.
    for piece in film.chunks(65_536) {
        indexer.feed(piece, &mut marks).unwrap();
    }
    let (mut newest, mut joined) = (Vec::new(), None);
    for mark in marks {
        let from = match mark {
            Mark::Header(header) => {
                newest = header.to_vec();
                continue;
            }
            Mark::Sync(from) => from as usize,
            Mark::SyncEvery(from, step) => at - (at - from as usize) % step as usize,
            _ => continue,
        };
        if from <= at {
            joined = Some([&*newest, &film[from..]].concat());
        }
    }
    (format, joined.expect("a sync point"))
}

#[test]
#[ignore = "needs ffmpeg: scripts/programs"]
fn a_join_at_a_sync_point_with_the_header_decodes_without_an_error_in_every_format() {
    let mut random = Random::from_the_system();
    for (name, options) in FORMATS {
        let film = film(options);
        for _ in 0..2 {
            let at = film.len() / 4 + random.below(film.len() as u64 / 2) as usize;
            let (format, joined) = join(&film, at);
            // ffmpeg does not reliably detect these formats, which have no signature.
            let input: &[&str] = match format {
                Format::H264 => &["-f", "h264"],
                Format::Hevc => &["-f", "hevc"],
                _ => &[],
            };
            let decode = ["-i", "-", "-f", "null", "-"];
            let decoded = ffmpeg().args(input).args(decode).stdin(joined).run();
            assert_eq!((decoded.code, decoded.stderr.as_str()), (0, ""), "{name}, joined at {at}");
        }
    }
}
