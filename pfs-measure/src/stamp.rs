//! What is in a chunk, and the check of it: a reader that misses, repeats, mixes up or damages anything finds out.
//!
//! ```text
//! | counter 8 | word 8 | time 8 | filler ... | counter 8 | word 8 | '\n' |
//! ```
//!
//! The words depend on the offset in the stream where they are. No byte but the last is below 0x80, so that peers that
//! cut their input at newlines pass a chunk on as it is.

/// The smallest chunk that has room for the stamps.
pub const SMALLEST: usize = 41;

/// The counter of the chunk that says that no more follow.
const END: u64 = (1 << 56) - 1;

/// The last 56 bits, seven to a byte.
#[inline]
fn spread(value: u64) -> u64 {
    let x = value & END;
    let x = (x & 0x0000_0000_0fff_ffff) | ((x & 0x00ff_ffff_f000_0000) << 4);
    let x = (x & 0x0000_3fff_0000_3fff) | ((x & 0x0fff_c000_0fff_c000) << 2);
    let x = (x & 0x007f_007f_007f_007f) | ((x & 0x3f80_3f80_3f80_3f80) << 1);
    x | 0x8080_8080_8080_8080
}

/// Undoes [`spread`].
#[inline]
fn gather(spread: u64) -> u64 {
    let x = spread & 0x7f7f_7f7f_7f7f_7f7f;
    let x = (x & 0x007f_007f_007f_007f) | ((x & 0x7f00_7f00_7f00_7f00) >> 1);
    let x = (x & 0x0000_3fff_0000_3fff) | ((x & 0x3fff_0000_3fff_0000) >> 2);
    (x & 0x0000_0000_0fff_ffff) | ((x & 0x0fff_ffff_0000_0000) >> 4)
}

/// The word at an offset of the stream.
fn word(offset: u64) -> u64 {
    mix(offset.wrapping_add(1).wrapping_mul(FACTOR))
}

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline]
fn mix(x: u64) -> u64 {
    (x ^ (x >> 29)) | 0x8080_8080_8080_8080
}

fn put(bytes: &mut [u8], at: usize, word: u64) {
    bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
}

#[expect(clippy::expect_used, reason = "eight bytes are eight bytes")]
#[inline]
fn get(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// A chunk that is stamped anew for each append.
pub struct Chunk {
    bytes: Vec<u8>,
}

impl Chunk {
    /// A chunk of this many bytes, at least [`SMALLEST`].
    pub fn new(len: usize) -> Self {
        assert!(len >= SMALLEST, "a chunk has at least {SMALLEST} bytes, for its stamps");
        let mut bytes: Vec<u8> = (0..len as u64).map(|at| word(at) as u8).collect();
        bytes[len - 1] = b'\n';
        Self { bytes }
    }

    /// The chunk number `counter`, made at `time` (nanoseconds).
    #[inline]
    pub fn stamped(&mut self, counter: u64, time: u64) -> &[u8] {
        let len = self.bytes.len();
        let offset = counter.wrapping_mul(len as u64);
        put(&mut self.bytes, 0, spread(counter));
        put(&mut self.bytes, 8, word(offset));
        put(&mut self.bytes, 16, spread(time));
        put(&mut self.bytes, len - 17, spread(counter));
        put(&mut self.bytes, len - 9, word(offset.wrapping_add(len as u64)));
        &self.bytes
    }

    /// The chunk that follows the last of `total`.
    pub fn end(&mut self, total: u64) -> &[u8] {
        self.stamped(END, total)
    }
}

/// When a chunk was made, as it is written in the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made(u64);

impl Made {
    /// In nanoseconds.
    #[inline]
    pub fn time(self) -> u64 {
        gather(self.0)
    }
}

/// What a chunk was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Data, made at this time.
    Data(Made),
    /// The mark that no more follow.
    End,
}

/// Checks each chunk that a reader gets.
pub struct Checker {
    /// What every byte has to be, where every byte is checked.
    pattern: Option<Chunk>,
    len: usize,
    next: u64,
    /// What the next chunk has in front if it is the one that is expected, and the word that follows it.
    expected: [u64; 2],
    following: u64,
    /// What that word was mixed from, and how much more it is for the chunk that comes after.
    product: u64,
    step: u64,
    /// Chunks that came.
    pub received: u64,
    /// Chunks that did not.
    pub lost: u64,
    /// Chunks that were damaged, repeated or out of order.
    pub corrupt: u64,
}

impl Checker {
    /// For chunks of this size; `full` checks every byte, not only the stamps.
    pub fn new(len: usize, full: bool) -> Self {
        let pattern = full.then(|| Chunk::new(len));
        let step = (len as u64).wrapping_mul(FACTOR);
        let mut checker = Self {
            pattern,
            len,
            next: 0,
            expected: [0; 2],
            following: 0,
            product: 0,
            step,
            received: 0,
            lost: 0,
            corrupt: 0,
        };
        checker.expect(0);
        checker
    }

    /// Expects this chunk next.
    fn expect(&mut self, counter: u64) {
        self.next = counter;
        let offset = counter.wrapping_mul(self.len as u64);
        self.expected = [spread(counter), word(offset)];
        self.product = offset.wrapping_add(self.len as u64).wrapping_add(1).wrapping_mul(FACTOR);
        self.following = mix(self.product);
    }

    /// Number of the chunk that is expected next.
    #[inline]
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Checks the next chunk.
    ///
    /// The one that is expected is checked with little work, which would otherwise be most of what is measured when
    /// chunks are small.
    #[inline(always)]
    pub fn check(&mut self, bytes: &[u8]) -> Seen {
        let [counter, front] = self.expected;
        let stamps = (bytes.first_chunk::<24>(), bytes.last_chunk::<17>());
        if self.pattern.is_none()
            && bytes.len() == self.len
            && let (Some(first), Some(last)) = stamps
        {
            // All of it in one decision: nothing is wrong with nearly every chunk.
            let wrong = (get(first, 0) ^ counter)
                | (get(first, 8) ^ front)
                | (get(last, 0) ^ counter)
                | (get(last, 8) ^ self.following);
            if wrong == 0 {
                self.received += 1;
                self.next += 1;
                // A carry goes on to the next byte, and takes the bit along that every byte has.
                self.expected = [(counter + 1) | spread(0), self.following];
                self.product = self.product.wrapping_add(self.step);
                self.following = mix(self.product);
                return Seen::Data(Made(get(first, 16)));
            }
        }
        self.check_any(bytes)
    }

    #[cold]
    #[inline(never)]
    fn check_any(&mut self, bytes: &[u8]) -> Seen {
        if bytes.len() != self.len {
            self.corrupt += 1;
            return Seen::Data(Made(0));
        }
        let counter = gather(get(bytes, 0));
        let time = gather(get(bytes, 16));
        let offset = counter.wrapping_mul(self.len as u64);
        let last = self.len - 17;
        let whole = get(bytes, 0) == get(bytes, last)
            && get(bytes, 8) == word(offset)
            && get(bytes, last + 8) == word(offset.wrapping_add(self.len as u64))
            && self.pattern.as_mut().is_none_or(|pattern| pattern.stamped(counter, time) == bytes);
        if whole && counter == END {
            self.lost += time.saturating_sub(self.next);
            return Seen::End;
        }
        self.received += 1;
        if whole && counter >= self.next {
            self.lost += counter - self.next;
            self.expect(counter + 1);
        } else {
            self.corrupt += 1;
        }
        Seen::Data(Made(spread(time)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_number_has_no_byte_below_0x80_and_comes_back() {
        for number in [0, 1, 127, 128, 0x0012_3456_789a_bcde, END] {
            assert!(spread(number).to_le_bytes().iter().all(|byte| *byte >= 0x80));
            assert_eq!(gather(spread(number)), number);
        }
    }

    #[test]
    fn only_the_last_byte_of_a_chunk_is_a_newline() {
        let mut chunk = Chunk::new(1000);
        for counter in 0..1000 {
            let newline = chunk.stamped(counter, counter << 20).iter().position(|byte| *byte < 0x80);
            assert_eq!(newline, Some(999));
        }
    }

    #[test]
    fn losses_are_counted_up_to_the_end() {
        let (mut chunk, mut checker) = (Chunk::new(64), Checker::new(64, true));
        for counter in [0, 1, 5, 6] {
            assert_eq!(checker.check(chunk.stamped(counter, 7)), Seen::Data(Made(spread(7))));
        }
        assert_eq!(checker.check(chunk.end(10)), Seen::End);
        assert_eq!((checker.received, checker.lost, checker.corrupt), (4, 6, 0));
    }

    #[test]
    fn what_is_checked_with_little_work_is_checked_as_well() {
        let (mut chunk, mut quick, mut full) =
            (Chunk::new(64), Checker::new(64, false), Checker::new(64, true));
        for counter in (0..40_000).chain([1 << 21, (1 << 21) + 1, (1 << 21) + 2]) {
            let mut bytes = chunk.stamped(counter, 7).to_vec();
            if counter % 1000 == 999 {
                bytes[[0, 9, 50, 60][counter as usize / 1000 % 4]] ^= 1;
            }
            assert_eq!(quick.check(&bytes), full.check(&bytes));
        }
        assert_eq!(quick.check(chunk.end(1 << 22)), Seen::End);
        full.check(chunk.end(1 << 22));
        let figures = |checker: &Checker| (checker.received, checker.lost, checker.corrupt);
        assert_eq!(figures(&quick), figures(&full));
        assert!(quick.corrupt == 40 && quick.lost > 1 << 20);
    }

    #[test]
    fn damage_repetition_and_mixing_are_noticed() {
        let (mut chunk, mut checker) = (Chunk::new(64), Checker::new(64, true));
        for damaged in [0, 9, 30, 50, 60] {
            let mut bytes = chunk.stamped(3, 7).to_vec();
            bytes[damaged] ^= 1;
            checker.check(&bytes);
        }
        assert_eq!(checker.corrupt, 5);
        checker.check(chunk.stamped(4, 7));
        checker.check(chunk.stamped(4, 7));
        assert_eq!(checker.corrupt, 6);
        let mut mixed = chunk.stamped(5, 7).to_vec();
        mixed[32..].copy_from_slice(&chunk.stamped(6, 7)[32..]);
        checker.check(&mixed);
        checker.check(&mixed[1..]);
        assert_eq!(checker.corrupt, 8);
    }
}
