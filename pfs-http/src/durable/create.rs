//! PUT: creates a stream with its first contents, or finds an existing stream with the
//! same properties.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use pfs_host::{Caller, Failure, mount::First};
use pfs_proto::{CreateOptions, ErrorCode, StreamPath};
use pfs_stream::Stream;

use super::{
    append::contents,
    gather::gather,
    headers,
    lifetime::Lifetime,
    media_type::{self, Kind},
    offset::Token,
    refusal::Refusal,
    target,
};
use crate::{Site, connection::Connected, record::Outcome};

/// Properties of the stream that a request creates.
#[derive(Debug)]
struct Wanted {
    media_type: String,
    lifetime: Lifetime,
    closed: bool,
}

/// Answers PUT.
pub(super) async fn serve(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Refusal> {
    let (head, body) = request.into_parts();
    let secure = head.extensions.get::<Connected>().is_some_and(|connected| connected.tls);
    let path = target::path(&site, &head.uri)?;
    let place = site.daemon.writable(&caller, &path)?.in_request();
    target::refuse_forks(&head.headers)?;
    let wanted = Wanted {
        media_type: media_type::from_request(&head.headers)?
            .unwrap_or(media_type::DEFAULT)
            .to_owned(),
        lifetime: Lifetime::from_headers(&head.headers)?,
        closed: headers::closes(&head.headers),
    };
    if let Some(stream) = place.find().await? {
        return wanted.found(&path, &stream);
    }
    let config = place.config(wanted.options())?;
    let (body, _memory) = gather(&site, &path, body, config.max_chunk()).await?;
    let contents = contents(body, Kind::from_media_type(&wanted.media_type))?;
    let contents: Vec<&[u8]> = contents.each().collect();
    let fits = config.total(contents.iter().copied());
    fits.map_err(|error| Failure::appending(&path, error))?;
    loop {
        let first = First { chunks: &contents, close: wanted.closed };
        match place.create_with(wanted.options(), wanted.lifetime.deadline, first).await {
            Ok(stream) => {
                let mut response = wanted.answer(StatusCode::CREATED, &stream);
                let outcome = Outcome { stream: None, created: true, closed: wanted.closed };
                response.extensions_mut().insert(outcome);
                if let Some(url) = url(secure, &head.uri, &head.headers) {
                    response.headers_mut().insert(header::LOCATION, headers::value(&url));
                }
                return Ok(response);
            }
            // Another client has created the stream meanwhile.
            Err(failure) if failure.code == ErrorCode::AlreadyExists => {
                if let Some(stream) = place.find().await? {
                    return wanted.found(&path, &stream);
                }
            }
            Err(failure) => return Err(failure.into()),
        }
    }
}

impl Wanted {
    /// Answers for an existing stream, which must have the same properties.
    fn found(&self, path: &StreamPath, stream: &Stream) -> Result<Response, Refusal> {
        let config = stream.config();
        let other = if !media_type::same(&self.media_type, media_type::content_type(stream)) {
            "media type"
        } else if (self.lifetime.ttl(), self.lifetime.deadline) != (config.ttl, config.deadline) {
            "lifetime"
        } else if self.closed != stream.extent().closed || stream.extent().failed {
            "state (open, closed or failed)"
        } else {
            return Ok(self.answer(StatusCode::OK, stream));
        };
        Err(Refusal::conflict(
            "already_exists",
            format!("the stream {path} already exists, with a different {other}"),
        ))
    }

    fn options(&self) -> CreateOptions {
        CreateOptions {
            ttl: self.lifetime.ttl(),
            content_type: Some(self.media_type.clone()),
            ..CreateOptions::default()
        }
    }

    fn answer(&self, status: StatusCode, stream: &Stream) -> Response {
        let mut response = status.into_response();
        let headers = response.headers_mut();
        if let Ok(media_type) = media_type::content_type(stream).parse() {
            headers.insert(header::CONTENT_TYPE, media_type);
        }
        let extent = stream.extent();
        headers::put_offset(headers, Token::new(stream, extent.head));
        headers::put_closed(headers, extent.closed);
        response
    }
}

/// URL of the request, if its host is known.
fn url(secure: bool, uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = uri.authority().map(|authority| authority.as_str()).or(host)?;
    let scheme = if secure { "https" } else { "http" };
    Some(format!("{scheme}://{host}{}", uri.path()))
}
