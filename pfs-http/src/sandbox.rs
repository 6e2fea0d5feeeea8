//! Content Security Policy: stored contents never run as a page of this origin.
//!
//! A writer chooses the media type and the bytes of its stream. Without a policy, a browser that
//! opens the stream's URL could show a page whose scripts act for this site. Every response that
//! has no policy of its own gets one here, whatever its protocol, so that no new protocol can
//! forget the policy.

use axum::http::{HeaderMap, HeaderValue, header};

use crate::media_type::MediaType;

/// Policy that loads nothing, runs nothing, and belongs to no origin.
const SANDBOX: HeaderValue = HeaderValue::from_static("default-src 'none'; sandbox");

/// Policy for media, which runs nothing. A tab that shows a film or a picture loads the URL a
/// second time, from its own origin: without `allow-same-origin`, `'self'` matches nothing.
const MEDIA: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; media-src 'self'; img-src 'self'; style-src 'unsafe-inline'; sandbox allow-same-origin",
);

/// Adds the policy for the media type, unless the response has a policy.
pub(super) fn apply(headers: &mut HeaderMap) {
    let is_media = headers.get(header::CONTENT_TYPE).is_some_and(is_media);
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(if is_media {
        MEDIA
    } else {
        SANDBOX
    });
    headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
}

/// Whether a browser plays or shows the media type, and never parses it as a document. SVG and
/// other XML may contain scripts.
fn is_media(content_type: &HeaderValue) -> bool {
    let content_type = content_type.to_str().unwrap_or_default();
    // If a browser finds several types, separated by commas, it uses the last one, with or
    // without parameters.
    !content_type.contains(',')
        && MediaType::parse(content_type).is_some_and(|MediaType { kind, subtype }| {
            matches!(kind.as_str(), "video" | "audio" | "image")
                && !subtype.contains("xml")
                && !subtype.contains("svg")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(media_type: Option<&'static str>) -> HeaderValue {
        let mut headers = HeaderMap::new();
        if let Some(media_type) = media_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        }
        apply(&mut headers);
        assert_eq!(headers.get(header::X_CONTENT_TYPE_OPTIONS).unwrap(), "nosniff");
        headers.remove(header::CONTENT_SECURITY_POLICY).unwrap()
    }

    #[test]
    fn video_audio_and_images_get_the_media_policy_and_other_types_the_sandbox() {
        for media in
            ["video/webm", "Video/MP4; codecs=\"avc1\"", "audio/ogg", "image/png", " image/jpeg ;x"]
        {
            assert_eq!(policy(Some(media)), MEDIA, "{media}");
        }
        for other in [
            "text/html",
            "application/xhtml+xml",
            "image/svg+xml",
            "image/SVG+XML; charset=utf-8",
            "video/x+xml",
            "video",
            "multipart/x-mixed-replace",
            "text/html, video/webm",
            "video/webm, text/html",
            "video/webm;, text/html",
            "video/webm; a=\", text/html",
            "video/web m",
            "",
        ] {
            assert_eq!(policy(Some(other)), SANDBOX, "{other}");
        }
        assert_eq!(policy(None), SANDBOX);
    }

    #[test]
    fn a_page_of_the_daemon_keeps_its_own_policy() {
        let mut headers = HeaderMap::new();
        let own = HeaderValue::from_static("default-src 'none'; script-src 'self'");
        headers.insert(header::CONTENT_SECURITY_POLICY, own.clone());
        apply(&mut headers);
        assert_eq!(headers.get(header::CONTENT_SECURITY_POLICY), Some(&own));
    }
}
