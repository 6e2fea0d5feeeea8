//! Frame decoder: cuts a byte stream into frames.

use bytes::{Buf, BufMut, BytesMut};

use crate::{Frame, FrameError, HEADER_LEN, MAX_PAYLOAD};

/// The least room in bytes that [`Decoder::buffer`] makes for a read; with [`ALIGNMENT`], 16 KiB.
const READ_BYTES: usize = (16 * 1024) - ALIGNMENT;

/// The most room that [`Decoder::buffer`] makes because a header announces a large frame. The bound
/// prevents a peer from claiming memory with a header alone.
const MAX_READ_BYTES: usize = 256 * 1024;

/// Alignment in bytes of a read into an empty buffer. `malloc` returns addresses 16 bytes after the
/// start of a page, while the kernel's own buffers start at the page. Some processors copy long
/// runs many times more slowly if the target is a few bytes further into its page than the source.
const ALIGNMENT: usize = 64;

/// Frame decoder: accepts bytes in any portions and yields complete frames.
///
/// Append received bytes to [`buffer`](Self::buffer), then call [`next_frame`](Self::next_frame)
/// until it returns `Ok(None)`. The decoder then never holds more than one incomplete frame and the
/// last read.
///
/// ```
/// use pfs_proto::{Decoder, Request};
///
/// let mut wire = bytes::BytesMut::new();
/// Request::Info.encode(&mut wire);
///
/// let mut decoder = Decoder::new();
/// decoder.buffer().extend_from_slice(&wire[..3]);
/// assert_eq!(decoder.next_frame(), Ok(None));
/// decoder.buffer().extend_from_slice(&wire[3..]);
/// let frame = decoder.next_frame().unwrap().unwrap();
/// assert_eq!(Request::decode(frame), Ok(Request::Info));
/// assert!(decoder.is_empty());
/// ```
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    failed: Option<FrameError>,
}

impl Decoder {
    /// Creates an empty decoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the buffer to append received bytes to, with room for at least 16 KiB less 64 bytes,
    /// and for more while a large frame is incomplete.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.buffer_for(READ_BYTES)
    }

    /// Like [`buffer`](Self::buffer), but with room for a read of at least `size` bytes.
    pub fn buffer_for(&mut self, size: usize) -> &mut BytesMut {
        let size = size.max(self.missing().clamp(READ_BYTES, MAX_READ_BYTES));
        self.buffer.reserve(size.saturating_add(ALIGNMENT));
        if self.buffer.is_empty() {
            let skip = self.buffer.spare_capacity_mut().as_ptr().align_offset(ALIGNMENT);
            self.buffer.put_bytes(0, skip);
            self.buffer.advance(skip);
        }
        &mut self.buffer
    }

    /// Returns the next frame, or `Ok(None)` if its bytes are not complete.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooLong`] if a header claims more than [`MAX_PAYLOAD`] bytes, as soon as the
    /// header is complete. The start of the next frame is then unknown, so the decoder drops its
    /// bytes and returns the same error from then on.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let Some((len, kind)) = self.header() else {
            return Ok(None);
        };
        if len > MAX_PAYLOAD {
            let error = FrameError::TooLong { len: len as u64 };
            self.failed = Some(error);
            self.buffer = BytesMut::new();
            return Err(error);
        }
        if self.buffer.len() < HEADER_LEN + len {
            return Ok(None);
        }
        self.buffer.advance(HEADER_LEN);
        let payload = self.buffer.split_to(len).freeze();
        Ok(Some(Frame { kind, payload }))
    }

    /// Returns true if no incomplete frame is buffered: the peer may end the byte stream here.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Returns the number of buffered bytes.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Frees the memory of an empty buffer, for connections that are about to wait for a long time.
    pub fn release(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            self.buffer = BytesMut::new();
        }
    }

    /// Returns the number of bytes that the first frame still needs, or 0 if its length is unknown.
    fn missing(&self) -> usize {
        match self.header() {
            Some((len, _)) => HEADER_LEN.saturating_add(len).saturating_sub(self.buffer.len()),
            None => 0,
        }
    }

    /// Returns the length and kind of the first frame if its header is complete.
    fn header(&self) -> Option<(usize, u8)> {
        let &[a, b, c, d, kind] = self.buffer.first_chunk::<HEADER_LEN>()?;
        let len = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        Some((len, kind))
    }
}
