//! Media type of a stream, and how this protocol encodes its contents.

use axum::http::{HeaderMap, header};
use pfs_stream::Stream;

use super::{headers, refusal::Refusal};
use crate::media_type::{MediaType, refuse_form};

/// Media type of a stream whose creator gave none.
pub(super) const DEFAULT: &str = "application/octet-stream";

/// Encoding of the contents of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// JSON messages, one for each chunk.
    Json,
    /// Text, which events carry unchanged.
    Text,
    /// Any other contents.
    Binary,
}

impl Kind {
    pub(super) fn from_media_type(media_type: &str) -> Self {
        match MediaType::parse(media_type) {
            Some(MediaType { kind, subtype }) if kind == "application" && subtype == "json" => {
                Self::Json
            }
            Some(MediaType { kind, .. }) if kind == "text" => Self::Text,
            _ => Self::Binary,
        }
    }
}

/// Media type with which a stream was created. Never the recognised one: in this protocol the media
/// type of a stream does not change, and each append must name the same media type.
pub(super) fn content_type(stream: &Stream) -> &str {
    stream.config().content_type.as_deref().unwrap_or(DEFAULT)
}

/// Media type of a request body, if the request has one.
pub(super) fn from_request(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let Some(text) = headers::text(headers, &header::CONTENT_TYPE)?.filter(|text| !text.is_empty())
    else {
        return Ok(None);
    };
    if MediaType::parse(text).is_none() {
        return Err(Refusal::bad_request("Content-Type is not a media type, such as text/plain"));
    }
    refuse_form(headers)?;
    Ok(Some(text))
}

/// Whether two media types are equal, parameters ignored.
pub(super) fn same(one: &str, other: &str) -> bool {
    MediaType::parse(one) == MediaType::parse(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letter_case_and_parameters_make_no_difference() {
        assert!(same("text/plain", "TEXT/Plain; charset=utf-8"));
        assert!(!same("text/plain", "text/html"));
        assert_eq!(Kind::from_media_type("Application/JSON;charset=utf-8"), Kind::Json);
        assert_eq!(Kind::from_media_type("text/csv"), Kind::Text);
        assert_eq!(Kind::from_media_type("application/x-ndjson"), Kind::Binary);
    }
}
