//! Stream handle: the requests about one path.

use pfs_proto::{CreateOptions, PathError, ReadOptions, StreamPath, StreamStat, WriteOptions};

use crate::{Client, Events, Reader, RequestError, Writer};

/// A handle for one stream of a daemon, whether or not the stream exists. The handle has
/// [`Client`]'s requests for one path, named like those of a stream in this process.
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
    /// A handle for the stream at `path`. Sends no request: the stream need not exist.
    ///
    /// # Errors
    ///
    /// [`PathError`] if the path is not valid.
    pub fn open(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
    ) -> Result<Stream, PathError> {
        Ok(Stream { client: self.clone(), path: path.try_into().map_err(Into::into)? })
    }
}

impl Stream {
    /// The path of the stream.
    pub fn path(&self) -> &StreamPath {
        &self.path
    }

    /// Creates the stream. Same as [`Client::create`].
    ///
    /// # Errors
    ///
    /// The errors of [`Client::create`].
    ///
    /// # Cancel safety
    ///
    /// If cancelled, the daemon may or may not have created the stream.
    pub async fn create(&self, options: &CreateOptions) -> Result<(), RequestError> {
        self.client.create(&self.path, options).await
    }

    /// Attaches a writer. Same as [`Client::writer`].
    ///
    /// # Errors
    ///
    /// The errors of [`Client::writer`].
    ///
    /// # Cancel safety
    ///
    /// If cancelled, the daemon may have attached a writer, which then counts as dead.
    pub async fn writer(&self, options: WriteOptions) -> Result<Writer, RequestError> {
        self.client.writer(&self.path, options).await
    }

    /// Attaches a reader. Same as [`Client::reader`].
    ///
    /// # Errors
    ///
    /// The errors of [`Client::reader`].
    ///
    /// # Cancel safety
    ///
    /// If cancelled, nothing is lost.
    pub async fn reader(&self, options: ReadOptions) -> Result<Reader, RequestError> {
        self.client.reader(&self.path, options).await
    }

    /// Watches the stream. Same as [`Client::events`].
    ///
    /// # Errors
    ///
    /// The errors of [`Client::events`].
    ///
    /// # Cancel safety
    ///
    /// If cancelled, nothing is lost.
    pub async fn events(&self) -> Result<Events, RequestError> {
        self.client.events(&self.path).await
    }

    /// Stats of the stream. Same as [`Client::stat`].
    ///
    /// # Errors
    ///
    /// The errors of [`Client::stat`].
    ///
    /// # Cancel safety
    ///
    /// If cancelled, nothing is lost.
    pub async fn stat(&self) -> Result<StreamStat, RequestError> {
        self.client.stat(&self.path).await
    }

    /// Closes the stream. Same as [`Client::close`].
    ///
    /// # Errors
    ///
    /// The errors of [`Client::close`].
    ///
    /// # Cancel safety
    ///
    /// If cancelled, the daemon may or may not have closed the stream.
    pub async fn close(&self) -> Result<(), RequestError> {
        self.client.close(&self.path).await
    }

    /// Removes the stream and its data. Same as [`Client::remove`].
    ///
    /// # Errors
    ///
    /// The errors of [`Client::remove`].
    ///
    /// # Cancel safety
    ///
    /// If cancelled, the daemon may or may not have removed the stream.
    pub async fn remove(&self) -> Result<(), RequestError> {
        self.client.remove(&self.path).await
    }
}
