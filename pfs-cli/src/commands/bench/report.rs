//! Report of a measurement. Its field names are those that `--json` prints; the long help of that
//! flag explains them. Scripts rely on the names: add fields, but never rename or remove one.

use serde::Serialize;

use super::{
    job::{Read, Wrote},
    latency::Latency,
    usage::Usage,
};
use crate::cli::{BenchArgs, Slow};

/// The whole report.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) readers: u16,
    pub(super) writers: u16,
    pub(super) chunk_size: u64,
    pub(super) transport: &'static str,
    pub(super) slow: Slow,
    pub(super) rate: Option<u32>,
    pub(super) written: Throughput,
    pub(super) delivered: Throughput,
    pub(super) lost: Lost,
    pub(super) latency_us: Option<Latency>,
    pub(super) daemon: Option<Daemon>,
    pub(super) per_writer: Vec<Throughput>,
    pub(super) per_reader: Vec<ReaderReport>,
}

/// Amount, time and rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Throughput {
    pub(super) bytes: u64,
    pub(super) chunks: u64,
    pub(super) seconds: f64,
    pub(super) mb_per_s: f64,
    pub(super) chunks_per_s: f64,
}

/// Losses that were reported to readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Lost {
    pub(super) bytes: u64,
    pub(super) gaps: u64,
}

/// Throughput and losses of one reader.
#[derive(Debug, Serialize)]
pub(super) struct ReaderReport {
    #[serde(flatten)]
    pub(super) got: Throughput,
    pub(super) lost_bytes: u64,
    pub(super) gaps: u64,
    /// `closed` or `disconnected`.
    pub(super) end: &'static str,
    pub(super) latency_us: Option<Latency>,
}

/// Resources that the daemon used.
#[derive(Debug, Serialize)]
pub(super) struct Daemon {
    pub(super) cpu_seconds: f64,
    pub(super) cpu_seconds_per_gb: f64,
    pub(super) peak_rss_bytes: u64,
}

impl Throughput {
    fn new(chunks: u64, chunk_size: u64, began: u64, ended: u64) -> Self {
        let bytes = chunks.saturating_mul(chunk_size);
        let seconds = ended.saturating_sub(began) as f64 / 1e9;
        // Avoids a division by zero: a rate over no time is zero.
        let per_second = |amount: f64| if seconds > 0.0 { amount / seconds } else { 0.0 };
        let (mb_per_s, chunks_per_s) = (per_second(bytes as f64 / 1e6), per_second(chunks as f64));
        let (mb_per_s, chunks_per_s) = (rounded(mb_per_s), rounded(chunks_per_s));
        Self { bytes, chunks, seconds: (seconds * 1e6).round() / 1e6, mb_per_s, chunks_per_s }
    }
}

/// Rounds to three decimal places, which is finer than the measurement.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Input of a report.
#[derive(Debug)]
pub(super) struct Results<'a> {
    pub(super) args: &'a BenchArgs,
    pub(super) transport: &'static str,
    pub(super) wrote: &'a [Wrote],
    pub(super) read: &'a [Read],
    /// Usage of the daemon, before and after.
    pub(super) usage: Option<(Usage, Usage)>,
}

impl Report {
    /// Computes the report. Times count from the moment when the first writer began.
    pub(super) fn new(results: &Results<'_>) -> Self {
        let Results { args, transport, wrote, read, usage } = results;
        let began = wrote.iter().map(|wrote| wrote.began).min().unwrap_or(0);
        let throughput = |chunks, ended| Throughput::new(chunks, args.chunk_size, began, ended);
        let last = |ends: &mut dyn Iterator<Item = u64>| ends.max().unwrap_or(0);
        let written = throughput(
            wrote.iter().map(|wrote| wrote.chunks).sum(),
            last(&mut wrote.iter().map(|wrote| wrote.ended)),
        );
        let delivered = throughput(
            read.iter().map(|read| read.chunks).sum(),
            last(&mut read.iter().map(|read| read.ended)),
        );
        let lost = read.iter().fold(Lost::default(), |lost, read| Lost {
            bytes: lost.bytes.saturating_add(read.lost_bytes),
            gaps: lost.gaps.saturating_add(read.gaps),
        });
        let per_reader = read.iter().map(|read| ReaderReport {
            got: throughput(read.chunks, read.ended),
            lost_bytes: read.lost_bytes,
            gaps: read.gaps,
            end: if read.disconnected { "disconnected" } else { "closed" },
            latency_us: Latency::from_counts(&read.latencies),
        });
        Self {
            readers: args.readers,
            writers: args.writers,
            chunk_size: args.chunk_size,
            transport,
            slow: args.slow,
            rate: args.rate,
            written,
            delivered,
            lost,
            latency_us: Latency::from_counts(read.iter().flat_map(|read| &read.latencies)),
            daemon: usage.map(|(before, after)| {
                let cpu_seconds = after.cpu.saturating_sub(before.cpu).as_secs_f64();
                let gb = written.bytes.max(1) as f64 / 1e9;
                let cpu_seconds_per_gb = rounded(cpu_seconds / gb);
                Daemon {
                    cpu_seconds: rounded(cpu_seconds),
                    cpu_seconds_per_gb,
                    peak_rss_bytes: after.peak_rss,
                }
            }),
            per_writer: wrote.iter().map(|wrote| throughput(wrote.chunks, wrote.ended)).collect(),
            per_reader: per_reader.collect(),
        }
    }

    /// Returns true if a reader was disconnected for being slow.
    pub(super) fn has_disconnected(&self) -> bool {
        self.per_reader.iter().any(|reader| reader.end == "disconnected")
    }
}

#[cfg(test)]
pub(super) mod tests;
