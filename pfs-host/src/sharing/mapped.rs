//! A reader that was handed the ring: its connection tells when it makes room, and when it is gone.

use std::{pin::pin, time::Duration};

use pfs_proto::{ErrorCode, Reply, Request, StreamPath};
use pfs_stream::{ReadError, Reader, mapped::Handout};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    failure::{Ended, Failure},
    transport::Transport,
    wire::Wire,
};

/// Hands the ring to the client. Returns the reader if that is not possible: the stream's memory cannot be shared, or there is
/// no memory for the reader's page.
pub(crate) async fn hand_out<T: Transport>(
    wire: &mut Wire<T>,
    reader: Reader,
    max_block_time: Option<Duration>,
) -> Result<Result<Handout, Reader>, Ended> {
    if !reader.stream().is_shared() {
        return Ok(Err(reader));
    }
    let mut handout = match reader.hand_out() {
        Ok(handout) => handout,
        Err((reader, error)) => {
            tracing::debug!(%error, "a reader is served over its connection: no memory for it to share");
            return Ok(Err(reader));
        }
    };
    if max_block_time.is_some() {
        handout.require_copies();
    }
    match handout.ring().zip(handout.page()) {
        Some((ring, page)) => wire.send_with(&Reply::Mapped(handout.start()), &[ring, page]).await?,
        None => return Ok(Err(handout.take_back())),
    }
    handout.close_files();
    Ok(Ok(handout))
}

/// How long a client may take to leave a stream that was removed. The ring itself tells the client of the removal, and occupies
/// memory for as long as the client maps it.
const REMOVED_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves the client as long as it reads the ring. Comes back when it can't map it; everything else is an end.
pub(crate) async fn attend<T: Transport>(
    wire: &mut Wire<T>,
    handout: &Handout,
    path: &StreamPath,
    shutdown: &CancellationToken,
) -> Result<(), Ended> {
    wire.flush().await;
    wire.release();
    let mut overdue = pin!(async {
        handout.removed().await;
        sleep(REMOVED_TIMEOUT).await;
    });
    loop {
        let frame = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Err(Failure::going_away().into()),
            frame = wire.frame() => frame?,
            () = &mut overdue => return Err(Failure::reading(path, ReadError::Removed).into()),
        };
        match frame.map(Request::decode).transpose()? {
            Some(Request::MadeRoom) => handout.made_room(),
            Some(Request::Unmapped) => return Ok(()),
            Some(_) => {
                let message = "a mapped reader has nothing else to say than that it made room";
                return Err(Failure::new(ErrorCode::Protocol, message).into());
            }
            None => return Err(Ended::Gone),
        }
    }
}
