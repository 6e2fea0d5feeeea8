//! Durations: parsing flags, and formatting ages for people.

use std::time::{Duration, SystemTime};

use thiserror::Error;

/// Why a text is not a duration.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DurationError {
    /// The text is not a duration.
    #[error("{text:?} is not a duration ({why}); write 500ms, 10s, 5m or 1h30m")]
    Malformed {
        /// The text.
        text: String,
        /// The reason.
        why: String,
    },
    /// The duration is zero.
    #[error("a duration must be longer than zero")]
    Zero,
}

/// Parses a duration longer than zero: `500ms`, `10s`, `1h30m`.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let duration = pfs_proto::parse_duration(text).map_err(|error| DurationError::Malformed {
        text: text.to_owned(),
        why: error.to_string(),
    })?;
    if duration.is_zero() { Err(DurationError::Zero) } else { Ok(duration) }
}

/// Formats a duration in its two largest units: `2h 5m`, `3m 12s`, `0s`. A duration below one
/// second is shown in milliseconds.
pub fn span(duration: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let seconds = duration.as_secs();
    // Keeps two units and drops smaller ones, which do not matter in an age.
    let shown = match seconds {
        0 => Duration::from_millis(u64::from(duration.subsec_millis())),
        1..HOUR => Duration::from_secs(seconds),
        HOUR..DAY => Duration::from_secs(seconds - seconds % MINUTE),
        _ => Duration::from_secs(seconds - seconds % HOUR),
    };
    humantime::format_duration(shown).to_string()
}

/// Time since `time`; zero if it is in the future, which happens when a clock is set back.
pub fn since(time: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_read_with_its_unit() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
    }

    #[test]
    fn a_duration_without_unit_or_length_is_refused() {
        assert_eq!(parse_duration("0s"), Err(DurationError::Zero));
        for text in ["", "10", "-1s", "soon", "99999999999999999999s"] {
            let error = parse_duration(text).unwrap_err();
            assert!(matches!(error, DurationError::Malformed { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn a_span_is_shown_in_two_units() {
        for (duration, shown) in [
            (Duration::ZERO, "0s"),
            (Duration::from_micros(250_900), "250ms"),
            (Duration::from_millis(1_900), "1s"),
            (Duration::from_secs(192), "3m 12s"),
            (Duration::from_secs(7_512), "2h 5m"),
            (Duration::from_secs(86_400 * 3 + 3_600 * 4 + 59), "3days 4h"),
        ] {
            assert_eq!(span(duration), shown);
        }
    }

    #[test]
    fn a_time_in_the_future_has_age_zero() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        assert_eq!(since(now + Duration::from_secs(5), now), Duration::ZERO);
    }
}
