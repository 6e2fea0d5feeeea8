//! Protocol state of a stream besides its contents. It has a bounded size, and is dropped with
//! the stream.

use std::collections::HashMap;

use super::producer::{Producer, Verdict};

/// Maximum number of producers that are remembered for each stream. A further producer evicts the
/// one that has been silent for longest. If the evicted producer continues, it gets the error of a
/// sequence gap, and may restart with the next epoch.
pub(super) const MAX_PRODUCERS: usize = 256;

/// State of a stream. The session locks the state from the check of a request until the append, so
/// requests are handled one at a time.
#[derive(Debug, Default)]
pub(super) struct State {
    producers: HashMap<String, Last>,
    /// Number of accepted requests, used as a clock for eviction.
    clock: u64,
    /// Last `Stream-Seq` from any client.
    pub(super) last_seq: Option<Vec<u8>>,
    /// Request that closed the stream, if it came from a producer.
    pub(super) closed_by: Option<Producer>,
}

/// Last accepted request of a producer.
#[derive(Clone, Copy, Debug)]
struct Last {
    epoch: u64,
    seq: u64,
    at: u64,
}

impl State {
    pub(super) fn validate(&self, producer: &Producer) -> Verdict {
        producer.validate(self.producers.get(&producer.id).map(|last| (last.epoch, last.seq)))
    }

    /// Records an accepted request.
    pub(super) fn accept(&mut self, producer: &Producer) {
        self.clock = self.clock.saturating_add(1);
        if self.producers.len() >= MAX_PRODUCERS && !self.producers.contains_key(&producer.id) {
            let silent =
                self.producers.iter().min_by_key(|(_, last)| last.at).map(|(id, _)| id.clone());
            silent.and_then(|id| self.producers.remove(&id));
        }
        let last = Last { epoch: producer.epoch, seq: producer.seq, at: self.clock };
        self.producers.insert(producer.id.clone(), last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn producer(number: usize, seq: u64) -> Producer {
        Producer { id: format!("p{number}"), epoch: 0, seq }
    }

    #[test]
    fn the_number_of_producers_is_limited_and_the_longest_silent_one_is_evicted() {
        let mut state = State::default();
        for number in 0..MAX_PRODUCERS {
            state.accept(&producer(number, 0));
        }
        state.accept(&producer(0, 1));
        state.accept(&producer(MAX_PRODUCERS, 0));
        assert_eq!(state.producers.len(), MAX_PRODUCERS);
        assert_eq!(state.validate(&producer(0, 2)), Verdict::Next);
        assert_eq!(state.validate(&producer(1, 1)), Verdict::Gap { expected: 0 });
        assert_eq!(state.validate(&producer(2, 1)), Verdict::Next);
    }
}
