//! The body of a request, which is appended as a whole.

use axum::{body::Body, http::StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use pfs_host::{Daemon, wide};
use pfs_proto::StreamPath;
use pfs_stream::Reservation;

use super::refusal::Refusal;
use crate::{Site, limits};

/// Larger bodies are not taken, however large the stream: what is appended as it flows in does not need so much memory.
const MAX_BODY: u64 = 16 << 20;

/// Memory is reserved in steps of so many bytes.
const STEP: u64 = 256 << 10;

/// How much of a body that is too large is read nevertheless: a client that is cut off in the middle of it does not see why.
const PATIENCE: u64 = 64 << 20;

/// Reads a body to its end, if it is not larger than a chunk of the stream may be. With it comes the right to hold it in
/// memory.
pub(super) async fn gather(
    site: &Site,
    path: &StreamPath,
    mut body: Body,
    max_chunk: u64,
) -> Result<(Vec<u8>, Vec<Reservation>), Refusal> {
    let limit = max_chunk.min(MAX_BODY);
    body = limits::watched(site, body);
    let mut memory = Memory::new(&site.daemon);
    let hint = body.size_hint();
    let mut too_large = hint.lower() > limit;
    let (mut bytes, mut seen) = (Vec::new(), 0_u64);
    if let Some(exact) = hint.exact().filter(|_| !too_large) {
        memory.have(exact)?;
        bytes.reserve_exact(usize::try_from(exact).unwrap_or_default());
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| limits::broken_off(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        seen = seen.saturating_add(wide(data.len()));
        too_large |= seen > limit;
        if !too_large {
            memory.have(seen)?;
            bytes.extend_from_slice(&data);
        } else if seen > PATIENCE {
            break;
        } else {
            bytes = Vec::new();
        }
    }
    if too_large {
        let message = format!(
            "cannot append to {path}: the body is larger than the {limit} bytes that are appended at once; \
             PUT it to {path}, which takes it in pieces"
        );
        return Err(Refusal::too_large(message));
    }
    Ok((bytes, memory.reserved))
}

/// Memory for bodies, of what all of them may take together.
struct Memory<'a> {
    daemon: &'a Daemon,
    reserved: Vec<Reservation>,
    size: u64,
}

impl<'a> Memory<'a> {
    fn new(daemon: &'a Daemon) -> Self {
        Self { daemon, reserved: Vec::new(), size: 0 }
    }

    /// Reserves what is missing to hold so many bytes.
    fn have(&mut self, size: u64) -> Result<(), Refusal> {
        let missing = size.saturating_sub(self.size);
        if missing == 0 {
            return Ok(());
        }
        let more = if self.size == 0 { missing } else { missing.max(STEP) };
        let reservation = self.daemon.reserve(more).ok_or_else(|| {
            let message = "too many bodies are on their way just now; try again, or raise limits.max_memory";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "limit", message)
                .with(axum::http::header::RETRY_AFTER, 1.into())
        })?;
        self.reserved.push(reservation);
        self.size = self.size.saturating_add(more);
        Ok(())
    }
}
