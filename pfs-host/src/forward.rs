//! A writer's connection whose stream belongs to another daemon: passes the writer's messages on to
//! the owner, and the owner's replies back. So an acknowledgement is the owner's.

use std::future::poll_fn;

use bytes::BytesMut;
use pfs_proto::{ErrorCode, Reply, Request, WriteOptions};

use crate::{
    Writable,
    caller::routine,
    failure::{Ended, Failure},
    mount::Elsewhere,
    shutdown::stuck,
    transport::Transport,
    wire::Wire,
};

/// Bytes on their way to the owner, after which no more are taken from the client.
const MAX_OUT_BYTES: usize = 256 * 1024;

/// Serves a writer to its end.
pub(crate) async fn serve<T: Transport>(
    wire: &mut Wire<T>,
    place: &Writable<'_>,
    owner: &dyn Elsewhere,
    options: WriteOptions,
) -> Result<(), Ended> {
    let cutoff = place.cutoff();
    let opened = tokio::select! {
        biased;
        opened = owner.write(place.path(), options) => opened,
        () = wire.transport().hung_up() => return Err(Ended::Gone),
        failure = cutoff.reached() => return Err(failure.into()),
    };
    let (mut relay, max_chunk) = opened?;
    wire.put(&Reply::Writing { max_chunk });
    let stream = place.path().as_str();
    place.log(|_, pid, uid| tracing::info!(stream, pid, uid, "writer joined at the owner"));
    let mut out = BytesMut::new();
    let mut is_ending = false;
    let ended: Ended = loop {
        while !is_ending
            && out.len() < MAX_OUT_BYTES
            && let Some(frame) = wire.received()?
        {
            let request = Request::decode(frame)?;
            match &request {
                Request::Append(_) | Request::AppendPart(_) | Request::Flush => {}
                Request::Finish { .. } | Request::Fail { .. } | Request::Withdraw => {
                    is_ending = true;
                }
                Request::MarkSync { .. } if wire.joining && relay.can_mark() => {}
                // Shows that the client is alive. An owner that knows no marks has no use for one.
                Request::Heartbeat | Request::MarkSync { .. } if wire.joining => continue,
                Request::Heartbeat => continue,
                _ => {
                    let message = "a request is not allowed on a writer's connection";
                    return Err(Failure::new(ErrorCode::Protocol, message).into());
                }
            }
            request.encode(&mut out);
        }
        wire.charge(out.len())?;
        let flushed = wire.try_flush();
        let takes_more = !is_ending && out.len() < MAX_OUT_BYTES;
        tokio::select! {
            biased;
            reply = poll_fn(|cx| relay.poll(cx, &mut out)) => match reply {
                Ok(None) => {}
                Ok(Some(reply)) => {
                    wire.put(&reply);
                    if reply == Reply::Done {
                        place.log(|in_request, pid, uid| {
                            routine!(in_request, stream, pid, uid, "writer finished at the owner");
                        });
                        return tokio::select! {
                            biased;
                            () = wire.flush() => Ok(()),
                            () = stuck(cutoff.reached()) => Err(Ended::Stuck),
                        };
                    }
                }
                Err(failure) => break failure.into(),
            },
            ready = wire.transport().readable(), if takes_more => {
                ready?;
                if wire.fill()? == Some(0) {
                    break Ended::Gone;
                }
            }
            () = wire.transport().hung_up(), if !takes_more => break Ended::Gone,
            ready = wire.transport().writable(), if !flushed => ready?,
            failure = cutoff.reached() => break failure.into(),
        }
    };
    let reason = ended.reason();
    place.log(|_, pid, uid| {
        tracing::warn!(stream, pid, uid, reason, "writer left unfinished at the owner");
    });
    Err(ended)
}
