//! Flash video (FLV) parser.
//!
//! The header is the file header, the metadata, and the decoder configurations of audio and
//! video. A sync point is a tag with a key frame. In a stream without video, each audio tag is a
//! sync point.

use bytes::Bytes;

use crate::{
    bits::be,
    indexer::{Fault, MAX_HEADER_BYTES, Mark, Parse, Parsed, Step},
};

/// First bytes of a file: the signature and the version.
pub(crate) const SIGNATURE: &[u8] = b"FLV\x01";

const AUDIO: u8 = 8;
const VIDEO: u8 = 9;
const SCRIPT: u8 = 18;

/// Size of a tag's header, and of the field after the tag that repeats the tag's size.
const TAG_BYTES: usize = 11;
const TRAILER_BYTES: usize = 4;

/// Number of bytes of a tag's data that are examined.
const DATA_BYTES: usize = 2;

#[derive(Default)]
pub(crate) struct Flv {
    start: Vec<u8>,
    metadata: Vec<u8>,
    audio: Vec<u8>,
    video: Vec<u8>,
    has_video: bool,
    /// Whether a part of the header has changed since the header was reported.
    is_new: bool,
    is_lost: bool,
}

/// Whether a tag's data configures a decoder: AAC, or H.264 and the codecs of Enhanced RTMP.
fn is_configuration(kind: u8, data: &[u8]) -> bool {
    match (kind, data) {
        (AUDIO, [first, 0, ..]) => first >> 4 == 10,
        (VIDEO, [first, 0, ..]) if first & 0x80 == 0 => first & 15 == 7 || first & 15 == 12,
        (VIDEO, [first, ..]) => first & 0x80 != 0 && first & 15 == 0,
        _ => false,
    }
}

/// Whether the data of a video tag is a picture that can be decoded without other pictures.
fn is_key_frame(data: &[u8]) -> bool {
    match data {
        // H.264 and H.265 also have tags that end a sequence.
        [0x17 | 0x1C, packet, ..] => *packet == 1,
        [first, ..] => (first >> 4) & 7 == 1,
        [] => false,
    }
}

impl Flv {
    fn take(&mut self, kind: u8, tag: &[u8]) -> Result<(), Fault> {
        let place = match kind {
            AUDIO => &mut self.audio,
            VIDEO => &mut self.video,
            _ => &mut self.metadata,
        };
        if place != tag {
            *place = tag.to_vec();
            self.is_new = true;
        }
        let total = self.start.len() + self.metadata.len() + self.audio.len() + self.video.len();
        if total > MAX_HEADER_BYTES { Err(Fault::TooLarge) } else { Ok(()) }
    }

    fn sync(&mut self, at: u64, marks: &mut Vec<Mark>) {
        if std::mem::take(&mut self.is_new) {
            let header = [&*self.start, &self.metadata, &self.video, &self.audio].concat();
            marks.push(Mark::Header(Bytes::from(header)));
        }
        marks.push(Mark::Sync(at));
    }
}

impl Parse for Flv {
    fn step(&mut self, at: u64, bytes: &[u8], marks: &mut Vec<Mark>) -> Parsed {
        if bytes.len() < TAG_BYTES + DATA_BYTES {
            return Ok(Step::Need(TAG_BYTES + DATA_BYTES));
        }
        if bytes.starts_with(SIGNATURE) {
            let len = be::<4>(bytes, 5).ok_or(Fault::Malformed)? as usize + TRAILER_BYTES;
            if bytes.len() < len {
                return Ok(Step::Need(len));
            }
            *self = Self { is_new: true, ..Self::default() };
            self.has_video = bytes.get(4).is_some_and(|flags| flags & 1 != 0);
            self.start = bytes.get(..len).unwrap_or_default().to_vec();
            return Ok(Step::Skip(len as u64));
        }
        let kind = bytes.first().copied().unwrap_or_default() & 0x1F;
        let size = be::<3>(bytes, 1).ok_or(Fault::Malformed)? as usize;
        let len = TAG_BYTES + size + TRAILER_BYTES;
        let is_tag = matches!(kind, AUDIO | VIDEO | SCRIPT) && be::<3>(bytes, 8) == Some(0);
        if self.is_lost {
            // Accept a tag only if the size after it matches.
            if is_tag && size > 0 && len <= MAX_HEADER_BYTES {
                if bytes.len() < len {
                    return Ok(Step::Need(len));
                }
                self.is_lost = be::<4>(bytes, len - TRAILER_BYTES) != Some((len - 4) as u64);
            }
            if self.is_lost {
                return Ok(Step::Skip(1));
            }
        }
        if self.start.is_empty() || !is_tag {
            return Err(Fault::Malformed);
        }
        let data = bytes.get(TAG_BYTES..TAG_BYTES + DATA_BYTES.min(size)).unwrap_or_default();
        if kind == SCRIPT || is_configuration(kind, data) {
            if bytes.len() < len {
                return Ok(Step::Need(len));
            }
            self.take(kind, bytes.get(..len).unwrap_or_default())?;
        } else {
            self.has_video |= kind == VIDEO;
            let is_key_frame = is_key_frame(data);
            if kind == VIDEO && is_key_frame || kind == AUDIO && !self.has_video {
                self.sync(at, marks);
            }
        }
        Ok(Step::Skip(len as u64))
    }

    fn memory(&self) -> usize {
        [&self.start, &self.metadata, &self.audio, &self.video].iter().map(|it| it.capacity()).sum()
    }

    fn end_header(&mut self, _rest: &[u8]) {
        self.is_new = false;
    }

    fn resync(&mut self) {
        if self.is_new {
            // A part of the header may be missing.
            self.start.clear();
        }
        self.is_lost = true;
    }
}
