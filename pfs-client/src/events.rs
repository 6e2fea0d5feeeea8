//! Stream events: watches readers and writers come and go.

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
};

use pfs_proto::{PathError, Reply, Request, StreamEvent, StreamPath};

use crate::{Client, ReadError, RequestError, client::checked, connection::Connection};

impl Client {
    /// Watches a stream: reports from now on when readers and writers come and go, what readers
    /// lose, and how the stream ends. The events have a connection of their own. No reader or
    /// writer waits for a watcher. A watcher that falls behind misses events and is told how many.
    ///
    /// ```no_run
    /// use pfs_client::{Client, Endpoint, StreamEvent};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::connect(Endpoint::from_env()?).await?;
    /// let mut events = client.events("/streamfs/cam").await?;
    /// while let Some(event) = events.next().await? {
    ///     match event {
    ///         StreamEvent::FirstReader => println!("somebody is watching: camera on"),
    ///         StreamEvent::NoReaders => println!("nobody is watching: camera off"),
    ///         _ => (),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Any [`RequestError`]. The daemon's codes include `NoSuchStream`.
    ///
    /// # Cancel safety
    ///
    /// If cancelled, nothing is lost. The client stays usable.
    pub async fn events(
        &self,
        path: impl TryInto<StreamPath, Error: Into<PathError>>,
    ) -> Result<Events, RequestError> {
        let path = checked(path)?;
        let mut connection = self.connection().await?;
        match connection.request(&Request::Watch(path)).await? {
            Reply::Watching => Ok(Events { connection, state: State::Watching }),
            Reply::Error { code, message } => Err(RequestError::refused(code, message)),
            _ => Err(RequestError::unexpected("the confirmation of a watch")),
        }
    }
}

/// The events of one stream, from [`Client::events`]. Dropping this value stops the watch.
#[derive(Debug)]
pub struct Events {
    connection: Connection,
    state: State,
}

#[derive(Debug)]
enum State {
    Watching,
    /// The stream was removed.
    Ended,
    Failed(ReadError),
}

#[cfg(feature = "futures")]
impl futures_core::Stream for Events {
    type Item = Result<StreamEvent, ReadError>;

    /// Like [`next`](Events::next), but ends after the first error.
    fn poll_next(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let State::Failed(_) = this.state {
            return Poll::Ready(None);
        }
        this.poll_next(cx).map(Result::transpose)
    }
}

impl Events {
    /// Waits for the next event. After [`StreamEvent::Removed`], always returns `None`.
    ///
    /// # Errors
    ///
    /// The daemon went away or broke the protocol. Every later call returns the same error.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an event that was not returned is not lost.
    pub async fn next(&mut self) -> Result<Option<StreamEvent>, ReadError> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Poll form of [`next`](Self::next), for hand-written futures.
    ///
    /// # Errors
    ///
    /// The errors of [`next`](Self::next).
    pub fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<StreamEvent>, ReadError>> {
        match &self.state {
            State::Watching => {}
            State::Ended => return Poll::Ready(Ok(None)),
            State::Failed(error) => return Poll::Ready(Err(error.clone())),
        }
        Poll::Ready(match ready!(self.poll_reply(cx)) {
            Ok(event) => {
                if event == StreamEvent::Removed {
                    self.state = State::Ended;
                }
                Ok(Some(event))
            }
            Err(error) => {
                self.state = State::Failed(error.clone());
                Err(error)
            }
        })
    }

    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Result<StreamEvent, ReadError>> {
        loop {
            match self.connection.received()? {
                Some(Reply::Happened(event)) => return Poll::Ready(Ok(event)),
                Some(Reply::Error { code, message }) => {
                    return Poll::Ready(Err(RequestError::refused(code, message).into()));
                }
                Some(_) => return Poll::Ready(Err(RequestError::unexpected("an event").into())),
                None => ready!(self.connection.poll_fill(cx, 0))?,
            }
        }
    }
}
