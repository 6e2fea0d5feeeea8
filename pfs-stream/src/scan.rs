//! Scan: reads the bytes of a stream without attaching a reader, for a host that examines contents.

use std::time::{Duration, SystemTime};

use pfs_proto::{SlowPolicy, Start, Until};

use crate::{
    AttachError, Read, ReadError, Sink, Stream, Writer, ring::RingReader, state::release, sync::Arc,
};

/// One pass over the bytes that a stream holds. A scan has no effect on others: no stats count it,
/// no writer waits for it, and it does not keep the stream from being removed.
///
/// A scan reads one ring. When the stream moves to another ring, the scan ends early, and a new one
/// continues at its [`position`](Self::position).
#[derive(Debug)]
pub struct Scan {
    ring: RingReader,
    is_at_chunk: bool,
}

impl Scan {
    /// The offset that is read next.
    pub fn position(&self) -> u64 {
        self.ring.offset
    }

    /// Whether a chunk begins at the position.
    pub fn is_at_chunk(&self) -> bool {
        self.is_at_chunk
    }

    /// Reads about `max_bytes` to `sink`, or reports a gap. `None` at the head of the ring.
    ///
    /// # Errors
    ///
    /// [`ReadError`]: the stream was removed, or its ring is corrupt.
    pub fn read(
        &mut self,
        sink: &mut impl Sink,
        max_bytes: usize,
    ) -> Result<Option<Read>, ReadError> {
        let read = self.ring.try_read(sink, max_bytes.into())?;
        self.is_at_chunk = self.ring.begun.is_none();
        Ok(read.filter(|read| !matches!(read, Read::End(_))))
    }
}

impl Stream {
    /// Scans from an offset to head. If the offset is below tail, the scan begins with a gap. If
    /// the offset is past head, the scan begins at head.
    ///
    /// # Errors
    ///
    /// [`AttachError::Removed`].
    pub fn scan(&self, from: u64) -> Result<Scan, AttachError> {
        let mut append = self.shared.look();
        if append.status.removed() {
            return Err(AttachError::Removed);
        }
        let head = append.ring.head();
        let start = Start::Offset(from.min(head.offset));
        // Cannot fail: the offset is at most head, which never goes back. A holder that overwrites
        // faster than we look keeps its lease; the scan then begins at head.
        let at = self.find_place(&mut append, start).ok().flatten();
        let at = at.unwrap_or_else(|| append.ring.head());
        let (head, tail) = (append.ring.head(), append.ring.tail());
        let is_at_chunk = append.ring.chunk_at(at.offset).offset == at.offset;
        let ring = RingReader {
            ring: append.ring.ring().clone(),
            seq: at.seq,
            offset: at.offset,
            begun: None,
            missing: (at.offset < tail.offset).then_some(tail.offset),
            policy: SlowPolicy::Drop,
            until: Until::Closed,
            head_at_attach: head.offset,
            deaths_before: append.deaths_before,
            channel_buffer_size: u64::MAX,
            live: false,
            hazard: append.ring.hazard(at.seq),
        };
        release(append, &mut Vec::new(), &self.shared);
        Ok(Scan { ring, is_at_chunk })
    }

    /// Returns the offset where a reader with this start would start reading.
    ///
    /// # Errors
    ///
    /// [`AttachError::PastHead`].
    pub fn locate(&self, start: Start) -> Result<u64, AttachError> {
        let mut append = self.shared.look();
        let at = self.find_place(&mut append, start);
        let head = append.ring.head();
        release(append, &mut Vec::new(), &self.shared);
        Ok(at?.unwrap_or(head).offset)
    }

    /// Returns the offset of the first byte of the chunk at this offset: tail if the offset is below
    /// tail, and head if it is not below head.
    pub fn chunk_at(&self, offset: u64) -> u64 {
        let append = self.shared.look();
        let at = append.ring.chunk_at(offset.max(append.ring.tail().offset));
        if append.is_disturbed(at) { offset } else { at.offset }
    }

    /// Returns the offset of the first chunk that begins at this offset or later; head if there is
    /// none.
    pub fn next_chunk(&self, offset: u64) -> u64 {
        let append = self.shared.look();
        let at = append.ring.chunk_at(offset.max(append.ring.tail().offset));
        let next = if at.offset < offset && at.seq < append.ring.head().seq {
            append.ring.position(at.seq + 1)
        } else {
            at
        };
        if append.is_disturbed(next) { append.ring.head().offset } else { next.offset }
    }

    /// When the chunk at this offset was appended. `None` if the ring does not hold it.
    pub fn appended_at(&self, offset: u64) -> Option<SystemTime> {
        let append = self.shared.look();
        let (tail, head) = (append.ring.tail(), append.ring.head());
        let is_held = (tail.offset..head.offset).contains(&offset);
        let micros = is_held.then(|| append.ring.time_of(append.ring.chunk_at(offset).seq))?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(micros))
    }

    /// Returns the offset of the first byte of chunk `seq`. `None` if the ring does not hold that
    /// chunk.
    pub fn start_of(&self, seq: u64) -> Option<u64> {
        let append = self.shared.look();
        let (tail, head) = (append.ring.tail(), append.ring.head());
        let at = (tail.seq..head.seq).contains(&seq).then(|| append.ring.position(seq))?;
        (!append.is_disturbed(at)).then_some(at.offset)
    }

    /// Accounts for memory that a host keeps for this stream: `bytes` in all. It comes out of the
    /// budgets of the stream's ring, and is given back when the stream is removed. Returns false,
    /// and accounts for nothing, if a budget has not that much left or the stream is removed.
    #[must_use]
    pub fn keep(&self, bytes: u64) -> bool {
        self.shared.keep(bytes)
    }
}

impl Writer {
    /// The stream to which this writer appends.
    pub fn stream(&self) -> Stream {
        Stream { shared: Arc::clone(&self.shared) }
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used, reason = "a panic fails the test")]
mod tests {
    use super::*;
    use crate::StreamConfig;

    fn stream() -> Stream {
        let config = StreamConfig::default().ring_buffer_size(4096).channel_buffer_size(4096);
        Stream::new("s", config).unwrap()
    }

    #[test]
    fn a_scan_reads_to_head_and_ends_there_although_the_stream_is_open() {
        let stream = stream();
        let mut writer = stream.writer().unwrap();
        writer.try_append(b"hello ").unwrap();
        writer.try_append(b"world").unwrap();
        let mut bytes = Vec::new();
        let mut scan = stream.scan(6).unwrap();
        assert!(scan.is_at_chunk());
        scan.read(&mut bytes, 4096).unwrap();
        assert_eq!((bytes.as_slice(), scan.position()), (&b"world"[..], 11));
        assert_eq!(scan.read(&mut bytes, 4096), Ok(None));
        stream.close();
        assert_eq!(scan.read(&mut bytes, 4096), Ok(None));
        assert!(!stream.scan(7).unwrap().is_at_chunk());
        assert_eq!(stream.scan(u64::MAX).unwrap().position(), 11);
        assert_eq!((stream.readers(), stream.stat().readers.len()), (0, 0));
        stream.remove();
        assert_eq!(scan.read(&mut bytes, 4096), Err(ReadError::Removed));
        assert_eq!(stream.scan(0).unwrap_err(), AttachError::Removed);
    }

    #[test]
    fn a_scan_that_begins_below_tail_reports_what_is_gone() {
        let stream = stream();
        let mut writer = stream.writer().unwrap();
        for _ in 0..10 {
            writer.try_append(&[1; 1000]).unwrap();
        }
        let mut scan = stream.scan(0).unwrap();
        let tail = stream.extent().tail;
        let gap = scan.read(&mut Vec::new(), 4096).unwrap();
        assert_eq!(gap, Some(Read::Gap { from: 0, to: tail, chunks: 0 }));
        assert_eq!(scan.position(), tail);
    }

    #[test]
    fn a_scan_continues_in_the_next_ring_after_a_move() {
        let stream = stream();
        let mut writer = stream.writer().unwrap();
        writer.try_append(&[1; 100]).unwrap();
        let mut scan = stream.scan(0).unwrap();
        // The first ring is smaller than these chunks.
        for _ in 0..3 {
            writer.try_append(&[2; 1000]).unwrap();
        }
        let mut bytes = Vec::new();
        while scan.position() < 3100 {
            if scan.read(&mut bytes, 4096).unwrap().is_none() {
                scan = stream.scan(scan.position()).unwrap();
            }
        }
        assert_eq!(bytes.len(), 3100);
    }
}
