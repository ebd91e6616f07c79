//! The faults, one concept a file.

mod abuse;
mod directory;
mod disk;
mod flip;
mod fsync;
mod full;
mod heartbeats;
mod histories;
mod kill;
mod lying;
mod mirror;
mod planted;
mod power;
mod read;
mod reordered;
mod rollout;
mod slow;
mod storms;
mod tail;
mod zombie;

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
    full::DIRECT,
    full::UPGRADE,
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

/// `cargo xtask faults wire`
pub const WIRE: &[Case] = &[reordered::LOST_ANSWERS, slow::PAUSED, abuse::SLOWLORIS, abuse::STORM];

/// `cargo xtask faults transactions`
pub const TRANSACTIONS: &[Case] =
    &[reordered::LATE_V2, reordered::LATE_OURS, reordered::LATE_V1, kill::COMMIT, zombie::STOPPED];

/// `cargo xtask faults groups`
pub const GROUPS: &[Case] = &[storms::REJOINING, storms::ROLLING, heartbeats::ROLLING, rollout::ROLLING];

/// `cargo xtask faults history`
pub const HISTORY: &[Case] = &[histories::OURS, histories::LIBRDKAFKA, histories::JAVA, histories::MIXED];

pub use planted::PLANTED;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SUITES: [&[Case]; 6] = [LOG, WIRE, TRANSACTIONS, GROUPS, HISTORY, PLANTED];

    #[test]
    fn every_fault_is_described() {
        let book = include_str!("../../../../docs/reliability.md");
        for case in SUITES.into_iter().flatten() {
            assert!(book.contains(&format!("`{}`", case.name)), "docs/reliability.md lacks `{}`", case.name);
        }
    }

    #[test]
    fn names_are_unique() {
        for suite in SUITES {
            let names: BTreeSet<&str> = suite.iter().map(|case| case.name).collect();
            assert_eq!(names.len(), suite.len());
        }
    }
}
