//! A connection from its hello to the request that makes it a writer's or a reader's.

use std::sync::Arc;

use pfs_proto::{ErrorCode, Frame, Hello, Reply, Request, VERSION};
use tokio::time::{Duration, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    caller::Caller,
    control,
    daemon::Daemon,
    failure::{Ended, Failure},
    reader_connection, sharing,
    shutdown::stuck,
    transport::Transport,
    watcher_connection,
    wire::Wire,
    writer_connection,
};

/// How long a client that is refused may take to read why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Serves a connection to its end: hello, then requests, one of which may make it a writer's or a reader's.
pub async fn serve<T: Transport>(transport: T, mut caller: Caller, daemon: Arc<Daemon>) {
    let mut wire = Wire::new(transport, daemon.arriving().clone());
    // Its own token, so that connections do not contend for the lock of one.
    let shutdown = daemon.shutdown().child_token();
    if let Err(Ended::Refused(failure)) = converse(&mut wire, &daemon, &mut caller, &shutdown).await {
        caller.log(|pid, uid| {
            tracing::debug!(pid, uid, code = %failure.code, "connection refused: {}", failure.message);
        });
        wire.put(&failure.reply());
        // A client that does not read what it is told is not waited for.
        let _ = timeout(LAST_WORDS, wire.flush()).await;
    }
}

async fn converse<T: Transport>(
    wire: &mut Wire<T>,
    daemon: &Daemon,
    caller: &mut Caller,
    shutdown: &CancellationToken,
) -> Result<(), Ended> {
    tokio::select! {
        biased;
        () = shutdown.cancelled() => return Err(Failure::going_away().into()),
        greeted = timeout(daemon.hello_timeout, hello(wire)) => greeted.map_err(|_| silent(daemon, "said no hello"))??,
    }
    if wire.sharing {
        caller.transport = "shm";
    }
    loop {
        let frame = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Err(Failure::going_away().into()),
            frame = next_frame(wire, daemon) => frame?,
        };
        let Some(frame) = frame else { return Ok(()) };
        let answered = match decode(frame) {
            Ok(Request::OpenWriter(path, options)) => {
                let place = daemon.writable(caller, &path)?;
                return Box::pin(writer_connection::serve(wire, daemon, &place, options, shutdown)).await;
            }
            Ok(Request::OpenReader(path, options)) => {
                let place = daemon.readable(caller, &path)?;
                return Box::pin(reader_connection::serve(wire, &place, options, shutdown)).await;
            }
            Ok(Request::Watch(path)) => {
                let place = daemon.readable(caller, &path)?;
                return Box::pin(watcher_connection::serve(wire, &place, shutdown)).await;
            }
            Ok(request) => control::answer(wire, daemon, caller, request).await,
            Err(failure) => Err(failure.into()),
        };
        match answered {
            // The next request may succeed, unless it is the protocol itself that was broken.
            Err(Ended::Refused(failure)) if failure.code != ErrorCode::Protocol => wire.put(&failure.reply()),
            answered => answered?,
        }
        tokio::select! {
            biased;
            () = wire.flush() => {}
            () = stuck(shutdown) => return Err(Ended::Stuck),
        }
    }
}

/// The next request. Who has a socket may be silent on it for as long as they like; over HTTP a request is all there at once.
async fn next_frame<T: Transport>(wire: &mut Wire<T>, daemon: &Daemon) -> Result<Option<Frame>, Ended> {
    if T::MAY_PAUSE {
        return wire.frame().await;
    }
    timeout(daemon.hello_timeout, wire.frame()).await.map_err(|_| silent(daemon, "asked for nothing"))?
}

fn decode(frame: Frame) -> Result<Request, Failure> {
    Ok(Request::decode(frame)?)
}

/// Settles the version. Nothing else is read before.
async fn hello<T: Transport>(wire: &mut Wire<T>) -> Result<(), Ended> {
    let Some(frame) = wire.frame().await? else { return Err(Ended::Gone) };
    let Request::Hello(theirs) = decode(frame)? else {
        return Err(Failure::new(ErrorCode::Protocol, "the first message must be Hello").into());
    };
    if theirs.common_version().is_none() {
        let Hello { min_version, max_version, .. } = theirs;
        let message = format!(
            "the client speaks version {min_version} to {max_version} of the protocol, this daemon (pfsd {}) \
             version {VERSION}; use a client and a daemon of the same release",
            env!("CARGO_PKG_VERSION")
        );
        return Err(Failure::new(ErrorCode::Version, message).into());
    }
    wire.sharing = sharing::POSSIBLE && wire.transport().passes_descriptors() && theirs.can_map();
    wire.resuming = theirs.can_resume();
    let heartbeats = T::HEARTBEATS && theirs.can_heartbeat();
    let shared =
        [(wire.sharing, Hello::MAPPING), (wire.resuming, Hello::RESUMING), (heartbeats, Hello::HEARTBEAT)];
    let capabilities = shared.into_iter().filter(|(can, _)| *can).fold(0, |all, (_, one)| all | one);
    if heartbeats {
        wire.transport().begin_heartbeats();
    }
    wire.put(&Reply::Hello(Hello { capabilities, ..Hello::OURS }));
    wire.flush().await;
    Ok(())
}

fn silent(daemon: &Daemon, what: &str) -> Ended {
    let seconds = daemon.hello_timeout.as_secs_f64();
    Failure::new(ErrorCode::Timeout, format!("the client {what} within {seconds} seconds")).into()
}
