//! Annex B parser: H.264 and H.265 elementary streams, whose units begin with start codes. Also
//! finds key frames in the video of MPEG transport streams.
//!
//! The header is the newest parameter set of each kind. A sync point is the beginning of the access
//! unit of an IDR or IRAP picture: the delimiter or parameter set before the picture, or the
//! picture itself if neither precedes it.

use bytes::Bytes;

use crate::{
    bits::find,
    indexer::{Fault, MAX_HEADER_BYTES, Mark, Parse, Parsed, Step},
};

const START_CODE: [u8; 3] = [0, 0, 1];

/// Maximum size of a parameter set. Its bytes are kept until its end has arrived.
const MAX_PARAMETER_SET_BYTES: usize = 64 * 1024;

/// Video codec whose key frames can be recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    Mpeg2,
    H264,
    Hevc,
}

/// Kind of a unit, as far as it matters to a decoder that starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// Access unit delimiter.
    Delimiter,
    /// Parameter set, with its unit type.
    Parameters(u8),
    /// Picture that can be decoded without other pictures.
    KeyFrame,
    /// Any other picture.
    Picture,
    Other,
}

impl Codec {
    /// Returns the kind of a unit from its first byte.
    fn unit(self, header: u8) -> Unit {
        match self {
            Self::H264 => match header & 0x1F {
                1..=4 => Unit::Picture,
                5 => Unit::KeyFrame,
                kind @ 7..=8 => Unit::Parameters(kind),
                9 => Unit::Delimiter,
                _ => Unit::Other,
            },
            Self::Hevc => match (header >> 1) & 0x3F {
                0..=15 => Unit::Picture,
                16..=23 => Unit::KeyFrame,
                kind @ 32..=34 => Unit::Parameters(kind),
                35 => Unit::Delimiter,
                _ => Unit::Other,
            },
            Self::Mpeg2 => match header {
                0xB3 => Unit::KeyFrame,
                0x00 => Unit::Picture,
                _ => Unit::Other,
            },
        }
    }
}

/// Whether a key frame or a parameter set begins in these bytes before any other picture.
pub(crate) fn has_key_frame(codec: Codec, bytes: &[u8]) -> bool {
    let mut at = 0;
    while let Some(start) = find(bytes, &START_CODE, at) {
        at = start + START_CODE.len();
        match bytes.get(at).map(|header| codec.unit(*header)) {
            Some(Unit::KeyFrame | Unit::Parameters(_)) => return true,
            Some(Unit::Picture) | None => return false,
            Some(Unit::Delimiter | Unit::Other) => {}
        }
    }
    false
}

pub(crate) struct AnnexB {
    codec: Codec,
    /// The newest parameter set of each kind, with its start code.
    parameters: Vec<(u8, Vec<u8>)>,
    /// Whether the parameter sets have changed since the last reported header.
    is_new: bool,
    /// Offset where the current access unit begins, known until its picture arrives.
    begins: Option<u64>,
    /// Number of bytes of the unfinished parameter set that were searched for its end.
    searched: usize,
}

impl AnnexB {
    pub(crate) fn h264() -> Self {
        Self::new(Codec::H264)
    }

    pub(crate) fn hevc() -> Self {
        Self::new(Codec::Hevc)
    }

    fn new(codec: Codec) -> Self {
        Self { codec, parameters: Vec::new(), is_new: false, begins: None, searched: 0 }
    }

    fn set(&mut self, kind: u8, unit: &[u8]) {
        match self.parameters.iter_mut().find(|(other, _)| *other == kind) {
            Some((_, known)) if known == unit => return,
            Some((_, known)) => *known = unit.to_vec(),
            None => self.parameters.push((kind, unit.to_vec())),
        }
        self.parameters.sort_unstable_by_key(|(kind, _)| *kind);
        self.is_new = true;
    }

    fn key_frame(&mut self, at: u64, marks: &mut Vec<Mark>) {
        if std::mem::take(&mut self.is_new) {
            let header: Vec<u8> =
                self.parameters.iter().flat_map(|(_, unit)| unit.iter().copied()).collect();
            marks.push(Mark::Header(Bytes::from(header)));
        }
        if !self.parameters.is_empty() {
            marks.push(Mark::Sync(self.begins.unwrap_or(at)));
        }
    }
}

impl Parse for AnnexB {
    fn step(&mut self, at: u64, bytes: &[u8], marks: &mut Vec<Mark>) -> Parsed {
        let Some(start) = find(bytes, &START_CODE, 0) else {
            // The bytes may end inside a start code.
            if bytes.len() < 4 {
                return Ok(Step::Need(4));
            }
            return Ok(Step::Skip(bytes.len() as u64 - 3));
        };
        if start > 0 {
            // A zero byte before a start code belongs to it.
            let zero = usize::from(bytes.get(start - 1) == Some(&0) && start == 1);
            if zero == 0 {
                let skip = if bytes.get(start - 1) == Some(&0) { start - 1 } else { start };
                return Ok(Step::Skip(skip as u64));
            }
        }
        let body = start + START_CODE.len();
        let Some(header) = bytes.get(body) else { return Ok(Step::Need(body + 1)) };
        if header & 0x80 != 0 {
            return Err(Fault::Malformed);
        }
        match self.codec.unit(*header) {
            Unit::Parameters(kind) => {
                // The unit ends where the next one begins.
                let Some(end) = find(bytes, &START_CODE, self.searched.max(body)) else {
                    if bytes.len() >= MAX_PARAMETER_SET_BYTES {
                        return Err(Fault::Malformed);
                    }
                    self.searched = bytes.len().saturating_sub(START_CODE.len() - 1);
                    return Ok(Step::Need(bytes.len() + 1));
                };
                self.searched = 0;
                let unit = bytes.get(..end).unwrap_or_default();
                let trimmed = unit.len() - unit.iter().rev().take_while(|byte| **byte == 0).count();
                let total: usize = self.parameters.iter().map(|(_, unit)| unit.len()).sum();
                if total + trimmed > MAX_HEADER_BYTES {
                    return Err(Fault::TooLarge);
                }
                self.set(kind, unit.get(..trimmed).unwrap_or_default());
                self.begins.get_or_insert(at);
                return Ok(Step::Skip(trimmed as u64));
            }
            Unit::Delimiter => self.begins = Some(at),
            Unit::KeyFrame => {
                self.key_frame(at, marks);
                self.begins = None;
            }
            Unit::Picture => self.begins = None,
            Unit::Other => {}
        }
        Ok(Step::Skip(body as u64 + 1))
    }

    fn end_header(&mut self, rest: &[u8]) {
        let start = find(rest, &START_CODE, 0).unwrap_or_default();
        let header = rest.get(start + START_CODE.len());
        if let Some(Unit::Parameters(kind)) = header.map(|header| self.codec.unit(*header)) {
            self.set(kind, rest);
        }
        self.is_new = false;
    }

    fn resync(&mut self) {
        (self.begins, self.searched) = (None, 0);
    }
}
