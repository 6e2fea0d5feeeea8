//! Connection of an shm reader: carries wake-ups and requests for the next ring, and shows when the
//! reader is gone.

use std::{convert::Infallible, future::pending, pin::pin, time::Duration};

use pfs_proto::{ErrorCode, Reply, Request};
use pfs_stream::{
    ReadError, Reader,
    shm::{FollowError, Handout},
};
use tokio::time::sleep;

use crate::{
    Cutoff, Readable,
    daemon::Daemon,
    failure::{Ended, Failure},
    poll::poll_once,
    session::ReadingLog,
    shutdown::stuck,
    transport::Transport,
    wire::Wire,
};

/// Passes the ring to the client. Returns the reader if the client or the stream cannot share
/// memory, or there is no memory for the reader's page.
pub(crate) async fn hand_out<T: Transport>(
    wire: &mut Wire<T>,
    place: &Readable<'_>,
    reader: Reader,
) -> Result<Result<Handout, Reader>, Ended> {
    if !wire.sharing || !reader.stream().is_shared() {
        return Ok(Err(reader));
    }
    let mut handout = match reader.hand_out(wire.following) {
        Ok(handout) => handout,
        Err((reader, error)) => {
            tracing::debug!(%error, "cannot share memory with a reader; the daemon serves the reader over its connection");
            return Ok(Err(reader));
        }
    };
    if place.daemon.max_block_time.borrow().is_some() {
        handout.require_copies();
    }
    let Some((ring, page)) = handout.ring().zip(handout.page()) else {
        return Ok(Err(handout.take_back()));
    };
    let descriptors: Vec<_> =
        [ring, page].into_iter().chain(handout.wake_files().into_iter().flatten()).collect();
    wire.send_with(&Reply::Shm(handout.start()), &descriptors).await?;
    handout.close_files();
    Ok(Ok(handout))
}

/// Time for a client to leave a removed stream. The ring itself tells the client of the removal,
/// and occupies memory for as long as the client maps it.
const REMOVED_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a reader may stay in a ring that the stream has left, before the daemon tells
/// the reader.
const LEFT_TIMEOUT: Duration = Duration::from_secs(2);

/// A ring that a client reads.
///
/// When the daemon shuts down, the client reads on until it learns of the shutdown. The ring must
/// be kept until the last writer has left: otherwise a writer that waits for this `block` reader
/// would overwrite data that the client still reads.
struct Seat<'a> {
    /// `None` after the handout was taken.
    handout: Option<Handout>,
    daemon: &'a Daemon,
    cutoff: &'a Cutoff,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if self.cutoff.is_shutdown()
            && let Some(handout) = self.handout.take()
        {
            self.daemon.keep(handout);
        }
    }
}

/// Serves the client for as long as it reads the ring. Returns the reader if the client cannot map
/// the ring or the next ring is not shared; every other outcome is an error.
pub(crate) async fn serve<T: Transport>(
    wire: &mut Wire<T>,
    place: &Readable<'_>,
    handout: Handout,
    mut log: ReadingLog,
    cutoff: &Cutoff,
) -> Result<(ReadingLog, Reader), Ended> {
    let mut seat = Seat { handout: Some(handout), daemon: place.daemon, cutoff };
    if let Some(handout) = &seat.handout
        && let Err(ended) = attend(wire, handout, place, cutoff).await
    {
        log.left_ring(handout, &ended);
        return Err(ended);
    }
    let handout = seat.handout.take().ok_or(Ended::Gone)?;
    Ok((log, handout.take_back()))
}

/// Handles the client's messages until the client ends, or has to be served over the connection.
async fn attend<T: Transport>(
    wire: &mut Wire<T>,
    handout: &Handout,
    place: &Readable<'_>,
    cutoff: &Cutoff,
) -> Result<(), Ended> {
    wire.flush().await;
    wire.release();
    // A time limit for `block` readers may be set while the client reads.
    let mut limited = pin!(async {
        let _ = place.daemon.max_block_time.subscribe().wait_for(Option::is_some).await;
        handout.require_copies();
        pending::<Infallible>().await
    });
    let mut overdue = pin!(async {
        handout.removed().await;
        sleep(REMOVED_TIMEOUT).await;
    });
    let mut left = pin!(left_unnoticed(handout, None));
    loop {
        let frame = tokio::select! {
            biased;
            failure = cutoff.reached() => return Err(failure.into()),
            frame = wire.frame() => frame?,
            ring = &mut left => {
                wire.put(&Reply::RingLeft);
                wire.try_flush();
                left.set(left_unnoticed(handout, Some(ring)));
                continue;
            }
            () = &mut overdue => return Err(Failure::reading(place.path(), ReadError::Removed).into()),
            never = &mut limited => match never {},
        };
        match frame.map(Request::decode).transpose()? {
            Some(Request::MadeRoom) => handout.made_room(),
            Some(Request::Follow) => {
                if let Followed::Unshared = follow(wire, handout, place, cutoff).await? {
                    return Ok(());
                }
            }
            Some(Request::CannotMap) => return Ok(()),
            Some(_) => {
                let message = "an shm reader may send only MadeRoom, Follow or CannotMap";
                return Err(Failure::new(ErrorCode::Protocol, message).into());
            }
            None => return Err(Ended::Gone),
        }
    }
}

/// Waits until the client has stayed in a ring for [`LEFT_TIMEOUT`] after the stream has left the
/// ring or has ended: a former holder of a lease can hide that from the client. Returns the number
/// of the ring.
async fn left_unnoticed(handout: &Handout, told: Option<u64>) -> u64 {
    loop {
        let ring = handout.left_ring(told).await;
        sleep(LEFT_TIMEOUT).await;
        if poll_once(handout.left_ring(told)).await == Some(ring) {
            return ring;
        }
    }
}

/// How a reader continues after its stream has moved.
enum Followed {
    /// In the ring that was passed to it.
    Shared,
    /// Over the connection.
    Unshared,
}

/// Passes the ring that the stream has moved to.
async fn follow<T: Transport>(
    wire: &mut Wire<T>,
    handout: &Handout,
    place: &Readable<'_>,
    cutoff: &Cutoff,
) -> Result<Followed, Ended> {
    let next = match handout.follow() {
        Ok(next) => next,
        Err(FollowError::NotShared) => {
            wire.put(&Reply::Unshared);
            return Ok(Followed::Unshared);
        }
        Err(FollowError::Removed) => {
            return Err(Failure::reading(place.path(), ReadError::Removed).into());
        }
        Err(error) => return Err(Failure::new(ErrorCode::Protocol, error.to_string()).into()),
    };
    let reply = Reply::Ring { layout: next.layout(), leased: next.wake_files().is_some() };
    let descriptors: Vec<_> =
        [next.file()].into_iter().chain(next.wake_files().into_iter().flatten()).collect();
    let sent = tokio::select! {
        biased;
        sent = wire.send_with(&reply, &descriptors) => sent,
        () = stuck(cutoff.reached()) => return Err(Ended::Stuck),
    };
    sent?;
    Ok(Followed::Shared)
}
