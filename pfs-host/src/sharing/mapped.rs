//! A reader that was handed the ring: its connection tells when it makes room, and when it is gone.

use pfs_proto::{ErrorCode, Reply, Request};
use pfs_stream::{Reader, mapped::Handout};
use tokio_util::sync::CancellationToken;

use crate::{
    failure::{Ended, Failure},
    transport::Transport,
    wire::Wire,
};

/// Hands the ring to the client; the reader comes back if that is not possible: the stream's memory cannot be shared, or there is
/// none for the reader's page.
pub(crate) async fn hand_out<T: Transport>(
    wire: &mut Wire<T>,
    reader: Reader,
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
    match handout.ring().zip(handout.page()) {
        Some((ring, page)) => wire.send_with(&Reply::Mapped(handout.start()), &[ring, page]).await?,
        None => return Ok(Err(handout.take_back())),
    }
    handout.close_page();
    Ok(Ok(handout))
}

/// Serves the client as long as it reads the ring. Comes back when it can't map it; everything else is an end.
pub(crate) async fn attend<T: Transport>(
    wire: &mut Wire<T>,
    handout: &Handout,
    shutdown: &CancellationToken,
) -> Result<(), Ended> {
    wire.flush().await;
    wire.release();
    loop {
        let frame = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Err(Failure::going_away().into()),
            frame = wire.frame() => frame?,
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
