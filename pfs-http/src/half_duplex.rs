//! Half-duplex frames connections: the response begins when the request has ended. Proxies in Go,
//! such as Caddy and Traefik, need this order over HTTP/1.1.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use pfs_proto::{Decoder, Reply};
use tokio::time::timeout;

use super::socket::LINGER_TIMEOUT;

/// Maximum size of the replies that are gathered. A writer gets far fewer.
const MAX_REPLY_BYTES: usize = 64 * 1024;

/// Request body that one task reads, while another task waits for its end.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Mutex<Body>>);

impl Shared {
    /// Returns the body for the task that reads it, and a handle for the task that waits.
    pub(super) fn new(body: Body) -> (Body, Option<Self>) {
        let shared = Self(Arc::new(Mutex::new(body)));
        (Body::new(shared.clone()), Some(shared))
    }

    /// Returns the response body, once `replies` and the request have ended. The wait for a client
    /// that continues its request is limited to [`LINGER_TIMEOUT`].
    pub(super) async fn answer(mut self, replies: Body) -> Body {
        let replies = gather(replies).await;
        let _ =
            timeout(LINGER_TIMEOUT, async { while let Some(Ok(_)) = self.frame().await {} }).await;
        replies.into()
    }
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}

/// Gathers the replies to their end. Acknowledgements are totals, so only the newest is kept.
/// Heartbeats are dropped.
async fn gather(mut replies: Body) -> Bytes {
    let (mut gathered, mut acknowledged) = (BytesMut::new(), None);
    let mut decoder = Decoder::new();
    while let Some(Ok(frame)) = replies.frame().await {
        decoder.buffer().extend_from_slice(frame.data_ref().map_or(&[][..], |bytes| bytes));
        while let Ok(Some(frame)) = decoder.next_frame() {
            match Reply::decode(frame) {
                Ok(ack @ Reply::Ack { .. }) => acknowledged = Some(ack),
                Ok(Reply::Heartbeat) | Err(_) => {}
                Ok(reply) => {
                    if let Some(ack) = acknowledged.take() {
                        ack.encode(&mut gathered);
                    }
                    reply.encode(&mut gathered);
                }
            }
        }
        if gathered.len() > MAX_REPLY_BYTES {
            // Dropping the replies ends the session.
            break;
        }
    }
    if let Some(ack) = acknowledged {
        ack.encode(&mut gathered);
    }
    gathered.freeze()
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};
    use pfs_proto::{ErrorCode, Hello};

    use super::*;

    fn ack(chunks: u64) -> Reply {
        Reply::Ack { chunks, offset: chunks, readers: 0 }
    }

    fn encoded(replies: &[Reply]) -> Bytes {
        let mut bytes = BytesMut::new();
        replies.iter().for_each(|reply| reply.encode(&mut bytes));
        bytes.freeze()
    }

    #[tokio::test]
    async fn the_newest_acknowledgement_precedes_the_replies_after_it() {
        let error = Reply::Error { code: ErrorCode::Closed, message: "closed".to_owned() };
        let (hello, writing) = (Reply::Hello(Hello::OURS), Reply::Writing { max_chunk: 9 });
        let pieces = [
            encoded(&[hello.clone(), writing.clone(), ack(1)]),
            encoded(&[Reply::Heartbeat, ack(2)]),
            encoded(&[ack(3), error.clone()]),
        ];
        let body = Body::from_stream(stream::iter(pieces.map(Ok::<_, axum::Error>)));
        assert_eq!(gather(body).await, encoded(&[hello, writing, ack(3), error]));
    }

    #[tokio::test]
    async fn the_replies_to_a_reader_are_not_gathered_without_limit() {
        let data = encoded(&[Reply::Data(vec![7; 40 * 1024].into())]);
        let body = Body::from_stream(stream::repeat(data).map(Ok::<_, axum::Error>));
        assert!(gather(body).await.len() < 2 * MAX_REPLY_BYTES);
    }
}
