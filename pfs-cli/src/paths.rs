//! Parsing of stream paths on the command line.

use std::{ffi::OsStr, marker::PhantomData, str::FromStr};

use clap::{Arg, Command, builder::TypedValueParser, error::ErrorKind};
use pfs_proto::{PathError, StreamPath};

/// How many characters of a malformed path an error message repeats.
const SHOWN: usize = 60;

/// Parses a path. The error names the rule that the path breaks.
///
/// Replaces clap's own message, which would repeat 10 KB of path and send its control characters to
/// the terminal.
#[derive(Clone, Debug)]
pub(crate) struct PathParser<T>(PhantomData<fn() -> T>);

impl<T> PathParser<T> {
    /// Creates a parser for paths of type `T`.
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: FromStr<Err = PathError> + Clone + Send + Sync + 'static> TypedValueParser
    for PathParser<T>
{
    type Value = T;

    fn parse_ref(
        &self,
        command: &Command,
        _: Option<&Arg>,
        value: &OsStr,
    ) -> Result<T, clap::Error> {
        let parsed = match value.to_str() {
            Some(path) => path.parse::<T>().map_err(|error| match below_default_mount::<T>(path) {
                Some(meant) => format!("{error}; did you mean {meant}?"),
                None => error.to_string(),
            }),
            None => Err("the path is not UTF-8".to_owned()),
        };
        parsed.map_err(|rule| {
            let path = quoted(&value.to_string_lossy());
            let message = format!(
                "{path} is not a path that can be used here: {rule}\n\nFor more information, try '--help'.\n"
            );
            clap::Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
        })
    }
}

/// Suggests a path below `/streamfs` for a path without a mount, if that makes a valid one.
fn below_default_mount<T: FromStr>(path: &str) -> Option<String> {
    if path.is_empty() || path.starts_with('/') {
        return None;
    }
    let below = path.strip_prefix("streamfs/").unwrap_or(path);
    let meant = format!("/streamfs/{below}");
    (meant.len() <= SHOWN && meant.parse::<T>().is_ok()).then_some(meant)
}

/// Returns true if the path contains characters of a shell pattern. Names of streams may contain
/// them, too.
pub(crate) fn is_pattern(path: &StreamPath) -> bool {
    path.as_str().contains(['*', '?', '['])
}

/// Returns the beginning of a path, with its control characters escaped.
fn quoted(path: &str) -> String {
    let mut shown: String = path.chars().take(SHOWN).collect();
    if shown.len() < path.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_is_truncated_in_the_error() {
        assert_eq!(quoted(&"x".repeat(10_000)), format!("\"{}…\"", "x".repeat(SHOWN)));
        assert_eq!(quoted("/streamfs/späße"), "\"/streamfs/späße\"");
    }

    #[test]
    fn a_path_without_its_mount_gets_a_suggestion_with_it() {
        for (path, meant) in [
            ("x", Some("/streamfs/x")),
            ("lab/cam", Some("/streamfs/lab/cam")),
            ("streamfs/cam", Some("/streamfs/cam")),
            ("a//b", None),
            ("", None),
            ("/x", None),
        ] {
            assert_eq!(below_default_mount::<StreamPath>(path).as_deref(), meant, "{path}");
        }
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(quoted("/streamfs/\u{1b}[31m\n"), r#""/streamfs/\u{1b}[31m\n""#);
    }
}
