//! The *put* session: appends one chunk, and creates the stream if it does not exist.

use std::slice;

use bytes::Bytes;
use pfs_proto::{CreateOptions, ErrorCode, IfExists, PutOptions, Reply, Request};
use pfs_stream::Stream;

use super::Rejected;
use crate::{Failure, Writable, caller::routine, mount::First};

/// Result of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put {
    /// Whether the stream was created for the chunk.
    pub created: bool,
    /// The offset after the chunk; 0 if the chunk is empty.
    pub offset: u64,
}

impl Writable<'_> {
    /// Appends one chunk as a writer that then finishes. Creates the stream if it does not exist or
    /// if the options replace it.
    ///
    /// A new stream contains the chunk before any other client finds the stream.
    /// If `block` readers of an existing stream need the room, waits for them
    /// like [`Append::append`](crate::Append::append).
    ///
    /// # Errors
    ///
    /// Those of [`create`](Self::create) and of [`append`](Self::append), or the chunk is too large
    /// for the stream. An error changes nothing: no stream is created or replaced for a chunk that
    /// it would not take.
    ///
    /// # Cancel safety
    ///
    /// If dropped while it is pending, nothing is appended, and the writer counts as dead.
    pub async fn put(&self, options: PutOptions, chunk: &[u8]) -> Result<Put, Failure> {
        if self.is_elsewhere() {
            let chunk = Bytes::copy_from_slice(chunk);
            let request = Request::Put(self.path().clone(), options, chunk);
            return match self.ask(request).await? {
                Reply::Put { created, offset } => Ok(Put { created, offset }),
                _ => Err(Failure::new(ErrorCode::Protocol, "the owner gave an unexpected answer")),
            };
        }
        let PutOptions { create, close } = options;
        let keeps = create.if_exists == IfExists::Keep;
        let anew = CreateOptions {
            if_exists: if keeps { IfExists::Fail } else { create.if_exists },
            ..create
        };
        loop {
            if keeps && let Some(stream) = self.find().await? {
                let offset = self.put_into(&stream, chunk, close).await?;
                return Ok(Put { created: false, offset });
            }
            let config = self.config(anew.clone())?;
            config.total([chunk]).map_err(|error| Failure::appending(self.path(), error))?;
            let first = First { chunks: slice::from_ref(&chunk), close };
            match self.create_with(anew.clone(), None, first).await {
                Ok(_) => return Ok(Put { created: true, offset: chunk.len() as u64 }),
                // Another client created the stream between the two calls.
                Err(failure) if keeps && failure.code == ErrorCode::AlreadyExists => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Appends a chunk to an existing stream, and returns the offset after it.
    async fn put_into(&self, stream: &Stream, chunk: &[u8], close: bool) -> Result<u64, Failure> {
        let mut append = self.clone().in_request().append(stream).await?;
        match append.append(chunk).await {
            Ok(()) => {
                let offset = append.writer().offset();
                append.finish(close);
                let (path, bytes) = (self.path().as_str(), chunk.len());
                self.log(|in_request, pid, uid| {
                    routine!(in_request, stream = path, pid, uid, bytes, close, "chunk put");
                });
                Ok(offset)
            }
            Err(rejected) => {
                let is_cut_off = matches!(rejected, Rejected::CutOff(_));
                let failure = rejected.failure(self.path());
                if is_cut_off {
                    append.abandon(&failure.message);
                } else {
                    // Nothing of the chunk is in the stream, so no reader misses the rest of it.
                    append.withdraw();
                }
                Err(failure)
            }
        }
    }
}
