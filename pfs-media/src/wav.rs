//! WAV parser: a RIFF file of uncompressed samples.
//!
//! The header is everything before the samples. Each block of samples, one of each channel, is a
//! sync point.

use bytes::Bytes;

use crate::{
    bits::be,
    indexer::{Fault, Mark, Parse, Parsed, Step},
};

/// First bytes of a file; the type `WAVE` follows four bytes later.
pub(crate) const SIGNATURE: &[u8] = b"RIFF";

/// Formats in which each block can be decoded without the others: PCM, floating point, A-law,
/// µ-law, and the extensible format, which contains one of these.
const INDEPENDENT: [u64; 5] = [1, 3, 6, 7, 0xFFFE];

/// Byte that fills the size fields of a reported header, so that the sizes are unknown: a reader
/// who joins late gets fewer samples than the writer may have announced.
const UNKNOWN_SIZE: u8 = 0xFF;

#[derive(Default)]
pub(crate) struct Wav {
    is_done: bool,
    /// Position of the next chunk of the header, after the chunks that were parsed.
    chunk: usize,
    /// Format of the samples, and the size of a block in bytes.
    samples: Option<(u64, u64)>,
}

/// Reads a little-endian number of `N` bytes.
fn le<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let mut field: [u8; N] = bytes.get(at..at.checked_add(N)?)?.try_into().ok()?;
    field.reverse();
    be::<N>(&field, 0)
}

impl Parse for Wav {
    fn step(&mut self, at: u64, bytes: &[u8], marks: &mut Vec<Mark>) -> Parsed {
        if self.is_done {
            return Ok(Step::Skip(bytes.len() as u64));
        }
        if bytes.len() < 12 {
            return Ok(Step::Need(12));
        }
        if !bytes.starts_with(SIGNATURE) || bytes.get(8..12) != Some(b"WAVE") {
            return Err(Fault::Malformed);
        }
        loop {
            let chunk = self.chunk.max(12);
            let Some(len) = le::<4>(bytes, chunk + 4) else { return Ok(Step::Need(chunk + 8)) };
            let data = chunk + 8;
            if bytes.get(chunk..chunk + 4) == Some(b"data") {
                let (format, align) = self.samples.ok_or(Fault::Malformed)?;
                let mut header = bytes.get(..data).unwrap_or_default().to_vec();
                for size in [4, chunk + 4] {
                    if let Some(field) = header.get_mut(size..size + 4) {
                        field.fill(UNKNOWN_SIZE);
                    }
                }
                marks.push(Mark::Header(Bytes::from(header)));
                if !INDEPENDENT.contains(&format) {
                    // The beginning is the only sync point.
                    return Err(Fault::Malformed);
                }
                marks.push(Mark::SyncEvery(at + data as u64, align));
                self.is_done = true;
                return Ok(Step::Skip(data as u64));
            }
            if bytes.get(chunk..chunk + 4) == Some(b"fmt ") {
                let (Some(format), Some(align)) = (le::<2>(bytes, data), le::<2>(bytes, data + 12))
                else {
                    return Ok(Step::Need(data + 14));
                };
                self.samples = Some((format, align)).filter(|(_, align)| *align > 0);
            }
            self.chunk = (data as u64 + len + len % 2) as usize;
        }
    }

    /// Stops parsing: all sync points follow from the header.
    fn resync(&mut self) {
        self.is_done = true;
    }
}
