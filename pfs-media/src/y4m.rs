//! YUV4MPEG2 parser: uncompressed video, with a line of text before the first frame.
//!
//! The header is the line of text. Every frame is a sync point.

use bytes::Bytes;

use crate::indexer::{Fault, Mark, Parse, Parsed, Step};

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
    let half = |number: u64| number.div_ceil(2);
    let chroma = match colorspace {
        space if space.starts_with("420") => 2 * half(width).checked_mul(half(height))?,
        space if space.starts_with("422") => 2 * half(width).checked_mul(height)?,
        space if space.starts_with("411") => 2 * width.div_ceil(4).checked_mul(height)?,
        space if space.starts_with("444alpha") => luma.checked_mul(3)?,
        space if space.starts_with("444") => luma.checked_mul(2)?,
        space if space.starts_with("mono") => 0,
        _ => return None,
    };
    let depth = colorspace.rsplit('p').next().and_then(|depth| depth.parse::<u64>().ok());
    let is_deep = colorspace.contains('p')
        && !colorspace.ends_with("paldv")
        && depth.is_some_and(|depth| depth > 8)
        || colorspace.starts_with("mono") && colorspace.len() > 4;
    luma.checked_add(chroma)?.checked_mul(if is_deep { 2 } else { 1 })
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
            // Assumes that all frames have the same size, although parameters in a frame's line
            // could differ.
            let (one, next) = self.newest.ok_or(Fault::Malformed)?;
            let left = at.saturating_sub(one).checked_rem(next - one).ok_or(Fault::Malformed)?;
            self.is_lost = false;
            if left > 0 {
                return Ok(Step::Skip(next - one - left));
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
        if line == b"FRAME" || line.starts_with(b"FRAME ") {
            let size = self.frame.ok_or(Fault::Malformed)?.saturating_add(end as u64 + 1);
            self.newest = Some((at, at.saturating_add(size)));
            marks.push(Mark::Sync(at));
            return Ok(Step::Skip(size));
        }
        let header = std::str::from_utf8(line).ok().and_then(parse_header);
        self.frame = Some(header.ok_or(Fault::Malformed)?);
        self.newest = None;
        marks.push(Mark::Header(Bytes::copy_from_slice(bytes.get(..=end).unwrap_or_default())));
        Ok(Step::Skip(end as u64 + 1))
    }

    fn resync(&mut self) {
        self.is_lost = true;
    }
}
