//! Indexer: passes the bytes of a stream to the parser of its format, in windows of the size that
//! the parser requests.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use crate::{
    Format, annex_b::AnnexB, flac::Flac, flv::Flv, frames::Frames, jpeg::Jpeg, lines::Lines,
    matroska::Matroska, mp4::Mp4, mpeg_ts::MpegTs, ogg::Ogg, wav::Wav, y4m::Y4m,
};

/// Maximum size of a header, in bytes. Less than 1 MiB, so that a header and the fields about the
/// header fit into one message of the protocol.
pub const MAX_HEADER_BYTES: usize = 1024 * 1024 - 4096;

/// Maximum number of bytes that a parser may request at once. Units that a parser needs as a whole,
/// such as the `moov` box, are parts of the header.
const MAX_WINDOW_BYTES: usize = MAX_HEADER_BYTES;

/// Bytes of headers that a stream may have for each of its bytes, and beyond that at once. A parser
/// reports a whole header for each change of a part of it, which a few bytes can make.
const HEADER_BYTES_PER_BYTE: usize = 4;
const MAX_HEADER_CREDIT: usize = 4 * MAX_HEADER_BYTES;

/// Maximum memory that is kept between calls when no bytes are pending, in bytes.
const MAX_IDLE_BYTES: usize = 4096;

/// Fact about a stream that a reader who joins late needs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mark {
    /// The header: bytes that a decoder needs before anything else. A header replaces the previous
    /// header, and applies to every sync point that is reported after it.
    Header(Bytes),
    /// A sync point: a decoder that was given the header can start at this offset.
    Sync(u64),
    /// Sync points at equal distances, until the next header: the offset of the first one, and the
    /// distance in bytes.
    SyncEvery(u64, u64),
    /// A cut: no unit that a decoder needs whole crosses this offset. May be ahead of the bytes
    /// that were fed. Only for formats in which a loss within such a unit spoils what follows.
    Cut(u64),
}

/// Why a stream cannot be indexed further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The bytes are not of the format.
    #[error("the bytes are not {0}")]
    Malformed(Format),
    /// A header is larger than [`MAX_HEADER_BYTES`], or too many large headers follow each other.
    #[error("the header is larger than {MAX_HEADER_BYTES} bytes, or changes too often")]
    HeaderTooLarge,
}

/// Result of a parser's step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The parser continues after this number of bytes, at least one. These bytes need not have
    /// arrived yet.
    Skip(u64),
    /// The parser needs a window of this size, larger than the one that it was given.
    Need(usize),
}

/// Why a parser cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The bytes are not of the format.
    Malformed,
    /// The header is larger than [`MAX_HEADER_BYTES`].
    TooLarge,
}

pub(crate) type Parsed = Result<Step, Fault>;

/// Parser of one format: a state machine over windows of the stream.
pub(crate) trait Parse: Send {
    /// Parses the window `bytes` at offset `at`, which is not empty, and returns how to continue.
    fn step(&mut self, at: u64, bytes: &[u8], marks: &mut Vec<Mark>) -> Parsed;

    /// Ends the header, which is complete although no byte has followed. `rest` is the end of the
    /// header, for which the parser has requested a larger window.
    fn end_header(&mut self, rest: &[u8]) {
        let _ = rest;
    }

    /// Memory that the parser has allocated and may keep, in bytes, without the few hundred bytes
    /// that every parser needs.
    fn memory(&self) -> usize {
        0
    }

    /// Prepares for a loss: bytes before the next step are missing, and that step may begin
    /// anywhere in the format.
    fn resync(&mut self);
}

/// Finds the header and the sync points of one stream.
pub struct Indexer {
    format: Format,
    parser: Box<dyn Parse>,
    /// Offset of the next byte for the parser.
    at: u64,
    /// Bytes at `at` that were fed, but are fewer than the parser needs.
    pending: BytesMut,
    /// Number of bytes at `at` that the parser needs.
    needed: usize,
    /// Number of bytes that are still to be skipped.
    skip: u64,
    /// Bytes of headers that may be reported now.
    credit: usize,
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
    /// Creates an indexer for a stream of this format. `at` is the offset of the first byte that
    /// is fed.
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
            Format::Lines => Box::new(Lines::default()),
            Format::Csv => Box::new(Lines::csv()),
        };
        let (pending, needed, skip, error) = (BytesMut::new(), 1, 0, None);
        let credit = MAX_HEADER_CREDIT;
        Self { format, parser, at, pending, needed, skip, credit, error }
    }

    /// Format as which the stream is parsed.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Memory that the indexer has allocated, in bytes: at most a few times [`MAX_HEADER_BYTES`].
    pub fn memory(&self) -> usize {
        self.pending.capacity().saturating_add(self.parser.memory())
    }

    /// Parses the next bytes of the stream, and adds the headers and sync points that were found
    /// to `marks`.
    ///
    /// # Errors
    ///
    /// The bytes cannot be parsed. From then on the indexer returns the same [`IndexError`] for all
    /// later bytes.
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

    fn error(&self, fault: Fault) -> IndexError {
        match fault {
            Fault::Malformed => IndexError::Malformed(self.format),
            Fault::TooLarge => IndexError::HeaderTooLarge,
        }
    }

    fn parse(&mut self, input: &[u8], marks: &mut Vec<Mark>) -> Result<(), IndexError> {
        // Position in `input` after the bytes that were parsed, skipped or moved to `pending`.
        let mut next = 0;
        let earned = input.len().saturating_mul(HEADER_BYTES_PER_BYTE);
        self.credit = self.credit.saturating_add(earned).min(MAX_HEADER_CREDIT);
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
            let known = marks.len();
            let step = self.parser.step(self.at, window, marks);
            for mark in marks.get(known..).unwrap_or_default() {
                if let Mark::Header(header) = mark {
                    let left = self.credit.checked_sub(header.len());
                    self.credit = left.ok_or(IndexError::HeaderTooLarge)?;
                }
            }
            match step.map_err(|fault| self.error(fault))? {
                Step::Skip(0) => return Err(IndexError::Malformed(self.format)),
                Step::Skip(count) => {
                    let used = count.min(len as u64) as usize;
                    self.at = self.at.saturating_add(used as u64);
                    (self.skip, self.needed) = (count - used as u64, 1);
                    if self.pending.is_empty() {
                        next += used;
                    } else {
                        self.pending.advance(used);
                        // The pending rest is also the end of the consumed input, unless it came
                        // with earlier calls: continue there without a copy.
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

    /// Creates an indexer that starts at offset `at` and has parsed this header in place of the
    /// bytes before `at`. Adds the marks of the header to `marks`. `None` if the header is not of
    /// the format, or is larger than `at`.
    pub fn behind(format: Format, header: &[u8], at: u64, marks: &mut Vec<Mark>) -> Option<Self> {
        let mut indexer = Self::new(format, at.checked_sub(header.len() as u64)?);
        indexer.feed(header, marks).ok()?;
        indexer.parser.end_header(&indexer.pending);
        Some(indexer)
    }

    /// Continues at this offset after a loss: the bytes before it were not read. Sync points are
    /// reported again once the parser has found its place in the format.
    pub fn skip_to(&mut self, at: u64) {
        self.pending.clear();
        (self.at, self.skip, self.needed) = (at, 0, 1);
        self.parser.resync();
    }
}
