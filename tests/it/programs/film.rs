//! Test film: four seconds that ffmpeg encodes once, and the frames that it decodes from
//! any source.

use std::{path::Path, sync::LazyLock};

use harness::{Finished, Pfs};

/// Number of video frames in the film.
pub(super) const FRAMES: usize = 25 * 4;

const PICTURE: [&str; 4] = ["-f", "lavfi", "-i", "testsrc=size=320x240:rate=25"];
const TONE: [&str; 4] = ["-f", "lavfi", "-i", "sine=frequency=440"];

/// The film as an MPEG transport stream. Each frame can be decoded by itself, as with a camera that
/// viewers can join at any time.
pub(super) fn transport_stream() -> &'static [u8] {
    static FILM: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let codecs = ["-c:v", "mpeg2video", "-g", "1", "-b:v", "1M", "-c:a", "mp2", "-f", "mpegts"];
        encoded(&[&PICTURE[..], &TONE].concat(), &codecs)
    });
    &FILM
}

/// The film as WebM with VP8 and Opus, in clusters of a fifth of a second. It has sound because a
/// browser waits for missing sound; without sound its clock would run on.
pub(super) fn webm() -> &'static [u8] {
    static FILM: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let picture = [
            "-c:v",
            "libvpx",
            "-deadline",
            "realtime",
            "-cpu-used",
            "8",
            "-g",
            "25",
            "-b:v",
            "500k",
        ];
        let rest = ["-c:a", "libopus", "-f", "webm", "-live", "1", "-cluster_time_limit", "200"];
        encoded(&[&PICTURE[..], &TONE].concat(), &[&picture[..], &rest].concat())
    });
    &FILM
}

/// The film as fragmented MP4 with H.264 and AAC, in fragments of a second.
pub(super) fn fragmented_mp4() -> &'static [u8] {
    static FILM: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let picture =
            ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25"];
        let fragments = "frag_keyframe+empty_moov+default_base_moof";
        let rest = ["-c:a", "aac", "-f", "mp4", "-movflags", fragments];
        encoded(&[&PICTURE[..], &TONE].concat(), &[&picture[..], &rest].concat())
    });
    &FILM
}

/// The sound of the film as Ogg with Vorbis.
pub(super) fn ogg() -> &'static [u8] {
    static FILM: LazyLock<Vec<u8>> =
        LazyLock::new(|| encoded(&TONE, &["-c:a", "libvorbis", "-b:a", "128k", "-f", "ogg"]));
    &FILM
}

fn encoded(inputs: &[&str], codecs: &[&str]) -> Vec<u8> {
    ffmpeg().args(inputs).args(["-t", "4"]).args(codecs).arg("-").run().exits(0).quietly().stdout
}

/// ffmpeg that prints only errors.
pub(super) fn ffmpeg() -> Pfs {
    Pfs::new("ffmpeg").args(["-v", "error"])
}

/// Options that limit how much of its input ffmpeg analyzes at the start. The default is 5 seconds.
pub(super) const LITTLE: [&str; 2] = ["-probesize", "50000"];

/// ffmpeg that decodes the video from a file or a URL and prints a line for each frame.
pub(super) fn decoder(source: &str, args: &[&str]) -> Pfs {
    let each = ["-map", "0:v", "-flush_packets", "1", "-f", "framecrc", "-"];
    ffmpeg().args(LITTLE).args(args).args(["-i", source]).args(each)
}

/// Returns the checksum of each frame, from the output of a [`decoder`].
pub(super) fn frames(decoded: &Finished) -> Vec<&str> {
    let lines = decoded.text().lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit(' ').next().expect("a line has a part")).collect()
}

/// Returns the frames of a file. Panics if ffmpeg prints any error.
pub(super) fn frames_of_file(path: &Path) -> Vec<String> {
    let decoded =
        decoder(path.to_str().expect("the test's own path"), &[]).run().exits(0).quietly();
    frames(&decoded).into_iter().map(str::to_owned).collect()
}
