//! Lifetime of a stream: `Stream-TTL` and `Stream-Expires-At`.
//!
//! `humantime` parses RFC 3339 times in UTC; this module adds time zones. `jiff` accepts more than
//! RFC 3339 allows: `+24:00`, times without seconds, and names of zones in brackets.

use std::time::{Duration, SystemTime};

use axum::http::HeaderMap;

use super::{headers, refusal::Refusal};

/// Lifetime that the creator of a stream asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lifetime {
    /// Seconds without reads and writes after which the stream expires.
    pub(super) ttl: Option<u64>,
    pub(super) deadline: Option<SystemTime>,
}

impl Lifetime {
    pub(super) fn from_headers(headers: &HeaderMap) -> Result<Self, Refusal> {
        let ttl = headers::text(headers, &headers::TTL)?;
        let expires_at = headers::text(headers, &headers::EXPIRES_AT)?;
        if ttl.is_some() && expires_at.is_some() {
            return Err(Refusal::bad_request("Stream-TTL cannot be used with Stream-Expires-At"));
        }
        let ttl = ttl.map(|text| {
            let bad =
                || Refusal::bad_request("Stream-TTL must be a number of seconds, such as 3600");
            seconds(text).ok_or_else(bad)
        });
        let deadline = expires_at.map(|text| {
            let bad = || {
                Refusal::bad_request(
                    "Stream-Expires-At must be an RFC 3339 time, such as 2030-01-31T12:00:00Z",
                )
            };
            time(text).ok_or_else(bad)
        });
        Ok(Self { ttl: ttl.transpose()?, deadline: deadline.transpose()? })
    }

    /// TTL for the engine. Zero seconds become one nanosecond, because they expire at once but are
    /// a TTL.
    pub(super) fn ttl(&self) -> Option<Duration> {
        self.ttl.map(|seconds| Duration::from_secs(seconds).max(Duration::from_nanos(1)))
    }
}

/// Parses a number as the protocol defines it: only digits, without a leading zero.
fn seconds(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with('0');
    (canonical && text.bytes().all(|digit| digit.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// Parses an RFC 3339 time with any time zone.
fn time(text: &str) -> Option<SystemTime> {
    if let Some(text) = text.strip_suffix(['Z', 'z']) {
        return utc(text);
    }
    let (local, zone) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let number = |digits: &str, below: u64| {
        let digits = Some(digits)
            .filter(|digits| digits.len() == 2 && digits.bytes().all(|d| d.is_ascii_digit()))?;
        digits.parse::<u64>().ok().filter(|number| *number < below)
    };
    let ahead = Duration::from_secs(number(hours, 24)? * 3600 + number(minutes, 60)? * 60);
    match zone.bytes().next()? {
        b'+' => utc(local)?.checked_sub(ahead),
        b'-' => utc(local)?.checked_add(ahead),
        _ => None,
    }
}

fn utc(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(&format!("{}Z", text.to_ascii_uppercase())).ok()
}

/// Formats a time.
pub(super) fn shown(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_number_of_seconds_has_only_one_spelling() {
        assert_eq!(["0", "1", "3600"].map(seconds), [Some(0), Some(1), Some(3600)]);
        for bad in ["", "00", "03600", "+1", "-1", "1.5", "1e3", " 1", "1 ", "99999999999999999999"]
        {
            assert_eq!(seconds(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_time_may_have_any_time_zone() {
        let noon = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        for text in [
            "2001-09-09T01:46:40Z",
            "2001-09-09T01:46:40.000z",
            "2001-09-09T01:46:40+00:00",
            "2001-09-09T03:16:40+01:30",
            "2001-09-08T20:46:40-05:00",
        ] {
            assert_eq!(time(text), Some(noon), "{text}");
        }
        let bad = [
            "",
            "Z",
            "not-a-timestamp",
            "2001-09-09",
            "2001-09-09T01:46:40",
            "2001-09-09T01:46:40+24:00",
            "2001-09-09T01:46:40+0:00",
            "2001-09-09T01:46:40+ä",
            "2001-13-09T01:46:40Z",
        ];
        for bad in bad {
            assert_eq!(time(bad), None, "{bad:?}");
        }
        assert_eq!(shown(noon), "2001-09-09T01:46:40.000Z");
    }
}
