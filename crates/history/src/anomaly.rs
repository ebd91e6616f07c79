//! What can be wrong with a history.

use std::fmt;

/// The twelve anomalies, in the words of Jepsen's reports on Redpanda and Bufstream, and one of positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A committed reader was given a value whose writing was aborted or refused.
    AbortedRead,
    /// An offset holds two values (inconsistent offsets).
    TwoValuesAtOneOffset,
    /// An acknowledged value is not there although readers have come past its place, or had it before.
    LostWrite,
    /// A value is at two offsets.
    Duplicate,
    /// An acknowledged value that the last reads do not have yet, at the end of its key.
    Unseen,
    /// A reader was given a value without one that is before it (int-poll-skip, poll-skip).
    GapInPoll,
    /// A reader was given values in another order than that of their offsets (nonmonotonic-poll).
    InversionInPoll,
    /// Between two values of one operation lies one of another, on a key that one process writes (int-send-skip).
    GapInSend,
    /// A value lies before one that was acknowledged, or sent by the same operation, earlier (nonmonotonic-send).
    InversionInSend,
    /// Transactions wrote over each other in a circle (G0).
    WriteCycle,
    /// Transactions read from each other in a circle (G1c).
    CircularInformationFlow,
    /// A committed reader was given a value before its transaction asked for its commit (G1b, precommitted read).
    IntermediateRead,
    /// A group's position is not that of the last transaction that committed one.
    WrongPosition,
}

impl Kind {
    pub const ALL: [Self; 13] = [
        Self::AbortedRead,
        Self::TwoValuesAtOneOffset,
        Self::LostWrite,
        Self::Duplicate,
        Self::Unseen,
        Self::GapInPoll,
        Self::InversionInPoll,
        Self::GapInSend,
        Self::InversionInSend,
        Self::WriteCycle,
        Self::CircularInformationFlow,
        Self::IntermediateRead,
        Self::WrongPosition,
    ];
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anomaly {
    pub kind: Kind,
    /// Which values, offsets and operations.
    pub what: String,
}

impl Anomaly {
    pub(crate) fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into() }
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)
    }
}
