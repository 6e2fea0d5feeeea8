//! Readers without the client library: plain bodies, server-sent events and pages of
//! Durable Streams.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use h2::RecvStream;
use harness::ServerSentEvent;
use pfs_peer::http::{Client, Response};

use super::{
    contents::Account,
    reader::{Ended, Reader, Shared},
    site::{AUTHORIZED, Connection},
};

/// Where a reader continues: the stream identity and an offset.
pub(super) struct Place {
    identity: String,
    offset: u64,
}

/// Query for a reader whose offset is no longer in the ring buffer.
const OLDEST: &str = "from=oldest";

/// Response body.
enum Body {
    Chunked(Client<Connection>),
    Whole(Option<Vec<u8>>),
    Shared(RecvStream),
}

/// Result of reading from a body.
enum Piece {
    Bytes(Bytes),
    End,
    Broken,
}

impl Body {
    async fn read(mut client: Client<Connection>, mut response: Response) -> Self {
        if response.header("content-length").is_none() {
            return Self::Chunked(client);
        }
        client.rest(&mut response).await;
        Self::Whole(Some(response.body))
    }

    async fn piece(&mut self) -> Piece {
        let bytes = match self {
            Self::Chunked(client) => match client.piece().await {
                Some(piece) => piece.into(),
                None => return Piece::Broken,
            },
            Self::Whole(bytes) => bytes.take().unwrap_or_default().into(),
            Self::Shared(body) => match body.data().await {
                Some(Ok(piece)) => {
                    body.flow_control().release_capacity(piece.len()).unwrap();
                    piece
                }
                Some(Err(_)) => return Piece::Broken,
                None => return Piece::End,
            },
        };
        if bytes.is_empty() && !matches!(self, Self::Shared(_)) {
            Piece::End
        } else {
            Piece::Bytes(bytes)
        }
    }
}

/// Response: the fields that readers check, and the body.
struct Answer {
    status: u16,
    start: Option<u64>,
    tag: Option<String>,
    body: Body,
}

impl Reader {
    /// Sends a GET for a plain body or for events. Returns `None` if the daemon hung up instead
    /// of answering.
    async fn get(&mut self, start: &str, headers: &[(&str, &str)]) -> Option<Answer> {
        let path = format!("{}?slow={}&{start}", self.stream, self.policy);
        let headers = [&[AUTHORIZED], headers].concat();
        let shared = Arc::clone(&self.shared);
        let Shared::Http2(client) = &*shared else {
            let mut client = self.crowd.site.http().await;
            client.request("GET", &path, &headers, None).await;
            let head = client.head().await?;
            let start = head.header("pfs-start").and_then(|start| start.parse().ok());
            let (status, tag) = (head.status, head.header("etag").map(str::to_owned));
            return Some(Answer { status, start, tag, body: Body::read(client, head).await });
        };
        let mut request = http::Request::get(self.crowd.site.daemon.url(&path));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut client = match client.clone().ready().await {
            Ok(client) => client,
            // The daemon closes a connection that has carried no request for a while, or none in
            // its first 10 seconds, which may happen if this process is busy. Only in the first
            // case does it send a reason.
            Err(error) => {
                assert!(
                    error.reason() == Some(h2::Reason::NO_ERROR) || error.is_io(),
                    "{self}: {error}"
                );
                let client = self.crowd.site.http2().await;
                self.shared = Arc::new(Shared::Http2(client.clone()));
                client.ready().await.ok()?
            }
        };
        let (response, _) = client.send_request(request.body(()).unwrap(), true).ok()?;
        let response = response.await.ok()?;
        let header = |name| response.headers().get(name)?.to_str().ok();
        let start = header("pfs-start").and_then(|start| start.parse().ok());
        let (status, tag) = (response.status().as_u16(), header("etag").map(str::to_owned));
        Some(Answer { status, start, tag, body: Body::Shared(response.into_body()) })
    }

    /// One session with a plain body. A gap breaks the body. If the reader's offset is then gone,
    /// the next session starts at the oldest offset and counts the bytes before it as lost.
    pub(super) async fn body(&mut self, place: &mut Option<Place>) -> Ended {
        let tag = place.as_ref().map_or("*", |place| &place.identity).to_owned();
        let mut from = place
            .as_ref()
            .map_or(format!("tail={}", self.tail), |place| format!("from={}", place.offset));
        let answer = loop {
            match self.get(&from, &[("if-match", &tag)]).await {
                None => return Ended::Broken,
                // The offset is no longer in the ring buffer.
                Some(Answer { status: 416, .. }) if place.is_some() && from != OLDEST => {
                    OLDEST.clone_into(&mut from)
                }
                Some(answer) => break answer,
            }
        };
        let Answer { status: 200, start: Some(start), tag: Some(tag), mut body } = answer else {
            // The stream was replaced or removed, or there is no room.
            assert!(
                matches!(answer.status, 404 | 410 | 412 | 429 | 503),
                "{self}: status {}",
                answer.status
            );
            return Ended::Refused;
        };
        let mut account = self.attached(place.as_ref().map_or(start, |place| place.offset)).await;
        if from == OLDEST {
            account.lost(account.position(), start);
        }
        assert_eq!(account.position(), start, "where {self} goes on");
        let ended = loop {
            match body.piece().await {
                Piece::Bytes(bytes) => account.delivered(&bytes),
                Piece::End => break Ended::Closed(account.position()),
                Piece::Broken => break Ended::Broken,
            }
            self.pause().await;
        };
        let identity = tag.trim_start_matches("W/").to_owned();
        *place = Some(Place { identity, offset: account.position() });
        ended
    }

    /// One session with events, which report gaps.
    pub(super) async fn events(&mut self, place: &mut Option<Place>) -> Ended {
        let seen = place.as_ref().map(|Place { identity, offset }| format!("{identity}:{offset}"));
        let seen = seen.as_deref().map(|seen| ("last-event-id", seen));
        let headers: Vec<_> = [("accept", "text/event-stream")].into_iter().chain(seen).collect();
        let Some(mut answer) = self.get(&format!("tail={}", self.tail), &headers).await else {
            return Ended::Broken;
        };
        match (answer.status, &*place) {
            (200, _) => {}
            (204, Some(place)) => return Ended::Closed(place.offset),
            (404 | 410 | 429 | 503, _) => return Ended::Refused,
            (status, _) => panic!("{self}: status {status}"),
        }
        let (mut account, mut text) = (None, String::new());
        loop {
            match answer.body.piece().await {
                Piece::Bytes(bytes) => {
                    text.push_str(std::str::from_utf8(&bytes).expect("events are text"))
                }
                // An event reports the end of the stream, so the end of the body is a
                // broken connection.
                Piece::End | Piece::Broken => return Ended::Broken,
            }
            while let Some(end) = text.find("\n\n") {
                let (event, _) = ServerSentEvent::parse(&text[..end]);
                text.drain(..end + 2);
                if let Some(ended) = self.event(&event, &mut account, place).await {
                    return ended;
                }
            }
            self.pause().await;
        }
    }

    async fn event(
        &mut self,
        event: &ServerSentEvent,
        account: &mut Option<Account>,
        place: &mut Option<Place>,
    ) -> Option<Ended> {
        let number = |name: &str| event.json()[name].as_u64().expect("an offset");
        match (event.name.as_str(), &mut *account) {
            // This stream ends here. A `removed` event with an id is followed by the next stream.
            ("removed", _) if event.id.is_none() => return Some(Ended::Refused),
            ("removed", account) => *account = Some(self.attached(0).await),
            ("message", None) => {
                let start = event.offset().expect("the offset where events begin");
                assert!(
                    place.as_ref().is_none_or(|place| place.offset == start),
                    "{self} went on at {start}"
                );
                *account = Some(self.attached(start).await);
            }
            ("message", Some(_)) if event.data.is_empty() => {}
            ("base64", Some(account)) => {
                account.delivered(&BASE64_STANDARD.decode(&event.data).unwrap())
            }
            ("gap", Some(account)) => account.lost(number("from"), number("to")),
            ("end", Some(account)) => {
                assert_eq!(number("offset"), account.position(), "the end of {self}");
                return Some(Ended::Closed(account.position()));
            }
            ("failure", _) => return Some(Ended::Refused),
            (_, account) => panic!("{self} at {account:?}: {event:?}"),
        }
        if let (Some(offset), Some(identity), Some(account)) =
            (event.offset(), event.identity(), account)
        {
            assert_eq!(offset, account.position(), "{self}: {event:?}");
            *place = Some(Place { identity: identity.to_owned(), offset });
        }
        None
    }

    /// One session with pages, on one connection.
    pub(super) async fn pages(&mut self, place: &mut Option<Place>) -> Ended {
        let mut client = self.crowd.site.http().await;
        let name = self.stream.strip_prefix("/streamfs/").expect("a stream of the mount");
        let mut account =
            place.as_ref().map(|place| Account::new(place.offset, self.crowd.totals.clone()));
        loop {
            let offset = match &*place {
                Some(Place { identity, offset }) => format!("{identity}_{offset:020}"),
                None => "-1".to_owned(),
            };
            let path = format!("/v1/stream/{name}?offset={offset}&live=long-poll");
            client.request("GET", &path, &[AUTHORIZED], None).await;
            if self.connecting.is_some() {
                // A stalled reader stops before the response to its first request.
                drop(self.attached(0).await);
            }
            let Some(mut page) = client.head().await else { return Ended::Broken };
            client.rest(&mut page).await;
            let token = |name| {
                let (identity, offset) = page.header(name)?.split_once('_')?;
                Some(Place { identity: identity.to_owned(), offset: offset.parse().ok()? })
            };
            match (page.status, &mut account) {
                (200 | 204, account) => {
                    if page.status == 200 && !page.whole {
                        return Ended::Broken;
                    }
                    let next = token("stream-next-offset").expect("the next offset");
                    let start = next.offset - page.body.len() as u64;
                    let account = account
                        .get_or_insert_with(|| Account::new(start, self.crowd.totals.clone()));
                    account.delivered(&page.body);
                    assert_eq!(account.position(), next.offset, "the end of a page for {self}");
                    let (is_closed, end) = (page.header("stream-closed").is_some(), next.offset);
                    *place = Some(next);
                    if is_closed {
                        return Ended::Closed(end);
                    }
                }
                (410, Some(account)) => {
                    let earliest = token("stream-earliest-offset").expect("the earliest offset");
                    if place.as_ref().is_none_or(|place| place.identity != earliest.identity) {
                        return Ended::Refused;
                    }
                    account.lost(account.position(), earliest.offset);
                    *place = Some(earliest);
                }
                (404 | 410 | 429 | 503, _) => return Ended::Refused,
                (status, _) => panic!("{self}: status {status}"),
            }
            self.pause().await;
        }
    }
}
