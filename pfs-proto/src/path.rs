//! Stream paths and path prefixes: parsing and validation.

use std::{fmt, str::FromStr};

use crate::{PathError, Unprintable};

/// The longest path, in bytes.
pub const MAX_PATH: usize = 1024;

/// The path of a stream or document, such as `/streamfs/cam`: absolute, with at least two segments,
/// the first of which is the mount.
///
/// At most [`MAX_PATH`] bytes of UTF-8 without control and format characters (see [`Unprintable`]).
/// No segment is empty, `.` or `..`, and none begins or ends with a blank.
///
/// ```
/// let path: pfs_proto::StreamPath = "/streamfs/lab/cam".parse()?;
/// assert_eq!((path.mount(), path.name()), ("/streamfs", "lab/cam"));
/// # Ok::<(), pfs_proto::PathError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamPath(String);

impl StreamPath {
    /// Returns the whole path, mount included.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the mount, which is the first segment with its slash: `/streamfs`.
    pub fn mount(&self) -> &str {
        self.0.split_at_checked(self.mount_len()).map_or("", |(mount, _)| mount)
    }

    /// Returns the name, which is the path below the mount without a leading slash, such as `cam`
    /// or `lab/cam`.
    pub fn name(&self) -> &str {
        self.0
            .split_at_checked(self.mount_len())
            .map_or("", |(_, name)| name.trim_start_matches('/'))
    }

    /// Returns all segments, beginning with the mount.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').skip(1)
    }

    fn mount_len(&self) -> usize {
        self.0.match_indices('/').nth(1).map_or(self.0.len(), |(at, _)| at)
    }
}

impl FromStr for StreamPath {
    type Err = PathError;

    fn from_str(path: &str) -> Result<Self, PathError> {
        match check(path)? {
            0 | 1 => Err(PathError::NoName),
            _ if path.ends_with('/') => Err(PathError::EmptySegment),
            _ => Ok(Self(path.to_owned())),
        }
    }
}

impl TryFrom<&str> for StreamPath {
    type Error = PathError;

    fn try_from(path: &str) -> Result<Self, PathError> {
        path.parse()
    }
}

impl TryFrom<String> for StreamPath {
    type Error = PathError;

    fn try_from(path: String) -> Result<Self, PathError> {
        path.parse()
    }
}

impl TryFrom<&String> for StreamPath {
    type Error = PathError;

    fn try_from(path: &String) -> Result<Self, PathError> {
        path.parse()
    }
}

impl From<&Self> for StreamPath {
    fn from(path: &Self) -> Self {
        path.clone()
    }
}

impl AsRef<str> for StreamPath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path prefix that selects streams to list or remove: `/`, a mount such as `/streamfs`, or a
/// path below a mount.
///
/// Follows the rules of [`StreamPath`], but also accepts a mount alone and a trailing slash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathPrefix(String);

impl PathPrefix {
    /// Returns the path without a trailing slash, except for `/`.
    pub fn as_str(&self) -> &str {
        if self.0.is_empty() { "/" } else { &self.0 }
    }

    /// Returns true if `path` equals this path or is below it: `/a/b` contains `/a/b` and `/a/b/c`,
    /// but not `/a/bc`.
    pub fn contains(&self, path: &str) -> bool {
        path.strip_prefix(&self.0).is_some_and(|below| below.is_empty() || below.starts_with('/'))
    }
}

impl FromStr for PathPrefix {
    type Err = PathError;

    fn from_str(path: &str) -> Result<Self, PathError> {
        check(path)?;
        Ok(Self(path.strip_suffix('/').unwrap_or(path).to_owned()))
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Validates the rules common to all paths; one trailing slash is allowed. Returns the number of
/// segments of the path.
fn check(path: &str) -> Result<usize, PathError> {
    // Length first: a path of 10 KB is not worth parsing, or repeating in a message.
    if path.len() > MAX_PATH {
        return Err(PathError::TooLong);
    }
    if path.is_empty() {
        return Err(PathError::Empty);
    }
    if let Some(found) = Unprintable::find(path) {
        return Err(PathError::Unprintable(found));
    }
    let relative = path.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
    if relative.is_empty() {
        return Ok(0);
    }
    let mut segments = 0;
    for segment in relative.strip_suffix('/').unwrap_or(relative).split('/') {
        match segment {
            "" => return Err(PathError::EmptySegment),
            "." | ".." => return Err(PathError::DotSegment),
            _ if segment.trim() != segment => return Err(PathError::EdgeBlank),
            _ => segments += 1,
        }
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::unprintable::tests::text;

    fn stream(path: &str) -> Result<StreamPath, PathError> {
        path.parse()
    }

    fn prefix(path: &str) -> Result<PathPrefix, PathError> {
        path.parse()
    }

    fn unprintable(character: char, position: usize) -> PathError {
        PathError::Unprintable(Unprintable { character, position })
    }

    proptest! {
        #[test]
        fn a_path_is_taken_only_if_it_can_be_shown_as_it_is(name in text()) {
            let path = format!("/streamfs/x{name}x");
            let is_shown = crate::escape(&path) == path;
            match stream(&path) {
                Ok(path) => prop_assert!(is_shown && path.segments().all(|segment| segment.trim() == segment)),
                Err(PathError::Unprintable(found)) => {
                    prop_assert!(!is_shown);
                    prop_assert_eq!(path.chars().nth(found.position - 1), Some(found.character));
                }
                Err(_) => prop_assert!(name.contains('/') && is_shown),
            }
        }
    }

    #[test]
    fn a_path_has_a_mount_a_name_and_segments() {
        for (path, mount, name) in [
            ("/streamfs/cam", "/streamfs", "cam"),
            ("/streamfs/a/b", "/streamfs", "a/b"),
            ("/m/späße ☂/..x", "/m", "späße ☂/..x"),
        ] {
            let parsed = stream(path).unwrap();
            assert_eq!((parsed.as_str(), parsed.mount(), parsed.name()), (path, mount, name));
            assert_eq!(parsed.segments().map(|s| format!("/{s}")).collect::<String>(), path);
        }
    }

    #[test]
    fn a_bad_path_is_refused_with_the_reason() {
        let long = format!("/streamfs/{}", "x".repeat(10_000));
        for (path, error) in [
            ("", PathError::Empty),
            ("streamfs/cam", PathError::NotAbsolute),
            (long.as_str(), PathError::TooLong),
            ("/streamfs//cam", PathError::EmptySegment),
            ("//cam", PathError::EmptySegment),
            ("//", PathError::EmptySegment),
            ("/streamfs/cam//", PathError::EmptySegment),
            ("/streamfs/./cam", PathError::DotSegment),
            ("/streamfs/..", PathError::DotSegment),
            ("/../streamfs/cam", PathError::DotSegment),
            ("/streamfs/a\nb", unprintable('\n', 12)),
            ("/streamfs/ä\0", unprintable('\0', 12)),
            ("/streamfs/\u{9b}31m", unprintable('\u{9b}', 11)),
            ("/streamfs/cam\u{202e}4pm", unprintable('\u{202e}', 14)),
            ("/streamfs/cam\u{200b}", unprintable('\u{200b}', 14)),
            ("/streamfs/a\u{2028}b", unprintable('\u{2028}', 12)),
            ("/streamfs/a\u{2029}b", unprintable('\u{2029}', 12)),
            ("/streamfs/cam ", PathError::EdgeBlank),
            ("/streamfs/ cam", PathError::EdgeBlank),
            ("/streamfs/lab /cam", PathError::EdgeBlank),
            ("/streamfs/cam\u{3000}", PathError::EdgeBlank),
            ("/streamfs/ ", PathError::EdgeBlank),
        ] {
            assert_eq!(stream(path), Err(error), "{path:?}");
            assert_eq!(prefix(path), Err(error), "{path:?}");
        }
    }

    #[test]
    fn a_stream_has_a_name_below_its_mount() {
        assert_eq!(stream("/"), Err(PathError::NoName));
        assert_eq!(stream("/streamfs"), Err(PathError::NoName));
        assert_eq!(stream("/streamfs/"), Err(PathError::NoName));
        assert_eq!(stream("/streamfs/cam/"), Err(PathError::EmptySegment));
    }

    #[test]
    fn the_longest_path_is_accepted_and_one_byte_more_is_refused() {
        let longest = format!("/m/{}", "x".repeat(MAX_PATH - 3));
        assert!(stream(&longest).is_ok());
        assert_eq!(stream(&format!("{longest}x")), Err(PathError::TooLong));
    }

    #[test]
    fn a_prefix_contains_itself_and_all_paths_below_it() {
        assert!(prefix("/").unwrap().contains("/streamfs/cam"));
        for streamfs in ["/streamfs", "/streamfs/"] {
            let streamfs = prefix(streamfs).unwrap();
            assert_eq!(streamfs.to_string(), "/streamfs");
            assert!(streamfs.contains("/streamfs"));
            assert!(streamfs.contains("/streamfs/a/b"));
            assert!(!streamfs.contains("/streamfsx/a"));
            assert!(!streamfs.contains("/stream"));
        }
        assert_eq!(prefix("/").unwrap().to_string(), "/");
    }
}
