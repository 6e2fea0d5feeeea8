//! How a request becomes a reader of a stream.

use pfs_host::Failure;
use pfs_proto::{ReadOptions, StreamPath};
use pfs_stream::Reader;

use super::{Site, access::Access};

/// Attaches a reader, waiting for the stream's creation if the options say so. Whoever asks has been found to be allowed to.
pub(crate) async fn attach(
    site: &Site,
    access: &Access,
    path: &StreamPath,
    options: ReadOptions,
) -> Result<Reader, Failure> {
    let daemon = &site.daemon;
    daemon.namespace.stream(path)?;
    let peer = access.client().peer;
    let attached = if options.wait {
        let mut going = site.going();
        tokio::select! {
            attached = daemon.reader_when_created(path, options, peer) => attached,
            () = going.begun() => return Err(Failure::going_away()),
        }
    } else {
        daemon.existing(path)?.reader(options, peer)
    };
    attached.map_err(|error| Failure::attaching("cannot read", path, error))
}
