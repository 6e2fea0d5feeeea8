//! Ogg parser (RFC 3533), for Vorbis, Opus, FLAC, Speex and Theora.
//!
//! The header is the pages that hold the header packets of all logical streams. A sync point is a
//! page that begins with a new packet. With Theora, that packet must be a key frame.

use bytes::Bytes;

use crate::{
    bits::find,
    indexer::{Fault, MAX_HEADER_BYTES, Mark, Parse, Parsed, Step},
};

/// Capture pattern at the beginning of each page.
pub(crate) const CAPTURE: &[u8] = b"OggS";
const PAGE_BYTES: usize = 27;
/// Number of bytes of a page's first packet that are examined.
const PACKET_BYTES: usize = 64;

const CONTINUED: u8 = 1;
const BEGIN: u8 = 2;

/// Maximum number of logical streams in one Ogg stream.
const MAX_STREAMS: usize = 64;

/// Whether these bytes begin with the first page of a logical stream.
pub(crate) fn begins_stream(bytes: &[u8]) -> bool {
    bytes.starts_with(CAPTURE) && bytes.get(5).is_some_and(|flags| flags & BEGIN != 0)
}

#[derive(Default)]
pub(crate) struct Ogg {
    streams: Vec<Logical>,
    header: Vec<u8>,
    /// Whether the header was reported.
    is_reported: bool,
    is_lost: bool,
}

/// A logical stream.
struct Logical {
    serial: u32,
    /// Number of header packets whose end has not arrived.
    headers: usize,
    is_video: bool,
}

/// Identifies the codec of a logical stream from its first packet. Returns the number of header
/// packets, and whether the codec is Theora.
fn codec(packet: &[u8]) -> (usize, bool) {
    match packet {
        [1, b'v', b'o', b'r', b'b', b'i', b's', ..] => (3, false),
        [0x80, b't', b'h', b'e', b'o', b'r', b'a', ..] => (3, true),
        [b'O', b'p', b'u', b's', b'H', b'e', b'a', b'd', ..] => (2, false),
        [b'S', b'p', b'e', b'e', b'x', ..] => (2, false),
        // The number of header packets after the first.
        [0x7F, b'F', b'L', b'A', b'C', _, _, high, low, ..] => {
            (1 + usize::from(u16::from_be_bytes([*high, *low])), false)
        }
        _ => (1, false),
    }
}

impl Parse for Ogg {
    fn step(&mut self, at: u64, bytes: &[u8], marks: &mut Vec<Mark>) -> Parsed {
        if bytes.len() < PAGE_BYTES {
            return Ok(Step::Need(PAGE_BYTES));
        }
        if !bytes.starts_with(CAPTURE) || bytes.get(4) != Some(&0) {
            if !self.is_lost {
                return Err(Fault::Malformed);
            }
            let next = find(bytes, CAPTURE, 1).unwrap_or(bytes.len() - CAPTURE.len() + 1);
            return Ok(Step::Skip(next as u64));
        }
        let segments = usize::from(bytes.get(26).copied().unwrap_or_default());
        let body = PAGE_BYTES + segments;
        let Some(lacing) = bytes.get(PAGE_BYTES..body) else { return Ok(Step::Need(body)) };
        let size: usize = lacing.iter().map(|len| usize::from(*len)).sum();
        let ended = lacing.iter().filter(|len| **len < 255).count();
        let flags = bytes.get(5).copied().unwrap_or_default();
        let serial =
            bytes.get(14..18).and_then(|serial| serial.try_into().ok()).ok_or(Fault::Malformed)?;
        let serial = u32::from_le_bytes(serial);
        let looked_at = size.min(PACKET_BYTES);
        let Some(packet) = bytes.get(body..body + looked_at) else {
            return Ok(Step::Need(body + looked_at));
        };
        if self.is_lost {
            // Another page must follow: the capture pattern may be in a packet.
            match bytes.get(body + size..body + size + CAPTURE.len()) {
                Some(CAPTURE) => self.is_lost = false,
                Some(_) => return Ok(Step::Skip(1)),
                None => return Ok(Step::Need(body + size + CAPTURE.len())),
            }
        }
        let len = body + size;
        if flags & BEGIN != 0 {
            if bytes.len() < len {
                return Ok(Step::Need(len));
            }
            if self.is_reported || self.streams.len() >= MAX_STREAMS {
                // A new chain begins.
                *self = Self::default();
            }
            let (headers, is_video) = codec(packet);
            let headers = headers.saturating_sub(ended);
            self.streams.push(Logical { serial, headers, is_video });
            self.header.extend_from_slice(bytes.get(..len).unwrap_or_default());
            return Ok(Step::Skip(len as u64));
        }
        let has_video = self.streams.iter().any(|stream| stream.is_video);
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.serial == serial) else {
            return Ok(Step::Skip(len as u64));
        };
        if stream.headers > 0 {
            if bytes.len() < len {
                return Ok(Step::Need(len));
            }
            stream.headers = stream.headers.saturating_sub(ended);
            self.header.extend_from_slice(bytes.get(..len).unwrap_or_default());
            if self.header.len() > MAX_HEADER_BYTES {
                return Err(Fault::TooLarge);
            }
            return Ok(Step::Skip(len as u64));
        }
        if !self.is_reported && self.streams.iter().all(|stream| stream.headers == 0) {
            self.is_reported = true;
            marks.push(Mark::Header(Bytes::from(self.header.clone())));
        }
        let is_video = self.streams.iter().any(|it| it.serial == serial && it.is_video);
        // Theora: bit 6 of a data packet is clear in a key frame.
        let can_start = !has_video || is_video && packet.first().is_some_and(|it| it & 0xC0 == 0);
        if self.is_reported && flags & CONTINUED == 0 && size > 0 && can_start {
            marks.push(Mark::Sync(at));
        }
        Ok(Step::Skip(len as u64))
    }

    fn memory(&self) -> usize {
        self.header.capacity()
    }

    fn resync(&mut self) {
        self.is_lost = true;
    }
}
