//! Deliberate mistakes, each of which `cargo xtask faults planted` must find (docs/reliability.md).
//!
//! Without the feature `planted-bugs`, which no program has, nothing can be planted and the checks are compiled away.
//! With it, `HEADWATER_PLANTED_BUG` names the mistake that this process makes.

use headwater_coordinator::{Coordinator, Request};

/// One mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "planted-bugs"), allow(dead_code, reason = "some are planted in the log"))]
pub enum Bug {
    /// A retry of an idempotent producer is appended again.
    AppendRetries,
    /// Readers are not told of aborted transactions.
    HideAborted,
    /// Open transactions do not hold committed readers back.
    ReadOpen,
    /// EndTxn of an earlier epoch ends the transaction that is open now.
    EndAnyEpoch,
    /// Batches are acknowledged before they are written, so a kill loses them and their offsets are given again.
    AcknowledgeEarly,
    /// Of a committed transaction only the first partition is committed.
    TearCommits,
    /// A batch is refused, and the ones behind it are taken nevertheless.
    TakeWhatFollows,
    /// Some fetches begin one record too late.
    SkipRecords,
}

#[cfg(feature = "planted-bugs")]
mod planting {
    use std::sync::OnceLock;

    use super::Bug;

    const ALL: [Bug; 8] = [
        Bug::AppendRetries,
        Bug::HideAborted,
        Bug::ReadOpen,
        Bug::EndAnyEpoch,
        Bug::AcknowledgeEarly,
        Bug::TearCommits,
        Bug::TakeWhatFollows,
        Bug::SkipRecords,
    ];

    pub fn is(bug: Bug) -> bool {
        static PLANTED: OnceLock<Option<Bug>> = OnceLock::new();
        let planted = PLANTED.get_or_init(|| {
            let name = std::env::var("HEADWATER_PLANTED_BUG").ok()?;
            let bug = ALL.into_iter().find(|bug| format!("{bug:?}") == name);
            Some(bug.unwrap_or_else(|| panic!("HEADWATER_PLANTED_BUG: there is no {name:?}")))
        });
        *planted == Some(bug)
    }

    /// The log's own mistakes belong to a thread.
    pub fn begin_thread() {
        use headwater_log::planted::{Bug as OfLog, plant};
        if is(Bug::AppendRetries) {
            plant(Some(OfLog::ForgetDuplicates));
        }
        if is(Bug::TakeWhatFollows) {
            plant(Some(OfLog::TakeAnySequence));
        }
    }
}

#[cfg(feature = "planted-bugs")]
pub use planting::{begin_thread, is};

#[cfg(not(feature = "planted-bugs"))]
pub const fn is(_: Bug) -> bool {
    false
}

#[cfg(not(feature = "planted-bugs"))]
pub const fn begin_thread() {}

/// With [`Bug::EndAnyEpoch`], an EndTxn as if its producer's epoch were the current one.
pub fn believed(request: Request, coordinator: &Coordinator) -> Request {
    if !is(Bug::EndAnyEpoch) {
        return request;
    }
    let Request::EndTxn(mut end) = request else { return request };
    let current = coordinator.snapshot().into_iter().find_map(|record| match record {
        headwater_coordinator::StateRecord::Transaction(known)
            if known.transactional_id == end.transactional_id && known.producer_id == end.producer_id =>
        {
            Some(known.producer_epoch)
        }
        _ => None,
    });
    end.producer_epoch = current.unwrap_or(end.producer_epoch);
    Request::EndTxn(end)
}
