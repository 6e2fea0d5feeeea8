//! Rate limit for the log lines about a reader's gaps: the first gap is logged at once, but a
//! reader that loses thousands of chunks a second does not write thousands of lines.

use std::time::{Duration, Instant};

use crate::Caller;

/// Shortest time between two lines of one reader.
const INTERVAL: Duration = Duration::from_secs(1);

/// Gaps that are not logged yet.
#[derive(Debug, Default)]
pub(crate) struct GapLog {
    logged: Option<Instant>,
    waiting: Option<Losses>,
}

/// Sum of several gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Losses {
    /// Where the first gap begins.
    from: u64,
    /// Where the last gap ends.
    to: u64,
    gaps: u64,
    bytes: u64,
    /// `None` if the number of chunks in one of the gaps is not known.
    chunks: Option<u64>,
}

impl GapLog {
    /// Adds a gap, and logs all pending gaps unless the last line is too recent. `chunks` is 0 if
    /// the number of lost chunks is not known.
    pub(crate) fn gap(&mut self, caller: &Caller, stream: &str, from: u64, to: u64, chunks: u64) {
        if let Some(losses) = self.take(Instant::now(), from, to, chunks) {
            log(caller, stream, losses);
        }
    }

    /// Logs the pending gaps, because the reader leaves.
    pub(crate) fn finish(&mut self, caller: &Caller, stream: &str) {
        if let Some(losses) = self.waiting.take() {
            log(caller, stream, losses);
        }
    }

    fn take(&mut self, now: Instant, from: u64, to: u64, chunks: u64) -> Option<Losses> {
        let losses =
            self.waiting.get_or_insert(Losses { from, to, gaps: 0, bytes: 0, chunks: Some(0) });
        losses.to = to;
        losses.gaps = losses.gaps.saturating_add(1);
        losses.bytes = losses.bytes.saturating_add(to.saturating_sub(from));
        losses.chunks = losses.chunks.filter(|_| chunks > 0).map(|sum| sum.saturating_add(chunks));
        if self.logged.is_some_and(|logged| now.saturating_duration_since(logged) < INTERVAL) {
            return None;
        }
        self.logged = Some(now);
        self.waiting.take()
    }
}

fn log(caller: &Caller, stream: &str, losses: Losses) {
    let Losses { from, to, gaps, bytes, chunks } = losses;
    let (pid, uid) = (caller.peer.pid, caller.peer.uid);
    tracing::warn!(
        stream,
        pid,
        uid,
        from,
        to,
        gaps,
        lost_bytes = bytes,
        lost_chunks = chunks,
        "reader lost data"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_within_a_second_share_one_line_with_exact_sums() {
        let mut log = GapLog::default();
        let start = Instant::now();
        let first = Losses { from: 0, to: 10, gaps: 1, bytes: 10, chunks: Some(2) };
        assert_eq!(log.take(start, 0, 10, 2), Some(first), "the first is logged at once");
        assert_eq!(log.take(start + INTERVAL / 4, 20, 25, 1), None);
        assert_eq!(log.take(start + INTERVAL / 2, 30, 40, 3), None);
        let later = Losses { from: 20, to: 60, gaps: 3, bytes: 25, chunks: Some(5) };
        assert_eq!(log.take(start + INTERVAL, 50, 60, 1), Some(later));
        assert_eq!(log.waiting, None);
    }

    #[test]
    fn an_unknown_number_of_chunks_is_not_counted_as_none() {
        let mut log = GapLog::default();
        let start = Instant::now();
        assert_eq!(log.take(start, 0, 10, 0).unwrap().chunks, None);
        assert_eq!(log.take(start, 20, 30, 2), None);
        assert_eq!(log.take(start, 40, 50, 0), None);
        assert_eq!(log.take(start + INTERVAL, 60, 70, 1).unwrap().chunks, None);
        assert_eq!(log.take(start + INTERVAL * 2, 80, 90, 1).unwrap().chunks, Some(1));
    }
}
