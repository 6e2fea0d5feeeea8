//! POST: appends to a stream, closes it, or both at once.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use pfs_host::{Caller, Checked, Failure, NotAppended};
use pfs_proto::{ErrorCode, StreamPath};
use pfs_stream::Stream;

use super::{
    gather::gather,
    headers,
    json::{self, NoMessages},
    media_type::{self, Kind},
    offset::Token,
    page::Chunks,
    producer::{Producer, Verdict},
    refusal::Refusal,
    state::State as ProducerState,
    target,
};
use crate::{Site, presence::Presence, record::Outcome};

/// Maximum length of `Stream-Seq`, in bytes.
const MAX_SEQ: usize = 256;

/// Append request: the parsed headers.
#[derive(Debug)]
struct Wanted {
    path: StreamPath,
    media_type: Option<String>,
    producer: Option<Producer>,
    seq: Option<Vec<u8>>,
    closes: bool,
    has_body: bool,
}

/// Result of an append request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// The request was carried out now.
    Now,
    /// The request was carried out before, so nothing was done. If the request is a producer's,
    /// this is the last sequence number of the producer.
    Before(Option<u64>),
}

/// Answers POST.
pub(super) async fn serve(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    Extension(presence): Extension<Presence>,
    request: Request,
) -> Result<Response, Refusal> {
    let (head, body) = request.into_parts();
    let path = target::path(&site, &head.uri)?;
    let place = site.daemon.writable(&caller, &path)?.in_request();
    target::refuse_forks(&head.headers)?;
    let stream = place.existing().await?;
    let mut wanted = Wanted::from_headers(path, &head.headers)?;
    let (body, _memory) = gather(&site, &wanted.path, body, stream.max_chunk()).await?;
    wanted.has_body = !body.is_empty();
    wanted.validate()?;
    let (check, commit) = (
        |state: &ProducerState| wanted.check(state, &stream, body),
        |state: &mut ProducerState| wanted.commit(state),
    );
    let done = presence.append(place.append_batch(&stream, check, commit)).await?;
    let done = done.map_err(|error| match error {
        NotAppended::Refused(refusal) => refusal,
        NotAppended::Failed(failure) if failure.code == ErrorCode::Closed => {
            Refusal::closed(&wanted.path, &stream)
        }
        NotAppended::Failed(failure) => failure.into(),
        _ => Failure::new(ErrorCode::Internal, "the append failed").into(),
    })?;
    stream.renew();
    Ok(wanted.answer(done, &stream))
}

/// Splits a body into the chunks that are appended.
pub(super) fn contents(body: Vec<u8>, kind: Kind) -> Result<Chunks, Refusal> {
    match kind {
        Kind::Json if !body.is_empty() => json::messages(&body).map_err(|error| match error {
            NoMessages::NoJson(_) => Refusal::bad_request(error.to_string()),
            NoMessages::TooMany => Refusal::too_large(error.to_string()),
        }),
        Kind::Json | Kind::Text | Kind::Binary => Ok(Chunks::one(body)),
    }
}

impl Wanted {
    fn from_headers(path: StreamPath, headers: &HeaderMap) -> Result<Self, Refusal> {
        let seq = headers.get(headers::SEQ).map(|seq| seq.as_bytes().to_vec());
        if seq.as_ref().is_some_and(|seq| seq.len() > MAX_SEQ) {
            return Err(Refusal::bad_request(format!(
                "Stream-Seq may have at most {MAX_SEQ} bytes"
            )));
        }
        Ok(Self {
            path,
            media_type: media_type::from_request(headers)?.map(str::to_owned),
            producer: Producer::from_headers(headers)?,
            seq,
            closes: headers::closes(headers),
            has_body: false,
        })
    }

    /// Refuses a request that no stream could carry out.
    fn validate(&self) -> Result<(), Refusal> {
        if !self.has_body {
            if !self.closes {
                return Err(Refusal::bad_request("the body is empty: there is nothing to append"));
            }
        } else if self.media_type.is_none() {
            return Err(Refusal::bad_request(
                "a body needs a Content-Type, which must be that of the stream",
            ));
        }
        Ok(())
    }

    /// Validates the request against the state of the stream. Returns the batch to append, or the
    /// result of an earlier request that this one repeats.
    fn check(
        &self,
        state: &ProducerState,
        stream: &Stream,
        body: Vec<u8>,
    ) -> Result<Checked<Done>, Refusal> {
        if let Some(producer) = &self.producer
            && state.closed_by.as_ref() == Some(producer)
        {
            return Ok(Checked::Done(Done::Before(Some(producer.seq))));
        }
        if stream.extent().closed {
            return self.find_closed(state, stream).map(Checked::Done);
        }
        let media_type = media_type::content_type(stream);
        if let Some(given) = &self.media_type
            && self.has_body
            && !media_type::same(given, media_type)
        {
            let message =
                format!("cannot append {given} to {}: the stream is {media_type}", self.path);
            return Err(Refusal::conflict("other_media_type", message));
        }
        if let Some(producer) = &self.producer {
            match state.validate(producer) {
                Verdict::Next => {}
                Verdict::Duplicate { last } => return Ok(Checked::Done(Done::Before(Some(last)))),
                Verdict::Stale { epoch } => return Err(producer.stale(epoch)),
                Verdict::NotAtZero => return Err(producer.not_at_zero()),
                Verdict::Gap { expected } => return Err(producer.gap(expected)),
            }
        }
        if let (Some(seq), Some(last)) = (&self.seq, &state.last_seq)
            && seq <= last
        {
            let message =
                "Stream-Seq is not greater, byte by byte, than the stream's last Stream-Seq";
            return Err(Refusal::conflict("stale_seq", message));
        }
        let contents = contents(body, Kind::from_media_type(media_type))?;
        if contents.bytes.is_empty() && self.has_body {
            return Err(Refusal::bad_request("the array is empty: there is nothing to append"));
        }
        Ok(Checked::Append(contents.into_batch(self.closes)))
    }

    /// Records the request in the state of the stream, after the append.
    fn commit(&self, state: &mut ProducerState) -> Done {
        if let Some(producer) = &self.producer {
            state.accept(producer);
            if self.closes {
                state.closed_by = Some(producer.clone());
            }
        }
        if let Some(seq) = &self.seq {
            state.last_seq = Some(seq.clone());
        }
        Done::Now
    }

    /// Answers a request for a stream that is already closed.
    fn find_closed(&self, state: &ProducerState, stream: &Stream) -> Result<Done, Refusal> {
        match &self.producer {
            None if !self.has_body && !stream.extent().failed => Ok(Done::Before(None)),
            None => Err(Refusal::closed(&self.path, stream)),
            Some(producer) => match state.validate(producer) {
                Verdict::Duplicate { last } => Ok(Done::Before(Some(last))),
                Verdict::Stale { epoch } => Err(producer.stale(epoch)),
                Verdict::Next | Verdict::NotAtZero | Verdict::Gap { .. } => {
                    Err(Refusal::closed(&self.path, stream))
                }
            },
        }
    }

    fn answer(&self, done: Done, stream: &Stream) -> Response {
        let status = match done {
            // 200 and 204 tell a new append from a duplicate. A request that only closes has no
            // contents that could be duplicates.
            Done::Now if self.producer.is_some() && self.has_body => StatusCode::OK,
            Done::Now | Done::Before(_) => StatusCode::NO_CONTENT,
        };
        let mut response = status.into_response();
        let closed = self.closes && done == Done::Now;
        response.extensions_mut().insert(Outcome { closed, ..Outcome::default() });
        let headers = response.headers_mut();
        let extent = stream.extent();
        headers::put_offset(headers, Token::new(stream, extent.head));
        headers::put_closed(headers, extent.is_complete());
        if let Some(producer) = &self.producer {
            let seq = if let Done::Before(Some(last)) = done { last } else { producer.seq };
            headers.insert(headers::PRODUCER_EPOCH, producer.epoch.into());
            headers.insert(headers::PRODUCER_SEQ, seq.into());
        }
        response
    }
}
