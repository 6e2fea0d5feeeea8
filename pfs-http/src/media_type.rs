//! Media types: parses type and subtype, and ignores parameters.
//!
//! The crate `mediatype` refuses a type with a malformed parameter, such as `image/jpeg;x`. Writers
//! send such types and browsers accept them.

use axum::http::{HeaderMap, StatusCode, header};

use super::problem::Problem;

/// Refuses the body of an HTML form, which `curl -F` sends too: its boundaries and
/// headers would become part of the stream. Other multipart types are accepted: cameras
/// stream `multipart/x-mixed-replace`.
///
/// # Errors
///
/// The `Content-Type` of the request is `multipart/form-data`.
pub(crate) fn refuse_form(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    match given.and_then(MediaType::parse) {
        Some(MediaType { kind, subtype }) if kind == "multipart" && subtype == "form-data" => {
            Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "bad_media_type",
                "cannot append a form (multipart/form-data, as curl -F sends it): its boundaries would become part \
                 of the stream; send only the bytes: curl -T FILE, or curl --data-binary @FILE",
            ))
        }
        _ => Ok(()),
    }
}

/// Media type without its parameters, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MediaType {
    /// Type before the slash: `video` in `video/mp2t`.
    pub(crate) kind: String,
    /// Subtype after the slash: `mp2t` in `video/mp2t`.
    pub(crate) subtype: String,
}

impl MediaType {
    /// Parses a `Content-Type`. Returns `None` if `text` is not a media type.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let essence = text.split(';').next()?.trim().to_ascii_lowercase();
        let (kind, subtype) = essence.split_once('/')?;
        (is_token(kind) && is_token(subtype))
            .then(|| Self { kind: kind.to_owned(), subtype: subtype.to_owned() })
    }
}

/// Whether `text` is a token (RFC 9110, section 5.6.2).
fn is_token(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letter_case_and_parameters_make_no_difference() {
        let parsed = |text| MediaType::parse(text).unwrap();
        assert_eq!(parsed("text/plain"), parsed(" TEXT/Plain ;charset"));
        let MediaType { kind, subtype } = parsed("video/mp2t");
        assert_eq!((kind.as_str(), subtype.as_str()), ("video", "mp2t"));
    }

    #[test]
    fn only_two_tokens_around_one_slash_are_a_media_type() {
        for text in [
            "",
            "text",
            "text/",
            "/plain",
            "text/a b",
            "te(xt/plain",
            "text/plain, text/html",
            "a/b/c",
        ] {
            assert_eq!(MediaType::parse(text), None, "{text:?}");
        }
    }
}
