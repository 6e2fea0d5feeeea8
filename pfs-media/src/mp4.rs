//! Fragmented MP4 and CMAF parser (ISO/IEC 14496-12).
//!
//! The header is the boxes `ftyp` and `moov`. A sync point is the beginning of a fragment whose
//! first sample of the main track is a sync sample. A fragment begins at its `moof`, or at the
//! boxes right before the `moof` that belong to the fragment. A stream can be cut only after the
//! `mdat` of a fragment, because a decoder finds the next fragment by the sizes of the boxes. The
//! main track is the first video track, or the first track if there is no video.

use bytes::Bytes;

use crate::{
    bits::be,
    indexer::{Fault, MAX_HEADER_BYTES, Mark, Parse, Parsed, Step},
};

/// Sample flag: the sample cannot be decoded without earlier samples.
const SAMPLE_IS_NON_SYNC: u64 = 0x0001_0000;

#[derive(Default)]
pub(crate) struct Mp4 {
    file_type: Vec<u8>,
    header: Vec<u8>,
    main_track: Option<Track>,
    /// Offset where the next fragment begins, if boxes before its `moof` have arrived.
    fragment: Option<u64>,
    is_lost: bool,
}

#[derive(Clone, Copy)]
struct Track {
    id: u64,
    /// Flags of samples that have no flags of their own.
    default_flags: u64,
}

/// Iterates over the boxes in these bytes: types and contents.
fn boxes(mut bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let (size, kind) = (be::<4>(bytes, 0)?, bytes.get(4..8)?);
        let (header, size) = match size {
            0 => (8, bytes.len()),
            1 => (16, usize::try_from(be::<8>(bytes, 8)?).ok()?),
            size => (8, size as usize),
        };
        let contents = bytes.get(header..size)?;
        bytes = bytes.get(size..)?;
        Some((kind, contents))
    })
}

/// Contents of the first box of this type.
fn first<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(bytes).find(|(other, _)| *other == kind).map(|(_, contents)| contents)
}

/// Finds the main track in the contents of `moov`. `None` if the file is not fragmented.
fn main_track(moov: &[u8]) -> Option<Track> {
    let extends = first(moov, b"mvex")?;
    let tracks = || {
        boxes(moov).filter(|(kind, _)| *kind == b"trak").filter_map(|(_, trak)| {
            let header = first(trak, b"tkhd")?;
            let id = be::<4>(header, if header.first() == Some(&1) { 20 } else { 12 })?;
            let handler = first(first(trak, b"mdia")?, b"hdlr")?.get(8..12)?;
            Some((id, handler == b"vide"))
        })
    };
    let (id, _) = tracks().find(|(_, is_video)| *is_video).or_else(|| tracks().next())?;
    let defaults = boxes(extends)
        .find(|(kind, trex)| *kind == b"trex" && be::<4>(trex, 4) == Some(id))
        .and_then(|(_, trex)| be::<4>(trex, 20));
    Some(Track { id, default_flags: defaults.unwrap_or_default() })
}

/// Whether the first sample of the track in a fragment is a sync sample; `None` if the fragment has
/// no sample of the track.
fn is_sync(moof: &[u8], track: Track) -> Option<bool> {
    for (_, traf) in boxes(moof).filter(|(kind, _)| *kind == b"traf") {
        let header = first(traf, b"tfhd")?;
        if be::<4>(header, 4) != Some(track.id) {
            continue;
        }
        let flags = be::<4>(header, 0)? & 0xFF_FFFF;
        // Optional fields before the default sample flags: flag bit and size.
        let sizes = [(0x1, 8), (0x2, 4), (0x8, 4), (0x10, 4)];
        let before: usize =
            sizes.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, size)| size).sum();
        let default = match flags & 0x20 {
            0 => track.default_flags,
            _ => be::<4>(header, 8 + before)?,
        };
        let run = first(traf, b"trun")?;
        let run_flags = be::<4>(run, 0)? & 0xFF_FFFF;
        if be::<4>(run, 4)? == 0 {
            continue;
        }
        let after_offset = 8 + if run_flags & 0x1 != 0 { 4 } else { 0 };
        let sample = if run_flags & 0x4 != 0 {
            be::<4>(run, after_offset)?
        } else if run_flags & 0x400 != 0 {
            let before = [0x100, 0x200].iter().filter(|bit| run_flags & **bit != 0).count() * 4;
            be::<4>(run, after_offset + before)?
        } else {
            default
        };
        return Some(sample & SAMPLE_IS_NON_SYNC == 0);
    }
    None
}

impl Parse for Mp4 {
    fn step(&mut self, at: u64, bytes: &[u8], marks: &mut Vec<Mark>) -> Parsed {
        let (Some(size), Some(kind)) = (be::<4>(bytes, 0), bytes.get(4..8)) else {
            return Ok(Step::Need(8));
        };
        if self.is_lost {
            // Accept a `moof` only if its first box is plausible.
            let is_fragment = kind == b"moof" && (24..MAX_HEADER_BYTES as u64).contains(&size);
            if !is_fragment {
                let next = bytes.windows(4).position(|it| it == b"moof").filter(|next| *next > 4);
                return Ok(Step::Skip(next.map_or(bytes.len() - 7, |next| next - 4) as u64));
            }
            match bytes.get(8..16) {
                None => return Ok(Step::Need(16)),
                Some([0, 0, 0, 16, b'm', b'f', b'h', b'd']) => self.is_lost = false,
                Some(_) => return Ok(Step::Skip(1)),
            }
        }
        let size = match size {
            1 => match be::<8>(bytes, 8) {
                Some(size) if size >= 16 => size,
                Some(_) => return Err(Fault::Malformed),
                None => return Ok(Step::Need(16)),
            },
            // A box without a size extends to the end of the stream.
            0 => u64::MAX - at,
            size if size >= 8 => size,
            _ => return Err(Fault::Malformed),
        };
        let header = if be::<4>(bytes, 0) == Some(1) { 16 } else { 8 };
        let cut = |marks: &mut Vec<Mark>| marks.push(Mark::Cut(at.saturating_add(size)));
        let is_needed = matches!(kind, b"ftyp" | b"moov" | b"moof");
        if is_needed {
            let len = usize::try_from(size).map_err(|_| Fault::Malformed)?;
            let Some(whole) = bytes.get(..len) else { return Ok(Step::Need(len)) };
            let contents = whole.get(header..).unwrap_or_default();
            match kind {
                b"ftyp" => {
                    cut(marks);
                    (self.file_type, self.fragment) = (whole.to_vec(), None);
                }
                b"moov" => {
                    cut(marks);
                    self.main_track = main_track(contents);
                    self.header = [&*self.file_type, whole].concat();
                    if self.main_track.is_none() {
                        return Err(Fault::Malformed);
                    }
                    if self.header.len() > MAX_HEADER_BYTES {
                        return Err(Fault::TooLarge);
                    }
                    marks.push(Mark::Header(Bytes::from(self.header.clone())));
                    self.fragment = None;
                }
                _ => {
                    let start = self.fragment.take().unwrap_or(at);
                    let track = self.main_track.ok_or(Fault::Malformed)?;
                    if is_sync(contents, track) == Some(true) {
                        marks.push(Mark::Sync(start));
                    }
                }
            }
        } else {
            match kind {
                // These boxes belong to the next fragment.
                b"styp" | b"sidx" | b"prft" | b"emsg" => {
                    self.fragment.get_or_insert(at);
                }
                kind if kind.iter().all(u8::is_ascii_graphic) => {
                    cut(marks);
                    self.fragment = None;
                }
                _ => return Err(Fault::Malformed),
            }
        }
        Ok(Step::Skip(size))
    }

    fn memory(&self) -> usize {
        self.file_type.capacity().saturating_add(self.header.capacity())
    }

    fn resync(&mut self) {
        (self.is_lost, self.fragment) = (true, None);
    }
}
