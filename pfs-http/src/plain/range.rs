//! Range requests: a part of the bytes that the ring holds at this moment.
//!
//! `Range` of the crate `headers` needs a length, and an open stream has none.
//! `http-range-header` clamps an offset that exceeds 64 bits, and would answer with other bytes
//! than the client asked for.

use axum::http::{HeaderMap, header};

use super::query::bad;
use crate::problem::Problem;

/// Byte range of a request. Its offsets are offsets of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Range {
    /// From this offset on.
    From(u64),
    /// From the first to the last offset, inclusive.
    Between(u64, u64),
    /// This number of bytes at the end.
    Last(u64),
}

impl Range {
    /// Parses the Range header. Returns `None` for units other than bytes. The caller has to
    /// check `If-Range`.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(value) = headers.get(header::RANGE) else { return Ok(None) };
        let text = value.to_str().unwrap_or_default().trim();
        let Some((unit, ranges)) = text.split_once('=') else {
            return Err(malformed());
        };
        // Other units are ignored (RFC 9110, section 14.2).
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return Ok(None);
        }
        Self::parse(ranges.trim()).map(Some).ok_or_else(malformed)
    }

    fn parse(range: &str) -> Option<Self> {
        let (first, last) = range.split_once('-')?;
        Some(match (first, last) {
            ("", last) => Self::Last(number(last)?),
            (first, "") => Self::From(number(first)?),
            (first, last) => Self::Between(number(first)?, number(last)?),
        })
        .filter(|range| !matches!(range, Self::Between(first, last) if last < first))
    }

    /// Resolves the range to a start and an exclusive end, in a stream that holds the offsets from
    /// `tail` to `head`.
    pub(crate) fn within(self, tail: u64, head: u64) -> Result<(u64, u64), NotHeld> {
        let (from, to) = match self {
            Self::From(from) => (from, head),
            Self::Between(from, last) => (from, last.saturating_add(1).min(head)),
            Self::Last(bytes) => (head.saturating_sub(bytes).max(tail), head),
        };
        match from {
            _ if from == head => Err(NotHeld::AtHead),
            _ if (tail..head).contains(&from) => Ok((from, to)),
            _ => Err(NotHeld::Gone),
        }
    }

    /// Whether this is `bytes=0-`, with which players and browsers ask for everything and find out
    /// whether they may seek.
    pub(crate) fn is_everything(self) -> bool {
        self == Self::From(0)
    }
}

/// Reason why a range cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotHeld {
    /// The range begins at head. A client that has all bytes before head has everything, unless the
    /// stream was closed as failed.
    AtHead,
    /// The range begins before tail or beyond head. A client that asks for it has lost bytes, or
    /// has read another stream. The status is not 416, because `wget -c` and `curl -C -` take 416
    /// for "complete".
    Gone,
}

/// Parses a number that consists of digits only, without sign or space.
fn number(digits: &str) -> Option<u64> {
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn malformed() -> Problem {
    bad("a Range must be one range of bytes: bytes=100-199, bytes=100- or bytes=-100")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Result<Option<Range>, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, text.parse().unwrap());
        Range::from_headers(&headers)
    }

    #[test]
    fn one_range_of_bytes_is_understood_and_other_units_are_ignored() {
        for (text, expected) in [
            ("bytes=5-", Some(Range::From(5))),
            ("Bytes = 5-9", Some(Range::Between(5, 9))),
            ("bytes=-3", Some(Range::Last(3))),
            ("seconds=1-", None),
        ] {
            assert_eq!(range(text).unwrap(), expected, "{text}");
        }
        for text in [
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=9-5",
            "bytes=1-2,4-5",
            "bytes=+1-",
            "bytes=1-x",
            "bytes=99999999999999999999-",
        ] {
            assert!(range(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_is_cut_at_head_and_must_begin_in_what_the_ring_holds() {
        for (range, expected) in [
            (Range::From(100), Ok((100, 200))),
            (Range::From(99), Err(NotHeld::Gone)),
            (Range::From(200), Err(NotHeld::AtHead)),
            (Range::From(201), Err(NotHeld::Gone)),
            (Range::Between(150, 150), Ok((150, 151))),
            (Range::Between(150, u64::MAX), Ok((150, 200))),
            (Range::Between(50, 150), Err(NotHeld::Gone)),
            (Range::Between(200, 300), Err(NotHeld::AtHead)),
            (Range::Between(300, 400), Err(NotHeld::Gone)),
            (Range::Last(1), Ok((199, 200))),
            (Range::Last(1000), Ok((100, 200))),
            (Range::Last(0), Err(NotHeld::AtHead)),
        ] {
            assert_eq!(range.within(100, 200), expected, "{range:?}");
        }
        assert_eq!(Range::Last(5).within(7, 7), Err(NotHeld::AtHead), "nothing is there");
    }
}
