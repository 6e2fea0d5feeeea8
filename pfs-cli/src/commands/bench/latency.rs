//! How long chunks take: counted by each reader, then put together.

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies of up to a minute in nanoseconds, to three digits; what is longer counts as a minute.
pub(super) fn histogram() -> anyhow::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).context("cannot make a histogram")
}

/// How often which latency occurred.
pub(super) fn counts(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    histogram.iter_recorded().map(|at| (at.value_iterated_to(), at.count_at_value())).collect()
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Latency {
    pub(super) count: u64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p99_9: f64,
    pub(super) max: f64,
}

impl Latency {
    /// Of all that was counted; `None` if that is nothing.
    pub(super) fn of<'a>(counts: impl IntoIterator<Item = &'a (u64, u64)>) -> anyhow::Result<Option<Self>> {
        let mut all = histogram()?;
        for (latency, count) in counts {
            all.saturating_record_n(*latency, *count);
        }
        if all.is_empty() {
            return Ok(None);
        }
        let at = |quantile| micros(all.value_at_quantile(quantile));
        let max = micros(all.max());
        Ok(Some(Self { count: all.len(), p50: at(0.5), p90: at(0.9), p99: at(0.99), p99_9: at(0.999), max }))
    }
}

/// To a tenth, which is more than three digits tell.
fn micros(nanos: u64) -> f64 {
    (nanos as f64 / 100.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_latencies_are_put_together() {
        let mut one = histogram().unwrap();
        (1..=900).for_each(|micros| one.saturating_record(micros * 1000));
        let mut other = histogram().unwrap();
        (901..=1000).for_each(|micros| other.saturating_record(micros * 1000));
        let counted = [counts(&one), counts(&other)];
        let latency = Latency::of(counted.iter().flatten()).unwrap().unwrap();
        assert_eq!(latency.count, 1000);
        let near = |value: f64, expected: f64| (value - expected).abs() <= expected / 500.0;
        for (value, expected) in [
            (latency.p50, 500.0),
            (latency.p90, 900.0),
            (latency.p99, 990.0),
            (latency.p99_9, 999.0),
            (latency.max, 1000.0),
        ] {
            assert!(near(value, expected), "{value} instead of {expected}");
        }
    }

    #[test]
    fn without_a_chunk_there_is_no_latency() {
        assert_eq!(Latency::of([]).unwrap(), None);
    }
}
