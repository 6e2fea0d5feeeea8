//! Tests of the library against a daemon that each test scripts.

mod client;
mod daemon;
mod events;
mod given_up;
mod old_peer;
mod puts;
mod reader;
#[cfg(target_os = "linux")]
mod sleeping;
mod threads;
mod writer;

use crate::{Cause, ProtocolError, ReadError, RequestError};

/// The protocol error inside a read error, if there is one.
fn violation(error: &ReadError) -> Option<&ProtocolError> {
    let ReadError::Other(cause) = error else { return None };
    violation_of(cause)
}

fn violation_of(cause: &Cause) -> Option<&ProtocolError> {
    match cause.downcast_ref()? {
        RequestError::Protocol(error) => Some(error),
        _ => None,
    }
}
