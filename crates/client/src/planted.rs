//! Deliberate mistakes that can be planted in a run on a cluster that loses nodes (docs/cluster.md), and in the runs
//! whose histories are checked (docs/reliability.md).
//!
//! Without the feature `planted-bugs` nothing can be planted and the checks are compiled away.

/// One mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A batch whose answer was lost is sent again under a new sequence.
    ResetSequence,
    /// A streams service commits its positions before its output is in the transaction.
    CommitBeforeOutput,
    /// Sequences go on where they were although the epoch is another one.
    KeepSequences,
    /// An abort that finds the commit carried out, whose answer was lost, says that nothing of it is visible.
    AbortUnheardCommit,
    /// A streams service writes its stores before their transaction is committed.
    StoreBeforeCommit,
    /// A store's entries are written a commit after its changelog position.
    PositionBeforeEntries,
    /// Restoring a store ends some records before its changelog's end.
    RestoreTooLittle,
    /// Restoring takes records of aborted transactions, too.
    RestoreAborted,
    /// Offsets are added to a transaction without a word about the member, so that nobody can refuse a former one.
    CommitOfAnyMember,
    /// A streams service that was fenced, or whose commit was refused, goes on with the state it has.
    GoOnWhenFenced,
    /// A store without a position, though wiped, counts as complete.
    TrustWipedStore,
}

#[cfg(feature = "planted-bugs")]
mod planting {
    use std::sync::RwLock;

    use super::Bug;

    static PLANTED: RwLock<Option<Bug>> = RwLock::new(None);

    /// Makes one mistake, or none, in this process from here on. Whether that can be done.
    pub fn plant(bug: Option<Bug>) -> bool {
        PLANTED.write().map(|mut planted| *planted = bug).is_ok()
    }

    pub fn is(bug: Bug) -> bool {
        PLANTED.read().is_ok_and(|planted| *planted == Some(bug))
    }
}

#[cfg(feature = "planted-bugs")]
pub use planting::{is, plant};

#[cfg(not(feature = "planted-bugs"))]
pub fn plant(_: Option<Bug>) -> bool {
    false
}

#[cfg(not(feature = "planted-bugs"))]
pub fn is(_: Bug) -> bool {
    false
}
