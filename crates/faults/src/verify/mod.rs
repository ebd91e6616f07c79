//! Compares what a broker has with what the harness was told, and says every promise that is broken.
//!
//! Pure: a history and a read-back in, violations out. `tests.rs` shows that each kind of lie is caught.

mod metadata;
mod records;
#[cfg(test)]
mod tests;
mod transactions;

use std::fmt;

use crate::history::{History, Place};
use crate::readback::ReadBack;

/// What the fault entitles the broker to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Refuse to read a damaged range, if it says so.
    pub refused: bool,
    /// Have lost the end of partitions and the latest changes: somebody cut the log.
    pub lost_tail: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    Lost,
    Changed,
    Gap,
    NeverSent,
    WrongPlace,
    Duplicate,
    Order,
    Hole,
    LogStart,
    Damaged,
    Refused,
    TornTransaction,
    AbortedVisible,
    CommittedHidden,
    TopicLost,
    TopicBack,
    Config,
    Position,
    /// Noticed while the run went on.
    Noticed,
}

impl Rule {
    fn text(self) -> &'static str {
        match self {
            Self::Lost => "an acknowledged record is lost",
            Self::Changed => "an offset holds another record than a consumer saw there",
            Self::Gap => "an offset is missing",
            Self::NeverSent => "a record that was never sent",
            Self::WrongPlace => "a record in another partition than it was sent to",
            Self::Duplicate => "a record that was sent once is there twice",
            Self::Order => "a producer's order is broken",
            Self::Hole => "an idempotent producer's later record is there without an earlier one",
            Self::LogStart => "the first offset is not what DeleteRecords made it",
            Self::Damaged => "damaged bytes are served",
            Self::Refused => "an undamaged record is refused",
            Self::TornTransaction => "a transaction is there in part",
            Self::AbortedVisible => "a record of an aborted transaction is visible",
            Self::CommittedHidden => "a committed record is not visible",
            Self::TopicLost => "an acknowledged topic is lost",
            Self::TopicBack => "a deleted topic is back",
            Self::Config => "an acknowledged configuration is lost",
            Self::Position => "an acknowledged committed position is lost",
            Self::Noticed => "while it ran",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub rule: Rule,
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.text(), self.detail)
    }
}

/// One comparison under way.
struct Check<'a> {
    history: &'a History,
    read: &'a ReadBack,
    allowed: Allowed,
    violations: Vec<Violation>,
}

impl Check<'_> {
    fn report(&mut self, rule: Rule, detail: String) {
        self.violations.push(Violation { rule, detail });
    }

    fn name(&self, place: Place) -> String {
        self.history.place_name(place)
    }
}

/// Every broken promise; empty when all are kept.
pub fn verify(history: &History, read: &ReadBack, allowed: Allowed) -> Vec<Violation> {
    let mut check = Check { history, read, allowed, violations: Vec::new() };
    for complaint in &history.complaints {
        check.report(Rule::Noticed, complaint.clone());
    }
    check.topics();
    check.configs();
    check.positions();
    check.partitions();
    check.acknowledged();
    check.visibility();
    check.followed();
    check.violations
}
