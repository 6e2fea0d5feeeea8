//! The table of formats in README.md, made from the samples. `scripts/generate` writes it.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests, which clippy does not know

use pfs_media::{Format, Indexer, Mark};

/// Samples of each format, and where a decoder can start.
const FORMATS: [(&[&str], &str); 14] = [
    (&["video.ts", "audio.ts"], "a key frame; audio alone: a packet"),
    (&["video.mkv", "video.webm"], "a cluster that begins with a key frame"),
    (&["fragments.mp4", "frames.mp4"], "a fragment that begins with a key frame"),
    (&["vorbis.ogg", "opus.ogg", "flac.ogg", "theora.ogv"], "a page; Theora: a key frame"),
    (&["video.flv"], "a key frame"),
    (&["audio.flac"], "a frame"),
    (&["audio.wav"], "a sample"),
    (&["audio.mp3"], "a frame"),
    (&["audio.adts"], "a frame"),
    (&["audio.ac3"], "a frame"),
    (&["video.mjpeg"], "a picture"),
    (&["video.264"], "a key frame"),
    (&["video.265"], "a key frame"),
    (&["video.y4m"], "a picture"),
];

const BEGIN: &str = "<!-- formats -->\n";
const END: &str = "<!-- end of formats -->\n";

fn header(sample: &str) -> (Format, usize) {
    let file = format!("{}/tests/samples/{sample}", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(file).unwrap();
    let format = Format::sniff(&bytes[..bytes.len().min(Format::SNIFF_BYTES)]).unwrap();
    let mut marks = Vec::new();
    Indexer::new(format, 0).feed(&bytes, &mut marks).unwrap();
    let header = marks.iter().find_map(|mark| match mark {
        Mark::Header(header) => Some(header.len()),
        _ => None,
    });
    (format, header.unwrap_or_default())
}

fn table() -> String {
    let mut table =
        String::from("| format | header | where a late reader can start |\n|---|---|---|\n");
    for (samples, place) in FORMATS {
        let headers: Vec<_> = samples.iter().map(|sample| header(sample)).collect();
        let sizes = headers.iter().map(|(_, size)| *size);
        let (least, most) = (sizes.clone().min().unwrap(), sizes.max().unwrap());
        let size = match (least, most) {
            (0, 0) => "none".to_owned(),
            (least, most) if least == most => format!("{most} bytes"),
            (least, most) => format!("{least} to {most} bytes"),
        };
        table += &format!("| {} | {size} | {place} |\n", headers[0].0);
    }
    table
}

#[test]
fn the_table_of_formats_in_the_readme_is_up_to_date() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let text = std::fs::read_to_string(readme).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the beginning of the table");
    let (found, after) = rest.split_once(END).expect("the end of the table");
    if std::env::var_os("PFS_REGENERATE").is_some() {
        let text = [before, BEGIN, &table(), END, after].concat();
        std::fs::write(readme, text).unwrap();
    } else {
        assert_eq!(found, table(), "run scripts/generate");
    }
}
