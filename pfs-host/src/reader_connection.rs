//! A reader's connection: sends a stream, and receives nothing.

use std::{
    future::{Future, poll_fn},
    ops::ControlFlow,
    pin::pin,
    time::{Duration, SystemTime},
};

use bytes::BytesMut;
use pfs_media::Format;
use pfs_proto::{
    DataKind, End, ErrorCode, HEADER_LEN, MAX_PAYLOAD, ReadOptions, Reply, Writers, put_data_header,
};
use pfs_stream::{Reader, Sink, Stream};

#[cfg(target_os = "linux")]
use crate::shm;
use crate::{
    Cutoff, Readable,
    daemon::UNCHARGED_ANSWER,
    failure::{Ended, Failure},
    poll::poll_once,
    session::{Broken, Encoder, Follow, Gap},
    shutdown::stuck,
    transport::Transport,
    wire::{Wire, unexpected},
};

/// Size of the kernel's send buffer for a reader, in bytes, where the system allows it. A larger
/// buffer means fewer wake-ups on both sides.
const SEND_BUFFER: usize = 1024 * 1024;

/// Size of an encoded [`Reply::Head`], in bytes.
const HEAD_LEN: usize = HEADER_LEN + 8;

/// What reads a stream over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Reader,
    /// A link, which replicates the stream at another daemon.
    Link,
}

/// Serves a reader to its end.
pub(crate) async fn serve<T: Transport>(
    wire: &mut Wire<T>,
    place: &Readable<'_>,
    options: ReadOptions,
    kind: Kind,
) -> Result<(), Ended> {
    if !wire.input_is_empty() {
        return Err(unexpected());
    }
    let joined = if kind == Kind::Reader { place.join(options).await? } else { None };
    let (reader, joined) = match joined {
        Some((reader, joined)) => (reader, Some(joined)),
        None => (attach(wire, place, options).await?, None),
    };
    let origin = match kind {
        Kind::Reader => None,
        Kind::Link => Some(place.origin(&reader.stream()).await?),
    };
    let header = joined.as_ref().map(|joined| &joined.header);
    let header = header.or(origin.as_ref().map(|origin| &origin.header)).cloned();
    let (log, cutoff) = (place.joined(&reader), place.cutoff(options.policy));
    let announce = [
        Some(Reply::Identity {
            identity: reader.identity(),
            deaths_before: reader.deaths_before(),
        })
        .filter(|_| wire.resuming || kind == Kind::Link),
        origin.map(Reply::Origin),
        (kind == Kind::Link).then(|| Reply::Writers(reader.stream().writers().0)),
        joined.map(|joined| Reply::Joined {
            place: joined.place,
            seeks: joined.start.is_none(),
            format: joined.format.map_or("", Format::content_type).to_owned(),
            header: joined.header,
        }),
        Some(Reply::Reading {
            start: reader.start(),
            head: reader.head_at_attach(),
            content_type: reader.content_type().map(str::to_owned),
        }),
    ];
    #[cfg(target_os = "linux")]
    let reader = match kind {
        Kind::Reader => shm::hand_out(wire, place, reader).await?,
        Kind::Link => Err(reader),
    };
    announce.into_iter().flatten().for_each(|reply| wire.put(&reply));
    if let Some(header) = header.filter(|header| header.len() > UNCHARGED_ANSWER) {
        // A large header is charged until it is sent.
        unless_stuck(&cutoff, async {
            wire.flush().await;
            Ok(())
        })
        .await?;
        drop(header);
    }
    #[cfg(target_os = "linux")]
    let (log, reader) = match reader {
        Ok(handout) => shm::serve(wire, place, handout, log, &cutoff).await?,
        Err(reader) => (log, reader),
    };
    let noted = (kind == Kind::Link).then(|| Box::new(Noted::new(reader.stream())));
    let frames = Frames { bytes: Vec::new(), noted };
    let follow = place.resume(log, cutoff.clone(), reader, frames);
    send(wire, follow, &cutoff).await
}

/// Attaches the reader. Tells the client if it has to wait for the stream's creation.
async fn attach<T: Transport>(
    wire: &mut Wire<T>,
    place: &Readable<'_>,
    options: ReadOptions,
) -> Result<Reader, Ended> {
    // A mount may take a while to find a stream that exists, and the client must not be told that
    // it waits for the creation.
    let existing = place.attach(options.wait(false));
    match until_attached(wire, existing, None).await? {
        Err(failure) if options.wait && failure.code == ErrorCode::NoSuchStream => {}
        attached => return Ok(attached?),
    }
    Ok(until_attached(wire, place.attach(options), Some(&Reply::Waiting)).await??)
}

/// Waits until the reader is attached, or refused. If that takes a while, sends `meanwhile`, and
/// ends when the client leaves.
async fn until_attached<T: Transport>(
    wire: &mut Wire<T>,
    attach: impl Future<Output = Result<Reader, Failure>>,
    meanwhile: Option<&Reply>,
) -> Result<Result<Reader, Failure>, Ended> {
    let mut attach = pin!(attach);
    if let Some(attached) = poll_once(attach.as_mut()).await {
        return Ok(attached);
    }
    meanwhile.into_iter().for_each(|reply| wire.put(reply));
    wire.flush().await;
    wire.release();
    tokio::select! {
        biased;
        attached = attach => Ok(attached),
        left = wire.ended() => Err(left.err().unwrap_or(Ended::Gone)),
    }
}

/// Sends the session's pieces as fast as the client takes them.
async fn send<T: Transport>(
    wire: &mut Wire<T>,
    mut follow: Follow<Frames>,
    cutoff: &Cutoff,
) -> Result<(), Ended> {
    wire.flush().await;
    wire.release();
    wire.transport().enlarge_send_buffer(SEND_BUFFER);
    loop {
        let piece = tokio::select! {
            biased;
            piece = poll_fn(|cx| follow.poll_piece(cx)) => piece,
            left = wire.ended() => return Err(left.err().unwrap_or(Ended::Gone)),
        };
        // Frames can express every outcome, so `Frames` never breaks.
        let Some(Ok(piece)) = piece else { return Ok(()) };
        let sent = unless_stuck(cutoff, async {
            if T::KEEPS_BYTES {
                wire.transport().send(piece.into()).await?;
                // The transport may keep a piece for ever after its client has left.
                tokio::select! {
                    biased;
                    () = poll_fn(|cx| follow.poll_clear(cx)) => Ok(()),
                    left = wire.ended() => Err(left.err().unwrap_or(Ended::Gone)),
                }
            } else {
                Ok(wire.send(&piece).await?)
            }
        })
        .await;
        if let Err(ended @ Ended::Stuck) = &sent {
            follow.given_up(ended);
        }
        sent?;
    }
}

/// Sends, but gives up on a client that reads nothing after it was cut off.
async fn unless_stuck(
    cutoff: &Cutoff,
    send: impl Future<Output = Result<(), Ended>>,
) -> Result<(), Ended> {
    tokio::select! {
        biased;
        sent = send => sent,
        () = stuck(cutoff.reached()) => Err(Ended::Stuck),
    }
}

/// Encoder of frames: chunks with their headers, copied once from the ring, and replies.
#[derive(Debug)]
struct Frames {
    bytes: Vec<u8>,
    /// What a link was told besides the contents. `None` for a reader.
    noted: Option<Box<Noted>>,
}

/// What a link was told.
#[derive(Debug)]
struct Noted {
    stream: Stream,
    /// The time of the newest chunk; 0 before the first.
    time: u64,
    writers: Option<Writers>,
}

impl Noted {
    fn new(stream: Stream) -> Self {
        Self { stream, time: 0, writers: None }
    }
}

impl Frames {
    fn put(&mut self, reply: &Reply) {
        let mut encoded = BytesMut::new();
        reply.encode(&mut encoded);
        self.bytes.extend_from_slice(&encoded);
    }
}

impl Sink for Frames {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    fn max_piece(&self) -> usize {
        MAX_PAYLOAD
    }

    fn header_len(&self) -> usize {
        HEADER_LEN
    }

    fn takes_parts(&self) -> bool {
        true
    }

    fn notes_times(&self) -> bool {
        self.noted.is_some()
    }

    fn appended_at(&mut self, micros: u64) {
        let Some(noted) = &mut self.noted else { return };
        let before = std::mem::replace(&mut noted.time, micros);
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(micros));
        if let Some(time) = time.filter(|_| before != micros) {
            self.put(&Reply::AppendedAt(time));
        }
    }

    fn undo_to(&mut self, len: usize) {
        self.bytes.truncate(len);
        if let Some(noted) = &mut self.noted {
            noted.time = 0;
        }
    }

    fn piece(&mut self, len: usize, last: bool) {
        let kind = if last { DataKind::Data } else { DataKind::DataPart };
        put_data_header(&mut self.bytes, kind, len);
    }
}

impl Encoder for Frames {
    const BATCH: usize = usize::MAX;

    fn data(&mut self, position: u64) -> ControlFlow<Result<(), Broken>> {
        if let Some(noted) = &self.noted {
            let head = noted.stream.extent().head;
            // A full buffer must not grow; the next one has room.
            let has_room = self.bytes.capacity().saturating_sub(self.bytes.len()) >= HEAD_LEN;
            if head > position && has_room {
                self.put(&Reply::Head(head));
            }
        }
        ControlFlow::Continue(())
    }

    fn gap(&mut self, gap: Gap) -> Result<(), Broken> {
        let Gap { from, to, chunks } = gap;
        self.put(&Reply::Gap { from, to, chunks });
        Ok(())
    }

    fn caught_up(&mut self, position: u64) {
        let Some(noted) = &mut self.noted else { return };
        // The link is told of the writers when it has all that they have appended.
        let (writers, head) = noted.stream.writers();
        if head == position && noted.writers != Some(writers) {
            noted.writers = Some(writers);
            self.put(&Reply::Writers(writers));
        }
    }

    fn end(&mut self, reason: End, offset: u64) -> Result<(), Broken> {
        self.put(&Reply::End { reason, offset });
        Ok(())
    }

    fn failed(&mut self, failure: &Failure) -> bool {
        self.put(&failure.clone().reply());
        true
    }
}
