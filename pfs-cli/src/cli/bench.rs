//! Arguments of `pfs bench`.

use clap::{Args, ValueEnum};

use super::Slow;
use crate::{examples, size::parse_size};

/// Long help of `--json`: the meaning of each field. The field names are those of the types in
/// `commands/bench/report.rs`.
const JSON_HELP: &str = "\
Print one JSON object instead of a table

The field names are stable; later versions may add fields. Sizes are in bytes, MB are 10^6 bytes. Times are in seconds from the \
moment at which the writers may begin, except latencies, which are in microseconds. Unknown values are null.

readers, writers, chunk_size, slow, rate: the requested values

transport: shm, unix, http, or mixed if only some could share memory

written: the appends of all writers together: bytes, chunks, seconds, mb_per_s, chunks_per_s

delivered: the same fields for the data that all readers together got, until the last reader got its last chunk

lost: bytes and gaps reported to all readers together

latency_us: with --rate: count, p50, p90, p99, p99_9, max, of all readers

daemon: cpu_seconds, cpu_seconds_per_gb (10^9 bytes written), peak_rss_bytes (since the start of the daemon); Linux only

per_writer: an array with the fields of written, one element for each writer

per_reader: an array with the fields of delivered, one element for each reader, and also lost_bytes, gaps, end (closed or disconnected), latency_us";

/// Arguments of `pfs bench`.
#[derive(Args, Clone, Debug)]
#[command(after_help = examples::BENCH)]
pub struct BenchArgs {
    /// Number of readers
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub readers: u16,
    /// Number of writers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub writers: u16,
    /// Size of each chunk, at least 41 bytes
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = parse_size)]
    pub chunk_size: u64,
    /// Bytes that all writers together append, in whole chunks
    ///
    /// Default: 1 GiB; with --rate, as much as that rate makes in 10 seconds.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub size: Option<u64>,
    /// Transport between the daemon and its clients
    ///
    /// Default: http with --url, otherwise shm for each process that can share memory and unix for
    /// the others. The report says which was used.
    #[arg(long, value_name = "WAY")]
    pub transport: Option<Transport>,
    /// Policy when a reader cannot keep up
    ///
    /// With block, the results are those of the slowest reader, and nothing is lost.
    #[arg(long, value_name = "POLICY", default_value = "block")]
    pub slow: Slow,
    /// Append this many chunks per second, all writers together, and report their latency
    ///
    /// The latency is the time from just before a chunk is appended until a reader has it.
    #[arg(long, value_name = "CHUNKS_PER_SECOND", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// JSON output. The help is in the attribute.
    #[arg(long, help = "Print one JSON object instead of a table", long_help = JSON_HELP)]
    pub json: bool,
}

/// Transport between the daemon and its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// Through memory shared with the daemon; an error if sharing is impossible
    Shm,
    /// Over connections to the daemon's Unix socket
    Unix,
    /// Over HTTP, with --url
    Http,
}
