//! `--header` of `pfs write`: the header that a writer names, as a file or as a size.

use std::{fs::File, io::Read as _, path::PathBuf};

use anyhow::Context as _;
use pfs_client::MAX_HEADER_BYTES;
use thiserror::Error;

use crate::{
    exit_code::{ExitCode, Failure},
    size,
};

/// Value of `--header`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderArg {
    /// This number of bytes at the beginning of the input is the header.
    Size(u32),
    /// The contents of this file are the header.
    File(PathBuf),
}

/// Why a text is not the value of `--header`.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("a header has 1 to {MAX_HEADER_BYTES} bytes; write ./{text} for a file of this name")]
pub struct HeaderError {
    text: String,
}

/// Parses a size, or else the name of a file.
///
/// # Errors
///
/// A size that no header can have.
pub fn parse(text: &str) -> Result<HeaderArg, HeaderError> {
    let Ok(size) = size::parse_size_or_zero(text) else {
        return Ok(HeaderArg::File(text.into()));
    };
    match u32::try_from(size) {
        Ok(bytes @ 1..) if size <= MAX_HEADER_BYTES as u64 => Ok(HeaderArg::Size(bytes)),
        _ => Err(HeaderError { text: text.to_owned() }),
    }
}

/// The header of a writer.
#[derive(Debug, Default)]
pub(crate) struct Header {
    /// The number of bytes with which the writer begins that are the header.
    pub(crate) size: u32,
    /// The header, if it is not a part of the input.
    pub(crate) contents: Vec<u8>,
}

impl Header {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is empty, or is too large.
    pub(crate) fn load(argument: Option<&HeaderArg>) -> anyhow::Result<Self> {
        let file = match argument {
            None => return Ok(Self::default()),
            Some(HeaderArg::Size(size)) => return Ok(Self { size: *size, contents: Vec::new() }),
            Some(HeaderArg::File(file)) => file,
        };
        let mut contents = Vec::new();
        File::open(file)
            .and_then(|opened| opened.take(MAX_HEADER_BYTES as u64 + 1).read_to_end(&mut contents))
            .with_context(|| format!("cannot read the header {}", file.display()))?;
        match u32::try_from(contents.len()) {
            Ok(size @ 1..) if contents.len() <= MAX_HEADER_BYTES => Ok(Self { size, contents }),
            _ => {
                let what = if contents.is_empty() { "is empty" } else { "is too large" };
                let message = format!(
                    "the header {} {what}: a header has 1 to {MAX_HEADER_BYTES} bytes",
                    file.display()
                );
                Err(Failure::new(ExitCode::Usage, message).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_a_size_or_else_a_file() {
        assert_eq!(parse("137"), Ok(HeaderArg::Size(137)));
        assert_eq!(parse("8KiB"), Ok(HeaderArg::Size(8192)));
        for file in ["init.mp4", "./137", "0x89", ""] {
            assert_eq!(parse(file), Ok(HeaderArg::File(file.into())), "{file}");
        }
        for size in ["0", "1MiB", "10GB"] {
            let refused = parse(size).unwrap_err().to_string();
            assert!(refused.ends_with(&format!("./{size} for a file of this name")), "{refused}");
        }
    }
}
