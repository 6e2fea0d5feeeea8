//! Benchmark of fan-out inside one process, compared with `tokio::sync::broadcast` of `Bytes` in
//! the same run: `cargo bench -p pfs-stream --features tokio --bench broadcast`.
//!
//! Both sides run the same program: one task that sends, and 1, 4 or 16 tasks that receive, on one
//! tokio runtime with a thread per processor. Receivers touch the data: they add up lengths and
//! first bytes, and the sum is checked. The `Bytes` that are sent exist already, so neither side is
//! charged for making them. Neither sender waits: no reader has the policy `block`.
//!
//! The sender sends a round of 4 MiB (64 KiB chunks) or 1 MiB (64 B chunks), chunk by chunk, and
//! waits until every receiver has the whole round. A round fits into the stream's ring buffer (6
//! MiB) and into the channel (whose capacity is one round of chunks), so neither side loses
//! anything. The benchmark checks that too: a side that lost chunks would be fast for the wrong
//! reason. The result is bytes (or chunks) sent per second until the slowest receiver has them, not
//! multiplied by receivers.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pfs_stream::{Event, Finish, ReadOptions, Stream, StreamConfig};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{Notify, broadcast},
};

/// Counts receivers down. A round is over when every receiver has all of its chunks.
struct Round {
    chunks: u64,
    receivers: usize,
    left: AtomicUsize,
    over: Notify,
    sum: AtomicU64,
}

impl Round {
    fn new(chunks: u64, receivers: usize) -> Arc<Self> {
        let (left, sum) = (AtomicUsize::new(receivers), AtomicU64::new(0));
        Arc::new(Self { chunks, receivers, left, over: Notify::new(), sum })
    }

    fn one_is_done(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.over.notify_one();
        }
    }

    async fn over(&self) {
        self.over.notified().await;
        self.left.store(self.receivers, Ordering::Release);
    }
}

/// Chunks and checksum of one receiver.
struct Tally {
    round: Arc<Round>,
    chunks: u64,
    sum: u64,
}

impl Tally {
    fn new(round: &Arc<Round>) -> Self {
        Self { round: Arc::clone(round), chunks: 0, sum: 0 }
    }

    #[inline]
    fn take(&mut self, chunk: &Bytes) {
        self.chunks += 1;
        self.sum += chunk.len() as u64 + u64::from(chunk[0]);
        if self.chunks == self.round.chunks {
            self.round.sum.fetch_add(self.sum, Ordering::Relaxed);
            (self.chunks, self.sum) = (0, 0);
            self.round.one_is_done();
        }
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().build().unwrap()
}

/// Runs the rounds on pfs_stream; returns how long they took.
fn ours(
    runtime: &Runtime,
    stream: &Stream,
    chunk: &Bytes,
    round: &Arc<Round>,
    rounds: u64,
) -> Duration {
    let mut writer = stream.writer().unwrap();
    for _ in 0..round.receivers {
        let mut reader = stream.reader(ReadOptions::default()).unwrap();
        let mut tally = Tally::new(round);
        runtime.spawn(async move {
            loop {
                match reader.next().await.unwrap() {
                    Event::Chunk(chunk) => tally.take(&chunk),
                    Event::End { .. } => break,
                    lost => panic!("{lost:?}"),
                }
            }
        });
    }
    let (chunk, round) = (chunk.clone(), Arc::clone(round));
    let sending = runtime.spawn(async move {
        let begin = Instant::now();
        for _ in 0..rounds {
            for _ in 0..round.chunks {
                writer.try_append(chunk.clone()).unwrap();
            }
            round.over().await;
        }
        let took = begin.elapsed();
        writer.finish(Finish::Close);
        took
    });
    runtime.block_on(sending).unwrap()
}

fn theirs(runtime: &Runtime, chunk: &Bytes, round: &Arc<Round>, rounds: u64) -> Duration {
    let (sender, _) = broadcast::channel(usize::try_from(round.chunks).unwrap());
    for _ in 0..round.receivers {
        let mut receiver = sender.subscribe();
        let mut tally = Tally::new(round);
        runtime.spawn(async move {
            loop {
                match receiver.recv().await {
                    Ok(chunk) => tally.take(&chunk),
                    Err(broadcast::error::RecvError::Closed) => break,
                    Err(lost) => panic!("{lost:?}"),
                }
            }
        });
    }
    let (chunk, round) = (chunk.clone(), Arc::clone(round));
    let sending = runtime.spawn(async move {
        let begin = Instant::now();
        for _ in 0..rounds {
            for _ in 0..round.chunks {
                sender.send(chunk.clone()).unwrap();
            }
            round.over().await;
        }
        begin.elapsed()
    });
    runtime.block_on(sending).unwrap()
}

fn fan_out(c: &mut Criterion) {
    let runtime = runtime();
    for (name, size, total) in [("64KiB", 64 * 1024, 4 * 1024 * 1024), ("64B", 64, 1024 * 1024)] {
        let chunk = Bytes::from(vec![7; size]);
        let chunks = (total / size) as u64;
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(total as u64));
        group
            .sample_size(20)
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(2));
        for receivers in [1, 4, 16] {
            let check = |round: &Round, rounds: u64| {
                let each = chunks * (size as u64 + 7);
                let sum = round.sum.swap(0, Ordering::Relaxed);
                assert_eq!(sum, each * rounds * receivers as u64, "a receiver lost data");
            };
            group.bench_with_input(
                BenchmarkId::new("pfs_stream", receivers),
                &receivers,
                |b, _| {
                    b.iter_custom(|rounds| {
                        let stream = Stream::local("bench", StreamConfig::default()).unwrap();
                        let round = Round::new(chunks, receivers);
                        let took = ours(&runtime, &stream, &chunk, &round, rounds);
                        check(&round, rounds);
                        took
                    });
                },
            );
            group.bench_with_input(BenchmarkId::new("broadcast", receivers), &receivers, |b, _| {
                b.iter_custom(|rounds| {
                    let round = Round::new(chunks, receivers);
                    let took = theirs(&runtime, &chunk, &round, rounds);
                    check(&round, rounds);
                    took
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
