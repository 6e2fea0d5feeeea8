//! The requests of a [`Client`] that has no asynchronous code. Each has a connection of its own.

use pfs_proto::{CreateOptions, StreamPath, StreamStat, StreamSummary};

use super::Client;
use crate::RequestError;

impl Client {
    /// As [`Client::create`](crate::Client::create).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn create(&self, path: &StreamPath, options: &CreateOptions) -> Result<(), RequestError> {
        self.ask(async |client| client.create(path, options).await)
    }

    /// As [`Client::close`](crate::Client::close).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn close(&self, path: &StreamPath) -> Result<(), RequestError> {
        self.ask(async |client| client.close(path).await)
    }

    /// As [`Client::close_failed`](crate::Client::close_failed).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn close_failed(&self, path: &StreamPath) -> Result<(), RequestError> {
        self.ask(async |client| client.close_failed(path).await)
    }

    /// As [`Client::remove`](crate::Client::remove).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn remove(&self, path: &StreamPath) -> Result<(), RequestError> {
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
    pub fn stat(&self, path: &StreamPath) -> Result<StreamStat, RequestError> {
        self.ask(async |client| client.stat(path).await)
    }

    fn ask<T>(
        &self,
        request: impl AsyncFnOnce(crate::Client) -> Result<T, RequestError>,
    ) -> Result<T, RequestError> {
        self.runtime()?.block_on(async { request(self.connect().await?).await })
    }
}
