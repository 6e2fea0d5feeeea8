//! Connection of frames: hello, version negotiation, then requests, until a request turns the
//! connection into a writer's, reader's or watcher's connection.

use std::{pin::pin, sync::Arc};

use pfs_proto::{ErrorCode, Frame, Hello, PutOptions, Reply, Request, StreamPath, VERSION};
use tokio::{
    task::coop::consume_budget,
    time::{Duration, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    caller::Caller,
    control,
    daemon::Daemon,
    failure::{Ended, Failure},
    forward,
    poll::poll_once,
    reader_connection::{self, Kind},
    refusals::Reason,
    session::Put,
    shutdown::stuck,
    transport::Transport,
    watcher_connection,
    wire::Wire,
    writer_connection,
};

/// Time for a refused client to read the reason.
const FINAL_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Replies to requests that arrived together are sent together, up to about this many bytes.
const REPLY_BATCH_BYTES: usize = 16 * 1024;

/// Serves a connection to its end: hello, then requests. A request may turn the connection into a
/// writer's, reader's or watcher's connection.
pub async fn serve<T: Transport + 'static>(transport: T, mut caller: Caller, daemon: Arc<Daemon>) {
    let mut wire = Wire::new(transport, daemon.arriving().clone());
    // A child token, so that connections do not contend for the lock of a common token.
    let shutdown = daemon.shutdown().child_token();
    match converse(&mut wire, &daemon, &mut caller, &shutdown).await {
        Err(Ended::Refused(failure)) => {
            count(&daemon, &caller, &failure);
            wire.put(&failure.reply());
            // Do not wait for a client that does not read the reason.
            let _ = timeout(FINAL_FLUSH_TIMEOUT, wire.flush()).await;
        }
        Err(Ended::Stopped) => {
            let _ = timeout(FINAL_FLUSH_TIMEOUT, wire.flush()).await;
            daemon.keep(wire.into_transport());
        }
        Ok(()) | Err(Ended::Gone | Ended::Stuck) => {}
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
        () = shutdown.cancelled() => return Err(Failure::shutting_down().into()),
        greeted = timeout(daemon.hello_timeout, hello(wire)) => greeted.map_err(|_| silent(daemon, "sent no hello"))??,
    }
    if wire.sharing {
        caller.transport = "shm";
    }
    loop {
        let received = wire.received()?;
        if received.is_none() || wire.queued() >= REPLY_BATCH_BYTES {
            flush(wire, shutdown).await?;
        }
        let frame = match received {
            Some(_) if shutdown.is_cancelled() => return Err(Failure::shutting_down().into()),
            Some(frame) => {
                consume_budget().await;
                frame
            }
            None => {
                let frame = tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return Err(Failure::shutting_down().into()),
                    frame = next_frame(wire, daemon) => frame?,
                };
                let Some(frame) = frame else { return Ok(()) };
                frame
            }
        };
        let request = decode(frame);
        if !matches!(request, Ok(Request::Put(..))) {
            // Any other request may take long, or take over the connection until its end.
            flush(wire, shutdown).await?;
        }
        let answered = match request {
            Ok(Request::OpenWriter(path, options)) => {
                let place = daemon.writable(caller, &path)?;
                if let Some(owner) = place.mount.elsewhere() {
                    return Box::pin(forward::serve(wire, &place, owner, options)).await;
                }
                return Box::pin(writer_connection::serve(wire, &place, options)).await;
            }
            Ok(Request::OpenReader(path, options)) => {
                let place = daemon.readable(caller, &path)?;
                return Box::pin(reader_connection::serve(wire, &place, options, Kind::Reader))
                    .await;
            }
            Ok(Request::OpenLink(path, options)) if wire.linking => {
                let place = daemon.readable(caller, &path)?;
                return Box::pin(reader_connection::serve(wire, &place, options, Kind::Link)).await;
            }
            Ok(Request::Watch(path)) => {
                let place = daemon.readable(caller, &path)?;
                return Box::pin(watcher_connection::serve(wire, &place)).await;
            }
            Ok(Request::Put(path, options, chunk)) => {
                put(wire, daemon, caller, &path, options, &chunk).await
            }
            Ok(request) => control::answer(wire, daemon, caller, request).await,
            Err(failure) => Err(failure.into()),
        };
        match answered {
            // The next request may succeed, unless the client broke the protocol itself.
            Err(Ended::Refused(failure)) if failure.code != ErrorCode::Protocol => {
                count(daemon, caller, &failure);
                wire.put(&failure.reply());
            }
            answered => answered?,
        }
    }
}

/// Sends the queued replies.
async fn flush<T: Transport>(
    wire: &mut Wire<T>,
    shutdown: &CancellationToken,
) -> Result<(), Ended> {
    if wire.queued() == 0 {
        return Ok(());
    }
    tokio::select! {
        biased;
        () = wire.flush() => Ok(()),
        () = stuck(shutdown.cancelled()) => Err(Ended::Stuck),
    }
}

/// Puts a chunk into a stream. Sends earlier replies while the append waits.
async fn put<T: Transport>(
    wire: &mut Wire<T>,
    daemon: &Daemon,
    caller: &Caller,
    path: &StreamPath,
    options: PutOptions,
    chunk: &[u8],
) -> Result<(), Ended> {
    let place = daemon.writable(caller, path)?;
    let mut put = pin!(place.put(options, chunk));
    let Put { created, offset } = match poll_once(put.as_mut()).await {
        Some(done) => done?,
        None => loop {
            let flushed = wire.try_flush();
            let transport = wire.transport();
            tokio::select! {
                biased;
                done = &mut put => break done?,
                // Give up if the client is gone: no client would ever learn that the chunk
                // was appended.
                () = transport.hung_up() => return Err(Ended::Gone),
                ready = transport.writable(), if !flushed => ready?,
            }
        },
    };
    wire.put(&Reply::Put { created, offset });
    Ok(())
}

/// Waits for the next request. A client of a socket may stay silent for as long as it likes; over
/// HTTP, a request arrives at once and has a time limit.
async fn next_frame<T: Transport>(
    wire: &mut Wire<T>,
    daemon: &Daemon,
) -> Result<Option<Frame>, Ended> {
    if T::MAY_PAUSE {
        return wire.frame().await;
    }
    timeout(daemon.hello_timeout, wire.frame())
        .await
        .map_err(|_| silent(daemon, "sent no request"))?
}

fn decode(frame: Frame) -> Result<Request, Failure> {
    Ok(Request::decode(frame)?)
}

/// Reads the hello, agrees on the version and the capabilities, and replies. No other message is
/// read before the hello.
async fn hello<T: Transport>(wire: &mut Wire<T>) -> Result<(), Ended> {
    let Some(frame) = wire.frame().await? else { return Err(Ended::Gone) };
    let Request::Hello(theirs) = decode(frame)? else {
        return Err(Failure::new(ErrorCode::Protocol, "the first message must be Hello").into());
    };
    if theirs.common_version().is_none() {
        return Err(other_version(theirs).into());
    }
    wire.sharing =
        cfg!(target_os = "linux") && wire.transport().passes_descriptors() && theirs.can_share();
    wire.following = wire.sharing && theirs.can_follow();
    wire.resuming = theirs.can_resume();
    wire.leasing = theirs.can_lease();
    wire.joining = theirs.can_join();
    wire.linking = theirs.can_link();
    let heartbeats = T::HEARTBEATS && theirs.can_heartbeat();
    let shared = [
        (wire.sharing, Hello::SHM),
        (wire.following, Hello::MOVING),
        (wire.resuming, Hello::RESUMING),
        (heartbeats, Hello::HEARTBEAT),
        (theirs.can_put(), Hello::PUT),
        (wire.leasing, Hello::LEASING),
        (wire.joining, Hello::JOINING),
        (wire.linking, Hello::LINKING),
    ];
    let capabilities =
        shared.into_iter().filter(|(can, _)| *can).fold(0, |all, (_, one)| all | one);
    if heartbeats {
        wire.transport().begin_heartbeats();
    }
    wire.put(&Reply::Hello(Hello { capabilities, ..Hello::OURS }));
    wire.flush().await;
    Ok(())
}

fn other_version(Hello { min_version, max_version, .. }: Hello) -> Failure {
    let (own, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
    let theirs = match max_version {
        only if only == min_version => format!("version {only}"),
        _ => format!("version {min_version} to {max_version}"),
    };
    let (age, stop) = if max_version < VERSION {
        ("older", format!("use the pfs of this pfsd, or stop pfsd with: kill {pid}"))
    } else {
        ("newer", "stop pfsd with pfs stop, and start the pfsd of this client".to_owned())
    };
    let message = format!(
        "pfsd {own} (pid {pid}) speaks version {VERSION} of the protocol, and this client is {age} and speaks {theirs}; {stop}"
    );
    Failure::new(ErrorCode::Version, message)
}

fn silent(daemon: &Daemon, what: &str) -> Ended {
    let seconds = daemon.hello_timeout.as_secs_f64();
    let message = format!("the client {what} within {seconds} seconds");
    Failure::new(ErrorCode::Timeout, message).because(Reason::TooSlow).into()
}

/// Counts and logs a refusal. Other errors concern only the client, and are logged at debug.
fn count(daemon: &Daemon, caller: &Caller, failure: &Failure) {
    let Failure { code, message, reason } = failure;
    match reason {
        Some(reason) => daemon.refusals().refuse(*reason, &caller.into(), message),
        None => {
            caller.log(|pid, uid| tracing::debug!(pid, uid, %code, "request failed: {message}"))
        }
    }
}
