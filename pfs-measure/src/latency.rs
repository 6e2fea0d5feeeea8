//! Latency histogram: each reader counts the latencies of its chunks, then the histograms are
//! merged.

use hdrhistogram::Histogram;

/// The longest latency that the histogram resolves, in nanoseconds: a minute.
const MAX_LATENCY_NANOS: u64 = 60_000_000_000;

/// A histogram of latencies in nanoseconds, with three significant digits. Latencies of more than a
/// minute count as a minute.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    #[expect(clippy::expect_used, reason = "the bounds are constants")]
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, MAX_LATENCY_NANOS, 3).expect("valid bounds"))
    }
}

impl Latencies {
    /// Merges histograms from the output of [`Self::counts`].
    pub fn from_counts<'a>(counts: impl IntoIterator<Item = &'a (u64, u64)>) -> Self {
        let mut all = Self::default();
        for (latency, count) in counts {
            all.0.saturating_record_n(*latency, *count);
        }
        all
    }

    /// Records a latency.
    #[inline]
    pub fn record(&mut self, latency: u64) {
        self.0.saturating_record(latency);
    }

    /// Returns each recorded latency with its count, for transfer to another process.
    pub fn counts(&self) -> Vec<(u64, u64)> {
        self.0.iter_recorded().map(|at| (at.value_iterated_to(), at.count_at_value())).collect()
    }

    /// Returns the number of recorded latencies.
    pub fn total(&self) -> u64 {
        self.0.len()
    }

    /// Returns the latency that the fraction `part`, from 0 to 1, of all latencies does not exceed;
    /// 0 if none was recorded.
    pub fn quantile(&self, part: f64) -> u64 {
        self.0.value_at_quantile(part)
    }

    /// Returns the longest latency; 0 if none was recorded.
    pub fn max(&self) -> u64 {
        self.0.max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_of_several_readers_are_merged() {
        let mut one = Latencies::default();
        (1..=900).for_each(|micros| one.record(micros * 1000));
        let mut other = Latencies::default();
        (901..=1000).for_each(|micros| other.record(micros * 1000));
        let all = Latencies::from_counts([one.counts(), other.counts()].iter().flatten());
        assert_eq!(all.total(), 1000);
        let quantiles = [0.5, 0.9, 0.99, 0.999].map(|part| all.quantile(part));
        for (latency, micros) in
            quantiles.into_iter().chain([all.max()]).zip([500, 900, 990, 999, 1000])
        {
            assert!(
                latency.abs_diff(micros * 1000) <= micros * 2,
                "{latency} ns instead of {micros} µs"
            );
        }
    }

    #[test]
    fn a_latency_of_more_than_a_minute_counts_as_a_minute() {
        let mut latencies = Latencies::default();
        latencies.record(u64::MAX);
        assert_eq!(latencies.total(), 1);
        assert!(latencies.max().abs_diff(MAX_LATENCY_NANOS) <= MAX_LATENCY_NANOS / 500);
    }
}
