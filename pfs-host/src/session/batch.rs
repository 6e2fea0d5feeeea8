//! The *append batch* session: appends chunks all or none, if the protocol's own state of the
//! stream admits them.

use std::any::Any;

use pfs_stream::Stream;
use tokio::sync::Mutex;

use super::Rejected;
use crate::{Failure, Writable};

/// Chunks that are appended together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The chunks, concatenated.
    pub bytes: Vec<u8>,
    /// The end of each chunk in `bytes`. A batch without chunks only closes the stream.
    pub ends: Vec<usize>,
    /// Whether the stream is closed after the chunks.
    pub close: bool,
}

/// Result of a protocol's check of a request.
#[derive(Clone, Debug)]
pub enum Checked<D> {
    /// The batch is new, and is appended.
    Append(Batch),
    /// Nothing is appended; this is the answer.
    Done(D),
}

/// Why nothing was appended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum NotAppended<E> {
    /// The protocol's check refused the batch.
    Refused(E),
    /// The stream takes no more appends or is too small for the batch, or the client is cut off.
    Failed(Failure),
}

impl<E> From<Failure> for NotAppended<E> {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Batch {
    fn chunks(&self) -> Vec<&[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins
            .zip(&self.ends)
            .map(|(begin, end)| self.bytes.get(begin..*end).unwrap_or_default())
            .collect()
    }
}

impl Writable<'_> {
    /// Calls `check` with the protocol's state of the stream, appends the batch, and calls
    /// `commit` to update the state. The state is locked meanwhile, so no other batch of this
    /// protocol is checked.
    ///
    /// # Errors
    ///
    /// [`NotAppended`]. Neither the stream nor the state has changed.
    ///
    /// # Cancel safety
    ///
    /// If dropped while it waits for a `block` reader, nothing is appended.
    pub async fn append_batch<K, D, E>(
        &self,
        stream: &Stream,
        check: impl FnOnce(&K) -> Result<Checked<D>, E>,
        commit: impl FnOnce(&mut K) -> D,
    ) -> Result<D, NotAppended<E>>
    where
        K: Any + Default + Send,
    {
        let state = stream.extension::<Mutex<K>>();
        let mut state = state.lock().await;
        match check(&state).map_err(NotAppended::Refused)? {
            Checked::Done(answer) => return Ok(answer),
            Checked::Append(batch) => self.append_all(stream, &batch).await?,
        }
        Ok(commit(&mut state))
    }

    async fn append_all(&self, stream: &Stream, batch: &Batch) -> Result<(), Failure> {
        if batch.ends.is_empty() {
            return self.close(stream).await;
        }
        let mut append = self.append(stream).await?;
        let Err(rejected) = append.append_all(&batch.chunks()).await else {
            append.finish(batch.close);
            return Ok(());
        };
        let is_cut_off = matches!(rejected, Rejected::CutOff(_));
        let failure = rejected.failure(self.path());
        if is_cut_off {
            append.abandon(&failure.message);
        } else {
            // Nothing of the batch is in the stream, so no reader misses the rest of it.
            append.finish(false);
        }
        Err(failure)
    }
}
