//! Writer methods for hosts, which append on behalf of clients: several chunks with one wake-up,
//! atomic batches, and explicit departure.

use std::future::poll_fn;

use super::{Appended, Departure, Waiting, Writer};
use crate::{
    Chunk, WriteError, clock,
    ring::{Given, Status},
    state::{refusal, refuse, release},
    sync::Ordering,
};

impl Writer {
    /// Like [`append`](Self::append), but does not wake sleeping readers; [`wake`](Self::wake)
    /// does. Several chunks that are available at once need only one wake-up.
    ///
    /// # Errors
    ///
    /// [`WriteError`]. Nothing of the chunk is in the stream then.
    ///
    /// # Cancel safety
    ///
    /// A future dropped before it completes has appended nothing.
    pub async fn push(&mut self, chunk: impl Chunk) -> Result<Appended, WriteError> {
        self.push_given(Given::new(&chunk)).await
    }

    /// Wakes sleeping readers if something was pushed since the last call.
    pub fn wake(&mut self) {
        self.wake_readers();
    }

    /// Waits until `block` readers have made room for a good part of the ring buffer, if any of
    /// them holds up this writer. One long wait is cheaper than many waits for little room. With
    /// slow readers this can take long, so set a short timeout.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn much_room(&mut self) {
        let mut waiting = Waiting::new(&self.shared, &self.state);
        poll_fn(|cx| {
            waiting.poll(cx, || {
                let mut append = self.shared.look();
                if refusal(append.status).is_some() {
                    return Some(());
                }
                let tail = append.ring.tail_after_much();
                append.may_overwrite(tail, &self.shared).then_some(())
            })
        })
        .await;
    }

    /// Sets what dropping this writer means. Initially [`Departure::Died`].
    pub fn depart_as(&mut self, departure: Departure) {
        self.departure = departure;
    }

    /// Closes the stream for all writers. This writer stays attached.
    pub fn close(&mut self) {
        self.shared.set_status(Status::close);
    }

    /// Closes the stream as failed, unless it is closed already. This writer stays attached.
    pub fn close_failed(&mut self) {
        self.shared.set_status(Status::close_failed);
    }

    /// Appends a batch atomically: all chunks in order with no other writer's chunk between them,
    /// or none of them. Wakes sleeping readers. Waits while a `block` reader needs the room. The
    /// total size is limited to that of one chunk. Empty chunks change nothing.
    ///
    /// # Errors
    ///
    /// [`WriteError`]. Nothing of the batch is in the stream then.
    ///
    /// # Cancel safety
    ///
    /// A future dropped before it completes has appended nothing.
    pub async fn append_all<C: AsRef<[u8]>>(
        &mut self,
        chunks: &[C],
    ) -> Result<Appended, WriteError> {
        if let Some(appended) = self.try_append_all(chunks)? {
            return Ok(appended);
        }
        let mut waiting = Waiting::new(&self.shared, &self.state);
        poll_fn(|cx| waiting.poll(cx, || self.try_append_all(chunks).transpose())).await
    }

    /// Like [`append_all`](Self::append_all), but does not wait: `None` if a `block` reader still
    /// needs the room.
    ///
    /// # Errors
    ///
    /// [`WriteError`]. Nothing of the batch is in the stream then.
    pub fn try_append_all<C: AsRef<[u8]>>(
        &mut self,
        chunks: &[C],
    ) -> Result<Option<Appended>, WriteError> {
        let chunks = || chunks.iter().map(AsRef::as_ref).filter(|chunk| !chunk.is_empty());
        let size = self.shared.config.total(chunks())?;
        let now = clock::append_time();
        let mut append = self.shared.appending()?;
        let count = chunks().count();
        let is_ready = match append.grow_for(size as u64, count, &self.shared) {
            Ok(is_ready) => is_ready,
            Err(error) => return Err(refuse(append, error, &self.shared)),
        };
        let tail = append.ring.tail_after(size as u64, count);
        if !is_ready || !append.has_room_up_to(tail.seq, &self.shared) {
            self.state.needs_room(append, &self.shared);
            self.wake_readers();
            return Ok(None);
        }
        for chunk in chunks() {
            // Cannot fail: `grow_for` has provided the memory, and tail moves no further than
            // `has_room_up_to` has just allowed.
            let _ = append.put(&Given::new(&chunk), now, &self.shared, &mut self.gone);
        }
        let offset = release(append, &mut self.gone, &self.shared);
        if size > 0 {
            (self.unannounced, self.offset) = (true, offset);
            self.shared.renew();
        }
        self.state.count(size as u64);
        self.wake_readers();
        Ok(Some(Appended { offset, readers: self.shared.reader_count.load(Ordering::Relaxed) }))
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used, reason = "a panic fails the test")]
mod tests {
    use pfs_proto::{ReadOptions, SlowPolicy};

    use crate::{Read, Stream, StreamConfig, WriteError};

    fn stream() -> Stream {
        let config = StreamConfig {
            ring_buffer_size: 4096,
            channel_buffer_size: 4096,
            ..Default::default()
        };
        Stream::new("s", config).unwrap()
    }

    #[test]
    fn a_batch_keeps_its_chunks_separate() {
        let stream = stream();
        let mut writer = stream.writer().unwrap();
        let appended = writer.try_append_all(&["one", "", "two"]).unwrap().unwrap();
        assert_eq!(appended.offset, 6);
        let mut reader = stream.reader(ReadOptions::default()).unwrap();
        let mut bytes = Vec::new();
        assert_eq!(reader.try_read(&mut bytes, 4096), Ok(Some(Read::Data { chunks: 2, bytes: 6 })));
        assert_eq!(bytes, b"onetwo");
    }

    #[test]
    fn a_refused_batch_leaves_nothing_in_the_stream() {
        let stream = stream();
        let mut writer = stream.writer().unwrap();
        let half = vec![1; 2049];
        assert_eq!(
            writer.try_append_all(&[&half, &half]),
            Err(WriteError::TooLarge { size: 4098, max: 4096 })
        );
        let many = vec!["x"; 1024];
        assert_eq!(
            writer.try_append_all(&many),
            Err(WriteError::TooMany { count: 1024, max: 1023 })
        );
        assert_eq!(stream.extent().head, 0);
        assert!(writer.try_append_all(&many[1..]).unwrap().is_some());
    }

    #[test]
    fn a_batch_waits_until_a_block_reader_has_made_room_for_all_of_it() {
        let stream = stream();
        let options = ReadOptions { policy: SlowPolicy::Block, ..Default::default() };
        let mut reader = stream.reader(options).unwrap();
        let mut writer = stream.writer().unwrap();
        writer.try_append(&[1; 3000]).unwrap();
        assert_eq!(writer.try_append_all(&[&[2; 1000], &[3; 1000]]), Ok(None));
        assert_eq!(stream.extent().head, 3000, "the first of the two chunks has room alone");
        reader.try_read(&mut Vec::new(), 4096).unwrap();
        assert_eq!(writer.try_append_all(&[&[2; 1000], &[3; 1000]]).unwrap().unwrap().offset, 5000);
    }
}
