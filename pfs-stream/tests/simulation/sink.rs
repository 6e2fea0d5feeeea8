//! A sink like those of hosts: with a header before each run of bytes, and chunks whole or in
//! parts.

use pfs_stream::Sink;

/// How a reader takes what it reads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// Whole chunks, without headers, into a `Vec<u8>`.
    Bytes,
    /// With a header of `header` bytes before each run. Chunks larger than the read are taken in
    /// parts if `in_parts`, and whole otherwise.
    Runs { header: usize, in_parts: bool },
    /// Event by event. Only for a reader of this process.
    Events,
}

/// What one read put into a sink.
pub(crate) struct Taken {
    header: usize,
    in_parts: bool,
    pub(crate) buffer: Vec<u8>,
    /// For each run, its length and how much of its chunk is left.
    pub(crate) runs: Vec<(usize, u64)>,
}

impl Taken {
    pub(crate) fn new(header: usize, in_parts: bool) -> Self {
        Self { header, in_parts, buffer: Vec::new(), runs: Vec::new() }
    }

    /// The bytes without headers.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut rest = &self.buffer[..];
        let mut bytes = Vec::new();
        for (len, _) in &self.runs {
            let (run, after) = rest[self.header..].split_at(*len);
            bytes.extend_from_slice(run);
            rest = after;
        }
        assert!(rest.is_empty(), "bytes outside of all runs");
        bytes
    }
}

impl Sink for Taken {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    fn header_len(&self) -> usize {
        self.header
    }

    fn takes_parts(&self) -> bool {
        self.in_parts
    }

    fn piece(&mut self, len: usize, last: bool) {
        self.part(len, u64::from(!last));
    }

    fn part(&mut self, len: usize, left: u64) {
        self.buffer.resize(self.buffer.len() + self.header, 0xAA);
        self.runs.push((len, left));
    }
}
