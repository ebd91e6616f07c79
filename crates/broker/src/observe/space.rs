//! How much room the file system has.

use std::fmt;
use std::path::Path;

use super::finding::bytes;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// For whoever is not root.
    pub free: u64,
    pub size: u64,
}

impl Space {
    /// `None` when the system does not say.
    pub fn of(directory: &Path) -> Option<Self> {
        let found = rustix::fs::statvfs(directory).ok()?;
        let block = found.f_frsize;
        Some(Self { free: found.f_bavail.saturating_mul(block), size: found.f_blocks.saturating_mul(block) })
    }

    /// Below a tenth of the file system, or below 1 GiB.
    pub fn is_low(&self) -> bool {
        self.free < 1 << 30 || self.free < self.size / 10
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " ({} of {} free)", bytes(self.free), bytes(self.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_a_tenth_or_a_gibibyte() {
        const GIB: u64 = 1 << 30;
        assert!(Space { free: 9 * GIB, size: 100 * GIB }.is_low());
        assert!(!Space { free: 11 * GIB, size: 100 * GIB }.is_low());
        assert!(Space { free: GIB - 1, size: 2 * GIB }.is_low());
    }
}
