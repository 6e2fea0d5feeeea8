//! Stamped chunks and their validation: a reader detects lost, repeated, mixed up and damaged
//! chunks.
//!
//! ```text
//! | tag 8 | word 8 | time 8 | filler ... | tag 8 | word 8 | '\n' |
//! ```
//!
//! A tag is the writer's number (16 bits) and the sequence number of the chunk among that writer's
//! chunks (40 bits). The words are derived from the tag: the last word of a chunk is the first word
//! of the next chunk. All bytes but the last are at least 0x80, so that programs that cut their
//! input at newlines pass a chunk on unchanged.

/// The length of the smallest chunk that has room for the stamps.
pub const SMALLEST: usize = 41;

const NUMBER_BITS: u32 = 40;

/// The sequence number of the end mark, after which no chunk follows. Chunks with data have smaller
/// numbers.
const END: u64 = (1 << NUMBER_BITS) - 1;

/// Mask of the bits of a tag, and of the bits of a time that are kept.
const MASK: u64 = (1 << 56) - 1;

fn tag(writer: u16, number: u64) -> u64 {
    u64::from(writer) << NUMBER_BITS | (number & END)
}

/// Spreads the last 56 bits over eight bytes, seven bits per byte, and sets the highest bit of each
/// byte.
#[inline]
fn spread(value: u64) -> u64 {
    let x = value & MASK;
    let x = (x & 0x0000_0000_0fff_ffff) | ((x & 0x00ff_ffff_f000_0000) << 4);
    let x = (x & 0x0000_3fff_0000_3fff) | ((x & 0x0fff_c000_0fff_c000) << 2);
    let x = (x & 0x007f_007f_007f_007f) | ((x & 0x3f80_3f80_3f80_3f80) << 1);
    x | 0x8080_8080_8080_8080
}

/// The inverse of [`spread`].
#[inline]
fn gather(spread: u64) -> u64 {
    let x = spread & 0x7f7f_7f7f_7f7f_7f7f;
    let x = (x & 0x007f_007f_007f_007f) | ((x & 0x7f00_7f00_7f00_7f00) >> 1);
    let x = (x & 0x0000_3fff_0000_3fff) | ((x & 0x3fff_0000_3fff_0000) >> 2);
    (x & 0x0000_0000_0fff_ffff) | ((x & 0x0fff_ffff_0000_0000) >> 4)
}

/// Returns the word at an offset in the sequence of a writer's chunks.
#[inline]
fn word(offset: u64) -> u64 {
    mix(offset.wrapping_add(1).wrapping_mul(FACTOR))
}

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline]
fn mix(x: u64) -> u64 {
    (x ^ (x >> 29)) | 0x8080_8080_8080_8080
}

/// Stamps at the front of a chunk: tag, word and time.
type Front = [u8; 24];
/// Stamps at the back of a chunk: tag, word and newline.
type Back = [u8; 17];

/// Returns the stamps of a chunk, if the chunk is large enough for them.
#[inline]
fn stamps(bytes: &[u8]) -> (Option<&Front>, Option<&Back>) {
    (bytes.first_chunk(), bytes.last_chunk())
}

/// Returns word number `N` of these stamps.
#[inline]
fn get<const N: usize, const LEN: usize>(stamps: &[u8; LEN]) -> u64 {
    const { assert!(8 * N + 8 <= LEN) };
    let mut word = [0; 8];
    word.copy_from_slice(&stamps[8 * N..8 * N + 8]);
    u64::from_le_bytes(word)
}

/// A chunk buffer that is stamped again for each append.
#[derive(Debug)]
pub struct Chunk {
    writer: u16,
    bytes: Vec<u8>,
}

impl Chunk {
    /// Creates a chunk of `len` bytes for the writer with this number.
    ///
    /// # Panics
    ///
    /// If `len` is less than [`SMALLEST`].
    pub fn new(writer: u16, len: usize) -> Self {
        assert!(len >= SMALLEST, "a chunk must have at least {SMALLEST} bytes for its stamps");
        let mut bytes: Vec<u8> = (0..len as u64).map(|at| word(at).to_le_bytes()[0]).collect();
        bytes[len - 1] = b'\n';
        Self { writer, bytes }
    }

    /// Stamps the chunk with `number`, which is below 2^40 - 1, and `time` (nanoseconds, of which
    /// the last 56 bits are kept), and returns its bytes.
    #[inline]
    pub fn stamped(&mut self, number: u64, time: u64) -> &[u8] {
        let len = self.bytes.len() as u64;
        let tag = tag(self.writer, number);
        let offset = tag.wrapping_mul(len);
        let front = [spread(tag), word(offset), spread(time)].map(u64::to_le_bytes);
        let back = [spread(tag), word(offset.wrapping_add(len))].map(u64::to_le_bytes);
        if let Some(first) = self.bytes.first_chunk_mut::<24>() {
            first.copy_from_slice(front.as_flattened());
        }
        if let Some(last) = self.bytes.last_chunk_mut::<17>() {
            last[..16].copy_from_slice(back.as_flattened());
        }
        &self.bytes
    }

    /// Stamps and returns the end mark, which follows the last of `total` chunks.
    pub fn end(&mut self, total: u64) -> &[u8] {
        self.stamped(END, total)
    }
}

/// The time when a chunk was made, in the encoding of the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made(u64);

impl Made {
    /// Returns the nanoseconds from this time to `now`, which is less than 2^56 ns (two years)
    /// later.
    #[inline]
    pub fn latency(self, now: u64) -> u64 {
        // The chunk has only the last 56 bits of the time, and the clock of a machine with a long
        // uptime needs more.
        now.wrapping_sub(gather(self.0)) & MASK
    }
}

/// The content of a valid chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Data, made at this time.
    Data(Made),
    /// The end mark: no chunk follows.
    End,
}

/// Validation error: why a chunk is not the appended one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The chunk is longer or shorter than the appended ones.
    #[error("a chunk has {0} bytes, unlike every appended chunk")]
    Length(usize),
    /// The stamps do not match each other, or name a writer that does not exist.
    #[error("the stamps of a chunk do not match")]
    Torn,
    /// The chunk was repeated, or arrived after a later one.
    #[error("chunk {number} of writer {writer} arrived after chunk {last} of the same writer")]
    Order {
        /// The number of the writer.
        writer: u16,
        /// The sequence number of the chunk among the writer's chunks.
        number: u64,
        /// The sequence number of the chunk that arrived before.
        last: u64,
    },
}

/// Validates the chunks of one writer that a reader receives.
#[derive(Debug)]
pub struct Checker {
    writer: u16,
    /// The expected bytes of a chunk, if every byte is checked.
    pattern: Option<Chunk>,
    len: usize,
    next: u64,
    /// The tag and the first word of the expected next chunk; `following` is the word at its end.
    expected: [u64; 2],
    following: u64,
    /// The value that `following` was mixed from, and its increment from one chunk to the next.
    product: u64,
    step: u64,
    /// The damage of the last damaged chunk.
    damage: Damage,
    /// Chunks received.
    pub received: u64,
    /// Chunks lost.
    pub lost: u64,
    /// Chunks that were damaged, repeated or out of order.
    pub corrupt: u64,
}

impl Checker {
    /// Creates a checker for chunks of `len` bytes by the writer with this number. `full` checks
    /// every byte, not only the stamps.
    ///
    /// # Panics
    ///
    /// If `full` is set and `len` is less than [`SMALLEST`].
    pub fn new(writer: u16, len: usize, full: bool) -> Self {
        let pattern = full.then(|| Chunk::new(writer, len));
        let step = (len as u64).wrapping_mul(FACTOR);
        let mut checker = Self {
            writer,
            pattern,
            len,
            next: 0,
            expected: [0; 2],
            following: 0,
            product: 0,
            step,
            damage: Damage::Torn,
            received: 0,
            lost: 0,
            corrupt: 0,
        };
        checker.expect(0);
        checker
    }

    /// Sets the chunk that is expected next.
    fn expect(&mut self, number: u64) {
        self.next = number;
        let tag = tag(self.writer, number);
        let offset = tag.wrapping_mul(self.len as u64);
        self.expected = [spread(tag), word(offset)];
        self.product = offset.wrapping_add(self.len as u64).wrapping_add(1).wrapping_mul(FACTOR);
        self.following = mix(self.product);
    }

    /// Returns the sequence number of the chunk that is expected next.
    #[inline]
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Validates the next chunk.
    ///
    /// The expected chunk takes a fast path. Without it, validation would dominate the measurement
    /// of small chunks.
    ///
    /// # Errors
    ///
    /// The chunk is damaged, and counted in [`Self::corrupt`].
    #[inline(always)]
    pub fn check(&mut self, bytes: &[u8]) -> Result<Seen, Damage> {
        let [tag, front] = self.expected;
        if self.pattern.is_none()
            && bytes.len() == self.len
            && let (Some(first), Some(last)) = stamps(bytes)
        {
            // A single branch for all comparisons, because nearly every chunk is correct.
            let wrong = (get::<0, _>(first) ^ tag)
                | (get::<1, _>(first) ^ front)
                | (get::<0, _>(last) ^ tag)
                | (get::<1, _>(last) ^ self.following);
            if wrong == 0 {
                self.received += 1;
                self.next += 1;
                // A carry moves on to the next byte and clears its highest bit, which every byte
                // must have set.
                self.expected = [(tag + 1) | spread(0), self.following];
                self.product = self.product.wrapping_add(self.step);
                self.following = mix(self.product);
                return Ok(Seen::Data(Made(get::<2, _>(first))));
            }
        }
        self.check_any(bytes).ok_or(self.damage)
    }

    /// Validates any chunk. Damage is stored in `self.damage`, so that the return value fits into
    /// registers: a result in memory would slow down the validation of the expected chunk.
    #[cold]
    #[inline(never)]
    fn check_any(&mut self, bytes: &[u8]) -> Option<Seen> {
        let seen = self.seen(bytes);
        // Neither the end mark nor bytes of a wrong length count as a received chunk.
        self.received += u64::from(!matches!(seen, Ok(Seen::End) | Err(Damage::Length(_))));
        match seen {
            Ok(seen) => Some(seen),
            Err(damage) => {
                self.corrupt += 1;
                self.damage = damage;
                None
            }
        }
    }

    fn seen(&mut self, bytes: &[u8]) -> Result<Seen, Damage> {
        let (first, last) = match stamps(bytes) {
            (Some(first), Some(last)) if bytes.len() == self.len => (first, last),
            _ => return Err(Damage::Length(bytes.len())),
        };
        let (found, time) = (gather(get::<0, _>(first)), gather(get::<2, _>(first)));
        let offset = found.wrapping_mul(self.len as u64);
        let number = found & END;
        let whole = get::<0, _>(first) == get::<0, _>(last)
            && found == tag(self.writer, number)
            && get::<1, _>(first) == word(offset)
            && get::<1, _>(last) == word(offset.wrapping_add(self.len as u64))
            && self.pattern.as_mut().is_none_or(|pattern| pattern.stamped(number, time) == bytes);
        if !whole {
            return Err(Damage::Torn);
        }
        if number == END {
            self.lost += time.saturating_sub(self.next);
            return Ok(Seen::End);
        }
        if number < self.next {
            return Err(Damage::Order { writer: self.writer, number, last: self.next - 1 });
        }
        self.lost += number - self.next;
        self.expect(number + 1);
        Ok(Seen::Data(Made(get::<2, _>(first))))
    }
}

/// Validates the chunks of several writers that a reader receives.
#[derive(Debug)]
pub struct Checkers {
    of_writer: Vec<Checker>,
}

impl Checkers {
    /// Creates a checker for chunks of `len` bytes by `writers` writers, numbered from 0. `full`
    /// checks every byte.
    pub fn new(writers: u16, len: usize, full: bool) -> Self {
        Self { of_writer: (0..writers).map(|writer| Checker::new(writer, len, full)).collect() }
    }

    /// Validates the next chunk with the checker of the writer that the chunk names, or with the
    /// first one if that writer does not exist.
    ///
    /// # Errors
    ///
    /// The chunk is damaged.
    #[inline]
    pub fn check(&mut self, bytes: &[u8]) -> Result<Seen, Damage> {
        if let [only] = &mut self.of_writer[..] {
            return only.check(bytes);
        }
        let named = stamps(bytes).0.map_or(0, |first| gather(get::<0, _>(first)) >> NUMBER_BITS);
        let known = usize::try_from(named).ok().filter(|writer| *writer < self.of_writer.len());
        self.of_writer.get_mut(known.unwrap_or(0)).ok_or(Damage::Torn)?.check(bytes)
    }

    /// Returns the checker of each writer.
    pub fn checkers(&self) -> &[Checker] {
        &self.of_writer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(writer: u16, number: u64) -> Vec<u8> {
        Chunk::new(writer, 64).stamped(number, 7).to_vec()
    }

    fn data(time: u64) -> Result<Seen, Damage> {
        Ok(Seen::Data(Made(spread(time))))
    }

    #[test]
    fn a_spread_number_has_no_byte_below_0x80_and_is_gathered_unchanged() {
        for number in [0, 1, 127, 128, 0x0012_3456_789a_bcde, MASK] {
            assert!(spread(number).to_le_bytes().iter().all(|byte| *byte >= 0x80));
            assert_eq!(gather(spread(number)), number);
        }
    }

    #[test]
    fn only_the_last_byte_of_a_chunk_is_a_newline() {
        for writer in [0, 1, u16::MAX] {
            let mut chunk = Chunk::new(writer, 1000);
            for number in (0..1000).chain([END - 1]) {
                let newline =
                    chunk.stamped(number, number << 20).iter().position(|byte| *byte < 0x80);
                assert_eq!(newline, Some(999));
            }
        }
    }

    #[test]
    fn losses_are_counted_up_to_the_end() {
        let (mut chunk, mut checker) = (Chunk::new(0, 64), Checker::new(0, 64, true));
        for number in [0, 1, 5, 6] {
            assert_eq!(checker.check(chunk.stamped(number, 7)), data(7));
        }
        assert_eq!(checker.check(chunk.end(10)), Ok(Seen::End));
        assert_eq!((checker.received, checker.lost, checker.corrupt), (4, 6, 0));
    }

    #[test]
    fn the_fast_path_and_the_full_check_agree() {
        for writer in [0, u16::MAX] {
            let (mut chunk, mut quick, mut full) = (
                Chunk::new(writer, 64),
                Checker::new(writer, 64, false),
                Checker::new(writer, 64, true),
            );
            for number in (0..40_000).chain([1 << 21, (1 << 21) + 1, (1 << 21) + 2]) {
                let mut bytes = chunk.stamped(number, 7).to_vec();
                if number % 1000 == 999 {
                    bytes[[0, 9, 50, 60][number as usize / 1000 % 4]] ^= 1;
                }
                assert_eq!(quick.check(&bytes), full.check(&bytes));
            }
            assert_eq!(quick.check(chunk.end(1 << 22)), Ok(Seen::End));
            assert_eq!(full.check(chunk.end(1 << 22)), Ok(Seen::End));
            let stats = |checker: &Checker| (checker.received, checker.lost, checker.corrupt);
            assert_eq!(stats(&quick), stats(&full));
            assert!(quick.corrupt == 40 && quick.lost > 1024 * 1024);
        }
    }

    #[test]
    fn damage_repetition_and_mixing_are_detected() {
        let (mut chunk, mut checker) = (Chunk::new(0, 64), Checker::new(0, 64, true));
        for damaged in [0, 9, 30, 50, 60] {
            let mut bytes = chunk.stamped(3, 7).to_vec();
            bytes[damaged] ^= 1;
            assert_eq!(checker.check(&bytes), Err(Damage::Torn), "byte {damaged}");
        }
        assert_eq!(checker.corrupt, 5);
        assert_eq!(checker.check(chunk.stamped(4, 7)), data(7));
        assert_eq!(
            checker.check(chunk.stamped(4, 7)),
            Err(Damage::Order { writer: 0, number: 4, last: 4 })
        );
        assert_eq!(checker.corrupt, 6);
        let mut mixed = chunk.stamped(5, 7).to_vec();
        mixed[32..].copy_from_slice(&chunk.stamped(6, 7)[32..]);
        assert_eq!(checker.check(&mixed), Err(Damage::Torn));
        assert_eq!(checker.check(&mixed[1..]), Err(Damage::Length(63)));
        assert_eq!((checker.received, checker.corrupt), (8, 8));
    }

    #[test]
    fn a_latency_is_correct_if_the_clock_needs_more_than_56_bits() {
        let (mut chunk, mut checker) = (Chunk::new(0, SMALLEST), Checker::new(0, SMALLEST, false));
        let wrap = 1 << 56;
        for (number, (made, now)) in
            (0..).zip([(7, 12), (wrap - 2, wrap + 3), (wrap + 7, wrap + 12), (u64::MAX - 1, 3)])
        {
            let Ok(Seen::Data(made)) = checker.check(chunk.stamped(number, made)) else {
                panic!("chunk {number} is corrupt");
            };
            assert_eq!(made.latency(now), 5, "at {now}");
        }
    }

    #[test]
    fn chunks_of_several_writers_are_valid() {
        for len in [SMALLEST, 42, 64, 65_536] {
            let mut checkers = Checkers::new(2, len, false);
            for (writer, number) in [(0, 0), (1, 0), (0, 1), (1, 5), (0, 2)] {
                let mut chunk = Chunk::new(writer, len);
                assert_eq!(checkers.check(chunk.stamped(number, 1 << 40)), data(1 << 40));
            }
        }
    }

    #[test]
    fn damage_anywhere_in_a_stamp_and_a_mixture_of_two_writers_are_detected() {
        for at in (0..16).chain(47..63) {
            for bit in 0..8 {
                let mut bytes = chunk(0, 3);
                bytes[at] ^= 1 << bit;
                assert_eq!(
                    Checkers::new(2, 64, false).check(&bytes),
                    Err(Damage::Torn),
                    "bit {bit} of byte {at}"
                );
            }
        }
        for at in [8, 16, 47, 55] {
            let mixed = [&chunk(0, 3)[..at], &chunk(1, 3)[at..]].concat();
            assert_eq!(
                Checkers::new(2, 64, false).check(&mixed),
                Err(Damage::Torn),
                "mixed at {at}"
            );
        }
        for len in [0, 40, 63, 65] {
            assert_eq!(
                Checkers::new(1, 64, false).check(&vec![0x80; len]),
                Err(Damage::Length(len))
            );
        }
    }

    #[test]
    fn a_chunk_that_arrives_twice_or_too_late_is_detected_per_writer() {
        let mut checkers = Checkers::new(2, 64, false);
        assert_eq!(checkers.check(&chunk(1, 4)), data(7));
        for number in [4, 0] {
            let damage = checkers.check(&chunk(1, number));
            assert_eq!(damage, Err(Damage::Order { writer: 1, number, last: 4 }));
        }
        assert_eq!(checkers.check(&chunk(0, 0)), data(7));
    }

    #[test]
    fn chunks_are_counted_per_writer_and_those_of_no_writer_as_damage_of_the_first() {
        let mut checkers = Checkers::new(2, 64, true);
        for (writer, number) in [(0, 0), (1, 0), (1, 3), (0, 1)] {
            assert_eq!(checkers.check(&chunk(writer, number)), data(7));
        }
        let mut damaged = chunk(1, 4);
        damaged[30] ^= 1;
        for bytes in [&damaged[..], &chunk(2, 0), &damaged[..8]] {
            assert!(checkers.check(bytes).is_err());
        }
        let stats = |checker: &Checker| (checker.received, checker.lost, checker.corrupt);
        let stats: Vec<_> = checkers.checkers().iter().map(stats).collect();
        assert_eq!(stats, [(3, 0, 2), (3, 2, 1)]);
    }

    #[test]
    fn a_chunk_of_a_writer_that_does_not_exist_is_damaged() {
        assert_eq!(Checkers::new(1, 64, false).check(&chunk(1, 0)), Err(Damage::Torn));
        for writer in [1, u16::MAX] {
            assert_eq!(Checker::new(0, 64, false).check(&chunk(writer, 0)), Err(Damage::Torn));
        }
        assert_eq!(Checkers::new(u16::MAX, 64, false).check(&chunk(u16::MAX - 1, 0)), data(7));
    }
}
