//! `pfs stop`: shuts the daemon down.

use pfs_client::{Operator, Peer, RequestError};
use pfs_proto::{DaemonInfo, ErrorCode, StreamSummary};

use super::{Context, patiently};
use crate::{
    cli::StopArgs,
    exit_code::{ExitCode, Failure},
    process::Process,
    size::{count, size},
};

/// How many of the lost streams are named.
const NAMED: usize = 3;

/// Shuts the daemon down, and prints what is lost.
pub(super) async fn run(context: &Context, args: StopArgs) -> anyhow::Result<ExitCode> {
    let mut operator = context.daemon.operator().await?;
    let place = context.daemon.place();
    let tried = format!("cannot stop the daemon {place}");
    let peer = operator.peer();
    let info = operator.info().await.map_err(|error| context.explain(error, &tried))?;
    let lost = match stop(context, operator, &info, args.if_idle).await {
        Ok(lost) => lost,
        Err(RequestError::Daemon { code: ErrorCode::Protocol, .. }) => {
            terminate(context, peer, &info, args.if_idle).await?
        }
        Err(error) => return Err(context.explain(error, tried)),
    };
    let stopped = format!("stopped pfsd (pid {}) {place}", info.pid);
    match lost {
        Some(lost) => context.printer.loss(format_args!("{stopped}; lost {lost}")),
        None => context.printer.info(stopped),
    }
    Ok(ExitCode::Success)
}

/// Asks the daemon to shut down, waits until it has exited, and returns what was lost.
async fn stop(
    context: &Context,
    operator: Operator,
    info: &DaemonInfo,
    if_idle: bool,
) -> Result<Option<String>, RequestError> {
    let stopping = operator.stop(if_idle).await?;
    let lost = loss(&stopping.streams);
    patiently(&context.printer, end_of(info), stopping.ended()).await;
    Ok(lost)
}

/// Sends SIGTERM to a daemon that is too old for the request, and waits until it has exited.
/// Returns what was lost.
///
/// The signal is sent only if the system reports the same process id for the peer as the daemon
/// does for itself.
async fn terminate(
    context: &Context,
    peer: Peer,
    info: &DaemonInfo,
    if_idle: bool,
) -> anyhow::Result<Option<String>> {
    let DaemonInfo { version, pid, streams, memory, connections, .. } = info;
    let holds = format!("{} with {} of memory", count(*streams, "stream"), size(*memory));
    let refuse = |why: String| {
        let message = format!(
            "pfsd {version} (pid {pid}) is older than this pfs and {why}; the daemon holds {holds}"
        );
        Err(Failure::new(ExitCode::Failure, message).into())
    };
    if if_idle {
        let others = count(connections.saturating_sub(1), "other connection");
        return refuse(format!(
            "does not support --if-idle; without --if-idle, pfs stop ends the daemon even if it is in use; the daemon has {others}"
        ));
    }
    // The ids differ if a service manager created the socket: the peer is then the manager.
    let process = (peer.pid == Some(*pid)).then(|| Process::open(*pid)).flatten();
    let Some(process) = process.filter(Process::terminate) else {
        return refuse(format!(
            "cannot be stopped by pfs; on the daemon's machine, use kill {pid} or systemctl stop"
        ));
    };
    patiently(&context.printer, end_of(info), process.ended()).await;
    Ok((*streams > 0).then_some(holds))
}

fn end_of(info: &DaemonInfo) -> String {
    format!("pfsd (pid {}) to exit", info.pid)
}

/// Formats what was in the streams, and how many clients were attached; `None` if there were
/// no streams.
fn loss(streams: &[StreamSummary]) -> Option<String> {
    let (named, others) = streams.split_at_checked(NAMED).unwrap_or((streams, &[]));
    let mut names: Vec<String> = named.iter().map(|stream| stream.path.clone()).collect();
    if !others.is_empty() {
        names.push(format!("{} more", others.len()));
    }
    let sum =
        |number: fn(&StreamSummary) -> u64| streams.iter().map(number).fold(0, u64::saturating_add);
    let bytes = sum(|stream| stream.head.saturating_sub(stream.tail));
    let writers = count(sum(|stream| stream.writers.into()), "writer");
    let readers = count(sum(|stream| stream.readers.into()), "reader");
    let number = count(sum(|_| 1), "stream");
    (!streams.is_empty()).then(|| {
        format!(
            "{number} with {} ({}); {writers} and {readers} were attached",
            size(bytes),
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn the_loss_names_streams_bytes_and_attached_clients() {
        assert_eq!(loss(&[]), None);
        assert_eq!(
            loss(&sample::summaries()).unwrap(),
            "2 streams with 1.0 MiB (/streamfs/cam, /streamfs/empty); 1 writer and 2 readers were attached"
        );
        let one = sample::summaries().remove(1);
        assert_eq!(
            loss(&vec![one; 5]).unwrap(),
            "5 streams with 0 B (/streamfs/empty, /streamfs/empty, /streamfs/empty, 2 more); 0 writers and 0 readers \
             were attached"
        );
    }
}
