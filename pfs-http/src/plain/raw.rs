//! Raw encoder: the bytes of a stream unchanged, for clients that know nothing about streams.

use std::{collections::VecDeque, ops::ControlFlow};

use bytes::Bytes;
use pfs_host::{Broken, Encoder, Gap};
use pfs_media::{Delivery, Joiner};
use pfs_proto::End;
use pfs_stream::Sink;

/// Encoder of raw bytes, with an optional end offset. A loss breaks the body.
#[derive(Debug, Default)]
pub(crate) struct Raw {
    bytes: Vec<u8>,
    end: Option<u64>,
    /// Search for the first sync point. No byte before that sync point is sent.
    search: Option<Box<Joiner>>,
}

impl Raw {
    /// Creates an encoder that ends properly before offset `end`.
    pub(crate) fn up_to(end: u64) -> Self {
        Self { end: Some(end), ..Self::default() }
    }

    /// Creates an encoder that begins with the header, at the first sync point that the joiner
    /// finds.
    pub(crate) fn searching(joiner: Joiner) -> Self {
        Self { search: Some(Box::new(joiner)), ..Self::default() }
    }

    /// Replaces the bytes with what the joiner delivers. Ends the search once anything is
    /// delivered.
    fn search(&mut self, mut joiner: Box<Joiner>) {
        let mut deliveries = VecDeque::new();
        joiner.part(Bytes::copy_from_slice(&self.bytes), &mut deliveries);
        self.bytes.clear();
        if deliveries.is_empty() {
            self.search = Some(joiner);
        }
        for delivery in deliveries {
            if let Delivery::Bytes(bytes) | Delivery::Joined(bytes, _) = delivery {
                self.bytes.extend_from_slice(&bytes);
            }
        }
    }
}

impl Sink for Raw {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    fn takes_parts(&self) -> bool {
        true
    }
}

impl Encoder for Raw {
    fn data(&mut self, position: u64) -> ControlFlow<Result<(), Broken>> {
        if let Some(joiner) = self.search.take() {
            self.search(joiner);
        }
        let Some(beyond) = self.end.and_then(|end| position.checked_sub(end)) else {
            return ControlFlow::Continue(());
        };
        let beyond = usize::try_from(beyond).unwrap_or(usize::MAX);
        self.bytes.truncate(self.bytes.len().saturating_sub(beyond));
        ControlFlow::Break(Ok(()))
    }

    fn gap(&mut self, gap: Gap) -> Result<(), Broken> {
        if let Some(search) = &mut self.search {
            // Nothing was sent yet. Contents that cannot be parsed end the search at the next bytes.
            search.gap(gap.from, gap.to, gap.chunks, &mut VecDeque::new());
            return Ok(());
        }
        Err(Broken(format!("bytes {}..{} were lost", gap.from, gap.to)))
    }

    fn end(&mut self, end: End, _position: u64) -> Result<(), Broken> {
        match end {
            End::WriterDied => Err(Broken("a writer died without finishing, or failed".to_owned())),
            End::Failed => Err(Broken("the stream was closed as failed".to_owned())),
            End::Closed | End::CaughtUp | End::WritersGone => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_beyond_the_end_offset_are_cut_off() {
        let mut raw = Raw::up_to(7);
        raw.buffer().extend(b"0123");
        assert!(raw.data(4).is_continue());
        assert_eq!(raw.take(), b"0123");
        raw.buffer().extend(b"456789");
        assert!(raw.data(10).is_break());
        assert_eq!(raw.take(), b"456");
    }
}
