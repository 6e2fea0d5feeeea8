//! Benchmark of a registry of 100,000 streams: looking for expired streams when there are none,
//! creating and removing one more stream, and listing a page.
//!
//! `cargo bench -p pfs-stream --bench registry`
#![allow(clippy::unwrap_used, missing_docs)]

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use pfs_stream::{Limits, Registry, StreamConfig};

const STREAMS: usize = 100_000;
const TTL: Duration = Duration::from_hours(1);

/// Page size of a daemon's listings, in streams.
const PAGE: usize = 50;

fn config() -> StreamConfig {
    StreamConfig::default().buffer_size(1).ttl(TTL)
}

/// Creates streams without descriptors, whose pages were never touched.
fn registry() -> Registry {
    let registry = Registry::with_descriptors(Limits::UNLIMITED, 0);
    for number in 0..STREAMS {
        registry.create(&format!("/many/{number:06}"), config()).unwrap();
    }
    registry.create("/one/stream", config()).unwrap();
    registry
}

fn registry_of_many(c: &mut Criterion) {
    let registry = registry();
    let mut group = c.benchmark_group("registry");
    group.bench_function("expire/nothing due", |b| {
        b.iter(|| registry.expire(black_box(Duration::ZERO)))
    });
    group.bench_function("next expiry", |b| b.iter(|| registry.next_expiry()));
    group.bench_function("create and remove", |b| {
        b.iter(|| {
            registry.create("/one/more", config()).unwrap();
            registry.remove("/one/more")
        });
    });
    for (name, below) in [("page/first", "/many"), ("page/last", "/many"), ("page/of one", "/one")]
    {
        let after = if name == "page/last" { "/many/099989" } else { "" };
        group.bench_function(name, |b| b.iter(|| registry.list_at(below, black_box(after), PAGE)));
    }
    group.finish();
}

criterion_group!(benches, registry_of_many);
criterion_main!(benches);
