//! Blocking requests of a [`Client`]. Each request opens its own connection.

use bytes::Bytes;
use pfs_proto::{
    CreateOptions, DaemonInfo, PathError, PutOptions, StreamPath, StreamStat, StreamSummary,
};

use super::{Client, Events};
use crate::{Chunk, Put, RequestError};

impl Client {
    /// Creates a stream. Blocking form of [`Client::create`](crate::Client::create).
    ///
    /// # Errors
    ///
    /// [`RequestError::Connect`] if connecting fails, otherwise the errors of
    /// [`Client::create`](crate::Client::create).
    pub fn create(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
        options: &CreateOptions,
    ) -> Result<(), RequestError> {
        self.ask(async |client| client.create(path, options).await)
    }

    /// Appends one chunk in a single request.
    ///
    /// Blocking form of [`Client::put`](crate::Client::put).
    ///
    /// # Errors
    ///
    /// [`RequestError::Connect`] if connecting fails, otherwise the errors of
    /// [`Client::put`](crate::Client::put).
    pub fn put(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
        chunk: impl Chunk,
        options: &PutOptions,
    ) -> Result<Put, RequestError> {
        self.ask(async |client| client.put(path, chunk, options).await)
    }

    /// Puts many chunks without a round trip for each.
    ///
    /// Blocking form of [`Client::put_all`](crate::Client::put_all).
    ///
    /// # Errors
    ///
    /// [`RequestError::Connect`] if connecting fails, otherwise the errors of
    /// [`Client::put_all`](crate::Client::put_all).
    pub fn put_all<C: Chunk>(
        &self,
        puts: impl IntoIterator<Item = (StreamPath, C)>,
        options: &PutOptions,
    ) -> Result<Vec<Result<Put, RequestError>>, RequestError> {
        self.ask(async |client| client.put_all(puts, options).await)
    }

    /// Closes a stream. Blocking form of [`Client::close`](crate::Client::close).
    ///
    /// # Errors
    ///
    /// [`RequestError::Connect`] if connecting fails, otherwise the errors of
    /// [`Client::close`](crate::Client::close).
    pub fn close(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
    ) -> Result<(), RequestError> {
        self.ask(async |client| client.close(path).await)
    }

    /// Closes a stream as failed.
    ///
    /// Blocking form of [`Client::close_failed`](crate::Client::close_failed).
    ///
    /// # Errors
    ///
    /// [`RequestError::Connect`] if connecting fails, otherwise the errors of
    /// [`Client::close_failed`](crate::Client::close_failed).
    pub fn close_failed(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
    ) -> Result<(), RequestError> {
        self.ask(async |client| client.close_failed(path).await)
    }

    /// Removes a stream and its data. Blocking form of [`Client::remove`](crate::Client::remove).
    ///
    /// # Errors
    ///
    /// [`RequestError::Connect`] if connecting fails, otherwise the errors of
    /// [`Client::remove`](crate::Client::remove).
    pub fn remove(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
    ) -> Result<(), RequestError> {
        self.ask(async |client| client.remove(path).await)
    }

    /// Lists the streams at or below a path.
    ///
    /// Blocking form of [`Client::list`](crate::Client::list).
    ///
    /// # Errors
    ///
    /// [`RequestError::Connect`] if connecting fails, otherwise the errors of
    /// [`Client::list`](crate::Client::list).
    pub fn list(&self, prefix: &str) -> Result<Vec<StreamSummary>, RequestError> {
        self.ask(async |client| client.list(prefix).await)
    }

    /// Stats of a stream, with all of its readers and writers.
    ///
    /// Blocking form of [`Client::stat`](crate::Client::stat).
    ///
    /// # Errors
    ///
    /// [`RequestError::Connect`] if connecting fails, otherwise the errors of
    /// [`Client::stat`](crate::Client::stat).
    pub fn stat(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
    ) -> Result<StreamStat, RequestError> {
        self.ask(async |client| client.stat(path).await)
    }

    /// The text of a document such as `/streamfs/README`.
    ///
    /// Blocking form of [`Client::document`](crate::Client::document).
    ///
    /// # Errors
    ///
    /// [`RequestError::Connect`] if connecting fails, otherwise the errors of
    /// [`Client::document`](crate::Client::document).
    pub fn document(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
    ) -> Result<Bytes, RequestError> {
        self.ask(async |client| client.document(path).await)
    }

    /// Stats of the daemon. Blocking form of [`Client::info`](crate::Client::info).
    ///
    /// # Errors
    ///
    /// [`RequestError::Connect`] if connecting fails, otherwise the errors of
    /// [`Client::info`](crate::Client::info).
    pub fn info(&self) -> Result<DaemonInfo, RequestError> {
        self.ask(async |client| client.info().await)
    }

    /// Watches a stream. Blocking form of [`Client::events`](crate::Client::events).
    ///
    /// # Errors
    ///
    /// [`RequestError::Connect`] if connecting fails, otherwise the errors of
    /// [`Client::events`](crate::Client::events).
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
