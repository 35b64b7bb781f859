//! Random numbers that follow from a seed.

/// Random numbers: xorshift64* (Vigna, 2016), all of a run follows from the seed.
pub(crate) struct Random(u64);

impl Random {
    /// Starts a run. Seeds that differ in the lowest bit only are the same.
    pub(crate) const fn new(seed: u64) -> Self {
        Random(seed | 1)
    }

    /// Returns the next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns a number below a limit, which is not 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }

    /// Returns one of several, of which there is at least one.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}
