//! Media formats, and their detection by media type or by first bytes (sniffing).

use std::fmt;

use crate::{
    bits::{be, find},
    flac, flv, frames, matroska, ogg, wav, y4m,
};

/// A format whose streams can be indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// MPEG transport stream.
    MpegTs,
    /// Matroska and WebM.
    Matroska,
    /// Fragmented MP4 and CMAF.
    Mp4,
    /// Ogg with Vorbis, Opus, FLAC, Speex or Theora.
    Ogg,
    /// FLAC without a container.
    Flac,
    /// Flash video.
    Flv,
    /// WAV (RIFF), uncompressed.
    Wav,
    /// MPEG audio, layers I to III.
    Mp3,
    /// AAC in ADTS frames.
    Adts,
    /// AC-3.
    Ac3,
    /// Motion JPEG: one JPEG picture after the other.
    Mjpeg,
    /// H.264 in Annex B format.
    H264,
    /// H.265 in Annex B format.
    Hevc,
    /// YUV4MPEG2, uncompressed video.
    Y4m,
    /// Lines of text, such as a log or JSON lines. Not media.
    Lines,
    /// CSV with a header line. Not media.
    Csv,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Format {
    /// Maximum number of first bytes of a stream that [`sniff`](Self::sniff) uses.
    pub const SNIFF_BYTES: usize = 4096;

    /// Name for people, such as `MPEG-TS`.
    pub fn name(self) -> &'static str {
        match self {
            Self::MpegTs => "MPEG-TS",
            Self::Matroska => "Matroska",
            Self::Mp4 => "MP4",
            Self::Ogg => "Ogg",
            Self::Flac => "FLAC",
            Self::Flv => "FLV",
            Self::Wav => "WAV",
            Self::Mp3 => "MP3",
            Self::Adts => "ADTS",
            Self::Ac3 => "AC-3",
            Self::Mjpeg => "Motion JPEG",
            Self::H264 => "H.264",
            Self::Hevc => "H.265",
            Self::Y4m => "YUV4MPEG2",
            Self::Lines => "lines",
            Self::Csv => "CSV",
        }
    }

    /// Media type of a stream in this format whose writer gave no media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::MpegTs => "video/mp2t",
            Self::Matroska => "video/x-matroska",
            Self::Mp4 => "video/mp4",
            Self::Ogg => "application/ogg",
            Self::Flac => "audio/flac",
            Self::Flv => "video/x-flv",
            Self::Wav => "audio/wav",
            Self::Mp3 => "audio/mpeg",
            Self::Adts => "audio/aac",
            Self::Ac3 => "audio/ac3",
            Self::Mjpeg => "video/x-motion-jpeg",
            Self::H264 => "video/h264",
            Self::Hevc => "video/h265",
            Self::Y4m => "video/x-yuv4mpeg",
            Self::Lines => "text/plain",
            Self::Csv => "text/csv",
        }
    }

    /// Media type of a stream in this format that begins with these bytes. More precise than
    /// [`content_type`](Self::content_type) for containers that have a type for each use.
    pub fn content_type_of(self, first: &[u8]) -> &'static str {
        let has = |text: &[u8]| find(first.get(..64).unwrap_or(first), text, 0).is_some();
        match self {
            Self::Matroska if has(b"webm") => "video/webm",
            Self::Ogg if has(b"theora") => "video/ogg",
            Self::Ogg => "audio/ogg",
            _ => self.content_type(),
        }
    }

    /// Format that a media type names, regardless of parameters and letter case.
    pub fn from_content_type(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        Some(match essence.to_ascii_lowercase().as_str() {
            "video/mp2t" | "video/mpegts" => Self::MpegTs,
            "video/x-matroska" | "audio/x-matroska" | "video/matroska" | "audio/matroska"
            | "video/webm" | "audio/webm" => Self::Matroska,
            "video/mp4" | "audio/mp4" | "video/iso.segment" | "audio/iso.segment" => Self::Mp4,
            "application/ogg" | "audio/ogg" | "video/ogg" | "audio/opus" | "audio/vorbis" => {
                Self::Ogg
            }
            "audio/flac" | "audio/x-flac" => Self::Flac,
            "video/x-flv" | "video/flv" => Self::Flv,
            "audio/wav" | "audio/wave" | "audio/x-wav" | "audio/vnd.wave" => Self::Wav,
            "audio/mpeg" | "audio/mp3" => Self::Mp3,
            "audio/aac" | "audio/aacp" | "audio/x-aac" => Self::Adts,
            "audio/ac3" | "audio/eac3" => Self::Ac3,
            "video/x-motion-jpeg" | "video/x-mjpeg" => Self::Mjpeg,
            "video/h264" => Self::H264,
            "video/h265" | "video/hevc" => Self::Hevc,
            "video/x-yuv4mpeg" => Self::Y4m,
            "text/csv" => Self::Csv,
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonlines" => Self::Lines,
            text if text.starts_with("text/") => Self::Lines,
            _ => return None,
        })
    }

    /// Whether this is a media format, whose readers join at sync points unless they ask for exact
    /// bytes.
    pub fn is_media(self) -> bool {
        !matches!(self, Self::Lines | Self::Csv)
    }

    /// Whether a decoder of this format accepts another header in the middle of its input.
    pub fn accepts_new_header(self) -> bool {
        match self {
            Self::Matroska | Self::Mp4 | Self::Flac | Self::Flv | Self::Wav | Self::Y4m => false,
            Self::MpegTs
            | Self::Ogg
            | Self::Mp3
            | Self::Adts
            | Self::Ac3
            | Self::Mjpeg
            | Self::H264
            | Self::Hevc
            | Self::Lines
            | Self::Csv => true,
        }
    }

    /// Whether a decoder steps from unit to unit by their sizes alone, so that a stream may be cut
    /// only between two units.
    pub(crate) fn has_cuts(self) -> bool {
        matches!(self, Self::Mp4 | Self::Y4m)
    }

    /// Returns the format with whose signature these bytes begin, as a file in that format does.
    ///
    /// Only formats with a signature that hardly ever occurs by chance are recognised. If a chunk
    /// in the middle of a stream begins with a signature, a writer has started over there.
    pub fn from_signature(bytes: &[u8]) -> Option<Self> {
        let starts = |signature: &[u8]| bytes.starts_with(signature);
        if starts(&matroska::SIGNATURE) {
            return Some(Self::Matroska);
        }
        if ogg::begins_stream(bytes) {
            return Some(Self::Ogg);
        }
        if starts(flac::MAGIC) {
            return Some(Self::Flac);
        }
        if starts(flv::SIGNATURE) {
            return Some(Self::Flv);
        }
        if starts(wav::SIGNATURE) && bytes.get(8..12) == Some(b"WAVE") {
            return Some(Self::Wav);
        }
        if starts(y4m::SIGNATURE) {
            return Some(Self::Y4m);
        }
        (bytes.get(4..8) == Some(b"ftyp")).then_some(Self::Mp4)
    }

    /// Whether more bytes may let [`sniff`](Self::sniff) recognise a format in a stream that begins
    /// with these bytes. False if `sniff` recognises one already.
    pub fn may_follow(first: &[u8]) -> bool {
        if first.len() >= Self::SNIFF_BYTES || Self::sniff(first).is_some() {
            return false;
        }
        let signatures: [&[u8]; 6] = [
            &matroska::SIGNATURE,
            ogg::CAPTURE,
            flac::MAGIC,
            flv::SIGNATURE,
            wav::SIGNATURE,
            y4m::SIGNATURE,
        ];
        let begins =
            |signature: &&[u8]| signature.starts_with(first) || first.starts_with(signature);
        signatures.iter().any(begins)
            // First bytes of formats that are recognised by their frames, and of a box of less
            // than 16 MiB or a start code.
            || matches!(first.first(), Some(0x47 | 0xFF | 0x0B | b'I' | 0))
    }

    /// Detects the format of a stream from its first bytes; `None` if no format matches, or if more
    /// bytes are needed.
    ///
    /// A format without a signature of its own is recognised only if a second frame follows the
    /// first, so that a text or a program is not mistaken for media.
    pub fn sniff(first: &[u8]) -> Option<Self> {
        let starts = |signature: &[u8]| first.starts_with(signature);
        if let Some(format) = Self::from_signature(first) {
            return Some(format);
        }
        if starts(ogg::CAPTURE) {
            return Some(Self::Ogg);
        }
        if matches!(first.get(4..8), Some(b"styp" | b"moov" | b"moof")) {
            return Some(Self::Mp4);
        }
        if starts(&[0xFF, 0xD8, 0xFF]) {
            return Some(Self::Mjpeg);
        }
        if starts(b"ID3") {
            return Some(Self::Mp3);
        }
        if [0, 188, 376].iter().all(|at| first.get(*at) == Some(&0x47)) {
            return Some(Self::MpegTs);
        }
        for (parser, format) in [
            (frames::adts_len as frames::FrameLen, Self::Adts),
            (frames::ac3_len, Self::Ac3),
            (frames::mp3_len, Self::Mp3),
        ] {
            let second = parser(first).and_then(|len| first.get(len..));
            if second.is_some_and(|second| parser(second).is_some()) {
                return Some(format);
            }
        }
        Self::sniff_annex_b(first)
    }

    /// H.264 and H.265 begin with a start code and a parameter set or an access unit delimiter.
    fn sniff_annex_b(first: &[u8]) -> Option<Self> {
        let at = find(first.get(..8)?, &[0, 0, 1], 0).filter(|at| *at <= 1)?;
        let header = be::<2>(first, at + 3)?;
        let h264 = (header >> 8) & 0x1F;
        if header & 0x8000 != 0 {
            return None;
        }
        let hevc = (header >> 9) & 0x3F;
        match (h264, hevc) {
            (_, 32 | 33 | 35) if header & 0x1FF == 1 => Some(Self::Hevc),
            (7 | 9, _) => Some(Self::H264),
            _ => None,
        }
    }
}
