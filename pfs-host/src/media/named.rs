//! Headers and sync points that writers name themselves, for formats that are not recognised.

use std::collections::VecDeque;

use bytes::Bytes;
use pfs_proto::{MediaStat, Start};
use pfs_stream::Stream;

use super::{Joined, points::Points};
use crate::daemon::wide;

/// Maximum number of headers that are kept.
const MAX_HEADERS: usize = 16;

/// Memory of an index without headers and sync points, in bytes.
const INDEX_BYTES: usize = 512;

/// What writers have named.
#[derive(Debug)]
pub(super) struct Named {
    /// Parts of the stream, each from the first byte of a header on, in order.
    parts: VecDeque<Part>,
    /// Smallest distance of the sync points that are kept.
    distance: u64,
    /// Whether the format of the stream may still be recognised, which replaces this.
    pub(super) is_tentative: bool,
}

/// A part of the stream, from the first byte of a header up to the next part.
#[derive(Debug, Default)]
struct Part {
    /// The offset of the first byte of the header.
    begin: u64,
    header: Header,
    /// Whether the writer has marked sync points. If not, every chunk after the header is one.
    is_marked: bool,
    points: Points,
}

#[derive(Debug, Default)]
enum Header {
    /// The part has no header: a sync point was marked without one.
    #[default]
    None,
    /// The header is not complete, or there was no memory for it.
    Missing,
    /// The header, and the offset after its last byte.
    Known(Bytes, u64),
}

impl Part {
    /// The offset after the header.
    fn end(&self) -> u64 {
        match self.header {
            Header::Known(_, end) => end,
            Header::None | Header::Missing => self.begin,
        }
    }

    fn header(&self) -> Bytes {
        match &self.header {
            Header::Known(header, _) => header.clone(),
            Header::None | Header::Missing => Bytes::new(),
        }
    }
}

impl Named {
    pub(super) fn new(capacity: u64) -> Self {
        let distance = Points::distance(capacity);
        Self { parts: VecDeque::new(), distance, is_tentative: false }
    }

    /// What is named in a replica, whose first byte is at offset `begin`.
    pub(super) fn behind(header: Bytes, begin: u64, capacity: u64) -> Self {
        let mut named = Self::new(capacity);
        let header = Header::Known(header, begin);
        named.parts.push_back(Part { header, ..Part::default() });
        named
    }

    /// The part that holds this offset.
    fn part_at(&self, offset: u64) -> Option<&Part> {
        let after = self.parts.partition_point(|part| part.begin <= offset);
        self.parts.get(after.checked_sub(1)?)
    }

    /// Begins a part at this offset, where a header begins.
    pub(super) fn begin_header(&mut self, stream: &Stream, begin: u64) {
        self.forget_before(stream);
        let at = self.parts.partition_point(|part| part.begin < begin);
        self.parts.insert(at, Part { begin, header: Header::Missing, ..Part::default() });
        if self.parts.len() > MAX_HEADERS {
            self.parts.pop_front();
        }
    }

    /// Completes the header that begins at `begin` and ends at `end`.
    pub(super) fn end_header(&mut self, stream: &Stream, header: Bytes, begin: u64, end: u64) {
        // Writers that start over usually have the same header.
        let known = self.parts.iter().find_map(|part| match &part.header {
            Header::Known(known, _) if *known == header => Some(known.clone()),
            _ => None,
        });
        let Some(part) = self.parts.iter_mut().find(|part| part.begin == begin) else { return };
        part.header = Header::Known(known.unwrap_or(header), end);
        if !self.reserve(stream) {
            tracing::warn!(
                stream = stream.name(),
                "no memory is left for the header that a writer named; readers get exact bytes"
            );
            if let Some(part) = self.parts.iter_mut().find(|part| part.begin == begin) {
                part.header = Header::Missing;
            }
            // Less than before.
            let _ = self.reserve(stream);
        }
    }

    /// Forgets the header that begins at `begin`, whose writer has left before it was complete.
    pub(super) fn cancel_header(&mut self, begin: u64) {
        let is_cancelled =
            |part: &Part| part.begin == begin && matches!(part.header, Header::Missing);
        self.parts.retain(|part| !is_cancelled(part));
    }

    /// Adds a sync point that a writer has marked.
    pub(super) fn mark(&mut self, stream: &Stream, point: u64) {
        self.forget_before(stream);
        if self.part_at(point).is_none() {
            self.parts.push_front(Part::default());
        }
        let distance = self.distance;
        let after = self.parts.partition_point(|part| part.begin <= point);
        let Some(part) = after.checked_sub(1).and_then(|at| self.parts.get_mut(at)) else { return };
        part.is_marked = true;
        // A reader that starts with the header needs no mark.
        let is_in_header = point < part.end() || point == part.begin && point != part.end();
        if is_in_header || part.points.newest.is_some_and(|newest| newest >= point) {
            return;
        }
        part.points.add(point, distance);
        if !self.reserve(stream) {
            // The header is worth more than old sync points.
            self.parts.iter_mut().for_each(|part| part.points.keep_newest());
            let _ = self.reserve(stream);
        }
    }

    fn forget_before(&mut self, stream: &Stream) {
        let tail = stream.extent().tail;
        // The part that holds tail is in effect there.
        let gone = self.parts.partition_point(|part| part.begin <= tail).saturating_sub(1);
        self.parts.drain(..gone);
        self.parts.iter_mut().for_each(|part| part.points.forget_before(tail));
    }

    /// Reserves the memory of the headers and sync points. Returns false if a budget has too little
    /// left; nothing is reserved then.
    fn reserve(&self, stream: &Stream) -> bool {
        let mut bytes = INDEX_BYTES;
        let mut counted: Vec<*const u8> = Vec::new();
        for part in &self.parts {
            let points = part.points.memory();
            bytes = bytes.saturating_add(points).saturating_add(size_of::<Part>());
            let header = part.header();
            // Parts with the same header share its memory.
            if !counted.contains(&header.as_ptr()) {
                counted.push(header.as_ptr());
                bytes = bytes.saturating_add(header.len());
            }
        }
        stream.keep(wide(bytes))
    }

    pub(super) fn stat(&mut self, stream: &Stream) -> Option<MediaStat> {
        self.forget_before(stream);
        let part = self.parts.back()?;
        let time = |point: Option<u64>| stream.appended_at(point?);
        let (newest, before) = (part.points.newest, part.points.before);
        Some(MediaStat {
            format: "custom".to_owned(),
            header_bytes: wide(part.header().len()),
            last_sync: newest,
            gop_bytes: newest.zip(before).and_then(|(newest, before)| newest.checked_sub(before)),
            gop: time(newest)
                .zip(time(before))
                .and_then(|(newest, before)| newest.duration_since(before).ok()),
        })
    }

    /// The newest header.
    pub(super) fn header(&self) -> Option<Bytes> {
        self.parts.back().map(Part::header)
    }

    /// Whether the stream holds a sync point that a writer has marked.
    pub(super) fn has_point(&self) -> bool {
        self.parts.iter().any(|part| part.points.newest.is_some())
    }

    /// Returns how a reader joins that would otherwise start at `place`. `None` if the reader gets
    /// exact bytes.
    pub(super) fn join(&mut self, stream: &Stream, start: Start, place: u64) -> Option<Joined> {
        self.forget_before(stream);
        if matches!(start, Start::Offset(_)) {
            return None;
        }
        let tail = stream.extent().tail;
        let part = self.part_at(place)?;
        // With the header in the stream from there on.
        let at_header = (part.begin >= tail && !matches!(part.header, Header::None))
            .then(|| Joined { format: None, header: Bytes::new(), place, start: Some(part.begin) });
        if let Header::Missing = part.header {
            return at_header;
        }
        let behind =
            |point: u64| Joined { format: None, header: part.header(), place, start: Some(point) };
        let chunk = stream.chunk_at(place);
        let after_header = || stream.next_chunk(part.end());
        let is_oldest = start == Start::Oldest;
        if !part.is_marked {
            return match place {
                _ if place == part.begin => at_header,
                _ if chunk >= part.end() => Some(behind(chunk)),
                _ if is_oldest || at_header.is_none() => Some(behind(after_header())),
                _ => at_header,
            };
        }
        let end = self.parts.iter().map(|it| it.begin).find(|begin| *begin > part.begin);
        let is_within = |point: &u64| *point >= tail && end.is_none_or(|end| *point < end);
        let next = || part.points.first_from(place.max(part.end())).filter(is_within).map(behind);
        let last = || part.points.last_up_to(place).filter(is_within).map(behind);
        let found = match is_oldest {
            _ if place == part.begin && at_header.is_some() => at_header,
            true => next(),
            false => last().or(at_header).or_else(next),
        };
        // Without a sync point, the reader starts with a whole chunk.
        found.or_else(|| Some(behind(chunk.max(tail))))
    }
}
