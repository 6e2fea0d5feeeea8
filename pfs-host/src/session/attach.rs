//! How a client becomes a reader of a stream.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pfs_proto::{Peer, ReadOptions, StreamPath};
use pfs_stream::{PendingReader, Reader, Stream};

use crate::{Client, Daemon, Failure};

/// A reader to come: ready at once, or where the options say so when the stream is created. Dropping it stops the waiting.
#[derive(Debug)]
pub struct Attach {
    path: StreamPath,
    reader: Pending,
}

#[derive(Debug)]
enum Pending {
    Existing(Stream, ReadOptions, Peer),
    Created(PendingReader),
}

impl Daemon {
    /// Attaches a reader. The caller has found that the client may read the stream.
    ///
    /// # Errors
    ///
    /// The path is no stream's, or there is none and the options do not wait for one.
    pub fn attach(
        &self,
        client: &Client,
        path: &StreamPath,
        options: ReadOptions,
    ) -> Result<Attach, Failure> {
        let reader = if options.wait {
            self.namespace.stream(path)?;
            Pending::Created(self.registry.reader_when_created(path.as_str(), options, client.peer))
        } else {
            Pending::Existing(self.existing(path)?, options, client.peer)
        };
        Ok(Attach { path: path.clone(), reader })
    }
}

impl Attach {
    /// Whether the stream does not exist yet.
    pub fn is_waiting(&self) -> bool {
        matches!(&self.reader, Pending::Created(reader) if reader.is_waiting())
    }
}

impl Future for Attach {
    type Output = Result<Reader, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let attached = match &mut self.reader {
            Pending::Existing(stream, options, peer) => Poll::Ready(stream.reader(*options, *peer)),
            Pending::Created(reader) => Pin::new(reader).poll(cx),
        };
        attached
            .map(|attached| attached.map_err(|error| Failure::attaching("cannot read", &self.path, error)))
    }
}
