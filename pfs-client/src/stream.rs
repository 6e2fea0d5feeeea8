//! One stream of a daemon, as a handle.

use pfs_proto::{CreateOptions, PathError, ReadOptions, StreamPath, StreamStat, WriteOptions};

use crate::{Client, Events, Reader, RequestError, Writer};

/// One stream of a daemon, whether it exists or not: [`Client`]'s requests about one path, under
/// the names that they have for a stream in this process.
///
/// ```no_run
/// use pfs_client::{Client, Endpoint, ReadOptions, WriteOptions};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::connect(Endpoint::from_env()?).await?;
/// let cam = client.open("/streamfs/cam")?;
/// let mut writer = cam.writer(WriteOptions::default()).await?;
/// let reader = cam.reader(ReadOptions::default()).await?;
/// writer.append(b"a frame").await?;
/// println!("{} bytes in {} chunks", cam.stat().await?.head, cam.stat().await?.chunks);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Stream {
    client: Client,
    path: StreamPath,
}

impl Client {
    /// The stream of this path. Nothing is asked yet: it need not exist.
    ///
    /// # Errors
    ///
    /// [`PathError`].
    pub fn open(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
    ) -> Result<Stream, PathError> {
        Ok(Stream { client: self.clone(), path: path.try_into().map_err(Into::into)? })
    }
}

impl Stream {
    /// Its path.
    pub fn path(&self) -> &StreamPath {
        &self.path
    }

    /// As [`Client::create`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn create(&self, options: &CreateOptions) -> Result<(), RequestError> {
        self.client.create(&self.path, options).await
    }

    /// As [`Client::writer`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn writer(&self, options: WriteOptions) -> Result<Writer, RequestError> {
        self.client.writer(&self.path, options).await
    }

    /// As [`Client::reader`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn reader(&self, options: ReadOptions) -> Result<Reader, RequestError> {
        self.client.reader(&self.path, options).await
    }

    /// As [`Client::events`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn events(&self) -> Result<Events, RequestError> {
        self.client.events(&self.path).await
    }

    /// As [`Client::stat`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn stat(&self) -> Result<StreamStat, RequestError> {
        self.client.stat(&self.path).await
    }

    /// As [`Client::close`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn close(&self) -> Result<(), RequestError> {
        self.client.close(&self.path).await
    }

    /// As [`Client::remove`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn remove(&self) -> Result<(), RequestError> {
        self.client.remove(&self.path).await
    }
}
