//! Idempotent producers: a producer may repeat a request without repeating its effect.

use axum::http::{HeaderMap, StatusCode};

use super::{headers, refusal::Refusal};

/// Largest number that all clients can represent exactly (2^53 - 1, as in JavaScript).
const MAX_NUMBER: u64 = (1 << 53) - 1;

/// Maximum length of a producer id, in bytes.
const MAX_ID: usize = 256;

/// Producer of a request, with the number of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Producer {
    pub(super) id: String,
    /// Number of the producer's run; only the newest run may write.
    pub(super) epoch: u64,
    /// Number of the request in this run.
    pub(super) seq: u64,
}

/// Verdict on a request of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The request is the next one.
    Next,
    /// The request was carried out before. `last` is the producer's last accepted number.
    Duplicate { last: u64 },
    /// A newer run of the producer, `epoch`, has written.
    Stale { epoch: u64 },
    /// The first request of a new run does not have number 0.
    NotAtZero,
    /// A request is missing: `expected` should have come first.
    Gap { expected: u64 },
}

impl Producer {
    /// Parses the producer headers; `None` if the request has none.
    pub(super) fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let id = headers::text(headers, &headers::PRODUCER_ID)?;
        let epoch = headers::text(headers, &headers::PRODUCER_EPOCH)?;
        let seq = headers::text(headers, &headers::PRODUCER_SEQ)?;
        let (id, epoch, seq) = match (id, epoch, seq) {
            (None, None, None) => return Ok(None),
            (Some(id), Some(epoch), Some(seq)) => (id, epoch, seq),
            _ => {
                let message = "Producer-Id, Producer-Epoch and Producer-Seq must be given together or not at all";
                return Err(Refusal::bad_request(message));
            }
        };
        if !(1..=MAX_ID).contains(&id.len()) {
            return Err(Refusal::bad_request(format!("Producer-Id must have 1 to {MAX_ID} bytes")));
        }
        let number = |name: &str, text: &str| {
            let number = Some(text).filter(|text| text.bytes().all(|digit| digit.is_ascii_digit()));
            let number =
                number.and_then(|text| text.parse().ok()).filter(|number| *number <= MAX_NUMBER);
            number.ok_or_else(|| {
                Refusal::bad_request(format!("{name} must be a number from 0 to {MAX_NUMBER}"))
            })
        };
        let (epoch, seq) = (number("Producer-Epoch", epoch)?, number("Producer-Seq", seq)?);
        Ok(Some(Self { id: id.to_owned(), epoch, seq }))
    }

    /// Validates the request against the epoch and the number of the producer's last
    /// accepted request.
    pub(super) fn validate(&self, last: Option<(u64, u64)>) -> Verdict {
        let Some((epoch, last)) = last else {
            return if self.seq == 0 { Verdict::Next } else { Verdict::Gap { expected: 0 } };
        };
        let expected = last.saturating_add(1);
        match self.epoch.cmp(&epoch) {
            std::cmp::Ordering::Less => Verdict::Stale { epoch },
            std::cmp::Ordering::Greater if self.seq == 0 => Verdict::Next,
            std::cmp::Ordering::Greater => Verdict::NotAtZero,
            std::cmp::Ordering::Equal if self.seq <= last => Verdict::Duplicate { last },
            std::cmp::Ordering::Equal if self.seq == expected => Verdict::Next,
            std::cmp::Ordering::Equal => Verdict::Gap { expected },
        }
    }

    /// Refusal of a producer whose run is over.
    pub(super) fn stale(&self, epoch: u64) -> Refusal {
        let message = format!(
            "the producer {} has written since, in epoch {epoch}; epoch {} is over",
            self.id, self.epoch
        );
        Refusal::new(StatusCode::FORBIDDEN, "stale_epoch", message)
            .with(headers::PRODUCER_EPOCH, epoch.into())
    }

    pub(super) fn not_at_zero(&self) -> Refusal {
        Refusal::bad_request(format!(
            "Producer-Epoch {} is new, so Producer-Seq must be 0",
            self.epoch
        ))
    }

    pub(super) fn gap(&self, expected: u64) -> Refusal {
        let message = format!("Producer-Seq {expected} must come before {}", self.seq);
        Refusal::conflict("sequence_gap", message)
            .with(headers::PRODUCER_EXPECTED_SEQ, expected.into())
            .with(headers::PRODUCER_RECEIVED_SEQ, self.seq.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn producer(epoch: u64, seq: u64) -> Producer {
        Producer { id: "p".to_owned(), epoch, seq }
    }

    #[test]
    fn a_producer_begins_at_zero_and_goes_on_by_one() {
        assert_eq!(producer(3, 0).validate(None), Verdict::Next);
        assert_eq!(producer(3, 1).validate(None), Verdict::Gap { expected: 0 });
        assert_eq!(producer(3, 5).validate(Some((3, 4))), Verdict::Next);
        assert_eq!(producer(3, 6).validate(Some((3, 4))), Verdict::Gap { expected: 5 });
    }

    #[test]
    fn a_repeated_request_is_a_duplicate() {
        for seq in 0..=4 {
            assert_eq!(producer(3, seq).validate(Some((3, 4))), Verdict::Duplicate { last: 4 });
        }
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_ends_the_old_one() {
        assert_eq!(producer(4, 0).validate(Some((3, 4))), Verdict::Next);
        assert_eq!(producer(4, 1).validate(Some((3, 4))), Verdict::NotAtZero);
        assert_eq!(producer(2, 5).validate(Some((3, 4))), Verdict::Stale { epoch: 3 });
    }
}
