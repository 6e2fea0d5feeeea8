//! HTTP trailers: say after the raw bytes of a response how the stream ended. A response that
//! breaks has none. Trailers help clients behind a proxy that forwards a broken response as if it
//! were complete.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use pfs_proto::End;

use super::plain::OFFSET;

/// How the stream ended.
const END: HeaderName = HeaderName::from_static("pfs-end");

/// Whether the client accepts trailers (RFC 9110, section 10.1.4). Otherwise, hyper sends none
/// over HTTP/1.1.
pub(super) fn are_accepted(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::TE).into_iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// Announces the trailers in the head of a response. Over HTTP/1.1, only announced trailers
/// are sent.
pub(super) fn announce(headers: &mut HeaderMap) {
    headers.insert(header::TRAILER, HeaderValue::from_static("pfs-end, pfs-offset"));
}

/// Creates the trailers of a response that ended at `offset`.
pub(super) fn at(end: End, offset: u64) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if let Ok(end) = HeaderValue::from_str(&end.to_string()) {
        trailers.insert(END, end);
    }
    trailers.insert(OFFSET, offset.into());
    trailers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_accepts_trailers_if_te_lists_them() {
        for (te, accepted) in [
            (&[][..], false),
            (&["trailers"], true),
            (&["gzip, Trailers"], true),
            (&["gzip", "trailers"], true),
            (&["gzip;q=0.5"], false),
            (&["untrailers"], false),
        ] {
            let te = te.iter().map(|te| (header::TE, HeaderValue::from_static(te)));
            let mut headers = HeaderMap::new();
            te.for_each(|(name, value)| {
                headers.append(name, value);
            });
            assert_eq!(are_accepted(&headers), accepted, "{headers:?}");
        }
    }
}
