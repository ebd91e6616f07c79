//! Consumer groups that lost records, or that nobody reads for.

use headwater_coordinator::{FetchedGroup, GroupDescription};

use super::facts::{Facts, Known};
use crate::observe::finding::{Finding, Place, Severity};

const NAMED: usize = 3;

pub fn look(facts: &Facts, findings: &mut Vec<Finding>) {
    for (group, offsets) in facts.answers.groups.iter().flatten() {
        let committed = offsets.offsets.iter().filter(|offset| offset.offset >= 0);
        let known: Vec<(&Known, i64)> = committed
            .filter_map(|at| Some((facts.find(&at.partition.topic, at.partition.partition)?, at.offset)))
            .collect();
        findings.extend(known.iter().filter_map(|(known, offset)| overtaken(offsets, known, *offset)));
        if group.members.is_empty() {
            findings.extend(abandoned(group, &known));
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

fn abandoned(group: &GroupDescription, known: &[(&Known, i64)]) -> Option<Finding> {
    let behind = |(known, offset): &(&Known, i64)| (known.usage.offsets.high_watermark - offset).max(0);
    let lag: i64 = known.iter().map(behind).sum();
    let late: Vec<&(&Known, i64)> = known.iter().filter(|of| behind(of) > 0).collect();
    (lag > 0).then(|| {
        let id = &group.group_id;
        let named: Vec<String> = late.iter().take(NAMED).map(|(known, _)| known.name()).collect();
        let more = late.len().saturating_sub(NAMED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let what =
            format!("group {id} is {lag} records behind on {}{more}, and has no members", named.join(", "));
        Finding::new(Severity::Warning, "group_without_members", what)
            .at(Place {
                group: Some(id.clone()),
                topic: late.first().map(|(known, _)| known.topic.name().to_owned()),
                ..Place::default()
            })
            .why("nobody reads for it; what retention deletes meanwhile it never sees")
            .next(format!(
                "headwater group describe {id}; start its service, or delete the group if it is gone for good"
            ))
    })
}
