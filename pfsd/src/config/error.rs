//! Errors of the configuration file.

use std::{fmt, io, ops::Range, path::PathBuf};

use thiserror::Error;

/// The error of a refused configuration. The message names the file, the line, the key and the
/// allowed values.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration {}: {error}", path.display())]
    Unreadable {
        /// The path of the file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// The path is a directory.
    #[error("cannot read the configuration {}: the path is a directory; name the file in it", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// The file is not a valid configuration.
    #[error("{0}")]
    Invalid(Box<Invalid>),
}

/// One mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The name of the file.
    pub file: String,
    /// The line of the mistake, counted from 1.
    pub line: usize,
    /// The text of that line.
    pub text: String,
    /// What is wrong, and what is allowed.
    pub reason: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, text, reason } = self;
        write!(f, "{file}:{line}: {reason}\n  {line} | {}", text.trim_end())
    }
}

/// A mistake and its position, in bytes from the start of the text.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) at: Option<Range<usize>>,
    pub(super) reason: String,
}

impl Mistake {
    /// Translates an error of toml or serde into the words of a configuration: serde's fields are
    /// keys here.
    pub(super) fn from_toml(error: &toml::de::Error) -> Self {
        let message = error.message();
        let reason = match message.strip_prefix("unknown field ") {
            Some(rest) => {
                format!("unknown key {}", rest.replacen(", expected", "; allowed here:", 1))
            }
            None => message.to_owned(),
        };
        Self { at: error.span(), reason }
    }

    pub(super) fn locate(self, file: &str, toml: &str) -> ConfigError {
        // An error without a position is about the end of the text.
        let start = self.at.map_or(toml.len(), |at| at.start.min(toml.len()));
        let before = toml.as_bytes().get(..start).unwrap_or_default();
        let lines = before.iter().filter(|byte| **byte == b'\n').count();
        ConfigError::Invalid(Box::new(Invalid {
            file: file.to_owned(),
            line: lines.saturating_add(1),
            text: toml.split('\n').nth(lines).unwrap_or_default().to_owned(),
            reason: self.reason,
        }))
    }
}
