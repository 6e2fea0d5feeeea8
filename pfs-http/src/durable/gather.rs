//! Request body gathering, for a body that is appended as a whole.

use axum::body::Body;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use pfs_host::wide;
use pfs_proto::StreamPath;
use pfs_stream::Reservation;

use super::refusal::Refusal;
use crate::{Site, limits};

/// Maximum size of a body, however large the stream. A larger body can be sent to the path of the
/// stream, where it is appended as it arrives, which needs less memory.
const MAX_BODY_BYTES: u64 = 16 * 1024 * 1024;

/// Number of bytes of an oversized body that are still read: a client that is cut off in the middle
/// of its body does not see the reason.
const MAX_DRAINED_BYTES: u64 = 64 * 1024 * 1024;

/// Reads a body to its end, if it is not larger than the maximum chunk of the stream. Returns the
/// bytes with their memory reservation. The reservation grows as the bytes arrive, so an announced
/// length takes no memory from other clients.
pub(super) async fn gather(
    site: &Site,
    path: &StreamPath,
    mut body: Body,
    max_chunk: u64,
) -> Result<(Vec<u8>, Reservation), Refusal> {
    let limit = max_chunk.min(MAX_BODY_BYTES);
    body = limits::gathered(site, body);
    let mut memory = site.daemon.arriving().reserve(0).ok_or_else(too_many)?;
    let mut too_large = body.size_hint().lower() > limit;
    let (mut bytes, mut seen) = (Vec::new(), 0_u64);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| limits::broken_off(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        seen = seen.saturating_add(wide(data.len()));
        too_large |= seen > limit;
        if !too_large {
            if !memory.resize(seen) {
                return Err(too_many());
            }
            bytes.extend_from_slice(&data);
        } else if seen > MAX_DRAINED_BYTES {
            break;
        } else {
            bytes = Vec::new();
            let _ = memory.resize(0);
        }
    }
    if too_large {
        let message = format!(
            "cannot append to {path}: the body is larger than {limit} bytes, the limit of one append; \
             PUT the body to {path}, which takes a body in pieces"
        );
        return Err(Refusal::too_large(message));
    }
    Ok((bytes, memory))
}

fn too_many() -> Refusal {
    Refusal::no_memory("too many bodies are in flight; try again, or raise limits.max_memory")
}
