//! Sizes, rates and counts: parsing and formatting. The syntax is that of the daemon's configuration file.

use bytesize::ByteSize;
use thiserror::Error;

/// Why a text is not a size.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{reason}; write bytes (524288) or a number with a unit (512KB, 1.5MB, 6MiB)")]
pub struct SizeError {
    reason: pfs_proto::SizeError,
}

/// Parses a size of at least one byte: `524288`, `512KB`, `1.5MB`, `6MiB`.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    pfs_proto::parse_size(text).map_err(|reason| SizeError { reason })
}

/// Like [`parse_size`], but accepts zero.
pub fn parse_size_or_zero(text: &str) -> Result<u64, SizeError> {
    match pfs_proto::parse_size(text) {
        Err(pfs_proto::SizeError::Zero) => Ok(0),
        read => read.map_err(|reason| SizeError { reason }),
    }
}

/// Formats a number with its noun: `1 reader`, `2 readers`.
pub(crate) fn count(number: impl Into<u64>, noun: &str) -> String {
    let number = number.into();
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Formats a size: `512 B`, `1.0 MiB`.
pub fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// Formats a rate: `1.0 MiB/s`.
pub fn rate(bytes_per_second: u64) -> String {
    format!("{}/s", size(bytes_per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_size_is_refused_with_the_reason_and_examples() {
        let refused = parse_size("12 parsecs").unwrap_err().to_string();
        assert!(refused.contains("unit is unknown") && refused.contains("1.5MB"), "{refused}");
    }

    #[test]
    fn a_size_of_zero_is_refused_except_where_it_is_allowed() {
        assert_eq!(parse_size("0KB").unwrap_err().reason, pfs_proto::SizeError::Zero);
        assert_eq!(parse_size_or_zero("0KB"), Ok(0));
        assert_eq!(parse_size_or_zero("7B"), Ok(7));
    }

    #[test]
    fn sizes_are_shown_in_binary_units() {
        assert_eq!(size(1024 * 1024), "1.0 MiB");
        assert_eq!(size(512), "512 B");
        assert_eq!(rate(3 << 19), "1.5 MiB/s");
    }
}
