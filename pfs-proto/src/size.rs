//! Parses sizes in flags, URLs and the configuration: `524288`, `512KB`, `1.5MB`, `6MiB`.

use thiserror::Error;

/// The error for a text that is not a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SizeError {
    /// The text does not begin with a number.
    #[error("the size does not begin with a number")]
    NoNumber,
    /// The number is negative.
    #[error("the size is negative")]
    Negative,
    /// The size is zero bytes.
    #[error("the size is zero")]
    Zero,
    /// The text after the number is not a unit.
    #[error("the unit is unknown")]
    UnknownUnit,
    /// The size is not a whole number of bytes.
    #[error("the size is not a whole number of bytes")]
    Fraction,
    /// The size does not fit into 64 bits.
    #[error("the size is too large")]
    TooLarge,
}

/// Returns the bytes in a unit. K, KB and KiB are 1024, in upper or lower case, as in StreamFS and
/// `head -c`.
fn unit(name: &str) -> Option<u64> {
    Some(match name.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1024,
        "m" | "mb" | "mib" => 1024 * 1024,
        "g" | "gb" | "gib" => 1024 * 1024 * 1024,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    })
}

/// Parses a size such as `1.5MB` into bytes, at least 1. Fractions of a byte are dropped.
///
/// # Errors
///
/// [`SizeError`], which says why the text is not a size.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let text = text.trim();
    if text.starts_with('-') {
        return Err(SizeError::Negative);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, name) = text.split_at(digits);
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return Err(SizeError::NoNumber),
        Some(parts) => parts,
        None => (number, ""),
    };
    if whole.is_empty() || fraction.contains('.') {
        return Err(SizeError::NoNumber);
    }
    let unit = unit(name.trim_start()).ok_or(SizeError::UnknownUnit)?;
    if unit == 1 && !fraction.is_empty() {
        return Err(SizeError::Fraction);
    }
    let whole: u64 = whole.parse().map_err(|_| SizeError::TooLarge)?;
    let bytes = whole.checked_mul(unit).and_then(|bytes| bytes.checked_add(part(fraction, unit)));
    match bytes {
        None => Err(SizeError::TooLarge),
        Some(0) => Err(SizeError::Zero),
        Some(bytes) => Ok(bytes),
    }
}

/// Computes `0.fraction * unit`, rounded down. Uses integers so that sizes stay exact: starting at
/// the last digit, each step rounds down, which does not affect the rounding of the next step.
fn part(fraction: &str, unit: u64) -> u64 {
    fraction
        .bytes()
        .rev()
        .fold(0, |rest, digit| (u64::from(digit.saturating_sub(b'0')) * unit + rest) / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_mean_the_same_as_in_streamfs() {
        for (text, bytes) in [
            ("1", 1),
            ("524288", 524_288),
            ("512KB", 524_288),
            ("512kb", 524_288),
            ("512 KiB", 524_288),
            ("  1.5MB ", 1_572_864),
            ("6MiB", 6 * 1024 * 1024),
            ("6MB", 6 * 1024 * 1024),
            ("2gb", 2 * 1024 * 1024 * 1024),
            ("1TB", 1 << 40),
            ("2TiB", 2 << 40),
            ("7B", 7),
            ("10M", 10 * 1024 * 1024),
            ("1.5k", 1536),
            ("2 G", 2 * 1024 * 1024 * 1024),
            ("1T", 1 << 40),
            ("0.3KB", 307),
            ("0.0000000000009094947017729282379150390625TB", 1),
            ("1.9999999999999999999999999999999999999999999999999TB", (2 << 40) - 1),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text:?}");
        }
    }

    #[test]
    fn a_text_that_is_not_a_size_is_refused_with_the_reason() {
        for (text, error) in [
            ("", SizeError::NoNumber),
            ("KB", SizeError::NoNumber),
            ("NaN", SizeError::NoNumber),
            (".5MB", SizeError::NoNumber),
            ("1.MB", SizeError::NoNumber),
            ("1.2.3MB", SizeError::NoNumber),
            ("1..5MB", SizeError::NoNumber),
            ("-1", SizeError::Negative),
            ("-1KB", SizeError::Negative),
            ("0", SizeError::Zero),
            ("0KB", SizeError::Zero),
            ("0.0001KB", SizeError::Zero),
            ("1XB", SizeError::UnknownUnit),
            ("1e6", SizeError::UnknownUnit),
            ("1,5MB", SizeError::UnknownUnit),
            ("0x10", SizeError::UnknownUnit),
            ("12 parsecs", SizeError::UnknownUnit),
            ("6MiBs", SizeError::UnknownUnit),
            ("1.5", SizeError::Fraction),
            ("1.5B", SizeError::Fraction),
            ("18446744073709551616", SizeError::TooLarge),
            ("17179869184GB", SizeError::TooLarge),
            ("99999999999TB", SizeError::TooLarge),
        ] {
            assert_eq!(parse_size(text), Err(error), "{text:?}");
        }
    }
}
