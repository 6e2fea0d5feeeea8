//! The requests of a [`Client`] that has no asynchronous code. Each has a connection of its own.

use bytes::Bytes;
use pfs_proto::{
    CreateOptions, DaemonInfo, PathError, PutOptions, StreamPath, StreamStat, StreamSummary,
};

use super::{Client, Events};
use crate::{Chunk, Put, RequestError};

impl Client {
    /// As [`Client::create`](crate::Client::create).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn create(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
        options: &CreateOptions,
    ) -> Result<(), RequestError> {
        self.ask(async |client| client.create(path, options).await)
    }

    /// As [`Client::put`](crate::Client::put).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn put(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
        chunk: impl Chunk,
        options: &PutOptions,
    ) -> Result<Put, RequestError> {
        self.ask(async |client| client.put(path, chunk, options).await)
    }

    /// As [`Client::put_all`](crate::Client::put_all).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn put_all<C: Chunk>(
        &self,
        puts: impl IntoIterator<Item = (StreamPath, C)>,
        options: &PutOptions,
    ) -> Result<Vec<Result<Put, RequestError>>, RequestError> {
        self.ask(async |client| client.put_all(puts, options).await)
    }

    /// As [`Client::close`](crate::Client::close).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn close(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
    ) -> Result<(), RequestError> {
        self.ask(async |client| client.close(path).await)
    }

    /// As [`Client::close_failed`](crate::Client::close_failed).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn close_failed(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
    ) -> Result<(), RequestError> {
        self.ask(async |client| client.close_failed(path).await)
    }

    /// As [`Client::remove`](crate::Client::remove).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn remove(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
    ) -> Result<(), RequestError> {
        self.ask(async |client| client.remove(path).await)
    }

    /// As [`Client::list`](crate::Client::list).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn list(&self, prefix: &str) -> Result<Vec<StreamSummary>, RequestError> {
        self.ask(async |client| client.list(prefix).await)
    }

    /// As [`Client::stat`](crate::Client::stat).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn stat(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
    ) -> Result<StreamStat, RequestError> {
        self.ask(async |client| client.stat(path).await)
    }

    /// As [`Client::document`](crate::Client::document).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn document(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
    ) -> Result<Bytes, RequestError> {
        self.ask(async |client| client.document(path).await)
    }

    /// As [`Client::info`](crate::Client::info).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn info(&self) -> Result<DaemonInfo, RequestError> {
        self.ask(async |client| client.info().await)
    }

    /// As [`Client::events`](crate::Client::events).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn events(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
    ) -> Result<Events, RequestError> {
        let runtime = self.runtime()?;
        let events = runtime.block_on(async { self.client().await?.events(path).await })?;
        Ok(Events { runtime, events, has_failed: false })
    }

    fn ask<T>(
        &self,
        request: impl AsyncFnOnce(crate::Client) -> Result<T, RequestError>,
    ) -> Result<T, RequestError> {
        self.runtime()?.block_on(async { request(self.client().await?).await })
    }
}
