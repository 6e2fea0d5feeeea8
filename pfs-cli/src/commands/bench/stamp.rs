//! What is in a chunk, and the check of it: a reader that misses, repeats, mixes up or damages a chunk finds out.
//!
//! ```text
//! | tag: writer 16 bits, number 48 bits | word of the tag | time | filler ... | word of the tag |
//! ```
//!
//! All are 8 bytes, little-endian. The number is that of the chunk among its writer's, so it tells the offset too.

/// The smallest chunk that has room for the stamps.
pub(super) const SMALLEST: u64 = 32;

const NUMBER_BITS: u32 = 48;

/// A word that depends on every bit of the tag.
fn word(tag: u64) -> u64 {
    let x = tag.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^ (x >> 29)
}

/// The chunk of one writer, stamped anew for each append.
#[derive(Debug)]
pub(super) struct Stamper {
    writer: u16,
    bytes: Vec<u8>,
}

impl Stamper {
    /// A chunk of `len` bytes, at least [`SMALLEST`].
    pub(super) fn new(writer: u16, len: usize) -> Self {
        Self { writer, bytes: (0..len as u64).map(|at| word(at).to_le_bytes()[0]).collect() }
    }

    /// The chunk with this number, appended at `time` (nanoseconds).
    pub(super) fn stamp(&mut self, number: u64, time: u64) -> &[u8] {
        let tag = u64::from(self.writer) << NUMBER_BITS | number;
        let words = [tag, word(tag), time].map(u64::to_le_bytes);
        if let Some(first) = self.bytes.first_chunk_mut::<24>() {
            first.copy_from_slice(words.as_flattened());
        }
        if let Some(last) = self.bytes.last_chunk_mut() {
            *last = word(tag).to_le_bytes();
        }
        &self.bytes
    }
}

/// How a chunk is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    /// It is longer or shorter than what was appended.
    #[error("a chunk has {0} bytes, which nobody appended so")]
    Length(usize),
    /// Its stamps do not belong together.
    #[error("the stamps of a chunk do not belong together")]
    Torn,
    /// It came before, or comes after one that it should come before.
    #[error("chunk {number} of writer {writer} came after its chunk {last}")]
    Order { writer: u16, number: u64, last: u64 },
}

/// Checks each chunk that a reader gets.
#[derive(Debug)]
pub(super) struct Checker {
    len: usize,
    /// The next number of each writer.
    next: Vec<u64>,
}

impl Checker {
    /// For chunks of `len` bytes by so many writers.
    pub(super) fn new(writers: u16, len: usize) -> Self {
        Self { len, next: vec![0; usize::from(writers)] }
    }

    /// Checks the next chunk, and tells when it was appended.
    pub(super) fn check(&mut self, chunk: &[u8]) -> Result<u64, Damage> {
        if chunk.len() != self.len {
            return Err(Damage::Length(chunk.len()));
        }
        let (words, _) = chunk.as_chunks::<8>();
        let ([tag, first, time, ..], Some(last)) = (words, chunk.last_chunk::<8>()) else {
            return Err(Damage::Length(chunk.len()));
        };
        let tag = u64::from_le_bytes(*tag);
        let expected = word(tag).to_le_bytes();
        let (writer, number) = ((tag >> NUMBER_BITS) as u16, tag & ((1 << NUMBER_BITS) - 1));
        let next = self.next.get_mut(usize::from(writer)).ok_or(Damage::Torn)?;
        if *first != expected || *last != expected {
            return Err(Damage::Torn);
        }
        if number < *next {
            return Err(Damage::Order { writer, number, last: next.saturating_sub(1) });
        }
        *next = number + 1;
        Ok(u64::from_le_bytes(*time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(writer: u16, number: u64) -> Vec<u8> {
        Stamper::new(writer, 64).stamp(number, 7).to_vec()
    }

    #[test]
    fn what_was_stamped_passes_and_tells_its_time() {
        for len in [SMALLEST as usize, 33, 64, 65_536] {
            let mut checker = Checker::new(2, len);
            for (writer, number) in [(0, 0), (1, 0), (0, 1), (1, 5), (0, 2)] {
                let mut stamper = Stamper::new(writer, len);
                assert_eq!(checker.check(stamper.stamp(number, 1 << 40)), Ok(1 << 40));
            }
        }
    }

    #[test]
    fn damage_anywhere_in_a_stamp_and_a_mixture_of_two_chunks_are_noticed() {
        for at in (0..16).chain(56..64) {
            let mut bytes = chunk(0, 3);
            bytes[at] ^= 1;
            assert_eq!(Checker::new(1, 64).check(&bytes), Err(Damage::Torn), "byte {at}");
        }
        let mut mixed = chunk(0, 3);
        mixed[32..].copy_from_slice(&chunk(0, 4)[32..]);
        assert_eq!(Checker::new(1, 64).check(&mixed), Err(Damage::Torn));
        assert_eq!(Checker::new(1, 64).check(&mixed[1..]), Err(Damage::Length(63)));
    }

    #[test]
    fn a_chunk_that_comes_twice_or_too_late_is_noticed() {
        let mut checker = Checker::new(2, 64);
        assert!(checker.check(&chunk(1, 4)).is_ok());
        for number in [4, 0] {
            let damage = checker.check(&chunk(1, number));
            assert_eq!(damage, Err(Damage::Order { writer: 1, number, last: 4 }));
        }
        assert!(checker.check(&chunk(0, 0)).is_ok());
    }

    #[test]
    fn a_chunk_of_a_writer_that_there_is_not_is_damaged() {
        assert_eq!(Checker::new(1, 64).check(&chunk(1, 0)), Err(Damage::Torn));
    }
}
