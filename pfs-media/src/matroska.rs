//! Matroska and WebM parser (RFC 9559, EBML: RFC 8794).
//!
//! The header is everything before the first cluster, without the seek tables. The size of the
//! segment in the header is set to unknown. A sync point is a cluster whose first block of the
//! main track is a key frame. The main track is the first video track, or the first track if there
//! is no video.

use bytes::Bytes;

use crate::{
    bits::find,
    indexer::{Fault, MAX_HEADER_BYTES, Mark, Parse, Parsed, Step},
};

// Elements, by their identifiers.
const EBML: u32 = 0x1A45_DFA3;
/// First bytes of a file: the identifier of the EBML header.
pub(crate) const SIGNATURE: [u8; 4] = EBML.to_be_bytes();
const SEGMENT: u32 = 0x1853_8067;
const INFO: u32 = 0x1549_A966;
const TRACKS: u32 = 0x1654_AE6B;
const TRACK_ENTRY: u32 = 0xAE;
const TRACK_NUMBER: u32 = 0xD7;
const TRACK_TYPE: u32 = 0x83;
const TAGS: u32 = 0x1254_C367;
const CLUSTER: u32 = 0x1F43_B675;
const SIMPLE_BLOCK: u32 = 0xA3;
const BLOCK_GROUP: u32 = 0xA0;
const BLOCK: u32 = 0xA1;
const REFERENCE_BLOCK: u32 = 0xFB;
const TIMESTAMP: u32 = 0xE7;
const CRC_32: u32 = 0xBF;
const CHAPTERS: u32 = 0x1043_A770;
const ATTACHMENTS: u32 = 0x1941_A469;

/// Maximum size of an element's identifier and size field together, in bytes.
const MAX_ELEMENT_HEADER_BYTES: usize = 12;

/// Number of bytes of a block that are examined: the track number, the timestamp and the flags.
const BLOCK_BYTES: usize = 11;

/// Element header of the segment in a reported header, with unknown size.
const SEGMENT_OF_UNKNOWN_SIZE: [u8; 12] =
    [0x18, 0x53, 0x80, 0x67, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];

#[derive(Default)]
pub(crate) struct Matroska {
    /// Header as far as it has arrived.
    header: Vec<u8>,
    /// Whether the header was reported, because a cluster has followed it.
    is_reported: bool,
    /// The track whose key frames make sync points.
    main_track: Option<u64>,
    /// Offset of the current cluster, until its first block of the main track.
    cluster: Option<u64>,
    is_lost: bool,
}

/// Element: its identifier, the length of its header, and its size if the size is known.
struct Element {
    id: u32,
    header: usize,
    size: Option<u64>,
}

/// Returns the length of a variable-size integer from its first byte.
fn width(first: u8) -> usize {
    first.leading_zeros() as usize + 1
}

/// Parses a variable-size integer. Also returns its length. `None` if bytes are missing.
fn integer(bytes: &[u8]) -> Option<Result<(u64, usize), Fault>> {
    let width = width(*bytes.first()?);
    if width > 8 {
        return Some(Err(Fault::Malformed));
    }
    let field = bytes.get(..width)?;
    let number = field.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    Some(Ok((number & ((1 << (7 * width)) - 1), width)))
}

impl Element {
    /// Parses the header of the element at the beginning of `bytes`; `None` if bytes are missing.
    fn parse(bytes: &[u8]) -> Option<Result<Self, Fault>> {
        let id_width = width(*bytes.first()?);
        if id_width > 4 {
            return Some(Err(Fault::Malformed));
        }
        let id = bytes.get(..id_width)?.iter().fold(0, |id, byte| id << 8 | u32::from(*byte));
        let (size, size_width) = match integer(bytes.get(id_width..)?)? {
            Ok(size) => size,
            Err(malformed) => return Some(Err(malformed)),
        };
        let is_unknown = size == (1 << (7 * size_width)) - 1;
        let size = (!is_unknown).then_some(size);
        Some(Ok(Self { id, header: id_width + size_width, size }))
    }

    /// Iterates over the elements in these bytes: identifiers and contents.
    fn all(mut bytes: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
        std::iter::from_fn(move || {
            let element = Self::parse(bytes)?.ok()?;
            let size = usize::try_from(element.size?).ok()?;
            let contents = bytes.get(element.header..)?.get(..size)?;
            bytes = bytes.get(element.header + size..)?;
            Some((element.id, contents))
        })
    }
}

fn unsigned(contents: &[u8]) -> u64 {
    contents.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The track whose key frames make sync points.
fn main_track(tracks: &[u8]) -> Option<u64> {
    let entries = || {
        Element::all(tracks).filter(|(id, _)| *id == TRACK_ENTRY).filter_map(|(_, entry)| {
            let field = |wanted| {
                Element::all(entry).find(|(id, _)| *id == wanted).map(|(_, value)| unsigned(value))
            };
            Some((field(TRACK_NUMBER)?, field(TRACK_TYPE)?))
        })
    };
    entries().find(|(_, kind)| *kind == 1).or_else(|| entries().next()).map(|(track, _)| track)
}

/// Parses the track and the flags of a block.
fn block(contents: &[u8]) -> Option<(u64, u8)> {
    let (track, width) = integer(contents)?.ok()?;
    Some((track, *contents.get(width + 2)?))
}

impl Matroska {
    fn keep(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if self.is_reported {
            return Ok(());
        }
        self.header.extend_from_slice(bytes);
        if self.header.len() > MAX_HEADER_BYTES { Err(Fault::TooLarge) } else { Ok(()) }
    }

    /// Handles a block of this track.
    fn block(&mut self, track: u64, is_key_frame: bool, marks: &mut Vec<Mark>) {
        if Some(track) == self.main_track
            && let Some(cluster) = self.cluster.take()
            && is_key_frame
        {
            marks.push(Mark::Sync(cluster));
        }
    }
}

impl Parse for Matroska {
    fn step(&mut self, at: u64, bytes: &[u8], marks: &mut Vec<Mark>) -> Parsed {
        if self.is_lost {
            let id = CLUSTER.to_be_bytes();
            let Some(cluster) = find(bytes, &id, 0) else {
                if bytes.len() < id.len() {
                    return Ok(Step::Need(id.len()));
                }
                return Ok(Step::Skip((bytes.len() - id.len() + 1) as u64));
            };
            if cluster > 0 {
                return Ok(Step::Skip(cluster as u64));
            }
            // Accept a cluster only if its timestamp or checksum follows.
            let Some(first) = bytes.get(..2 * MAX_ELEMENT_HEADER_BYTES) else {
                return Ok(Step::Need(2 * MAX_ELEMENT_HEADER_BYTES));
            };
            let inside =
                Element::parse(first).and_then(Result::ok).and_then(|it| first.get(it.header..));
            let is_cluster = inside.and_then(Element::parse).and_then(Result::ok);
            if !is_cluster.is_some_and(|it| it.id == TIMESTAMP || it.id == CRC_32) {
                return Ok(Step::Skip(1));
            }
            self.is_lost = false;
        }
        let Some(element) = Element::parse(bytes) else {
            let is_short = bytes.len() < MAX_ELEMENT_HEADER_BYTES;
            return if is_short { Ok(Step::Need(bytes.len() + 1)) } else { Err(Fault::Malformed) };
        };
        let Element { id, header, size } = element?;
        let contents = |most: u64| -> Result<Result<&[u8], Step>, Fault> {
            let len = header as u64 + size.ok_or(Fault::Malformed)?.min(most);
            let len = usize::try_from(len).map_err(|_| Fault::Malformed)?;
            Ok(bytes.get(header..len).ok_or(Step::Need(len)))
        };
        match id {
            EBML => {
                // The writer starts over.
                let ebml = match contents(u64::MAX)? {
                    Ok(ebml) => ebml.len(),
                    Err(need) => return Ok(need),
                };
                *self = Self::default();
                self.keep(bytes.get(..header + ebml).unwrap_or_default())?;
                return Ok(Step::Skip((header + ebml) as u64));
            }
            _ if self.header.is_empty() => return Err(Fault::Malformed),
            SEGMENT => {
                self.keep(&SEGMENT_OF_UNKNOWN_SIZE)?;
                return Ok(Step::Skip(header as u64));
            }
            CLUSTER => {
                if !std::mem::replace(&mut self.is_reported, true) {
                    marks.push(Mark::Header(Bytes::from(self.header.clone())));
                }
                self.cluster = Some(at);
                return Ok(Step::Skip(header as u64));
            }
            INFO | TRACKS | TAGS | CHAPTERS | ATTACHMENTS if !self.is_reported => {
                let inside = match contents(u64::MAX)? {
                    Ok(inside) => inside,
                    Err(need) => return Ok(need),
                };
                if id == TRACKS {
                    self.main_track = main_track(inside);
                }
                let len = header + inside.len();
                self.keep(bytes.get(..len).unwrap_or_default())?;
                return Ok(Step::Skip(len as u64));
            }
            SIMPLE_BLOCK => match contents(BLOCK_BYTES as u64)? {
                Ok(contents) => {
                    if let Some((track, flags)) = block(contents) {
                        self.block(track, flags & 0x80 != 0, marks);
                    }
                }
                Err(need) => return Ok(need),
            },
            BLOCK_GROUP if self.cluster.is_some() => {
                // A block without a reference to another one is a key frame.
                let group = match contents(u64::MAX)? {
                    Ok(group) => group,
                    Err(need) => return Ok(need),
                };
                let find = |wanted| Element::all(group).find(|(id, _)| *id == wanted);
                if let Some((track, _)) = find(BLOCK).and_then(|(_, contents)| block(contents)) {
                    self.block(track, find(REFERENCE_BLOCK).is_none(), marks);
                }
            }
            // The parser steps over all other elements.
            _ => {}
        }
        let size = size.ok_or(Fault::Malformed)?;
        Ok(Step::Skip(size.saturating_add(header as u64)))
    }

    fn end_header(&mut self, _rest: &[u8]) {
        self.is_reported = true;
    }

    fn memory(&self) -> usize {
        self.header.capacity()
    }

    fn resync(&mut self) {
        if !self.is_reported {
            // The rest of the header is missing, so no cluster can be decoded.
            *self = Self { is_reported: true, ..Self::default() };
        }
        (self.is_lost, self.cluster) = (true, None);
    }
}
