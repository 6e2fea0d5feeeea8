//! Tests of the library's promises to users inside one process, beyond those of the engine.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::expect_used)] // test helpers, not known to clippy as tests

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

/// A stream of each kind, with buffers of this size in bytes.
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
