//! Benchmark of the ring buffer alone: the cost of an append, and of reading for each reader, in
//! one thread and without wake-ups.
//!
//! `cargo bench -p pfs-stream`
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pfs_stream::{ReadOptions, Reader, Stream, StreamConfig, Writer};

const SIZES: [usize; 2] = [64, 64 * 1024];
const READERS: [usize; 3] = [1, 4, 16];

/// Bytes appended before all of them are read.
const BATCH: usize = 256 * 1024;

fn stream(readers: usize) -> (Stream, Writer, Vec<Reader>) {
    let stream = Stream::new("bench", StreamConfig::default()).unwrap();
    let writer = stream.writer().unwrap();
    let reader = || stream.reader(ReadOptions::default()).unwrap();
    let readers = (0..readers).map(|_| reader()).collect();
    (stream, writer, readers)
}

fn append_batch(writer: &mut Writer, chunk: &[u8]) -> Duration {
    let began = Instant::now();
    for _ in 0..BATCH / chunk.len() {
        writer.try_append(black_box(chunk)).unwrap();
    }
    began.elapsed()
}

/// Reads everything with each reader; returns the time for all readers together.
fn read_batch(readers: &mut [Reader], bytes: &mut Vec<u8>) -> Duration {
    let began = Instant::now();
    for reader in readers {
        let end = reader.position() + BATCH as u64;
        while reader.position() < end {
            bytes.clear();
            reader.try_read(bytes, 64 * 1024).unwrap().unwrap();
            black_box(&bytes);
        }
    }
    began.elapsed()
}

fn ring(criterion: &mut Criterion) {
    for (name, reads) in [("append", false), ("read", true)] {
        let mut group = criterion.benchmark_group(name);
        for size in SIZES {
            for count in READERS {
                let chunk = vec![7; size];
                let (_stream, mut writer, mut readers) = stream(count);
                let mut bytes = Vec::new();
                let times = if reads { count } else { 1 };
                group.throughput(Throughput::Bytes((BATCH * times) as u64));
                let id = BenchmarkId::new(format!("{size} B"), format!("{count} readers"));
                group.bench_function(id, |bencher| {
                    bencher.iter_custom(|iterations| {
                        let batch = |_| {
                            let (append, read) = (
                                append_batch(&mut writer, &chunk),
                                read_batch(&mut readers, &mut bytes),
                            );
                            if reads { read } else { append }
                        };
                        (0..iterations).map(batch).sum()
                    });
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, ring);
criterion_main!(benches);
