//! `--until`: when a reader ends.

use std::time::Duration;

use thiserror::Error;

use crate::age::{DurationError, parse_duration};

/// When `pfs cat --stream` ends. It ends at the end of a closed stream in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Until {
    /// When the stream is closed, and only then.
    #[default]
    Closed,
    /// When everything that was in the stream at the start is read.
    CaughtUp,
    /// When the last writer has finished.
    WritersGone,
    /// Before a new header that a decoder would not accept.
    FormatChange,
    /// When nothing arrived for this long, also directly after attaching.
    Idle(Duration),
}

impl Until {
    /// The condition to send to the daemon. `pfs` itself measures idle time and sees new headers.
    pub fn on_the_wire(self) -> pfs_proto::Until {
        match self {
            Self::Closed | Self::FormatChange | Self::Idle(_) => pfs_proto::Until::Closed,
            Self::CaughtUp => pfs_proto::Until::CaughtUp,
            Self::WritersGone => pfs_proto::Until::WritersGone,
        }
    }

    /// Whether to wait for a stream that does not exist.
    pub fn waits_for_creation(self) -> bool {
        self != Self::CaughtUp
    }

    /// The idle time after which the reader ends, if any.
    pub fn idle(self) -> Option<Duration> {
        match self {
            Self::Idle(duration) => Some(duration),
            _ => None,
        }
    }
}

/// Why a text is not a value of `--until`.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum UntilError {
    /// The word is unknown.
    #[error("{0:?} is not one of closed, caught-up, writers-gone, format-change, idle=DURATION")]
    Unknown(String),
    /// `idle` has no duration.
    #[error("idle needs a duration, such as idle=10s")]
    IdleForHowLong,
    /// The duration is malformed or zero.
    #[error(transparent)]
    Duration(#[from] DurationError),
}

/// Parses `closed`, `caught-up`, `writers-gone`, `format-change` or `idle=DURATION`.
pub fn parse_until(text: &str) -> Result<Until, UntilError> {
    match text {
        "closed" => Ok(Until::Closed),
        "caught-up" => Ok(Until::CaughtUp),
        "writers-gone" => Ok(Until::WritersGone),
        "format-change" => Ok(Until::FormatChange),
        "idle" | "idle=" => Err(UntilError::IdleForHowLong),
        _ => match text.strip_prefix("idle=") {
            Some(duration) => Ok(Until::Idle(parse_duration(duration)?)),
            None => Err(UntilError::Unknown(text.to_owned())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_until_is_parsed() {
        assert_eq!(parse_until("closed"), Ok(Until::Closed));
        assert_eq!(parse_until("caught-up"), Ok(Until::CaughtUp));
        assert_eq!(parse_until("writers-gone"), Ok(Until::WritersGone));
        assert_eq!(parse_until("format-change"), Ok(Until::FormatChange));
        assert_eq!(parse_until("idle=1m30s"), Ok(Until::Idle(Duration::from_secs(90))));
    }

    #[test]
    fn any_other_value_of_until_is_refused() {
        assert_eq!(parse_until("idle"), Err(UntilError::IdleForHowLong));
        assert_eq!(parse_until("idle="), Err(UntilError::IdleForHowLong));
        assert_eq!(parse_until("idle=0s"), Err(UntilError::Duration(DurationError::Zero)));
        assert_eq!(parse_until("Closed"), Err(UntilError::Unknown("Closed".to_owned())));
        assert!(matches!(parse_until("idle=10"), Err(UntilError::Duration(_))));
    }

    #[test]
    fn only_caught_up_does_not_wait_for_a_missing_stream() {
        assert!(!Until::CaughtUp.waits_for_creation());
        assert!(Until::Closed.waits_for_creation());
        assert!(Until::Idle(Duration::from_secs(1)).waits_for_creation());
    }
}
