//! FLAC parser, without a container (RFC 9639).
//!
//! The header is the marker `fLaC` and the metadata blocks. Each frame is a sync point; a frame is
//! recognised by its sync code and by the checksum of its header.

use bytes::Bytes;

use crate::{
    bits::be,
    indexer::{Fault, Mark, Parse, Parsed, Step},
};

/// Marker at the beginning of a stream.
pub(crate) const MAGIC: &[u8] = b"fLaC";

/// Maximum size of a frame header, in bytes.
const MAX_FRAME_HEADER_BYTES: usize = 16;

#[derive(Default)]
pub(crate) struct Flac {
    has_header: bool,
    /// Size of the marker and the metadata blocks that are complete so far, in bytes.
    walked: usize,
}

/// Checksum of a frame header: CRC-8 with polynomial 0x07.
fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |crc: u8, byte| {
        (0..8).fold(crc ^ byte, |crc, _| if crc & 0x80 == 0 { crc << 1 } else { crc << 1 ^ 0x07 })
    })
}

/// Whether `bytes` begins with a frame. Needs [`MAX_FRAME_HEADER_BYTES`] bytes.
fn is_frame(bytes: &[u8]) -> bool {
    let is_header = || -> Option<bool> {
        let header = be::<4>(bytes, 0)?;
        if header >> 17 != 0x7FFC || header & 1 != 0 {
            return None;
        }
        let (block, rate) = ((header >> 12) & 15, (header >> 8) & 15);
        let (channels, depth) = ((header >> 4) & 15, (header >> 1) & 7);
        if block == 0 || rate == 15 || channels > 10 || depth == 3 {
            return None;
        }
        let number = match bytes.get(4)?.leading_ones() {
            0 => 1,
            ones @ 2..=7 => ones as usize,
            _ => return None,
        };
        let block_bytes = match block {
            6 => 1,
            7 => 2,
            _ => 0,
        };
        let rate_bytes = match rate {
            12 => 1,
            13 | 14 => 2,
            _ => 0,
        };
        let len = 4 + number + block_bytes + rate_bytes;
        Some(crc8(bytes.get(..len)?) == *bytes.get(len)?)
    };
    is_header().unwrap_or_default()
}

impl Flac {
    fn header(&mut self, bytes: &[u8], marks: &mut Vec<Mark>) -> Parsed {
        if bytes.len() < MAGIC.len() {
            return Ok(Step::Need(MAGIC.len()));
        }
        if !bytes.starts_with(MAGIC) {
            return Err(Fault::Malformed);
        }
        self.has_header = false;
        let mut at = self.walked.max(MAGIC.len());
        loop {
            let Some(block) = be::<4>(bytes, at) else { return Ok(Step::Need(at + 4)) };
            let next = at + 4 + (block & 0xFF_FFFF) as usize;
            if bytes.len() < next {
                return Ok(Step::Need(next));
            }
            (at, self.walked) = (next, next);
            if block >> 31 == 1 {
                break;
            }
        }
        (self.has_header, self.walked) = (true, 0);
        marks.push(Mark::Header(Bytes::copy_from_slice(bytes.get(..at).unwrap_or_default())));
        Ok(Step::Skip(at as u64))
    }
}

impl Parse for Flac {
    fn step(&mut self, at: u64, bytes: &[u8], marks: &mut Vec<Mark>) -> Parsed {
        if !self.has_header {
            return self.header(bytes, marks);
        }
        if bytes.len() <= MAX_FRAME_HEADER_BYTES {
            return Ok(Step::Need(MAX_FRAME_HEADER_BYTES + 1));
        }
        if bytes.starts_with(MAGIC) && bytes.get(4).is_some_and(|block| block & 0x7F == 0) {
            // The writer starts over.
            return self.header(bytes, marks);
        }
        if is_frame(bytes) {
            marks.push(Mark::Sync(at));
        }
        let last = bytes.len() - MAX_FRAME_HEADER_BYTES;
        // The next frame begins with `0xFF`, and the marker with `f`.
        let rest = bytes.get(1..last).unwrap_or_default();
        let next = memchr::memchr2(0xFF, b'f', rest).map_or(last, |next| 1 + next);
        Ok(Step::Skip(next as u64))
    }

    /// Continues with the frame search, because frames are recognised at any offset.
    fn resync(&mut self) {
        (self.has_header, self.walked) = (true, 0);
    }
}
