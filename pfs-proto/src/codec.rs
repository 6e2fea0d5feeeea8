//! Cuts a byte stream into frames.

use bytes::{Buf, BufMut, BytesMut};

use crate::{Frame, FrameError, HEADER_LEN, MAX_PAYLOAD};

/// What [`Decoder::buffer`] makes room for at least; with what is left out for the alignment it is
/// 16 KiB.
const READ_BYTES: usize = (16 * 1024) - ALIGNMENT;

/// What it makes room for at most on the word of a header: memory is for bytes that came, not for
/// promises.
const MAX_READ_BYTES: usize = 256 * 1024;

/// Where a read begins that finds the buffer empty, in bytes of the address. What `malloc` gives
/// begins 16 bytes behind the beginning of a page, where the kernel's own buffers begin, and to a
/// place a few bytes further in its page than their source some processors copy long runs of bytes
/// many times slower.
const ALIGNMENT: usize = 64;

/// Takes bytes as they come and gives frames as they are complete.
///
/// Append what was read to [`buffer`](Self::buffer), then call [`next_frame`](Self::next_frame)
/// until it says `Ok(None)`. Used like this it never holds more than one incomplete frame and the
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
    /// A decoder that holds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the bytes that were read are appended, with room for nearly 16 KiB at least, and more
    /// when a large frame is under way.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.buffer_for(READ_BYTES)
    }

    /// As [`buffer`](Self::buffer), with room for a read of so many bytes at least.
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

    /// The next frame, or `Ok(None)` until all its bytes are here.
    ///
    /// # Errors
    ///
    /// When the header claims more than [`MAX_PAYLOAD`] bytes, as soon as the header is here. Where
    /// the next frame begins is then unknown, so the decoder drops what it holds and fails from
    /// then on.
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

    /// Whether no part of a frame is waiting for the rest of it: where a peer may properly end.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// How many bytes it holds.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Gives back its memory if it holds nothing: for connections that are about to wait for long.
    pub fn release(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            self.buffer = BytesMut::new();
        }
    }

    /// How many bytes the frame at the front still needs, 0 if that is not known.
    fn missing(&self) -> usize {
        match self.header() {
            Some((len, _)) => HEADER_LEN.saturating_add(len).saturating_sub(self.buffer.len()),
            None => 0,
        }
    }

    /// Length and kind of the frame at the front, once its header is here.
    fn header(&self) -> Option<(usize, u8)> {
        let &[a, b, c, d, kind] = self.buffer.first_chunk::<HEADER_LEN>()?;
        let len = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        Some((len, kind))
    }
}
