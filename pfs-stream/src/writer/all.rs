//! Several chunks as one append: all of them or none.

use std::future::poll_fn;

use super::{Appended, Waiting, Writer, room};
use crate::{AppendError, clock, sync::Ordering};

impl Writer {
    /// Appends all of these chunks, one after the other and with nothing of anybody else between them, or none of them.
    /// Wakes the readers that sleep; waits while a `block` reader needs the room. Together they may be as large as one
    /// chunk may be. Empty ones change nothing.
    ///
    /// Cancel safe: dropped before it is done, it has appended nothing.
    ///
    /// # Errors
    ///
    /// [`AppendError`]; nothing is in the stream then.
    pub async fn append_all<C: AsRef<[u8]>>(&mut self, chunks: &[C]) -> Result<Appended, AppendError> {
        if let Some(appended) = self.try_append_all(chunks)? {
            return Ok(appended);
        }
        let mut waiting = Waiting::new(self);
        poll_fn(|cx| waiting.poll(cx, || self.try_append_all(chunks).transpose())).await
    }

    /// As [`append_all`](Self::append_all), but does not wait: `None` if a `block` reader still needs the room.
    ///
    /// # Errors
    ///
    /// As [`append_all`](Self::append_all).
    pub fn try_append_all<C: AsRef<[u8]>>(&mut self, chunks: &[C]) -> Result<Option<Appended>, AppendError> {
        let chunks = || chunks.iter().map(AsRef::as_ref).filter(|chunk| !chunk.is_empty());
        let size = self.shared.config.total(chunks())?;
        let now = clock::of_append();
        let mut append = self.shared.appending()?;
        let tail = append.ring.tail_after(size as u64, chunks().count());
        if !append.has_room_up_to(tail.seq, &self.shared) {
            self.state.needs_room(&append);
            drop(append);
            self.wake();
            return Ok(None);
        }
        for chunk in chunks() {
            // There is room: tail moves no further than it was just allowed to.
            let _ = append.put(&chunk, now, &self.shared, &mut self.gone);
            self.unannounced = true;
        }
        let offset = room::release(append, &mut self.gone);
        self.state.count(size as u64);
        self.wake();
        Ok(Some(Appended { offset, readers: self.shared.reader_count.load(Ordering::Relaxed) }))
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use pfs_proto::{Peer, ReadOptions, SlowPolicy};

    use crate::{AppendError, Read, Stream, StreamConfig};

    fn stream() -> Stream {
        let config = StreamConfig { ring_buffer_size: 4096, channel_buffer_size: 4096, ..Default::default() };
        Stream::new("s", config).unwrap()
    }

    #[test]
    fn all_chunks_are_there_and_each_is_one() {
        let stream = stream();
        let mut writer = stream.writer(Peer::default()).unwrap();
        let appended = writer.try_append_all(&["one", "", "two"]).unwrap().unwrap();
        assert_eq!(appended.offset, 6);
        let mut reader = stream.reader(ReadOptions::default(), Peer::default()).unwrap();
        let mut bytes = Vec::new();
        assert_eq!(reader.try_read(&mut bytes, 4096), Ok(Some(Read::Data { chunks: 2, bytes: 6 })));
        assert_eq!(bytes, b"onetwo");
    }

    #[test]
    fn what_does_not_fit_leaves_nothing_behind() {
        let stream = stream();
        let mut writer = stream.writer(Peer::default()).unwrap();
        let half = vec![1; 2049];
        assert_eq!(
            writer.try_append_all(&[&half, &half]),
            Err(AppendError::TooLarge { size: 4098, max: 4096 })
        );
        let many = vec!["x"; 1024];
        assert_eq!(writer.try_append_all(&many), Err(AppendError::TooMany { count: 1024, max: 1023 }));
        assert_eq!(stream.extent().head, 0);
        assert!(writer.try_append_all(&many[1..]).unwrap().is_some());
    }

    #[test]
    fn a_reader_that_blocks_is_waited_for_by_all_chunks_together() {
        let stream = stream();
        let options = ReadOptions { policy: SlowPolicy::Block, ..Default::default() };
        let mut reader = stream.reader(options, Peer::default()).unwrap();
        let mut writer = stream.writer(Peer::default()).unwrap();
        writer.try_append(&[1; 3000]).unwrap().unwrap();
        assert_eq!(writer.try_append_all(&[&[2; 1000], &[3; 1000]]), Ok(None));
        assert_eq!(stream.extent().head, 3000, "the first of the two would have had room");
        reader.try_read(&mut Vec::new(), 4096).unwrap();
        assert_eq!(writer.try_append_all(&[&[2; 1000], &[3; 1000]]).unwrap().unwrap().offset, 5000);
    }
}
