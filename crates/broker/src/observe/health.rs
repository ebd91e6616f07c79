//! Whether the broker can do what it is for.
//!
//! *Live* is whether a restart would help nothing or is not needed: the engine's thread runs. *Ready* is
//! whether writes are acknowledged. Damage and a clock that is not believed are told and change neither.

use std::sync::atomic::Ordering;
use std::time::Duration;

use headwater_log::Standing;
use headwater_model::TimestampMs;
use serde::Serialize;

use super::finding::{Finding, Place, Severity, duration};
use super::space::Space;
use crate::broker::Shared;
use crate::clock;

/// A commit that takes longer is a disk that stalls.
const STALLED: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Serialize)]
pub struct Health {
    pub live: bool,
    pub ready: bool,
    /// Why it is not, and what else should be known.
    pub findings: Vec<Finding>,
}

impl Health {
    pub(super) fn of(shared: &Shared) -> Self {
        let findings = findings(shared);
        let live = shared.alive.strong_count() > 0;
        let ready = live && findings.iter().all(|finding| finding.severity != Severity::Failure);
        Self { live, ready, findings }
    }

    pub(super) fn gone() -> Self {
        let ended = Finding::new(Severity::Failure, "stopped", "the broker is stopping or has ended")
            .why("it takes no requests")
            .next("wait for it to end, then start it: headwater up");
        Self { live: false, ready: false, findings: vec![ended] }
    }

    /// Of a node whose broker is somewhere else.
    pub fn without_broker() -> Self {
        Self { live: true, ready: true, findings: Vec::new() }
    }
}

/// What is cheap to know and serious.
pub(super) fn findings(shared: &Shared) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(ended(shared));
    found.extend(fenced(shared));
    found.extend(disk(shared));
    found.extend(damage(shared));
    found.extend(mirror(shared));
    found.extend(clock_held(shared));
    found.extend(cold_store(shared));
    found.extend(cold_place(shared));
    found
}

fn directory(shared: &Shared) -> Place {
    Place::path(shared.config.data_dir.display())
}

fn ended(shared: &Shared) -> Option<Finding> {
    let gone = shared.alive.strong_count() == 0;
    gone.then(|| {
        Finding::new(Severity::Failure, "engine_ended", "the thread that writes has ended")
            .at(directory(shared))
            .why("nothing is written, and nothing is asked of the coordinator")
            .next("restart the node; the start replays the log. The reason is in its output")
    })
}

fn fenced(shared: &Shared) -> Option<Finding> {
    let fenced = shared.engine.fenced()?;
    let found = Finding::new(
        Severity::Failure,
        "log_fenced",
        format!("the log takes no more writes: {}", fenced.reason),
    );
    let why = "after a failed write nobody knows what is on the disk, so nothing more is acknowledged; \
               what was acknowledged is safe, and reading goes on";
    Some(
        found
            .at(directory(shared))
            .since(fenced.since)
            .why(why)
            .next("mend the disk (dmesg names its errors; df shows its space), then restart: headwater up"),
    )
}

fn disk(shared: &Shared) -> Option<Finding> {
    let took = shared.disk.under_way();
    let since = clock::wall() - millis(took);
    if shared.disk.waits_for_space.load(Ordering::Relaxed) {
        let left = Space::of(&shared.config.data_dir).map(|space| space.to_string()).unwrap_or_default();
        let what = format!("no space is left for the log, for {}{left}", duration(millis(took)));
        return Some(
            Finding::new(Severity::Failure, "disk_full", what)
                .at(directory(shared))
                .since(since)
                .why("writes are refused until there is space; nothing that was acknowledged is lost")
                .next("free some space and it goes on by itself; headwater doctor names what takes most"),
        );
    }
    stalled(took)
        .filter(|_| shared.engine.fenced().is_none())
        .map(|found| found.at(directory(shared)).since(since))
}

fn stalled(took: Duration) -> Option<Finding> {
    (took > STALLED).then(|| {
        let what = format!("the disk has not finished a flush for {:.1} s", took.as_secs_f64());
        Finding::new(Severity::Failure, "disk_stalled", what)
            .why("nothing is acknowledged before it is on disk, so all writers wait")
            .next("iostat -x 1 and dmesg show what the disk does; when it answers, the log goes on by itself")
    })
}

fn damage(shared: &Shared) -> Option<Finding> {
    let damage = shared.reader.damage();
    let count = damage.len();
    (count > 0).then(|| {
        let ranges = if count == 1 { "range" } else { "ranges" };
        Finding::new(Severity::Warning, "damage", format!("{count} {ranges} of offsets cannot be read"))
            .at(directory(shared))
            .why("the disk does not return what was written; everything else is served")
            .next("headwater doctor names them")
    })
}

fn mirror(shared: &Shared) -> Option<Finding> {
    match shared.mirror.standing() {
        Standing::Single | Standing::Both => None,
        Standing::Lost { side, reason } => {
            let found =
                Finding::new(Severity::Warning, "mirror_lost", format!("{side} has failed: {reason}"));
            let (wait, refused) = shared.mirror_retries.outlook().unwrap_or_default();
            let again = format!("it is tried again in {} s", wait.as_secs());
            let refused = refused.map(|reason| format!(" (the last time: {reason})")).unwrap_or_default();
            Some(
                found
                    .at(Place::path(side))
                    .why("the log goes on with the other directory of the mirror only: nothing is lost, and nothing more may fail")
                    .next(format!("mend that disk and {again}{refused}: what it misses is copied while the broker serves; restart with an empty directory to replace it")),
            )
        }
        Standing::Filling { side, files_left } => {
            let what = format!("{side} is being filled: {files_left} files are left");
            Some(
                Finding::new(Severity::Note, "mirror_filling", what)
                    .at(Place::path(side))
                    .why("it is new, or was left behind, and is not relied on before it is complete")
                    .next("nothing: it goes on by itself, also after a restart"),
            )
        }
    }
}

fn clock_held(shared: &Shared) -> Option<Finding> {
    shared.cleaner.clock_held.load(Ordering::Relaxed).then(|| {
        let jump = duration(shared.cleaner.clock_jump_ms.load(Ordering::Relaxed));
        let what = format!("at the start the system's clock was {jump} ahead of the log's last time");
        Finding::new(Severity::Warning, "clock_held", what)
            .at(directory(shared))
            .why("such a clock is not believed: the broker goes on from the log's time, so nothing is deleted or forgotten by age")
            .next("set the clock right (timedatectl) and restart; if it is right, start with --config headwater.clock.jump.accept=true")
    })
}

fn cold_store(shared: &Shared) -> Option<Finding> {
    let failing = shared.cleaner.cold.unreachable()?;
    let (what, next) =
        failing.reason.rsplit_once("; ").unwrap_or((&failing.reason, "see whether it answers"));
    let times = if failing.times == 1 {
        "the last request".to_owned()
    } else {
        format!("the last {} requests", failing.times)
    };
    Some(
        Finding::new(Severity::Warning, "cold_store_failing", format!("{times} failed: {what}"))
            .since(failing.since)
            .why("what is in the cold store only cannot be read, and nothing more moves there, so the disk fills; nothing is lost")
            .next(next),
    )
}

fn cold_place(shared: &Shared) -> Option<Finding> {
    let refused = shared.cleaner.cold.refused()?;
    let (what, next) = refused.reason.rsplit_once("; ")?;
    Some(
        Finding::new(Severity::Warning, "cold_store_not_ours", what)
            .at(directory(shared))
            .since(refused.since)
            .why("two logs that put files by the same names into one place lose each other's; as nothing moves, the disk fills")
            .next(next),
    )
}

fn millis(duration: Duration) -> TimestampMs {
    TimestampMs::try_from(duration.as_millis()).unwrap_or(TimestampMs::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_of_more_than_five_seconds_is_a_stalled_disk() {
        assert!(stalled(Duration::from_secs(5)).is_none());
        let found = stalled(Duration::from_millis(12_340)).expect("a finding");
        assert_eq!(found.what, "the disk has not finished a flush for 12.3 s");
        assert_eq!(found.severity, Severity::Failure);
    }
}
