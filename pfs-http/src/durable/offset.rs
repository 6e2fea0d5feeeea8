//! Offset tokens of this protocol: opaque text, in the order of its bytes.
//!
//! A token contains the identity of its stream. A client may return with the offset of an earlier
//! stream of the same name, for instance after a restart of the daemon, which ends all streams. The
//! identity lets the server refuse such an offset instead of continuing in the wrong stream.

use std::{fmt, str::FromStr};

use pfs_proto::Identity;
use pfs_stream::Stream;

/// Position in one particular stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) identity: Identity,
    /// Offset in bytes.
    pub(super) offset: u64,
}

/// Number of decimal digits of the offset.
const OFFSET: usize = 20;

impl Token {
    pub(super) fn new(stream: &Stream, offset: u64) -> Self {
        Self { identity: stream.identity(), offset }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{:0OFFSET$}", self.identity, self.offset)
    }
}

/// Error of a text that is not an offset token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoOffset;

impl FromStr for Token {
    type Err = NoOffset;

    fn from_str(text: &str) -> Result<Self, NoOffset> {
        let (identity, offset) = text.split_once('_').ok_or(NoOffset)?;
        if offset.len() != OFFSET || !offset.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(NoOffset);
        }
        let identity = identity.parse().map_err(|_| NoOffset)?;
        Ok(Self { identity, offset: offset.parse().map_err(|_| NoOffset)? })
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn token(stream: u64, offset: u64) -> Token {
        Token { identity: Identity::new(UNIX_EPOCH, stream), offset }
    }

    #[test]
    fn an_offset_token_round_trips_through_text() {
        for token in [token(0, 0), token(42, 17), token(u64::MAX, u64::MAX)] {
            assert_eq!(token.to_string().parse(), Ok(token));
        }
    }

    #[test]
    fn offset_tokens_sort_like_their_offsets() {
        let texts = [0, 9, 10, 99, 1000, u64::MAX].map(|offset| token(5, offset).to_string());
        assert!(texts.is_sorted(), "{texts:?}");
    }

    #[test]
    fn a_text_in_another_form_is_not_an_offset() {
        let good = token(0xa, 2).to_string();
        for bad in [
            "",
            "0",
            "-1",
            "now",
            "_",
            "0,1",
            "1_2",
            "1-2_3",
            &good.to_uppercase(),
            &format!("{good} "),
            &format!("{good}0"),
        ] {
            assert_eq!(bad.parse::<Token>(), Err(NoOffset), "{bad:?}");
        }
        assert_eq!(good.replace("00002", "+0002").parse::<Token>(), Err(NoOffset));
        assert_eq!(
            good.replace("00002", "99999").replace('0', "9").parse::<Token>(),
            Err(NoOffset)
        );
    }
}
