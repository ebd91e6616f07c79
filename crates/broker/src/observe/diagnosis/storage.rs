//! Damage, space, files, failed cleanings and the clock.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use headwater_coordinator::PublishedTopic;
use headwater_log::Cause;

use super::facts::Facts;
use crate::cleaner::{COMPACTION, RETENTION};
use crate::clock;
use crate::observe::finding::{Finding, Place, Severity, bytes, duration};
use crate::observe::space::Space;

/// More extents than this make reading from the start slow.
const MANY_EXTENTS: usize = 64;
/// The system's clock may be corrected by so much without a word.
const DRIFT_MS: i64 = 60_000;
const LARGEST: usize = 3;

pub fn look(facts: &Facts, findings: &mut Vec<Finding>) {
    damage(facts, findings);
    space(facts, findings);
    extents(facts, findings);
    failures(facts, findings);
    keyless(facts, findings);
    drift(facts, findings);
    unread_topics(facts, findings);
}

fn damage(facts: &Facts, findings: &mut Vec<Finding>) {
    for known in &facts.partitions {
        for damage in &known.usage.damage {
            let (first, last) = (damage.first, damage.last);
            let what =
                format!("offsets {first} to {last} of {} cannot be read: {}", known.name(), damage.cause);
            let next = match damage.cause {
                Cause::MissingFile => format!(
                    "bring {} back into {}/log, or skip: consume from offset {}",
                    damage.file.name(),
                    facts.shared.config.data_dir.display(),
                    last + 1
                ),
                _ => format!(
                    "restore the directory from a backup, or skip: consume from offset {}; check the disk (smartctl -a)",
                    last + 1
                ),
            };
            let place = Place {
                path: Some(damage.file.name()),
                first_offset: Some(first),
                last_offset: Some(last),
                ..Place::partition(known.topic.name(), known.index())
            };
            findings.push(
                Finding::new(Severity::Warning, "damage", what)
                    .at(place)
                    .why("a fetch in this range is refused, and the partition is not compacted; all else is served")
                    .next(next),
            );
        }
    }
}

fn space(facts: &Facts, findings: &mut Vec<Finding>) {
    let directory = &facts.shared.config.data_dir;
    let Some(space) = Space::of(directory).filter(Space::is_low) else { return };
    let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
    for known in &facts.partitions {
        *sizes.entry(known.topic.name()).or_default() += known.bytes();
    }
    let mut sizes: Vec<(&str, u64)> = sizes.into_iter().filter(|(_, size)| *size > 0).collect();
    sizes.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let most: Vec<String> =
        sizes.iter().take(LARGEST).map(|(topic, size)| format!("{topic} ({})", bytes(*size))).collect();
    let files: u64 = facts.files.iter().filter(|file| file.local).map(|file| file.length).sum();
    let log = files + facts.shared.reader.spare_bytes().unwrap_or(0);
    let most = match most.is_empty() {
        true => "no topic takes any".to_owned(),
        false => format!("most is taken by {}", most.join(", ")),
    };
    let next = match sizes.first() {
        Some((topic, _)) => format!(
            "headwater topic describe {topic}; lower its retention.bytes or retention.ms (headwater topic alter {topic} --config retention.ms=…), or free space elsewhere"
        ),
        None => "free space elsewhere on the file system".to_owned(),
    };
    findings.push(
        Finding::new(Severity::Warning, "disk_low", format!("little space is left on the disk{space}"))
            .at(Place::path(directory.display()))
            .why(format!("a full disk refuses all writes; the log takes {}, {most}", bytes(log)))
            .next(next),
    );
}

fn extents(facts: &Facts, findings: &mut Vec<Finding>) {
    for known in facts.partitions.iter().filter(|known| known.usage.extents.len() > MANY_EXTENTS) {
        let count = known.usage.extents.len();
        findings.push(
            Finding::new(Severity::Note, "many_extents", format!("{} lies in {count} files", known.name()))
                .at(Place::partition(known.topic.name(), known.index()))
                .why("a partition that writes little has a little in every journal, so reading it from the start opens many files")
                .next("nothing: it is moved together when those files are mostly unused; retention or compaction do it sooner"),
        );
    }
}

fn failures(facts: &Facts, findings: &mut Vec<Finding>) {
    for (work, failing) in facts.shared.cleaner.failing() {
        let times = if failing.times == 1 { "once".to_owned() } else { format!("{} times", failing.times) };
        let place = work.partition.as_ref().map(|(topic, partition)| Place::partition(topic, *partition));
        let kind = match work.doing {
            RETENTION => "retention_failed",
            COMPACTION => "compaction_failed",
            _ => "cleaning_failed",
        };
        findings.push(
            Finding::new(Severity::Warning, kind, format!("{work} failed {times}: {}", failing.reason))
                .at(place.unwrap_or_else(|| Place::path(facts.shared.config.data_dir.display())))
                .since(failing.since)
                .why("everything stays as it is, so the disk fills; it is tried again all the time")
                .next("remove the reason; the next try tells"),
        );
    }
}

fn keyless(facts: &Facts, findings: &mut Vec<Finding>) {
    let dropped = facts.shared.cleaner.keyless();
    for known in &facts.partitions {
        let Some(records) = dropped.get(&known.id) else { continue };
        let name = known.topic.name();
        let what = format!("compaction left out {records} records of {} that have no key", known.name());
        findings.push(
            Finding::new(Severity::Warning, "keyless_records", what)
                .at(Place::partition(name, known.index()))
                .why("a compacted topic keeps the last record of each key, so one without a key is kept by nothing; they were there before the topic was compacted")
                .next(format!("if they matter, write them to a topic with cleanup.policy=delete: headwater topic describe {name}")),
        );
    }
}

fn drift(facts: &Facts, findings: &mut Vec<Finding>) {
    let ahead = clock::wall() - facts.shared.clock.now();
    // A clock that is not believed has its own finding.
    let held = facts.shared.cleaner.clock_held.load(Ordering::Relaxed);
    if held || ahead.abs() <= DRIFT_MS {
        return;
    }
    let direction = if ahead > 0 { "forward" } else { "back" };
    findings.push(
        Finding::new(
            Severity::Warning,
            "clock_set",
            format!("the system's clock was set {direction} by {} since the broker started", duration(ahead.abs())),
        )
        .why("ages are measured by a clock that does not jump, so retention still follows the old time; producers on this machine stamp the new one")
        .next("restart the node if the new time is right; else set the clock right: timedatectl"),
    );
}

/// A start makes them right, or ends, unless it could not see whose they are.
fn unread_topics(facts: &Facts, findings: &mut Vec<Finding>) {
    if !facts.shared.config.coordinator.internal_topics {
        return;
    }
    for topic in PublishedTopic::ALL {
        let found = facts.shared.catalog.by_name(topic.name());
        if found.is_none_or(|found| PublishedTopic::is_as_made(&found.record)) {
            continue;
        }
        let name = topic.name();
        findings.push(
            Finding::new(
                Severity::Warning,
                "internal_topic_unread",
                format!("{name} is not as the broker makes it, and whose it is could not be read at the start"),
            )
            .at(Place { topic: Some(name.to_owned()), ..Place::default() })
            .why("an older version let clients make or change it; until that is seen, groups and transactions are not told there. They are kept all the same")
            .next("bring back what holds its records (headwater.cold.store and its credentials, the disk; the output of the start names it), then restart; or restart once with --config headwater.internal.topics.enable=false, which deletes the topic"),
        );
    }
}
