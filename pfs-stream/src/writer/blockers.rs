//! Timeout support for `block` readers: writers give up the slowest reader instead of waiting on.

use pfs_proto::{Peer, SlowPolicy};

use super::Writer;
use crate::{
    state::{Shared, WriterState},
    sync::{Arc, Ordering, lock},
};

/// The `block` readers that a writer may have to wait for. A host bounds that wait with its own
/// timer; the engine has none.
#[derive(Clone, Debug)]
pub struct Blockers {
    shared: Arc<Shared>,
    writer: Arc<WriterState>,
}

/// A reader that writers no longer wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GivenUp {
    /// The peer that the reader belongs to.
    pub peer: Peer,
    /// The offset that the reader reads next.
    pub position: u64,
    /// Head minus `position`.
    pub lag: u64,
}

impl Writer {
    /// The `block` readers that this writer may have to wait for.
    pub fn blockers(&self) -> Blockers {
        Blockers::new(&self.shared, &self.state)
    }
}

impl Blockers {
    pub(crate) fn new(shared: &Arc<Shared>, writer: &Arc<WriterState>) -> Self {
        Self { shared: Arc::clone(shared), writer: Arc::clone(writer) }
    }

    /// Turns the slowest `block` reader that keeps the writer waiting now into a `drop` reader. The
    /// writer goes on unless another reader is in its way; the given-up reader gets a gap for the
    /// data that it loses from then on. `None` if the writer waits for no reader.
    pub fn give_up_slowest(&self) -> Option<GivenUp> {
        let Self { shared, writer } = self;
        let append = lock(&shared.append);
        let readers = lock(&shared.readers);
        let blocking = readers.iter().filter(|reader| reader.policy() == SlowPolicy::Block);
        let slowest = blocking.min_by_key(|reader| reader.stats.seq())?;
        let waits = writer.waiting.load(Ordering::Relaxed) > 0;
        if !waits || slowest.stats.seq() >= writer.needs.load(Ordering::Relaxed) {
            return None;
        }
        slowest.give_up();
        let position = slowest.stats.offset();
        let lag = append.ring.head().offset.saturating_sub(position);
        let given_up = GivenUp { peer: slowest.peer, position, lag };
        drop(readers);
        drop(append);
        shared.gone.add_given_up();
        shared.room.wake_all();
        Some(given_up)
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used, reason = "a panic fails the test")]
mod tests {
    use std::{
        future::Future as _,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use pfs_proto::ReadOptions;

    use super::*;
    use crate::{Stream, StreamConfig, WriteError};

    #[test]
    fn only_a_block_reader_that_the_writer_waits_for_is_given_up() {
        let sizes = StreamConfig {
            ring_buffer_size: 4096,
            channel_buffer_size: 4096,
            ..StreamConfig::default()
        };
        let stream = Stream::new("s", sizes).unwrap();
        let reader = |policy| {
            let options = ReadOptions { policy, ..ReadOptions::default() };
            stream.reader(options).unwrap()
        };
        let (_slow, mut faster, _drop) =
            (reader(SlowPolicy::Block), reader(SlowPolicy::Block), reader(SlowPolicy::Drop));
        let mut writer = stream.writer().unwrap();
        let blockers = writer.blockers();
        for _ in 0..4 {
            writer.try_append(&[1; 1000]).unwrap();
        }
        assert_eq!(writer.try_append(&[2; 1000]), Err(WriteError::Full));
        assert_eq!(blockers.give_up_slowest(), None, "the writer does not wait");
        faster.try_read(&mut Vec::new(), 1).unwrap();

        let mut cx = Context::from_waker(Waker::noop());
        let mut append = pin!(writer.append(&[2; 1000]));
        assert!(append.as_mut().poll(&mut cx).is_pending());
        let given_up = blockers.give_up_slowest();
        assert_eq!(given_up, Some(GivenUp { peer: Peer::default(), position: 0, lag: 4000 }));
        assert_eq!(
            blockers.give_up_slowest(),
            None,
            "the other reader has made room for this chunk"
        );
        assert!(matches!(append.as_mut().poll(&mut cx), Poll::Ready(Ok(_))));
        let readers = stream.stat().readers;
        let policies: Vec<_> =
            readers.iter().map(|reader| (reader.policy, reader.was_block)).collect();
        let (given_up, drop) = ((SlowPolicy::Drop, true), (SlowPolicy::Drop, false));
        assert_eq!(policies, [given_up, (SlowPolicy::Block, false), drop]);
    }
}
