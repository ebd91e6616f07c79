//! Consumer groups that lost records, or that nobody reads for.

use headwater_coordinator::FetchedGroup;
use headwater_log::{Isolation, LogError};
use headwater_wire::{BatchError, BatchHeader};
use thiserror::Error;

use super::facts::{Facts, Known};
use crate::observe::finding::{Finding, Place, Severity};

const NAMED: usize = 3;
/// So few records are looked at one by one: more are not markers only.
const FEW: i64 = 100;
const READ_BYTES: usize = 64 << 10;

#[derive(Debug, Error)]
enum Unread {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Batch(#[from] BatchError),
}

pub fn look(facts: &Facts, findings: &mut Vec<Finding>) {
    for group in facts.answers.groups.iter().flatten() {
        let offsets = &group.committed;
        let committed = offsets.offsets.iter().filter(|offset| offset.offset >= 0);
        let known: Vec<(&Known, i64)> = committed
            .filter_map(|at| Some((facts.find(&at.partition.topic, at.partition.partition)?, at.offset)))
            .collect();
        findings.extend(known.iter().filter_map(|(known, offset)| overtaken(offsets, known, *offset)));
        if !group.has_members {
            findings.extend(abandoned(facts, &offsets.group_id, &known));
        }
    }
}

fn overtaken(group: &FetchedGroup, known: &Known, offset: i64) -> Option<Finding> {
    let start = known.usage.offsets.log_start;
    (offset < start).then(|| {
        let id = &group.group_id;
        let what = format!(
            "group {id} committed offset {offset} of {}, and the log starts at {start}",
            known.name()
        );
        Finding::new(Severity::Warning, "group_below_log_start", what)
            .at(Place {
                group: Some(id.clone()),
                first_offset: Some(offset),
                last_offset: Some(start - 1),
                ..Place::partition(known.topic.name(), known.index())
            })
            .why(format!(
                "{} records were deleted before it read them; it goes on where its auto.offset.reset says",
                start - offset
            ))
            .next(format!(
                "headwater group describe {id}; keep {} longer, or read faster",
                known.topic.name()
            ))
    })
}

/// How many records there are that a group has not read: what was deleted is none, nor are markers of transactions.
fn behind(facts: &Facts, known: &Known, committed: i64) -> i64 {
    let offsets = known.usage.offsets;
    let next = committed.max(offsets.log_start);
    let rest = (offsets.high_watermark - next).max(0);
    if rest <= FEW && only_markers(facts, known, next).unwrap_or(false) { 0 } else { rest }
}

/// Whether nothing but markers of transactions is left from an offset on.
fn only_markers(facts: &Facts, known: &Known, from: i64) -> Result<bool, Unread> {
    let mut next = from;
    while next < known.usage.offsets.high_watermark {
        let mut bytes = facts.shared.reader.read(known.id, next, READ_BYTES, Isolation::Uncommitted)?.records;
        if bytes.is_empty() {
            return Ok(true);
        }
        while !bytes.is_empty() {
            let header = BatchHeader::read(&bytes)?;
            if !header.is_control() {
                return Ok(false);
            }
            drop(bytes.split_to(header.size));
            next = header.last_offset() + 1;
        }
    }
    Ok(true)
}

fn abandoned(facts: &Facts, id: &str, known: &[(&Known, i64)]) -> Option<Finding> {
    let behind = |(known, offset): &(&Known, i64)| behind(facts, known, *offset);
    let lags = known.iter().map(|of| (of, behind(of))).filter(|(_, lag)| *lag > 0);
    let (late, lags): (Vec<&(&Known, i64)>, Vec<i64>) = lags.unzip();
    let lag: i64 = lags.iter().sum();
    (lag > 0).then(|| {
        let named: Vec<String> = late.iter().take(NAMED).map(|(known, _)| known.name()).collect();
        let more = late.len().saturating_sub(NAMED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let what =
            format!("group {id} is {lag} records behind on {}{more}, and has no members", named.join(", "));
        Finding::new(Severity::Warning, "group_without_members", what)
            .at(Place {
                group: Some(id.to_owned()),
                topic: late.first().map(|(known, _)| known.topic.name().to_owned()),
                ..Place::default()
            })
            .why("nobody reads for it; what retention deletes meanwhile it never sees")
            .next(format!(
                "headwater group describe {id}; start its service, or headwater group delete {id} --yes if it is gone for good"
            ))
    })
}
