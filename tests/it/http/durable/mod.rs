//! The Durable Streams protocol at `/v1/stream`, as far as the protocol's own test suite
//! (scripts/conformance) does not go: what a ring means for it, the other protocols beside it, and
//! its limits.

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

/// A daemon whose streams hold 64 KiB.
#[track_caller]
fn small() -> Daemon {
    Daemon::with_http_config(
        "[plugins.streamfs.config]\nring_buffer_size = \"64KB\"\nchannel_buffer_size = \"64KB\"\n",
    )
}

/// Where the response says that the next read begins.
#[track_caller]
fn next(response: &HttpResponse) -> String {
    response.header("stream-next-offset").expect("Stream-Next-Offset").to_owned()
}

/// The control events in a piece of a response.
fn controls(text: &str) -> Vec<Value> {
    let events = text.split("\n\n").filter_map(|event| event.strip_prefix("event: control\ndata:"));
    events.map(|data| serde_json::from_str(data).expect("a control event is JSON")).collect()
}

/// The data events in a piece of a response, one after the other, their lines put together again.
fn data(text: &str) -> String {
    let events = text.split("\n\n").filter_map(|event| event.strip_prefix("event: data\ndata:"));
    events.map(|data| data.replace("\ndata:", "\n")).collect()
}
