//! Sizes as people write and read them: the same syntax as in the daemon's configuration.

use bytesize::ByteSize;
use thiserror::Error;

/// Why a text is not a size.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SizeError {
    /// It is not a number with a unit.
    #[error("{0:?} is not a size; write bytes (524288) or a number with a unit (512KB, 1.5MB, 6MiB)")]
    Malformed(String),
    /// It does not fit into 64 bits.
    #[error("{0:?} is more than 64 bits can count")]
    TooLarge(String),
    /// It is zero, and nothing can be that small.
    #[error("a size must be at least one byte")]
    Zero,
}

/// The units, each a power of 1024 whether it is spelled KB or KiB.
const UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("b", 1),
    ("kb", 1 << 10),
    ("kib", 1 << 10),
    ("mb", 1 << 20),
    ("mib", 1 << 20),
    ("gb", 1 << 30),
    ("gib", 1 << 30),
    ("tb", 1 << 40),
    ("tib", 1 << 40),
];

/// Reads a size of at least one byte: `524288`, `512KB`, `1.5MB`, `6MiB`. KB and KiB are both 1024.
///
/// A fraction of a byte is dropped.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    match parse_size_or_zero(text)? {
        0 => Err(SizeError::Zero),
        size => Ok(size),
    }
}

/// As [`parse_size`], and zero is a size too.
pub fn parse_size_or_zero(text: &str) -> Result<u64, SizeError> {
    let malformed = || SizeError::Malformed(text.to_owned());
    let too_large = || SizeError::TooLarge(text.to_owned());
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let unit = unit.trim_start().to_ascii_lowercase();
    let factor =
        UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor).ok_or_else(malformed)?;

    // In integers: a float would round what it is told above 2^53.
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || (fraction.is_empty() && number.contains('.')) {
        return Err(malformed());
    }
    if !fraction.is_empty() && factor == 1 {
        return Err(malformed());
    }
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let bytes = whole.checked_mul(factor).ok_or_else(too_large)?;
    bytes.checked_add(part_of(fraction, factor)).ok_or_else(too_large)
}

/// `0.fraction * factor`, rounded down; digits past the 18th cannot change a whole byte of a sane size.
fn part_of(fraction: &str, factor: u64) -> u64 {
    let (mut numerator, mut denominator) = (0u128, 1u128);
    for digit in fraction.bytes().take(18) {
        numerator = numerator * 10 + u128::from(digit.saturating_sub(b'0'));
        denominator *= 10;
    }
    u64::try_from(numerator * u128::from(factor) / denominator).unwrap_or(factor)
}

/// A size for people: `512 B`, `1.0 MiB`.
pub fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// A rate for people: `1.0 MiB/s`.
pub fn rate(bytes_per_second: u64) -> String {
    format!("{}/s", size(bytes_per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_the_configuration_reads_them() {
        for (text, bytes) in [
            ("524288", 524_288),
            ("512KB", 524_288),
            ("512 kib", 524_288),
            ("1.5MB", 1_572_864),
            ("6MiB", 6 << 20),
            ("1GB", 1 << 30),
            ("2TiB", 2 << 40),
            ("0.3KB", 307),
            ("7B", 7),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in
            ["", "KB", "-1", "1e6", "1..5MB", "1.MB", ".5MB", "1.5", "12 parsecs", "6MiBs", "0x10", "1,5MB"]
        {
            assert_eq!(parse_size(text), Err(SizeError::Malformed(text.to_owned())), "{text}");
        }
        for text in ["18446744073709551616", "17179869184GB", "99999999999TB"] {
            assert_eq!(parse_size(text), Err(SizeError::TooLarge(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn zero_is_refused_where_nothing_can_be_that_small() {
        assert_eq!(parse_size("0KB"), Err(SizeError::Zero));
        assert_eq!(parse_size_or_zero("0KB"), Ok(0));
    }

    #[test]
    fn sizes_are_shown_in_binary_units() {
        assert_eq!(size(1 << 20), "1.0 MiB");
        assert_eq!(size(512), "512 B");
        assert_eq!(rate(3 << 19), "1.5 MiB/s");
    }
}
