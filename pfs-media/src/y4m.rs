//! YUV4MPEG2 parser: uncompressed video, with a line of text before the first frame.
//!
//! The header is the line of text. Every frame is a sync point. A stream can be cut only between
//! frames, because a decoder finds the next frame by the size of the frames.

use bytes::Bytes;

use crate::{
    bits::find,
    indexer::{Fault, Mark, Parse, Parsed, Step},
};

/// First bytes of a file.
pub(crate) const SIGNATURE: &[u8] = b"YUV4MPEG2 ";

/// Beginning of the line before each frame.
const FRAME: &[u8] = b"FRAME";

/// Maximum length of a line, in bytes.
const MAX_LINE_BYTES: usize = 4096;

#[derive(Default)]
pub(crate) struct Y4m {
    /// Size of a frame in bytes, known once the header was read.
    frame: Option<u64>,
    /// Offset of the newest frame, and offset of the next one.
    newest: Option<(u64, u64)>,
    is_lost: bool,
}

/// Size of a frame of this width and height, in bytes.
fn frame_bytes(width: u64, height: u64, colorspace: &str) -> Option<u64> {
    let luma = width.checked_mul(height)?;
    let half = width.div_ceil(2);
    // Columns and rows of the other planes, and how many planes there are.
    let (columns, rows, planes) = match colorspace {
        space if space.starts_with("420") => (half, height.div_ceil(2), 2),
        space if space.starts_with("422") => (half, height, 2),
        space if space.starts_with("411") => (width.div_ceil(4), height, 2),
        space if space.starts_with("444alpha") => (width, height, 3),
        space if space.starts_with("444") => (width, height, 2),
        space if space.starts_with("mono") => (0, 0, 0),
        _ => return None,
    };
    let others = columns.checked_mul(rows)?.checked_mul(planes)?;
    // The depth follows, as in `420p10` and `mono16`; without it, a sample has 8 bits.
    let depth = match colorspace.strip_prefix("mono") {
        Some(depth) => depth,
        None => colorspace.rsplit('p').next()?,
    };
    let is_deep = depth.parse::<u8>().is_ok_and(|depth| depth > 8);
    luma.checked_add(others)?.checked_mul(if is_deep { 2 } else { 1 })
}

fn parse_header(line: &str) -> Option<u64> {
    let mut words = line.split(' ');
    (words.next()? == "YUV4MPEG2").then_some(())?;
    let (mut width, mut height, mut colorspace) = (None, None, "420jpeg");
    for word in words {
        let (tag, value) = word.split_at_checked(1)?;
        match tag {
            "W" => width = value.parse().ok(),
            "H" => height = value.parse().ok(),
            "C" => colorspace = value,
            _ => {}
        }
    }
    frame_bytes(width?, height?, colorspace).filter(|bytes| *bytes > 0)
}

impl Parse for Y4m {
    fn step(&mut self, at: u64, bytes: &[u8], marks: &mut Vec<Mark>) -> Parsed {
        if self.is_lost {
            if let Some((one, next)) = self.newest {
                // Assumes that all frames have the same size, although parameters in a frame's line
                // could differ.
                let left =
                    at.saturating_sub(one).checked_rem(next - one).ok_or(Fault::Malformed)?;
                self.is_lost = false;
                if left > 0 {
                    return Ok(Step::Skip(next - one - left));
                }
            } else if bytes.len() <= FRAME.len() {
                return Ok(Step::Need(FRAME.len() + 1));
            } else {
                let frame = find(bytes, FRAME, 0).unwrap_or(bytes.len() - FRAME.len());
                if frame > 0 {
                    return Ok(Step::Skip(frame as u64));
                }
                if !matches!(bytes.get(FRAME.len()), Some(b' ' | b'\n')) {
                    return Ok(Step::Skip(1));
                }
                self.is_lost = false;
            }
        }
        let Some(end) = bytes.iter().take(MAX_LINE_BYTES).position(|byte| *byte == b'\n') else {
            let is_too_long = bytes.len() >= MAX_LINE_BYTES;
            return if is_too_long {
                Err(Fault::Malformed)
            } else {
                Ok(Step::Need(bytes.len() + 1))
            };
        };
        let line = bytes.get(..end).unwrap_or_default();
        if line.strip_prefix(FRAME).is_some_and(|rest| matches!(rest, [] | [b' ', ..])) {
            let size = self.frame.ok_or(Fault::Malformed)?.saturating_add(end as u64 + 1);
            self.newest = Some((at, at.saturating_add(size)));
            marks.push(Mark::Sync(at));
            marks.push(Mark::Cut(at.saturating_add(size)));
            return Ok(Step::Skip(size));
        }
        let header = std::str::from_utf8(line).ok().and_then(parse_header);
        self.frame = Some(header.ok_or(Fault::Malformed)?);
        self.newest = None;
        marks.push(Mark::Header(Bytes::copy_from_slice(bytes.get(..=end).unwrap_or_default())));
        marks.push(Mark::Cut(at.saturating_add(end as u64 + 1)));
        Ok(Step::Skip(end as u64 + 1))
    }

    fn resync(&mut self) {
        self.is_lost = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_the_bytes_of_its_planes_and_an_impossible_one_is_refused() {
        for (colorspace, bytes) in [
            ("420jpeg", 12),
            ("420mpeg2", 12),
            ("420paldv", 12),
            ("420p10", 24),
            ("422", 16),
            ("411", 12),
            ("444", 24),
            ("444p12", 48),
            ("444alpha", 32),
            ("mono", 8),
            ("mono16", 16),
        ] {
            let (width, height) = (4, 2);
            assert_eq!(frame_bytes(width, height, colorspace), Some(bytes), "{colorspace}");
        }
        assert_eq!(frame_bytes(3, 3, "420jpeg"), Some(9 + 2 * 4));
        for (width, height) in [(1, u64::MAX), (u64::MAX, 1), (1 << 33, 1 << 33)] {
            assert_eq!(frame_bytes(width, height, "420jpeg"), None, "{width}x{height}");
        }
        assert_eq!(frame_bytes(4, 2, "rgb"), None);
    }
}
