//! A part of a stream, of bounded size, as one response.

use pfs_host::{Failure, wide};
use pfs_proto::{End, StreamPath};
use pfs_stream::{Read, ReadError, Reader, Sink, Stream};

use super::{
    json,
    media_type::{self, Kind},
    refusal::Refusal,
};

/// About how many bytes one response has; only a message is never cut.
pub(super) const PAGE: usize = 256 << 10;

/// Chunks, one after the other.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    pub(super) bytes: Vec<u8>,
    /// Where each of them ends, if that is wanted.
    ends: Option<Vec<usize>>,
}

impl Chunks {
    /// With a mark at the end of each.
    pub(super) fn marked() -> Self {
        Self { bytes: Vec::new(), ends: Some(Vec::new()) }
    }

    /// All of these bytes as one, if there are any.
    pub(super) fn one(bytes: Vec<u8>) -> Self {
        let ends = if bytes.is_empty() { Vec::new() } else { vec![bytes.len()] };
        Self { bytes, ends: Some(ends) }
    }

    /// As this kind of stream needs them.
    pub(super) fn of(kind: Kind) -> Self {
        if kind == Kind::Json { Self::marked() } else { Self::default() }
    }

    /// Ends a chunk.
    pub(super) fn mark(&mut self) {
        let end = self.bytes.len();
        self.ends.iter_mut().for_each(|ends| ends.push(end));
    }

    /// How many are marked.
    pub(super) fn count(&self) -> usize {
        self.ends.as_ref().map_or(0, Vec::len)
    }

    /// Those that are marked.
    pub(super) fn each(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.ends.as_deref().unwrap_or_default();
        let begins = std::iter::once(0).chain(ends.iter().copied());
        begins.zip(ends).map(|(begin, end)| self.bytes.get(begin..*end).unwrap_or_default())
    }
}

impl Sink for Chunks {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    fn piece(&mut self, len: usize, _last: bool) {
        let end = self.bytes.len().saturating_add(len);
        self.ends.iter_mut().for_each(|ends| ends.push(end));
    }

    fn undo_to(&mut self, len: usize) {
        self.bytes.truncate(len);
        self.ends.iter_mut().for_each(|ends| ends.retain(|end| *end <= len));
    }
}

/// What a page comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Its first offset.
    pub(super) start: u64,
    /// The offset after its last.
    pub(super) next: u64,
    /// Whether there was no more when it was made.
    pub(super) up_to_date: bool,
    /// Whether there will never be more.
    pub(super) closed: bool,
}

/// Reads one page.
#[derive(Debug)]
pub(super) struct PageReader {
    path: StreamPath,
    stream: Stream,
    reader: Reader,
    kind: Kind,
    chunks: Chunks,
    start: u64,
    /// Whether the page must begin where it was asked to: not where the client only wants the oldest.
    exact: bool,
}

/// How far a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    /// It has as much as it should.
    Full,
    /// Nothing more is there at the moment.
    Head,
    /// Nothing more will come.
    Closed,
}

impl PageReader {
    pub(super) fn new(path: StreamPath, stream: Stream, reader: Reader, exact: bool) -> Self {
        let start = reader.start();
        let kind = Kind::of(media_type::of(&stream));
        Self { path, stream, reader, kind, chunks: Chunks::of(kind), start, exact }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.bytes.is_empty()
    }

    /// Reads what is there.
    pub(super) fn fill(&mut self) -> Result<Edge, Refusal> {
        loop {
            let room = PAGE.saturating_sub(self.chunks.bytes.len());
            if room == 0 {
                return Ok(Edge::Full);
            }
            let Some(read) =
                self.reader.try_read(&mut self.chunks, room).map_err(|error| self.failed(error))?
            else {
                return Ok(Edge::Head);
            };
            if let Some(edge) = self.take(read)? {
                return Ok(edge);
            }
        }
    }

    /// Waits for what comes next. Cancel safe.
    pub(super) async fn wait(&mut self) -> Result<Edge, Refusal> {
        match self.reader.read(&mut self.chunks, PAGE).await {
            Ok(read) => match self.take(read)? {
                Some(edge) => Ok(edge),
                None => self.fill(),
            },
            Err(error) => Err(self.failed(error)),
        }
    }

    fn take(&mut self, read: Read) -> Result<Option<Edge>, Refusal> {
        match read {
            Read::Data { .. } => Ok(None),
            Read::End(End::Closed) => Ok(Some(Edge::Closed)),
            Read::End(_) => Ok(Some(Edge::Head)),
            // What is before the gap is a page; the next one is refused.
            Read::Gap { .. } if !self.is_empty() => Ok(Some(Edge::Full)),
            Read::Gap { .. } if self.exact => Err(Refusal::dropped(&self.path, &self.stream)),
            Read::Gap { to, .. } => {
                self.start = to;
                Ok(None)
            }
        }
    }

    fn failed(&self, error: ReadError) -> Refusal {
        Failure::reading(&self.path, error).into()
    }

    /// The page, and its contents as they are shown.
    pub(super) fn finish(self, edge: Edge) -> (Page, Vec<u8>) {
        let Self { stream, kind, mut chunks, start, .. } = self;
        let mut cut = false;
        if kind != Kind::Json && chunks.bytes.len() > PAGE {
            // A chunk may be far larger. Bytes can be had from anywhere in it.
            chunks.bytes.truncate(PAGE);
            chunks.bytes.shrink_to_fit();
            cut = true;
        }
        let next = start.saturating_add(wide(chunks.bytes.len()));
        let (up_to_date, closed) = match edge {
            _ if cut => (false, false),
            Edge::Head => (true, false),
            Edge::Closed => (true, true),
            Edge::Full => {
                let extent = stream.extent();
                (extent.head == next, extent.head == next && extent.closed)
            }
        };
        let body = match kind {
            Kind::Json => json::array(chunks.each()).unwrap_or_else(|| b"[]".to_vec()),
            Kind::Text | Kind::Binary => chunks.bytes,
        };
        (Page { start, next, up_to_date, closed }, body)
    }
}
