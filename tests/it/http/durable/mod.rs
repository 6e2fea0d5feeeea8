//! Durable Streams protocol at `/v1/stream`, beyond the protocol's own test suite
//! (scripts/conformance): effects of the ring buffer, other protocols on the same stream,
//! and limits.

mod bodies;
mod gone;
mod http2;
mod interop;
mod live;
mod producers;

use harness::{Daemon, HttpResponse};
use serde_json::Value;

const TEXT: (&str, &str) = ("content-type", "text/plain");
const JSON: (&str, &str) = ("content-type", "application/json");

/// Starts a daemon whose streams hold 64 KiB.
#[track_caller]
fn small() -> Daemon {
    Daemon::with_http_config(
        "[plugins.streamfs.config]\nring_buffer_size = \"64KB\"\nchannel_buffer_size = \"64KB\"\n",
    )
}

/// Returns the offset where the next read starts, from the response.
#[track_caller]
fn next(response: &HttpResponse) -> String {
    response.header("stream-next-offset").expect("Stream-Next-Offset").to_owned()
}

/// Parses the control events in a part of a response.
fn controls(text: &str) -> Vec<Value> {
    let events = text.split("\n\n").filter_map(|event| event.strip_prefix("event: control\ndata:"));
    events.map(|data| serde_json::from_str(data).expect("a control event is JSON")).collect()
}

/// Concatenates the data events in a part of a response, with their lines joined.
fn data(text: &str) -> String {
    let events = text.split("\n\n").filter_map(|event| event.strip_prefix("event: data\ndata:"));
    events.map(|data| data.replace("\ndata:", "\n")).collect()
}
