//! What users of the library are promised inside one process, beyond what the engine promises.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests, which clippy does not know as such

mod bytes_in_out;
mod cancel;
mod death;
mod faults;
mod idle;
mod local;
mod sharing;
mod timed;
mod typed;

use pfs_stream::*;

fn config(ring: u64, channel: u64) -> StreamConfig {
    StreamConfig { ring_buffer_size: ring, channel_buffer_size: channel, ..Default::default() }
}

/// A stream of each kind, with buffers of so many bytes.
fn both(size: u64) -> [Stream; 2] {
    [
        Stream::new("shared", config(size, size)).unwrap(),
        Stream::local("local", config(size, size)).unwrap(),
    ]
}

fn reader(stream: &Stream) -> Reader {
    stream.reader(ReadOptions::default()).unwrap()
}

fn until_gone(stream: &Stream) -> Reader {
    stream.reader(ReadOptions { until: Until::WritersGone, ..Default::default() }).unwrap()
}

fn blocking(stream: &Stream) -> Reader {
    stream.reader(ReadOptions { policy: SlowPolicy::Block, ..Default::default() }).unwrap()
}
