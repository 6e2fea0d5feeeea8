//! Conditional requests: entity tags, `If-Range`, `If-Match`, `If-None-Match` (RFC 9110, sections
//! 8.8.3 and 13).
//!
//! An entity tag is the identity of a stream, and does not depend on the stream's length. Within
//! one identity, the byte at an offset never changes, so parts of a stream may be combined if their
//! tags are equal. A strong tag promises just that, and `If-Range` works with strong tags only. A
//! stream that grows keeps its tag, although a strong tag should change with every byte that a GET
//! would return. Hence no response may be cached (`no-store`), and `If-None-Match` never makes a
//! GET answer 304: a client that has the tag may not have the bytes.
//!
//! The body of a GET that begins at a later offset is not the beginning of the stream. Its tag is
//! weak (`W/`), so that no client appends a range to the body as if the body began at offset 0.
//!
//! No response has a `Last-Modified`. A condition with a date therefore never holds in `If-Range`,
//! and is ignored elsewhere (section 13.1).

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pfs_proto::{Identity, StreamPath};

use crate::problem::Problem;

/// Whether the bytes of a response may be combined with others by their offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strength {
    /// The body is a range of offsets, or begins at offset 0.
    Strong,
    /// The body begins at a later offset, but a client that knows nothing about offsets would
    /// assume 0.
    Weak,
}

/// Adds the entity tag of the stream that a response is about.
pub(crate) fn put_etag(headers: &mut HeaderMap, identity: Identity, strength: Strength) {
    let prefix = if strength == Strength::Weak { "W/" } else { "" };
    if let Ok(tag) = HeaderValue::from_str(&format!("{prefix}{}", tag(identity))) {
        headers.insert(header::ETAG, tag);
    }
}

fn tag(identity: Identity) -> String {
    format!("\"{identity}\"")
}

/// Whether a Range may be answered with a part of this stream: `If-Range` is missing, or is this
/// stream's tag.
pub(crate) fn if_range(headers: &HeaderMap, identity: Identity) -> bool {
    let mut given = headers.get_all(header::IF_RANGE).iter();
    match (given.next(), given.next()) {
        (None, _) => true,
        // A date is not a tag, and neither is a list.
        (Some(value), None) => value.as_bytes().trim_ascii() == tag(identity).as_bytes(),
        (Some(_), Some(_)) => false,
    }
}

/// Refuses a request whose `If-Match` does not name the stream at this path. Without a stream at
/// the path, every `If-Match` is refused.
pub(crate) fn if_match(
    headers: &HeaderMap,
    path: &StreamPath,
    identity: Option<Identity>,
) -> Result<(), Problem> {
    let Some(tags) = Tags::from_headers(headers, &header::IF_MATCH) else { return Ok(()) };
    match identity {
        Some(identity) if tags.any || tags.strong(identity) => Ok(()),
        Some(identity) => {
            let found = tag(identity);
            // In `If-Match`, a weak tag matches nothing, not even itself.
            let hint = if tags.weak(identity) { "; leave out the W/" } else { "" };
            Err(failed(format!(
                "If-Match does not name the stream at {path}, which is {found}{hint}"
            )))
        }
        None => Err(failed(format!("If-Match names a stream, but there is no stream at {path}"))),
    }
}

/// Refuses an append or a removal whose `If-None-Match` names the stream at this path.
pub(crate) fn if_none_match(
    headers: &HeaderMap,
    path: &StreamPath,
    identity: Identity,
) -> Result<(), Problem> {
    match Tags::from_headers(headers, &header::IF_NONE_MATCH) {
        Some(tags) if tags.any || tags.weak(identity) => Err(failed(format!(
            "If-None-Match names the stream at {path}, which is {}",
            tag(identity)
        ))),
        _ => Ok(()),
    }
}

/// Whether a request must fail if any stream exists at its path.
pub(crate) fn wants_none(headers: &HeaderMap) -> bool {
    Tags::from_headers(headers, &header::IF_NONE_MATCH).is_some_and(|tags| tags.any)
}

/// Whether a request asks for one particular stream.
pub(crate) fn wants_match(headers: &HeaderMap) -> bool {
    headers.contains_key(header::IF_MATCH)
}

/// Problem of a condition that does not hold.
pub(crate) fn failed(message: String) -> Problem {
    Problem::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", message)
}

/// Entity tags in one header.
struct Tags<'a> {
    any: bool,
    list: Vec<&'a str>,
}

impl<'a> Tags<'a> {
    /// Parses the tags of a header. Returns `None` without the header. An unreadable value becomes
    /// a tag that no stream has.
    fn from_headers(headers: &'a HeaderMap, name: &HeaderName) -> Option<Self> {
        let values = headers.get_all(name);
        values.iter().next()?;
        let lists = values.iter().filter_map(|value| value.to_str().ok());
        // A comma inside a tag cuts the tag into two parts with one quotation mark each. No tag of
        // this server looks like that.
        let list: Vec<_> = lists.flat_map(|list| list.split(',')).map(str::trim).collect();
        Some(Self { any: list == ["*"], list })
    }

    fn strong(&self, identity: Identity) -> bool {
        let tag = tag(identity);
        self.list.contains(&tag.as_str())
    }

    fn weak(&self, identity: Identity) -> bool {
        let tag = tag(identity);
        self.list.iter().any(|given| given.strip_prefix("W/").unwrap_or(given) == tag)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn identity(stream: u64) -> Identity {
        Identity::new(UNIX_EPOCH + Duration::from_micros(0x6418), stream)
    }

    fn given(name: HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn if_range_admits_a_range_only_with_the_strong_tag_of_this_stream() {
        assert!(if_range(&HeaderMap::new(), identity(0x2a)));
        let holds = |values: &[&str]| if_range(&given(header::IF_RANGE, values), identity(0x2a));
        assert!(holds(&["\"6418-2a\""]) && holds(&[" \"6418-2a\" "]));
        for other in [
            "\"6418-2b\"",
            "W/\"6418-2a\"",
            "6418-2a",
            "\"6418-2A\"",
            "*",
            "",
            "\"6418-2a\", \"6418-2b\"",
            "Wed, 21 Oct 2015 07:28:00 GMT",
        ] {
            assert!(!holds(&[other]), "{other}");
        }
        assert!(!holds(&["\"6418-2a\"", "\"6418-2a\""]), "a single tag is allowed");
    }

    #[test]
    fn if_match_admits_a_request_that_names_this_stream() {
        let path = "/streamfs/s".parse().unwrap();
        let checked = |values: &[&str], found: Option<u64>| {
            let checked = if_match(&given(header::IF_MATCH, values), &path, found.map(identity));
            checked.map_err(|problem| (problem.status.as_u16(), problem.message))
        };
        for values in
            [&["\"6418-2a\""][..], &["*"], &["\"x,y\" , \"6418-2a\""], &["\"x\"", "\"6418-2a\""]]
        {
            assert_eq!(checked(values, Some(0x2a)), Ok(()), "{values:?}");
            assert_eq!(checked(values, None).unwrap_err().0, 412, "{values:?}");
        }
        for values in [&["\"6418-2b\""][..], &["W/\"6418-2a\""], &["6418-2a"], &["*, *"], &[""]] {
            let (status, message) = checked(values, Some(0x2a)).unwrap_err();
            assert!(
                status == 412 && message.contains("/streamfs/s, which is \"6418-2a\""),
                "{values:?}"
            );
        }
        assert!(
            checked(&["W/\"6418-2a\""], Some(0x2a)).unwrap_err().1.ends_with("leave out the W/")
        );
        assert!(if_match(&HeaderMap::new(), &path, None).is_ok());
    }

    #[test]
    fn if_none_match_refuses_an_append_that_names_this_stream() {
        let path = "/streamfs/s".parse().unwrap();
        let stops = |values: &[&str]| {
            if_none_match(&given(header::IF_NONE_MATCH, values), &path, identity(0x2a)).is_err()
        };
        assert!(stops(&["*"]) && stops(&["\"x\", W/\"6418-2a\""]) && stops(&["\"6418-2a\""]));
        assert!(!stops(&["\"6418-2b\""]) && !stops(&["6418-2a"]));
        assert!(wants_none(&given(header::IF_NONE_MATCH, &["*"])));
        assert!(
            !wants_none(&given(header::IF_NONE_MATCH, &["\"x\""]))
                && !wants_none(&HeaderMap::new())
        );
    }
}
