//! Line splitting for `pfs write --lines`: cuts input into chunks that end after a newline.

use thiserror::Error;

/// Error: a line is larger than the stream's largest chunk.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "the line at byte {offset} of the input is {}{length} bytes long, and the stream takes no chunk larger than {max} \
     bytes; use --stream without --lines, or create the stream with larger buffers",
    if *.complete { "" } else { "at least " }
)]
pub(crate) struct LineTooLong {
    /// Offset of the line in the input.
    offset: u64,
    /// Length of the line in bytes, including its newline, as far as it was read.
    length: usize,
    /// Whether the line was read to its newline.
    complete: bool,
    /// Size of the largest chunk.
    max: usize,
}

/// Cuts blocks into whole lines, and keeps an incomplete line until its end arrives.
#[derive(Debug)]
pub(crate) struct LineCutter {
    max: usize,
    /// Bytes of the input that are in chunks or in `line`.
    taken: u64,
    /// The incomplete line. After a chunk was returned from here, the next call clears it.
    line: Vec<u8>,
    handed_out: bool,
}

impl LineCutter {
    /// No chunk will be larger than `max` bytes, provided that no block is larger.
    pub(crate) fn new(max: usize) -> Self {
        Self { max, taken: 0, line: Vec::new(), handed_out: false }
    }

    /// Returns the next chunk: the kept line, if any, and whole lines from the front of `block`. If
    /// no whole line is left, keeps the rest and returns `None`.
    pub(crate) fn cut<'a, 'b: 'a>(
        &'a mut self,
        block: &mut &'b [u8],
    ) -> Result<Option<&'a [u8]>, LineTooLong> {
        if std::mem::take(&mut self.handed_out) {
            self.line.clear();
        }
        let newline = if self.line.is_empty() {
            block.iter().rposition(|byte| *byte == b'\n')
        } else {
            // Take only the rest of the kept line, so that the lines after it need not be copied.
            block.iter().position(|byte| *byte == b'\n')
        };
        let (lines, rest) = block.split_at(newline.map_or(0, |at| at + 1));
        self.taken += lines.len() as u64;
        *block = rest;
        if newline.is_none() {
            self.taken += rest.len() as u64;
            self.line.extend_from_slice(rest);
            *block = &[];
            self.check(false)?;
            return Ok(None);
        }
        if self.line.is_empty() {
            return Ok(Some(lines));
        }
        self.line.extend_from_slice(lines);
        self.check(true)?;
        self.handed_out = true;
        Ok(Some(&self.line))
    }

    /// Returns the last line of the input if it has no newline.
    pub(crate) fn rest(&self) -> Option<&[u8]> {
        if self.handed_out || self.line.is_empty() { None } else { Some(&self.line) }
    }

    fn check(&self, complete: bool) -> Result<(), LineTooLong> {
        let length = self.line.len();
        if length <= self.max {
            return Ok(());
        }
        Err(LineTooLong { offset: self.taken - length as u64, length, complete, max: self.max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns all chunks of these blocks, including the last line.
    fn chunks(max: usize, blocks: &[&str]) -> Result<Vec<String>, LineTooLong> {
        let mut cutter = LineCutter::new(max);
        let mut chunks = Vec::new();
        for block in blocks {
            let mut rest = block.as_bytes();
            while let Some(chunk) = cutter.cut(&mut rest)? {
                chunks.push(String::from_utf8(chunk.to_vec()).unwrap());
            }
        }
        chunks.extend(cutter.rest().map(|rest| String::from_utf8(rest.to_vec()).unwrap()));
        Ok(chunks)
    }

    #[test]
    fn a_chunk_ends_only_after_a_newline() {
        assert_eq!(
            chunks(99, &["one\ntwo\nthr", "ee\nfour\n"]).unwrap(),
            ["one\ntwo\n", "three\n", "four\n"]
        );
    }

    #[test]
    fn a_line_in_many_pieces_stays_one_chunk() {
        assert_eq!(chunks(99, &["o", "n", "e", "\n", "\n\n"]).unwrap(), ["one\n", "\n\n"]);
    }

    #[test]
    fn the_last_line_needs_no_newline() {
        assert_eq!(chunks(99, &["one\nlast"]).unwrap(), ["one\n", "last"]);
        assert_eq!(chunks(99, &["one\n"]).unwrap(), ["one\n"]);
        assert_eq!(chunks(99, &["o", "ne\n"]).unwrap(), ["one\n"]);
        assert_eq!(chunks(99, &[]).unwrap(), [""; 0]);
    }

    #[test]
    fn however_the_input_is_split_no_byte_is_lost_or_moved() {
        let input = "a\nbb\n\nccc\n\n\ndddd\ne";
        for first in 0..=input.len() {
            for second in first..=input.len() {
                let blocks = [&input[..first], &input[first..second], &input[second..]];
                let chunks = chunks(99, &blocks).unwrap();
                assert_eq!(chunks.concat(), input);
                let (_, whole) = chunks.split_last().unwrap();
                assert!(whole.iter().all(|chunk| chunk.ends_with('\n')), "{chunks:?}");
            }
        }
    }

    #[test]
    fn the_error_for_a_line_that_is_too_long_has_its_offset_and_length() {
        let error = chunks(4, &["ok\n", "123", "45\n"]).unwrap_err();
        assert_eq!(error, LineTooLong { offset: 3, length: 6, complete: true, max: 4 });
        let error = chunks(4, &["ok\n", "123", "45"]).unwrap_err();
        assert_eq!(error, LineTooLong { offset: 3, length: 5, complete: false, max: 4 });
        assert!(
            error.to_string().contains("at byte 3 of the input is at least 5 bytes long"),
            "{error}"
        );
    }

    #[test]
    fn lines_before_one_that_is_too_long_are_cut_as_usual() {
        let mut cutter = LineCutter::new(4);
        let mut block = &b"ok\n"[..];
        assert_eq!(cutter.cut(&mut block), Ok(Some(&b"ok\n"[..])));
        assert_eq!(cutter.cut(&mut block), Ok(None));
        let mut block = &b"1234"[..];
        assert_eq!(cutter.cut(&mut block), Ok(None));
        let mut block = &b"5\nok\n"[..];
        assert!(cutter.cut(&mut block).is_err());
    }
}
