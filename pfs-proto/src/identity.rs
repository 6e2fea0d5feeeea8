//! Stream identity: tells apart streams that had the same path.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use thiserror::Error;

/// The identity of a stream, which tells apart streams that had the same path. The identity changes
/// when a stream is removed and created again, and when its daemon restarts.
///
/// As text, an identity is two hexadecimal numbers, such as `6418f2a0c3d51-2a`: the start time of
/// the daemon in microseconds since the Unix epoch, and the number of the stream. Each identity has
/// exactly one text.
///
/// ```
/// use pfs_proto::Identity;
///
/// let identity = Identity::new(std::time::SystemTime::now(), 42);
/// assert_eq!(identity.to_string().parse(), Ok(identity));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The start time of the daemon in microseconds since the Unix epoch. The wire has the same
    /// resolution, so that an identity equals its decoded copy.
    daemon: u64,
    stream: u64,
}

/// The error for a text that is not an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an identity is two hexadecimal numbers, such as 6418f2a0c3d51-2a")]
#[non_exhaustive]
pub struct IdentityError;

impl Identity {
    /// Creates the identity of stream number `stream` of the daemon that started at `daemon`.
    pub fn new(daemon: SystemTime, stream: u64) -> Self {
        let since = daemon.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { daemon: u64::try_from(since.as_micros()).unwrap_or(u64::MAX), stream }
    }

    /// Returns the start time of the daemon, to the microsecond.
    pub fn daemon(self) -> SystemTime {
        UNIX_EPOCH.checked_add(Duration::from_micros(self.daemon)).unwrap_or(UNIX_EPOCH)
    }

    /// Returns the number of the stream, counted among all streams that its daemon created.
    pub fn stream(self) -> u64 {
        self.stream
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.daemon, self.stream)
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let (daemon, stream) = text.split_once('-').ok_or(IdentityError)?;
        let number = |digits: &str| u64::from_str_radix(digits, 16).map_err(|_| IdentityError);
        let identity = Self { daemon: number(daemon)?, stream: number(stream)? };
        // Reject other spellings of the same numbers, such as a sign or capitals: `Display` never
        // produces them.
        if identity.to_string() == text { Ok(identity) } else { Err(IdentityError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_parses_back_from_its_text() {
        for (daemon, stream) in [(0, 0), (1_795_000_000_000_000, 42), (u64::MAX, u64::MAX)] {
            let identity = Identity { daemon, stream };
            assert_eq!(identity.to_string().parse(), Ok(identity));
        }
        assert_eq!(Identity { daemon: 0x6418, stream: 0x2a }.to_string(), "6418-2a");
    }

    #[test]
    fn any_other_text_is_not_an_identity() {
        for bad in [
            "", "-", "1", "1-", "-1", "+1-1", "1-+1", "01-1", "1-01", "A-1", "1-1-1", " 1-1",
            "1-1 ", "0x1-1",
        ] {
            assert_eq!(bad.parse::<Identity>(), Err(IdentityError), "{bad:?}");
        }
        let too_large = format!("1{:x}-1", u64::MAX);
        assert_eq!(too_large.parse::<Identity>(), Err(IdentityError));
    }

    #[test]
    fn daemons_are_told_apart_by_start_time_to_the_microsecond() {
        let start = UNIX_EPOCH + Duration::from_nanos(1_234_567_890_123_456_789);
        let identity = Identity::new(start, 7);
        assert_eq!(identity.daemon(), UNIX_EPOCH + Duration::from_micros(1_234_567_890_123_456));
        assert_eq!(Identity::new(identity.daemon(), 7), identity);
        assert_ne!(Identity::new(start + Duration::from_micros(1), 7), identity);
        assert_ne!(Identity::new(start, 8), identity);
    }
}
