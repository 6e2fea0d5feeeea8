//! Motion JPEG parser: consecutive JPEG pictures. Each picture is a sync point; there is no header.

use crate::{
    bits::{be, find},
    indexer::{Fault, Mark, Parse, Parsed, Step},
};

/// Number of bytes that are searched for a picture before the stream counts as malformed.
const MAX_SEARCHED: u64 = 16 * 1024 * 1024;

const START_OF_IMAGE: u8 = 0xD8;
const END_OF_IMAGE: u8 = 0xD9;
const START_OF_SCAN: u8 = 0xDA;

#[derive(Default)]
pub(crate) struct Jpeg {
    /// Whether the next bytes are entropy-coded.
    is_in_scan: bool,
    /// Whether the next bytes are a segment of a picture.
    is_in_picture: bool,
    searched: u64,
}

impl Jpeg {
    fn search(&mut self, bytes: &[u8]) -> Parsed {
        self.is_in_picture = false;
        let start = find(bytes, &[0xFF, START_OF_IMAGE, 0xFF], 1);
        let skip = start.unwrap_or(bytes.len().saturating_sub(2).max(1)) as u64;
        self.searched += skip;
        if self.searched > MAX_SEARCHED { Err(Fault::Malformed) } else { Ok(Step::Skip(skip)) }
    }
}

impl Parse for Jpeg {
    fn step(&mut self, at: u64, bytes: &[u8], marks: &mut Vec<Mark>) -> Parsed {
        if bytes.len() < 4 {
            return Ok(Step::Need(4));
        }
        if self.is_in_scan {
            // A marker ends the scan, unless it is a stuffed zero or a restart marker.
            let is_marker = |at: &usize| matches!(bytes.get(at + 1), Some(1..=0xCF | 0xD8..=0xFE));
            let marker = memchr::memchr_iter(0xFF, bytes).find(is_marker);
            self.is_in_scan = marker.is_none();
            match marker {
                Some(0) => {}
                Some(at) => return Ok(Step::Skip(at as u64)),
                None => return Ok(Step::Skip(bytes.len() as u64 - 1)),
            }
        }
        let marker = bytes.get(1).copied().unwrap_or_default();
        if bytes.first() != Some(&0xFF) || !self.is_in_picture && marker != START_OF_IMAGE {
            return self.search(bytes);
        }
        match marker {
            START_OF_IMAGE => {
                if bytes.get(2) != Some(&0xFF) {
                    return self.search(bytes);
                }
                (self.is_in_picture, self.searched) = (true, 0);
                marks.push(Mark::Sync(at));
                Ok(Step::Skip(2))
            }
            END_OF_IMAGE => {
                self.is_in_picture = false;
                Ok(Step::Skip(2))
            }
            0xFF => Ok(Step::Skip(1)),
            0 | 1 | 0xD0..=0xD7 => Ok(Step::Skip(2)),
            _ => {
                let len = be::<2>(bytes, 2).filter(|len| *len >= 2).ok_or(Fault::Malformed)?;
                self.is_in_scan = marker == START_OF_SCAN;
                Ok(Step::Skip(2 + len))
            }
        }
    }

    fn resync(&mut self) {
        (self.is_in_scan, self.is_in_picture, self.searched) = (false, false, 0);
    }
}
