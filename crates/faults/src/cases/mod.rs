//! The faults, one concept a file.

mod directory;
mod disk;
mod flip;
mod fsync;
mod kill;
mod lying;
mod mirror;
mod power;
mod read;
mod slow;
mod tail;

use crate::case::Case;

/// `cargo xtask faults log`, in the order they are run.
pub const LOG: &[Case] = &[
    kill::SERVING,
    kill::STARTING,
    power::EXT4,
    power::XFS,
    power::RETRIES,
    fsync::FAILED,
    disk::ERRORS,
    disk::SHORT,
    disk::FULL,
    flip::STOPPED,
    flip::LIVE,
    tail::EDITED,
    tail::MISPLACED,
    read::FAILED,
    slow::DISK,
    slow::PAUSED,
    directory::SECOND,
    directory::READ_ONLY,
    directory::REMOVED,
    mirror::LOST,
    mirror::DAMAGED,
    mirror::CUT,
    lying::SYNC,
];

#[cfg(test)]
mod tests {
    use super::LOG;

    #[test]
    fn every_fault_is_described() {
        let book = include_str!("../../../../docs/reliability.md");
        for case in LOG {
            assert!(book.contains(&format!("`{}`", case.name)), "docs/reliability.md lacks `{}`", case.name);
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = LOG.iter().map(|case| case.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), LOG.len());
    }
}
