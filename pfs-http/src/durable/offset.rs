//! Offsets as this protocol shows them: opaque, and in the order of their bytes.
//!
//! One names the stream it belongs to by the time when that was made, so that a client that comes back with the offset of an
//! earlier stream of the same name (all streams end with the daemon) is told, and does not read on in another one.

use std::{fmt, str::FromStr, time::UNIX_EPOCH};

use pfs_stream::Stream;

/// A position in one particular stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// Nanoseconds from the Unix epoch to the stream's creation.
    pub(super) birth: u64,
    /// The offset in bytes.
    pub(super) offset: u64,
}

/// Digits of the birth, which are hexadecimal.
const BIRTH: usize = 16;
/// Digits of the offset, which are decimal.
const OFFSET: usize = 20;

impl Token {
    pub(super) fn of(stream: &Stream, offset: u64) -> Self {
        Self { birth: birth(stream), offset }
    }
}

/// What distinguishes a stream from all others that had or will have its name.
pub(super) fn birth(stream: &Stream) -> u64 {
    let age = stream.created().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0BIRTH$x}_{:0OFFSET$}", self.birth, self.offset)
    }
}

/// A text that is no offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoOffset;

impl FromStr for Token {
    type Err = NoOffset;

    fn from_str(text: &str) -> Result<Self, NoOffset> {
        let (birth, offset) = text.split_once('_').ok_or(NoOffset)?;
        let hexadecimal = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
        if birth.len() != BIRTH || offset.len() != OFFSET {
            return Err(NoOffset);
        }
        if !birth.bytes().all(hexadecimal) || !offset.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(NoOffset);
        }
        let birth = u64::from_str_radix(birth, 16).map_err(|_| NoOffset)?;
        Ok(Self { birth, offset: offset.parse().map_err(|_| NoOffset)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_read_as_it_is_written() {
        for (birth, offset) in [(0, 0), (1_795_000_000_000_000_000, 17), (u64::MAX, u64::MAX)] {
            let token = Token { birth, offset };
            assert_eq!(token.to_string().parse(), Ok(token));
        }
    }

    #[test]
    fn the_order_of_the_texts_is_that_of_the_offsets() {
        let texts = [0, 9, 10, 99, 1000, u64::MAX].map(|offset| Token { birth: 5, offset }.to_string());
        assert!(texts.is_sorted(), "{texts:?}");
    }

    #[test]
    fn nothing_else_is_an_offset() {
        let good = Token { birth: 1, offset: 2 }.to_string();
        for bad in [
            "",
            "0",
            "-1",
            "now",
            "_",
            "0,1",
            "1_2",
            &good.to_uppercase().replace('1', "A"),
            &format!("{good} "),
        ] {
            assert_eq!(bad.parse::<Token>(), Err(NoOffset), "{bad:?}");
        }
        assert_eq!(good.replace("00002", "+0002").parse::<Token>(), Err(NoOffset));
    }
}
