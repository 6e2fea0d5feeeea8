//! Joining media: a reader that joins in the middle delivers bytes that a decoder can use.

use std::collections::VecDeque;

use bytes::Bytes;
use pfs_media::{Delivery, Format, Joiner};
use pfs_proto::{Event, Hello, Join, ReadOptions, Start};

use super::Reader;
use crate::{
    ReadError, RequestError,
    chunks::{Chunks, LARGE_CHUNK_BYTES},
    connection::Connection,
};

/// Bytes in a batch of small chunks, after which no more are added.
const MAX_BATCH_BYTES: usize = 64 * 1024;

/// The state of a reader that joins.
#[derive(Debug)]
pub(super) struct Joining {
    joiner: Joiner,
    /// What is to be delivered next.
    deliveries: VecDeque<Delivery>,
    /// An event to return after the deliveries.
    event: Option<Event>,
    /// The offset after everything that was returned.
    pub(super) position: u64,
}

/// The daemon's reply `Joined`: how the reader joins.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) place: u64,
    pub(super) seeks: bool,
    pub(super) format: String,
    pub(super) header: Bytes,
}

impl Joining {
    /// Creates the state of a reader that starts at `start`. `None` if the reader gets exact bytes.
    pub(super) fn begin(
        how: Join,
        joined: Option<Joined>,
        start: u64,
        content_type: Option<&str>,
    ) -> Option<Self> {
        let mut deliveries = VecDeque::new();
        let joiner = match joined {
            // The daemon knows no format, but this reader sees the first bytes.
            None if start == 0 => {
                let named = content_type.and_then(Format::from_content_type);
                let is_sync = how == Join::Sync;
                let joiner = Joiner::from_begin(named.filter(|it| is_sync || it.is_media()));
                if is_sync { joiner.or(Format::Lines) } else { joiner }
            }
            None => return None,
            Some(Joined { place, seeks, format, header }) => {
                let format = Format::from_content_type(&format);
                match format {
                    Some(format) if seeks => Joiner::searching(format, header, start),
                    _ if start == 0 => Joiner::from_begin(format),
                    _ => {
                        let skipped = place.min(start)..start;
                        deliveries.push_back(Delivery::Joined(header.clone(), skipped));
                        match format {
                            Some(format) => Joiner::from_sync_point(format, header, start),
                            // The writer names the sync points, or the format is of a later
                            // version.
                            None => Joiner::unknown(start),
                        }
                    }
                }
            }
        };
        Some(Self { joiner, deliveries, event: None, position: start })
    }

    /// Converts the next delivery to an event. Also returns the lost bytes and chunks.
    fn next(&mut self) -> Option<(Event, (u64, u64))> {
        let Some(delivery) = self.deliveries.pop_front() else {
            return self.event.take().map(|event| (event, (0, 0)));
        };
        let none = (0, 0);
        Some(match delivery {
            Delivery::Bytes(bytes) => {
                self.position = self.position.saturating_add(bytes.len() as u64);
                (Event::Chunk(bytes), none)
            }
            Delivery::Joined(header, skipped) => {
                self.position = skipped.end;
                (Event::Joined { header, skipped }, none)
            }
            Delivery::Header(header) => {
                (Event::Joined { header, skipped: self.position..self.position }, none)
            }
            Delivery::Gap { from, to, chunks } => {
                self.position = to;
                (Event::Gap { from, to, chunks }, (to.saturating_sub(from), chunks))
            }
            Delivery::FormatChanged(offset) => (Event::FormatChanged { offset }, none),
            // A delivery of a later version carries no bytes.
            _ => return self.next(),
        })
    }

    /// Whether the next delivery is bytes.
    fn has_bytes(&self) -> bool {
        matches!(self.deliveries.front(), Some(Delivery::Bytes(_)))
    }

    fn is_empty(&self) -> bool {
        self.deliveries.is_empty() && self.event.is_none()
    }
}

/// Returns the options to send over this connection. A daemon without the capability
/// [`JOINING`](pfs_proto::Hello::JOINING) serves exact bytes.
pub(super) async fn agreed(
    connection: &mut Connection,
    options: ReadOptions,
) -> Result<ReadOptions, RequestError> {
    if options.join == Join::Raw {
        return Ok(options);
    }
    connection.learn(Hello::JOINING).await?;
    let join = if connection.can_join() { options.join } else { Join::Raw };
    Ok(ReadOptions { join, ..options })
}

/// How a reader with these options joins: one that asks for an offset gets exact bytes.
pub(super) fn how(options: ReadOptions) -> Join {
    if matches!(options.start, Start::Offset(_)) { Join::Raw } else { options.join }
}

impl Reader {
    /// Begins to join at `start`, if the reader was told to.
    pub(super) fn begin_to_join(&mut self, start: u64, content_type: Option<&str>) {
        if self.how != Join::Raw {
            let joining = Joining::begin(self.how, self.joined.take(), start, content_type);
            self.join = joining.map(Box::new);
        }
    }

    /// Receives until there is a delivery or an event. Returns false if nothing more has arrived.
    fn receive(&mut self, joining: &mut Joining) -> Result<bool, ReadError> {
        let Joining { joiner, deliveries, event, .. } = joining;
        while deliveries.is_empty() && event.is_none() {
            match self.following() {
                Ok(Some(Event::Chunk(chunk))) => joiner.chunk(chunk, deliveries),
                Ok(Some(Event::Gap { from, to, chunks })) => {
                    joiner.gap(from, to, chunks, deliveries);
                    self.position = to;
                }
                Ok(Some(end @ Event::End { .. })) => {
                    joiner.end(deliveries);
                    *event = Some(end);
                }
                // The reader has delivered less than it has received.
                Ok(Some(Event::Resumed { .. })) => {
                    *event = Some(Event::Resumed { offset: joiner.position() });
                }
                Ok(Some(other)) => *event = Some(other),
                Ok(None) => return Ok(false),
                // The error is returned again once everything is delivered.
                Err(error) => {
                    joiner.end(deliveries);
                    if deliveries.is_empty() {
                        return Err(error);
                    }
                }
            }
        }
        Ok(true)
    }

    /// Like [`try_next`](Self::try_next), for a reader that joins.
    pub(super) fn try_next_joined(
        &mut self,
        mut joining: Box<Joining>,
    ) -> Result<Option<Event>, ReadError> {
        if joining.joiner.is_idle() && joining.is_empty() {
            return self.try_next();
        }
        let has_arrived = self.receive(&mut joining);
        let next = joining.next();
        self.join = Some(joining);
        has_arrived?;
        Ok(next.map(|(event, lost)| self.lose(event, lost)))
    }

    /// Like [`try_next_batch`](Self::try_next_batch), for a reader that joins. `chunks` is empty.
    pub(super) fn try_next_batch_joined(
        &mut self,
        mut joining: Box<Joining>,
        chunks: &mut Chunks,
    ) -> Result<Option<Event>, ReadError> {
        if joining.joiner.is_idle() && joining.is_empty() {
            return self.try_next_batch(chunks);
        }
        let mut has_arrived = self.receive(&mut joining);
        let mut next = None;
        while let Ok(true) = has_arrived {
            // An event that is not a chunk is returned on its own.
            if !joining.has_bytes() && !chunks.is_empty() {
                break;
            }
            match joining.next() {
                Some((Event::Chunk(chunk), _)) => {
                    if chunks.is_empty() && chunk.len() >= LARGE_CHUNK_BYTES {
                        chunks.hold(chunk);
                        break;
                    }
                    chunks.push(&chunk);
                }
                other => {
                    next = other;
                    break;
                }
            }
            if chunks.bytes().len() >= MAX_BATCH_BYTES || joining.joiner.is_idle() {
                break;
            }
            has_arrived = self.receive(&mut joining);
        }
        self.join = Some(joining);
        if chunks.is_empty() {
            has_arrived?;
        }
        Ok(next.map(|(event, lost)| self.lose(event, lost)))
    }

    /// Counts what an event that is about to be returned says is lost.
    fn lose(&mut self, event: Event, (bytes, chunks): (u64, u64)) -> Event {
        self.lost.0 = self.lost.0.saturating_add(bytes);
        self.lost.1 = self.lost.1.saturating_add(chunks);
        event
    }
}
