//! Parses durations such as `500ms`, `10s`, `1h30m`.

use std::time::Duration;

use humantime::DurationError as Reason;
use thiserror::Error;

/// The error for a text that is not a duration.
#[derive(Clone, Debug, PartialEq, Error)]
#[error(transparent)]
pub struct DurationError(Reason);

/// Parses a duration, which may be zero: a sequence of numbers with units.
///
/// ```
/// # use std::time::Duration;
/// assert_eq!(pfs_proto::parse_duration("1h 30m"), Ok(Duration::from_secs(5400)));
/// ```
///
/// # Errors
///
/// [`DurationError`] if the text is not a duration, or exceeds [`Duration::MAX`].
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let mut sum = Duration::ZERO;
    // One part at a time: humantime 2.4 panics if a whole second of nanoseconds is added to the
    // largest number of seconds. A single number with one unit cannot cause that overflow.
    for (start, part) in parts(text) {
        let parsed = match start {
            0 => humantime::parse_duration(part),
            // `0` needs no unit if the text has nothing else.
            _ => humantime::parse_duration(&format!(" {part}"))
                .map_err(|error| moved(error, start - 1)),
        };
        let parsed = parsed.map_err(DurationError)?;
        sum = sum.checked_add(parsed).ok_or(DurationError(Reason::NumberOverflow))?;
    }
    Ok(sum)
}

/// Splits a text into numbers with their units, each with its start in the text. Yields at least
/// one part, which may be empty.
fn parts(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = Some((0, text));
    std::iter::from_fn(move || {
        let (start, text) = rest.take()?;
        let mut has_unit = false;
        let next = text.char_indices().find(|(_, letter)| {
            has_unit |= letter.is_alphabetic();
            has_unit && letter.is_ascii_digit()
        });
        let (part, after) = text.split_at_checked(next.map_or(text.len(), |(at, _)| at))?;
        rest = next.map(|(at, _)| (start + at, after));
        Some((start, part))
    })
}

/// Shifts the positions in an error by `by` bytes, from a part to the whole text.
fn moved(error: Reason, by: usize) -> Reason {
    match error {
        Reason::InvalidCharacter(at) => Reason::InvalidCharacter(at.saturating_add(by)),
        Reason::NumberExpected(at) => Reason::NumberExpected(at.saturating_add(by)),
        Reason::UnknownUnit { start, end, unit, value } => Reason::UnknownUnit {
            start: start.saturating_add(by),
            end: end.saturating_add(by),
            unit,
            value,
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_duration_of_more_than_64_bits_of_seconds_is_refused() {
        let most = u64::MAX;
        assert_eq!(parse_duration(&format!("{most}s 999999999ns")), Ok(Duration::MAX));
        for text in
            [format!("{most}s 1000000000ns"), format!("{most}s1s"), format!("{most}s 1000ms")]
        {
            assert_eq!(parse_duration(&text), Err(DurationError(Reason::NumberOverflow)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_as_humantime_reads_it(
            text in "([0-9]{1,4}|[0-9]\\.[0-9]{1,3}|[ .µ-]|ms|s|m|min|h|d|w|M|y|ns|us|x){0,8}"
        ) {
            prop_assert_eq!(parse_duration(&text), humantime::parse_duration(&text).map_err(DurationError));
        }
    }
}
