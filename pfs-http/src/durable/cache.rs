//! HTTP caching: entity tags, `Cache-Control`, and cursors.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::http::{HeaderMap, HeaderValue, header};
use pfs_proto::Identity;

/// `Cache-Control` of a response that stays valid: the bytes between two offsets never change.
pub(super) const IMMUTABLE: HeaderValue =
    HeaderValue::from_static("private, max-age=60, stale-while-revalidate=300");

/// `Cache-Control` of a response that is valid until the next append. Caches may store it, but have
/// to revalidate it.
pub(super) const PASSING: HeaderValue = HeaderValue::from_static("private, no-cache");

/// Epoch of cursors in the protocol, 2024-10-09, in seconds since the Unix epoch.
const COUNTED_FROM: u64 = 1_728_432_000;

/// Seconds that one step of a cursor stands for.
const CURSOR_INTERVAL_SECONDS: u64 = 20;

/// Maximum random advance of a cursor, in seconds.
const MAX_JITTER_SECONDS: u64 = 3600;

/// Upper bound of cursors. Larger numbers cannot come from this server.
const LARGEST: u64 = 1 << 53;

/// Entity tag of a read: the stream, the start and end offsets, and whether the stream ends there.
pub(super) fn etag(identity: Identity, start: u64, end: u64, closed: bool) -> String {
    let closed = if closed { ":c" } else { "" };
    format!("\"{identity}:{start}:{end}{closed}\"")
}

/// Whether the client already has the response with this tag.
pub(super) fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let lists =
        headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = lists.flat_map(|list| list.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// Cursor for a response: greater than the client's cursor, and not less than the cursor of the
/// current time.
pub(super) fn cursor(theirs: Option<&str>) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let current =
        now.saturating_sub(Duration::from_secs(COUNTED_FROM)).as_secs() / CURSOR_INTERVAL_SECONDS;
    let theirs =
        theirs.and_then(|cursor| cursor.parse::<u64>().ok()).filter(|cursor| *cursor < LARGEST);
    match theirs {
        Some(theirs) if theirs >= current => {
            // The standard library has no other source of randomness.
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
    fn a_cursor_never_moves_back() {
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
