//! What lets caches work: entity tags, how long an answer keeps, and cursors.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::http::{HeaderMap, HeaderValue, header};
use pfs_proto::Identity;

/// Of an answer that stays right: the bytes from one offset to another never change.
pub(super) const IMMUTABLE: HeaderValue =
    HeaderValue::from_static("private, max-age=60, stale-while-revalidate=300");

/// Of an answer that is right until something is appended: it may be kept, but not used without
/// asking.
pub(super) const PASSING: HeaderValue = HeaderValue::from_static("private, no-cache");

/// When the protocol begins to count, 2024-10-09: seconds from the Unix epoch.
const COUNTED_FROM: u64 = 1_728_432_000;

/// Seconds that a cursor stands for.
const CURSOR_INTERVAL_SECONDS: u64 = 20;

/// The most seconds by which a cursor is moved on at random.
const MAX_JITTER_SECONDS: u64 = 3600;

/// Larger numbers are no cursors of ours.
const LARGEST: u64 = 1 << 53;

/// Names what a read gives: which stream, from where, to where, and whether that is its end.
pub(super) fn etag(identity: Identity, start: u64, end: u64, closed: bool) -> String {
    let closed = if closed { ":c" } else { "" };
    format!("\"{identity}:{start}:{end}{closed}\"")
}

/// Whether the client has what this tag names.
pub(super) fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let lists =
        headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = lists.flat_map(|list| list.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// A cursor for an answer to a client that has this one: later than it, and not earlier than now.
pub(super) fn cursor(theirs: Option<&str>) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let current =
        now.saturating_sub(Duration::from_secs(COUNTED_FROM)).as_secs() / CURSOR_INTERVAL_SECONDS;
    let theirs =
        theirs.and_then(|cursor| cursor.parse::<u64>().ok()).filter(|cursor| *cursor < LARGEST);
    match theirs {
        Some(theirs) if theirs >= current => {
            // The only thing that a standard library has that is random.
            let random = RandomState::new().build_hasher().finish();
            theirs
                .saturating_add((1 + random % MAX_JITTER_SECONDS).div_ceil(CURSOR_INTERVAL_SECONDS))
        }
        _ => current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_only_moves_on() {
        let now = cursor(None);
        assert!(now > 1_000_000);
        assert!(cursor(Some("5")) >= now);
        assert!(cursor(Some("nonsense")) >= now);
        let mut last = now;
        for _ in 0..100 {
            let next = cursor(Some(&last.to_string()));
            assert!(next > last && next <= last + MAX_JITTER_SECONDS / CURSOR_INTERVAL_SECONDS);
            last = next;
        }
    }

    #[test]
    fn a_tag_is_found_in_any_list() {
        let mut headers = HeaderMap::new();
        assert!(!is_known(&headers, "\"a\""));
        headers.append(header::IF_NONE_MATCH, HeaderValue::from_static("\"x\", W/\"a\""));
        assert!(is_known(&headers, "\"a\"") && !is_known(&headers, "\"b\""));
        headers.append(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        assert!(is_known(&headers, "\"b\""));
    }
}
