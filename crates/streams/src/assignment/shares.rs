//! Even shares: so many tasks over so many threads, where nobody has two more than another.

/// What may still be given away beyond the least that everybody gets.
pub(super) struct Shares {
    /// The least that each thread gets.
    floor: usize,
    /// Threads that may get one more.
    extras: usize,
}

impl Shares {
    pub fn new(tasks: usize, threads: usize) -> Self {
        let threads = threads.max(1);
        Self { floor: tasks / threads, extras: tasks % threads }
    }

    /// Whether who has `given` tasks for `capacity` threads may have one more.
    pub fn fits(&self, given: usize, capacity: usize) -> bool {
        given < capacity * self.floor || (given < capacity * (self.floor + 1) && self.extras > 0)
    }

    /// Notes that one more was given to who had `given`.
    pub fn take(&mut self, given: usize, capacity: usize) {
        if given >= capacity * self.floor {
            self.extras = self.extras.saturating_sub(1);
        }
    }

    /// Notes what was given before these shares were made.
    pub fn already(&mut self, given: usize, capacity: usize) {
        self.extras = self.extras.saturating_sub(given.saturating_sub(capacity * self.floor));
    }
}
