//! The indexer: cuts the bytes of a stream into what a parser asks for.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use crate::{
    Format, annex_b::AnnexB, flac::Flac, flv::Flv, frames::Frames, jpeg::Jpeg, matroska::Matroska,
    mp4::Mp4, mpeg_ts::MpegTs, ogg::Ogg, wav::Wav, y4m::Y4m,
};

/// The largest header that is kept, in bytes.
pub const MAX_HEADER_BYTES: usize = 1024 * 1024;

/// The most bytes that a parser may ask for at once. A unit that is needed whole, such as the
/// `moov` box, is a part of the header.
const MAX_WINDOW_BYTES: usize = MAX_HEADER_BYTES;

/// Memory that is kept for the bytes of the next call, in bytes.
const MAX_IDLE_BYTES: usize = 4096;

/// A fact about a stream that a late joiner needs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mark {
    /// The header: bytes that a decoder needs before anything else. It replaces the header before
    /// it, and applies to every sync point that is reported after it.
    Header(Bytes),
    /// A sync point: a decoder that was given the header can start at this offset.
    Sync(u64),
    /// Sync points at equal distances, until the next header: the first offset, and the distance in
    /// bytes.
    SyncEvery(u64, u64),
}

/// Why a stream cannot be indexed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The bytes are not of the format.
    #[error("the bytes are not {0}")]
    Malformed(Format),
    /// A header is larger than [`MAX_HEADER_BYTES`].
    #[error("the header is larger than {MAX_HEADER_BYTES} bytes")]
    HeaderTooLarge,
}

/// What a parser does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Goes on after so many bytes, at least one. They need not have arrived yet.
    Skip(u64),
    /// Needs so many bytes, more than it was given.
    Need(usize),
}

/// The bytes do not fit the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

pub(crate) type Parsed = Result<Step, Malformed>;

/// A parser of one format: a state machine that is given a window of the stream.
pub(crate) trait Parse: Send {
    /// Looks at the bytes that begin at offset `at`, at least one, and says how to go on.
    fn step(&mut self, at: u64, bytes: &[u8], marks: &mut Vec<Mark>) -> Parsed;

    /// Bytes are missing before those of the next step, which may begin anywhere in the format.
    fn resync(&mut self);
}

/// Finds the header and the sync points of one stream.
pub struct Indexer {
    format: Format,
    parser: Box<dyn Parse>,
    /// The offset of the next byte that the parser looks at.
    at: u64,
    /// Bytes from there on that were fed and were too few.
    pending: BytesMut,
    /// Bytes that the parser needs from there on.
    needed: usize,
    /// Bytes that are still to be skipped.
    skip: u64,
    error: Option<IndexError>,
}

impl std::fmt::Debug for Indexer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { format, at, pending, error, .. } = self;
        f.debug_struct("Indexer")
            .field("format", format)
            .field("at", at)
            .field("pending", &pending.len())
            .field("error", error)
            .finish_non_exhaustive()
    }
}

impl Indexer {
    /// An indexer of a stream of this format, whose first byte has this offset.
    pub fn new(format: Format, at: u64) -> Self {
        let parser: Box<dyn Parse> = match format {
            Format::MpegTs => Box::new(MpegTs::default()),
            Format::Matroska => Box::new(Matroska::default()),
            Format::Mp4 => Box::new(Mp4::default()),
            Format::Ogg => Box::new(Ogg::default()),
            Format::Flac => Box::new(Flac::default()),
            Format::Flv => Box::new(Flv::default()),
            Format::Wav => Box::new(Wav::default()),
            Format::Mp3 => Box::new(Frames::mp3()),
            Format::Adts => Box::new(Frames::adts()),
            Format::Ac3 => Box::new(Frames::ac3()),
            Format::Mjpeg => Box::new(Jpeg::default()),
            Format::H264 => Box::new(AnnexB::h264()),
            Format::Hevc => Box::new(AnnexB::hevc()),
            Format::Y4m => Box::new(Y4m::default()),
        };
        let (pending, needed, skip, error) = (BytesMut::new(), 1, 0, None);
        Self { format, parser, at, pending, needed, skip, error }
    }

    /// The format that the stream is parsed as.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Reads the next bytes of the stream, and adds what was found to `marks`.
    ///
    /// # Errors
    ///
    /// [`IndexError`], when the bytes cannot be parsed. The indexer is off from then on: it returns
    /// the same error for all later bytes.
    pub fn feed(&mut self, bytes: &[u8], marks: &mut Vec<Mark>) -> Result<(), IndexError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let fed = self.parse(bytes, marks);
        if let Err(error) = fed {
            self.error = Some(error);
            self.pending = BytesMut::new();
        }
        fed
    }

    fn parse(&mut self, input: &[u8], marks: &mut Vec<Mark>) -> Result<(), IndexError> {
        // The next byte of the input that is neither pending nor looked at.
        let mut next = 0;
        loop {
            if self.pending.is_empty() {
                let skipped = self.skip.min((input.len() - next) as u64);
                next += skipped as usize;
                self.skip -= skipped;
                self.at = self.at.saturating_add(skipped);
            }
            let rest = input.get(next..).unwrap_or_default();
            let missing = self.needed.saturating_sub(self.pending.len());
            if !self.pending.is_empty() || rest.len() < missing {
                let taken = rest.get(..missing.min(rest.len())).unwrap_or_default();
                self.pending.extend_from_slice(taken);
                next += taken.len();
            }
            let window = if self.pending.is_empty() { rest } else { &self.pending };
            if window.is_empty() || window.len() < self.needed {
                return Ok(());
            }
            let len = window.len();
            let step = self.parser.step(self.at, window, marks);
            match step.map_err(|Malformed| IndexError::Malformed(self.format))? {
                Step::Skip(0) => return Err(IndexError::Malformed(self.format)),
                Step::Skip(count) => {
                    let used = count.min(len as u64) as usize;
                    self.at = self.at.saturating_add(used as u64);
                    (self.skip, self.needed) = (count - used as u64, 1);
                    if self.pending.is_empty() {
                        next += used;
                    } else {
                        self.pending.advance(used);
                        // What is left is in the input, too, unless it came earlier.
                        if self.pending.len() <= next {
                            next -= self.pending.len();
                            self.pending.clear();
                            if self.pending.capacity() > MAX_IDLE_BYTES {
                                self.pending = BytesMut::new();
                            }
                        }
                    }
                }
                Step::Need(count) if count > MAX_WINDOW_BYTES => {
                    return Err(IndexError::HeaderTooLarge);
                }
                Step::Need(count) if count <= len => {
                    return Err(IndexError::Malformed(self.format));
                }
                Step::Need(count) => self.needed = count,
            }
        }
    }

    /// Goes on at this offset, because the bytes before it were not read. Sync points are reported
    /// again from where the parser finds its place in the format.
    pub fn skip_to(&mut self, at: u64) {
        self.pending.clear();
        (self.at, self.skip, self.needed) = (at, 0, 1);
        self.parser.resync();
    }
}
