//! PUT, POST and DELETE for a stream that belongs to another daemon: passed on to its owner.

use std::pin::pin;

use axum::{
    body::Body,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;
use pfs_host::{Failure, Upload, Writable};
use pfs_proto::{CreateOptions, ErrorCode, IfExists, Request};

use super::{
    conditions,
    query::bad,
    upload::{Close, Input, Written},
};
use crate::{presence::Presence, problem::Problem};

/// Refuses a request whose condition only the owner could check.
fn refuse_conditions(headers: &HeaderMap) -> Result<(), Problem> {
    if conditions::wants_match(headers) || conditions::wants_none(headers) {
        return Err(bad(
            "If-Match and If-None-Match are not supported for a stream of another daemon; send the request to that daemon",
        ));
    }
    Ok(())
}

/// Removes the stream at its owner.
pub(crate) async fn remove(place: &Writable<'_>, headers: &HeaderMap) -> Result<Response, Problem> {
    refuse_conditions(headers)?;
    place.ask(Request::Remove(place.path().clone())).await?;
    Ok(axum::http::StatusCode::NO_CONTENT.into_response())
}

/// Creates the stream at its owner, if the request says so or the stream does not exist. Returns
/// whether it was created.
pub(crate) async fn open(
    place: &Writable<'_>,
    options: CreateOptions,
    if_exists: Option<IfExists>,
    headers: &HeaderMap,
) -> Result<bool, Problem> {
    refuse_conditions(headers)?;
    match place.ask(Request::Create(place.path().clone(), options)).await {
        Ok(_) => Ok(true),
        Err(failure) if if_exists.is_none() && failure.code == ErrorCode::AlreadyExists => {
            Ok(false)
        }
        Err(failure) => Err(failure.into()),
    }
}

/// Closes the stream at its owner, without a writer.
pub(crate) async fn close(place: &Writable<'_>, close: Close) -> Result<(), Problem> {
    let path = place.path().clone();
    match close {
        Close::No => {}
        Close::Yes => drop(place.ask(Request::Close(path)).await?),
        Close::Failed => drop(place.ask(Request::CloseFailed(path)).await?),
    }
    Ok(())
}

/// Appends a body at the owner, as a writer of its own.
pub(crate) async fn append(
    place: &Writable<'_>,
    input: Input,
    presence: &Presence,
    close: Close,
) -> Result<Written, Problem> {
    let mut upload = place.upload().await?;
    let Input { body, marks_sync } = input;
    if marks_sync {
        upload.mark_sync();
    }
    append_body(&mut upload, place, body, presence).await?;
    let bytes = upload.bytes();
    let offset = match close {
        Close::No => upload.finish(false).await?,
        Close::Yes => upload.finish(true).await?,
        Close::Failed => upload.fail(true).await?,
    };
    Ok(Written { bytes, offset })
}

/// Appends a body as it arrives. While the owner takes no more, the body is not read, so the client
/// waits too.
async fn append_body(
    upload: &mut Upload,
    place: &Writable<'_>,
    mut body: Body,
    presence: &Presence,
) -> Result<(), Failure> {
    let max_chunk = usize::try_from(upload.max_chunk()).unwrap_or(usize::MAX).max(1);
    loop {
        let frame = {
            let failure = pin!(upload.failure());
            tokio::select! {
                biased;
                frame = body.frame() => frame,
                failure = failure => return Err(failure),
            }
        };
        let mut data = match frame {
            None => return Ok(()),
            Some(Err(error)) => {
                let (path, bytes) = (place.path(), upload.bytes());
                let message = format!("the body broke off after {bytes} bytes to {path}: {error}");
                return Err(Failure::new(ErrorCode::Protocol, message));
            }
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        while !data.is_empty() {
            let chunk = data.split_to(data.len().min(max_chunk));
            presence.append(upload.append(chunk)).await??;
        }
    }
}
