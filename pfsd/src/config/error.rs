//! Why a configuration was refused.

use std::{fmt, io, ops::Range, path::PathBuf};

use thiserror::Error;

/// Why a configuration was refused. The message names the file, the line, the key and what is
/// allowed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is a directory.
    #[error("cannot read the configuration {}: it is a directory; name the file in it", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// It is not what a configuration may be.
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
    /// What is wrong and what is allowed.
    pub reason: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, text, reason } = self;
        write!(f, "{file}:{line}: {reason}\n  {line} | {}", text.trim_end())
    }
}

/// A mistake and where it stands, in bytes from the start of the text.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) at: Option<Range<usize>>,
    pub(super) reason: String,
}

impl Mistake {
    /// What toml or serde found, in the words of a configuration: what serde calls a field is a key
    /// here.
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
        // Without a place it is about the end of the text.
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
