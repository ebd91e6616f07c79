//! Random choices from a seed.

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

pub struct Draw(SmallRng);

impl Draw {
    /// Each case has a sequence of its own, so that one can be replayed alone.
    pub fn new(seed: u64, case: u64) -> Self {
        Self(SmallRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(case)))
    }

    /// 0 up to, but without, `end`.
    pub fn below(&mut self, end: u32) -> u32 {
        self.0.random_range(0..end)
    }

    /// True in one of `n` draws.
    pub fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    pub fn coin(&mut self) -> bool {
        self.one_in(2)
    }

    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u32) as usize]
    }
}
