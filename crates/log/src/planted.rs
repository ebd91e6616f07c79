//! Deliberate mistakes, each of which a named test must find (docs/reliability.md).
//!
//! Without the feature `planted-bugs` nothing can be planted and the checks are compiled away.

/// One mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bug {
    /// A commit is not synced.
    SkipFlush,
    /// A new journal's directory entry is not synced.
    SkipDirectoryFlush,
    /// A run is installed before it is synced.
    SkipRunFlush,
    /// The journal before is not synced when a new one begins.
    SkipFlushBeforeRoll,
    /// The outcome of a sync is ignored.
    IgnoreFlushError,
    /// A failed commit does not end the log's service.
    NoFence,
    /// Batches are visible as soon as they are staged.
    VisibleEarly,
    /// A retry of an idempotent producer is appended again.
    ForgetDuplicates,
    /// Producers are not in the checkpoint.
    CheckpointWithoutProducers,
    /// Open transactions are not in the checkpoint.
    CheckpointWithoutTransactions,
    /// Open transactions do not hold back the last stable offset.
    IgnoreOpenTransactions,
    /// Aborted transactions are not told to readers.
    HideAborted,
    /// Frames of another file that is used again are believed.
    TrustStaleFrames,
    /// Batches of the last frames are not checked against their checksums at the start.
    TrustTornBatches,
    /// A damaged commit with more of the log behind it is cut off, with all that follows.
    CutAtDamage,
    /// A saved index is believed unread.
    TrustIndex,
    /// What is read from old files is not checked.
    ServeUnchecked,
    /// The log start of a partition is forgotten by a restart.
    ForgetLogStart,
    /// Files are removed although partitions need them.
    RemoveNeededFiles,
    /// A write that was short counts as whole.
    IgnoreShortWrite,
    /// Offsets of a cut-off tail are skipped by one.
    SkipOffsets,
    /// A move replaces extents of a partition that it has not read.
    MoveTooMuch,
    /// A file in the cold store is not read back before the local copy goes.
    SkipColdCheck,
    /// What comes from the cold store is not compared with what was put there.
    TrustColdStore,
    /// The local copy of a file goes before the log knows that it is in the cold store.
    EvictEarly,
    /// A deleted partition is brought back by a move that came late.
    ResurrectByMove,
    /// The loss of one side of a mirror is not marked on the other.
    ForgetLostSide,
    /// A side of a mirror that was left behind is believed.
    BelieveStaleSide,
    /// One side of a mirror is copied over the other unlooked at.
    CopyUnlooked,
    /// The second side of a mirror is not synced.
    SkipMirrorFlush,
    /// A mirror counts as complete before it is filled.
    PairUnfilled,
    /// A batch of an idempotent producer is taken although one before it is missing.
    TakeAnySequence,
    /// A damaged batch is not looked for on the other side of a mirror.
    IgnoreOtherSide,
    /// What is there twice in a file is not put back from its second copy.
    LoseDirectories,
    /// Bytes of a client that look like a frame of the log are believed.
    TrustAnySalt,
    /// Nobody notes that a file is written past a side of a mirror that has come back.
    ForgetWritePast,
    /// Handles that do not reach a side of a mirror that has come back are kept for readers.
    KeepOldHandles,
    /// A file is copied to the other side of a mirror although it is only just being made on both.
    FillUnfinished,
}

#[cfg(feature = "planted-bugs")]
mod planting {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Makes one mistake, or none, in what this thread does from here on.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    pub fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(feature = "planted-bugs")]
pub use planting::{is, plant};

#[cfg(not(feature = "planted-bugs"))]
pub const fn is(_: Bug) -> bool {
    false
}
