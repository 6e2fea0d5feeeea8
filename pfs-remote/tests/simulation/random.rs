//! Random number generator: the same numbers for the same seed.

/// A splitmix64 generator.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another generator, which this one decides.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.number())
    }

    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// An index of a collection of `len` elements, at least one.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// A number from 1 to `most`, roughly log-uniform: numbers below 10 are about as likely as
    /// numbers from 10 to 99.
    pub(crate) fn size(&mut self, most: u64) -> u64 {
        let bits = self.below(u64::from(most.ilog2()) + 2);
        1 + self.below((1 << bits).min(most))
    }

    /// Returns true with probability 1 / `count`.
    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// One of these choices.
    pub(crate) fn of<T: Copy, const N: usize>(&mut self, choices: [T; N]) -> T {
        choices[self.index(N)]
    }
}
