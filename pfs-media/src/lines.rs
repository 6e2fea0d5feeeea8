//! Lines of text, and CSV.
//!
//! The header of CSV is its first line; other text has no header. The beginning of each line is a
//! sync point. Of the lines that begin in one window, only the first and the last are reported.

use bytes::Bytes;

use crate::indexer::{Fault, MAX_HEADER_BYTES, Mark, Parse, Parsed, Step};

const NEWLINE: u8 = b'\n';

#[derive(Default)]
pub(crate) struct Lines {
    /// Whether the first line is a header that has not arrived yet.
    needs_header: bool,
    /// Number of bytes of the unfinished header that were searched for its end.
    searched: usize,
}

impl Lines {
    pub(crate) fn csv() -> Self {
        Self { needs_header: true, searched: 0 }
    }
}

impl Parse for Lines {
    fn step(&mut self, at: u64, bytes: &[u8], marks: &mut Vec<Mark>) -> Parsed {
        let after = |newline: usize| at.saturating_add(newline as u64 + 1);
        let unsearched = bytes.get(self.searched..).unwrap_or_default();
        let found = memchr::memchr(NEWLINE, unsearched);
        let Some(first) = found.map(|first| self.searched.saturating_add(first)) else {
            if !self.needs_header {
                return Ok(Step::Skip(bytes.len() as u64));
            }
            if bytes.len() >= MAX_HEADER_BYTES {
                return Err(Fault::TooLarge);
            }
            self.searched = bytes.len();
            return Ok(Step::Need(bytes.len() + 1));
        };
        self.searched = 0;
        if std::mem::take(&mut self.needs_header) {
            let header = bytes.get(..=first).unwrap_or_default();
            marks.push(Mark::Header(Bytes::copy_from_slice(header)));
            marks.push(Mark::Sync(after(first)));
            return Ok(Step::Skip(first as u64 + 1));
        }
        marks.push(Mark::Sync(after(first)));
        if let Some(last) = memchr::memrchr(NEWLINE, bytes).filter(|last| *last > first) {
            marks.push(Mark::Sync(after(last)));
        }
        Ok(Step::Skip(bytes.len() as u64))
    }

    fn end_header(&mut self, _rest: &[u8]) {
        self.needs_header = false;
    }

    /// The header is the first line of the stream, and no later one.
    fn resync(&mut self) {
        (self.needs_header, self.searched) = (false, 0);
    }
}
