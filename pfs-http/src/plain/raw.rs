//! Raw encoder: the bytes of a stream unchanged, for clients that know nothing about streams.

use std::ops::ControlFlow;

use pfs_host::{Broken, Encoder, Gap};
use pfs_proto::End;
use pfs_stream::Sink;

/// Encoder of raw bytes, with an optional end offset. A loss breaks the body.
#[derive(Debug, Default)]
pub(crate) struct Raw {
    bytes: Vec<u8>,
    end: Option<u64>,
}

impl Raw {
    /// Creates an encoder that ends properly before offset `end`.
    pub(crate) fn up_to(end: u64) -> Self {
        Self { bytes: Vec::new(), end: Some(end) }
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
        let Some(beyond) = self.end.and_then(|end| position.checked_sub(end)) else {
            return ControlFlow::Continue(());
        };
        let beyond = usize::try_from(beyond).unwrap_or(usize::MAX);
        self.bytes.truncate(self.bytes.len().saturating_sub(beyond));
        ControlFlow::Break(Ok(()))
    }

    fn gap(&mut self, gap: Gap) -> Result<(), Broken> {
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
