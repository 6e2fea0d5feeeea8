//! Latency percentiles of the report.

use pfs_measure::latency::Latencies;
use serde::Serialize;

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
    /// Computes the percentiles of a histogram; `None` if it is empty.
    pub(super) fn from_counts<'a>(
        counts: impl IntoIterator<Item = &'a (u64, u64)>,
    ) -> Option<Self> {
        let all = Latencies::from_counts(counts);
        let at = |part| micros(all.quantile(part));
        let (count, max) = (all.total(), micros(all.max()));
        (count > 0).then(|| Self {
            count,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max,
        })
    }
}

/// Rounds to a tenth of a microsecond, which is finer than the measurement.
fn micros(nanos: u64) -> f64 {
    (nanos as f64 / 100.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_rounded_to_tenths_of_a_microsecond() {
        let latency = Latency::from_counts(&[(12_340, 1), (56_780, 99)]);
        let (p50, max) = (56.8, 56.8);
        assert_eq!(latency, Some(Latency { count: 100, p50, p90: p50, p99: p50, p99_9: p50, max }));
    }

    #[test]
    fn without_chunks_there_is_no_latency() {
        assert_eq!(Latency::from_counts([]), None);
    }
}
