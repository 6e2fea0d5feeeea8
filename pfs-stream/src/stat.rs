//! Stats of a stream: collected from its state, its readers and its writers.

use std::time::Duration;

use pfs_proto::{ReaderStat, SlowPolicy, State, StreamStat, StreamSummary, WriterStat};

use crate::{
    clock,
    ring::Status,
    state::{Progress, Shared, overhead},
    sync::{Arc, Ordering, lock},
};

/// The append rate is averaged over this time, or over the history in the ring if that is shorter.
const RATE_WINDOW: Duration = Duration::from_secs(5);

fn state(status: Status) -> State {
    match (status.closed(), status.failed()) {
        (false, _) => State::Open,
        (true, false) => State::Closed,
        (true, true) => State::Failed,
    }
}

pub(crate) fn summary(shared: &Shared) -> StreamSummary {
    let append = shared.look();
    StreamSummary {
        path: shared.name.clone(),
        state: state(append.status),
        created: shared.created,
        last_append: append.last_append().map(clock::time),
        head: append.ring.head().offset,
        tail: append.ring.tail().offset,
        writers: append.status.writers() as u32,
        readers: u32::try_from(shared.reader_count.load(Ordering::Relaxed)).unwrap_or(u32::MAX),
    }
}

pub(crate) fn stat(shared: &Shared) -> StreamStat {
    let now = clock::append_time();
    let append = shared.look();
    let (head, tail) = (append.ring.head(), append.ring.tail());
    let (recent, from) =
        append.ring.appended_since(now.saturating_sub(clock::duration_micros(RATE_WINDOW)));
    let writers: Vec<_> = append
        .writers
        .iter()
        .map(|writer| WriterStat {
            peer: writer.peer,
            since: writer.since,
            bytes: writer.bytes.load(Ordering::Relaxed),
            waiting: writer.waiting.load(Ordering::Relaxed) > 0,
            leased: append.lease.as_ref().is_some_and(|lease| Arc::ptr_eq(&lease.writer, writer)),
        })
        .collect();
    let readers = lock(&shared.readers);
    // Read under the readers lock, under which this sum is written.
    let lost_before = shared.lost_before.load(Ordering::Relaxed);
    let awaited = if writers.iter().any(|writer| writer.waiting) {
        readers
            .iter()
            .filter(|reader| reader.policy() == SlowPolicy::Block)
            .map(|reader| reader.stats.seq())
            .min()
    } else {
        None
    };
    let readers: Vec<_> = readers
        .iter()
        .map(|reader| {
            let Progress { position, lost_bytes, lost_chunks, .. } = reader.progress(head);
            ReaderStat {
                peer: reader.peer,
                since: reader.since,
                start: reader.start,
                position,
                lag: head.offset.saturating_sub(position),
                policy: reader.policy(),
                lost_bytes,
                lost_chunks,
                blocking: reader.policy() == SlowPolicy::Block
                    && awaited == Some(reader.stats.seq()),
                was_block: reader.is_given_up(),
            }
        })
        .collect();
    StreamStat {
        path: shared.name.clone(),
        state: state(append.status),
        created: shared.created,
        last_append: append.last_append().map(clock::time),
        owner: shared.config.owner,
        ring_buffer_size: shared.config.ring_buffer_size,
        channel_buffer_size: shared.config.channel_buffer_size,
        capacity: append.ring.ring().layout().capacity(),
        memory: append.ring.ring().layout().bytes()
            + append.growth.memory()
            + shared.kept()
            + overhead(&shared.name),
        moves: append.growth.moves,
        head: head.offset,
        tail: tail.offset,
        chunks: head.seq,
        chunks_held: head.seq - tail.seq,
        rate: per_second(recent, now.saturating_sub(from)),
        writers_finished: append.finished,
        writers_died: append.status.deaths(),
        lost_bytes: readers
            .iter()
            .fold(lost_before, |sum, reader| sum.saturating_add(reader.lost_bytes)),
        ttl: shared.config.ttl,
        content_type: shared.content_type().map(str::to_owned),
        media: None,
        hops: Vec::new(),
        writers,
        readers,
    }
}

fn per_second(bytes: u64, micros: u64) -> u64 {
    let rate = u128::from(bytes) * 1_000_000 / u128::from(micros.max(1));
    u64::try_from(rate).unwrap_or(u64::MAX)
}
