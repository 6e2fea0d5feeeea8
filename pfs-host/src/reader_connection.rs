//! A reader's connection: a stream goes out, nothing comes in.

use std::{future::poll_fn, mem};

use bytes::BytesMut;
use pfs_proto::{DataKind, End, MAX_PAYLOAD, ReadOptions, Reply, StreamPath, put_data_header};
use pfs_stream::{Read, Reader, Sink};
use tokio::task::coop::consume_budget;

use crate::{
    client::Client,
    daemon::Daemon,
    failure::{Ended, Failure},
    gap_log::GapLog,
    lender::Lender,
    sharing::{self, Handout},
    shutdown::Going,
    transport::Transport,
    wire::{Wire, unexpected},
};

/// How much is read from the ring at a time, about, in bytes: enough for few turns, and so little that it stays in the processor's
/// cache until the kernel has copied it.
const BATCH: usize = 512 << 10;

/// How much the kernel may hold for a reader, in bytes, where the system allows it: the more, the seldomer both sides wake
/// each other.
const SEND_BUFFER: usize = 1 << 20;

/// Serves a reader to its end.
pub(crate) async fn serve<T: Transport>(
    wire: &mut Wire<T>,
    daemon: &Daemon,
    client: &Client,
    path: StreamPath,
    options: ReadOptions,
    going: &mut Going,
) -> Result<(), Ended> {
    if !wire.input_is_empty() {
        return Err(unexpected());
    }
    let reader = attach(wire, daemon, client, &path, options, going).await?;
    let (stream, start) = (path.as_str(), reader.start());
    let policy = format!("{:?}", options.policy).to_lowercase();
    let mapped = wire.sharing;
    client.log(|pid, uid| tracing::info!(stream, pid, uid, start, policy, mapped, "reader joined"));
    let announce = [
        Some(Reply::Identity {
            daemon: daemon.started(),
            stream: reader.stream_number(),
            deaths_before: reader.deaths_before(),
        })
        .filter(|_| wire.resuming),
        Some(Reply::Reading {
            start,
            head: reader.head_at_attach(),
            content_type: reader.content_type().map(str::to_owned),
        }),
    ];
    let announce = |wire: &mut Wire<T>| announce.iter().flatten().for_each(|reply| wire.put(reply));
    let reader = match if wire.sharing { sharing::hand_out(wire, reader).await? } else { Err(reader) } {
        Err(reader) => {
            announce(wire);
            reader
        }
        Ok(handout) => {
            announce(wire);
            if let Err(ended) = sharing::attend(wire, &handout, going).await {
                log_left(client, stream, &handout, &ended);
                return Err(ended);
            }
            // It cannot map what it was handed, and has read nothing.
            handout.take_back()
        }
    };
    let mut reading = Reading { wire, reader, gaps: GapLog::default(), lender: &daemon.lender };
    let outcome = reading.follow(client, &path, going).await;
    let Reading { reader, mut gaps, .. } = reading;
    gaps.finish(client, stream);
    let (lost_bytes, lost_chunks, position) = (reader.lost_bytes(), reader.lost_chunks(), reader.position());
    // What it read, although the last of it may still have been on its way when the client left.
    let bytes = position.saturating_sub(start).saturating_sub(lost_bytes);
    let reason = match &outcome {
        Ok(End::Closed) => "the stream is closed",
        Ok(End::CaughtUp) => "it caught up",
        Ok(End::WritersGone) => "all writers finished",
        Ok(End::WriterDied) => "a writer died",
        Err(ended) => ended.reason(),
    };
    client.log(|pid, uid| {
        tracing::info!(stream, pid, uid, position, bytes, lost_bytes, lost_chunks, reason, "reader left");
    });
    outcome.map(|_| ())
}

/// Logs what a reader says of itself that read the ring: its gaps are seen when it has gone.
fn log_left(client: &Client, stream: &str, reader: &Handout, ended: &Ended) {
    let (position, lost_bytes, lost_chunks) = (reader.position(), reader.lost_bytes(), reader.lost_chunks());
    let reason = ended.reason();
    client.log(|pid, uid| {
        if lost_bytes > 0 {
            tracing::warn!(stream, pid, uid, lost_bytes, lost_chunks, "reader lost data, in gaps");
        }
        tracing::info!(stream, pid, uid, position, lost_bytes, lost_chunks, reason, "reader left");
    });
}

/// Attaches to the stream, waiting for its creation if that is wanted.
async fn attach<T: Transport>(
    wire: &mut Wire<T>,
    daemon: &Daemon,
    client: &Client,
    path: &StreamPath,
    options: ReadOptions,
    going: &mut Going,
) -> Result<Reader, Ended> {
    daemon.namespace.stream(path)?;
    let attached = if options.wait {
        let pending = daemon.reader_when_created(path, options, client.peer);
        if pending.is_waiting() {
            wire.put(&Reply::Waiting);
            wire.flush().await?;
            wire.release();
            client.log(|pid, uid| {
                tracing::debug!(
                    stream = path.as_str(),
                    pid,
                    uid,
                    "reader waits for the stream to be created"
                );
            });
        }
        tokio::select! {
            attached = pending => attached,
            left = wire.ended() => return Err(left.err().unwrap_or(Ended::Gone)),
            () = going.begun() => return Err(Failure::going_away().into()),
        }
    } else {
        daemon.existing(path)?.reader(options, client.peer)
    };
    Ok(attached.map_err(|error| Failure::attaching("cannot read", path, error))?)
}

/// A reader at work.
struct Reading<'a, T> {
    wire: &'a mut Wire<T>,
    reader: Reader,
    gaps: GapLog,
    lender: &'a Lender,
}

impl<T: Transport> Reading<'_, T> {
    async fn follow(&mut self, client: &Client, path: &StreamPath, going: &mut Going) -> Result<End, Ended> {
        let Self { wire, reader, gaps, lender } = self;
        wire.flush().await?;
        wire.release();
        let mut frames = Frames { bytes: Vec::new(), lender };
        wire.transport().enlarge_send_buffer(SEND_BUFFER);
        loop {
            if going.has_begun() {
                return Err(Failure::going_away().into());
            }
            frames.borrow();
            let read = match reader.try_read(&mut frames, BATCH) {
                Ok(None) => {
                    // The buffer is its own only while there is something to send.
                    let read = poll_fn(|cx| {
                        frames.borrow();
                        let read = reader.poll_read(cx, &mut frames, BATCH);
                        if read.is_pending() {
                            frames.give_back();
                        }
                        read
                    });
                    tokio::select! {
                        read = read => read,
                        left = wire.ended() => return Err(left.err().unwrap_or(Ended::Gone)),
                        () = going.begun() => return Err(Failure::going_away().into()),
                    }
                }
                Ok(Some(read)) => Ok(read),
                Err(error) => Err(error),
            };
            let end = match read.map_err(|error| Failure::reading(path, error))? {
                Read::Data { .. } => None,
                Read::Gap { from, to, chunks } => {
                    gaps.gap(client, path.as_str(), from, to, chunks);
                    frames.put(&Reply::Gap { from, to, chunks });
                    None
                }
                // A daemon that goes cuts its writers, which is no death of theirs.
                Read::End(End::WriterDied) if going.has_begun() => return Err(Failure::going_away().into()),
                Read::End(reason) => {
                    frames.put(&Reply::End { reason, offset: reader.position() });
                    Some(reason)
                }
            };
            tokio::select! {
                biased;
                sent = wire.send(&frames.bytes) => sent?,
                () = going.patience() => return Err(Ended::Stuck),
            }
            if let Some(reason) = end {
                return Ok(reason);
            }
            frames.give_back();
            consume_budget().await;
        }
    }
}

/// Chunks as they go out, each with its header, one copy from the ring.
#[derive(Debug)]
struct Frames<'a> {
    bytes: Vec<u8>,
    lender: &'a Lender,
}

impl Frames<'_> {
    fn put(&mut self, reply: &Reply) {
        let mut encoded = BytesMut::new();
        reply.encode(&mut encoded);
        self.bytes.extend_from_slice(&encoded);
    }

    /// Has a buffer, if there is one to be had.
    fn borrow(&mut self) {
        if self.bytes.capacity() == 0 {
            self.bytes = self.lender.buffer();
        }
    }

    /// Is empty, and leaves its buffer to the next reader, who finds it in the processor's cache.
    fn give_back(&mut self) {
        self.lender.give_back(mem::take(&mut self.bytes));
    }
}

impl Sink for Frames<'_> {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    fn max_piece(&self) -> usize {
        MAX_PAYLOAD
    }

    fn piece(&mut self, len: usize, last: bool) {
        let kind = if last { DataKind::Data } else { DataKind::DataPart };
        put_data_header(&mut self.bytes, kind, len);
    }
}
