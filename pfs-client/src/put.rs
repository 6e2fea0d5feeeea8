//! Puts: one request that creates a stream if necessary and appends one chunk.

use bytes::Bytes;
use pfs_proto::{
    CreateOptions, ErrorCode, Hello, IfExists, MAX_CONTENT_TYPE, PathError, PutOptions, Reply,
    Request, StreamPath, WriteOptions,
};
use pfs_stream::{Chunk, Finish, WriteError};

use crate::{Client, client::checked, error::RequestError};

/// Puts are pipelined in batches of about this many bytes before their replies are read.
const PUT_BATCH_BYTES: usize = 64 * 1024;

/// The most bytes that a put takes on the wire besides its path and its chunk.
const MAX_PUT_OVERHEAD_BYTES: usize = 300;

/// The result of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Put {
    /// Whether the put created the stream.
    pub created: bool,
    /// The offset after the chunk; 0 for an empty chunk.
    pub offset: u64,
}

impl Client {
    /// The largest chunk that [`put`](Self::put) sends in one request, in bytes. A larger chunk
    /// takes several requests.
    pub fn max_put(&self) -> usize {
        self.dialer.max_put()
    }

    /// Appends one chunk as a writer that attaches and finishes, in a single request. If there is
    /// no stream, or if the options say to replace it, the request creates the stream, and the
    /// stream holds the chunk before any other client finds it. While `block` readers of an
    /// existing stream need the room, the put waits for them.
    ///
    /// A chunk of more than [`max_put`](Self::max_put) bytes takes several requests:
    /// [`create`](Self::create), then a [`writer`](Self::writer). So does any chunk if the daemon
    /// is too old to know puts.
    ///
    /// ```no_run
    /// # async fn example(client: pfs_client::Client) -> Result<(), pfs_client::RequestError> {
    /// use pfs_client::{IfExists, PutOptions};
    ///
    /// let options = PutOptions::default().if_exists(IfExists::Fail).close(true);
    /// let put = client.put("/streamfs/job-1", "done", &options).await?;
    /// assert!(put.created);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Any [`RequestError`]. The daemon's codes include `AlreadyExists`, `Closed`, `TooLarge`,
    /// `Limit`, `BadPath` and `BadOption`. If the daemon refuses the put, the stream holds no part
    /// of the chunk, and no stream was created.
    ///
    /// # Cancel safety
    ///
    /// If cancelled, the daemon may or may not have appended the chunk. A cancelled put that takes
    /// several requests may leave a writer that counts as dead. The client stays usable.
    pub async fn put(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
        chunk: impl Chunk,
        options: &PutOptions,
    ) -> Result<Put, RequestError> {
        let path = checked(path)?;
        let mut connection = self.connection().await?;
        if !fits(chunk.as_ref(), options, self.max_put()) || connection.takes_no_puts() {
            self.keep(connection);
            return self.put_in_steps(path, chunk.as_ref(), options).await;
        }
        match connection.request(&request(&path, &chunk, options)).await? {
            Reply::Put { created, offset } => {
                self.keep(connection);
                Ok(Put { created, offset })
            }
            Reply::Error { .. } if connection.takes_no_puts() => {
                self.put_in_steps(path, chunk.as_ref(), options).await
            }
            other => Err(self.failure(connection, other, EXPECTED)),
        }
    }

    /// Puts many chunks, one after the other, and returns the result of each [`put`](Self::put).
    /// Puts are pipelined: many are sent before their replies are awaited. Use this method to fill
    /// many streams without a round trip for each.
    ///
    /// ```no_run
    /// # async fn example(client: pfs_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use pfs_client::{PutOptions, StreamPath};
    ///
    /// let mut jobs: Vec<(StreamPath, String)> = Vec::new();
    /// for number in 0..100_000 {
    ///     jobs.push((format!("/streamfs/job-{number}").parse()?, format!("queued {number}\n")));
    /// }
    /// for put in client.put_all(jobs, &PutOptions::default()).await? {
    ///     put?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The connection failed; the number of chunks put by then is unknown. If the daemon refuses a
    /// put, that error is in its place among the results, and the later puts are still carried out.
    ///
    /// # Cancel safety
    ///
    /// If cancelled, the daemon may have carried out some of the puts, in order from the first one.
    /// The client stays usable.
    pub async fn put_all<C: Chunk>(
        &self,
        puts: impl IntoIterator<Item = (StreamPath, C)>,
        options: &PutOptions,
    ) -> Result<Vec<Result<Put, RequestError>>, RequestError> {
        let mut connection = self.connection().await?;
        connection.learn(Hello::PUT).await?;
        let most = self.max_put();
        let mut puts = puts.into_iter().peekable();
        let mut results = Vec::with_capacity(puts.size_hint().0);
        while let Some((path, chunk)) = puts.peek() {
            if connection.takes_no_puts() || !fits(chunk.as_ref(), options, most) {
                let put = self.put(path.clone(), chunk.as_ref(), options).await;
                results.push(lasting(put)?);
                puts.next();
                continue;
            }
            let (mut requests, mut size) = (Vec::new(), 0_usize);
            while let Some((path, chunk)) = puts.next_if(|(path, chunk)| {
                size = size.saturating_add(
                    path.as_str().len() + chunk.as_ref().len() + MAX_PUT_OVERHEAD_BYTES,
                );
                let is_first = requests.is_empty();
                is_first || size <= PUT_BATCH_BYTES.min(most) && fits(chunk.as_ref(), options, most)
            }) {
                requests.push(request(&path, &chunk, options));
            }
            let mut unexpected = false;
            connection
                .request_all(&requests, |reply| {
                    results.push(match reply {
                        Reply::Put { created, offset } => Ok(Put { created, offset }),
                        Reply::Error { code, message } => Err(RequestError::refused(code, message)),
                        _ => {
                            unexpected = true;
                            Err(RequestError::unexpected(EXPECTED))
                        }
                    });
                })
                .await?;
            if unexpected {
                return Err(RequestError::unexpected(EXPECTED));
            }
        }
        self.keep(connection);
        Ok(results)
    }

    /// Puts a chunk with several requests.
    async fn put_in_steps(
        &self,
        path: StreamPath,
        chunk: &[u8],
        options: &PutOptions,
    ) -> Result<Put, RequestError> {
        let PutOptions { create, close } = options;
        let if_exists = match create.if_exists {
            IfExists::Keep => IfExists::Fail,
            other => other,
        };
        let created =
            match self.create(path.clone(), &CreateOptions { if_exists, ..create.clone() }).await {
                Ok(()) => true,
                Err(error)
                    if create.if_exists == IfExists::Keep
                        && error.code() == Some(ErrorCode::AlreadyExists) =>
                {
                    false
                }
                Err(error) => return Err(error),
            };
        let mut writer = self.writer(path.clone(), WriteOptions::default()).await?;
        let finish = if *close { Finish::Close } else { Finish::KeepOpen };
        match writer.append(chunk).await {
            Ok(()) => {
                let offset = writer.finish(finish).await.map_err(|error| failure(&path, error))?;
                Ok(Put { created, offset })
            }
            Err(error @ WriteError::TooLarge { .. }) => {
                writer.withdraw().await.map_err(|error| failure(&path, error))?;
                if created {
                    self.remove(path.clone()).await?;
                }
                Err(failure(&path, error))
            }
            Err(error) => Err(failure(&path, error)),
        }
    }
}

/// The expected reply to a put, for error messages.
const EXPECTED: &str = "the result of an append";

fn request(path: &StreamPath, chunk: &impl Chunk, options: &PutOptions) -> Request {
    let bytes = chunk.shared().unwrap_or_else(|| Bytes::copy_from_slice(chunk.as_ref()));
    Request::Put(path.clone(), options.clone(), bytes)
}

/// Returns true if a put fits into one message. A media type that is too long is left to
/// [`create`](Client::create), where the daemon refuses it.
fn fits(chunk: &[u8], options: &PutOptions, most: usize) -> bool {
    let content_type = options.create.content_type.as_deref().unwrap_or_default();
    chunk.len() <= most && content_type.len() <= MAX_CONTENT_TYPE
}

/// Separates errors of the connection, after which no other put is possible, from the result of
/// one put.
fn lasting(put: Result<Put, RequestError>) -> Result<Result<Put, RequestError>, RequestError> {
    match put {
        Err(error) if error.code().is_none() => Err(error),
        put => Ok(put),
    }
}

/// Converts the error of a writer that could not put a chunk.
fn failure(path: &StreamPath, error: WriteError) -> RequestError {
    let code = match &error {
        WriteError::Closed => ErrorCode::Closed,
        WriteError::Removed => ErrorCode::Removed,
        WriteError::TooLarge { .. } => ErrorCode::TooLarge,
        WriteError::DaemonGone(cause) => {
            return std::io::Error::new(std::io::ErrorKind::ConnectionAborted, cause.to_string())
                .into();
        }
        WriteError::Other(cause) if let Some(error) = cause.downcast_ref::<RequestError>() => {
            return error.clone();
        }
        _ => ErrorCode::Internal,
    };
    RequestError::Daemon { code, message: format!("cannot append to {path}: {error}") }
}
