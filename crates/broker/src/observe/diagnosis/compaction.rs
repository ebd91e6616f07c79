//! What keeps a compacted topic from being compacted.

use std::collections::BTreeMap;

use headwater_log::compact::policy::dirty_ratio;

use super::facts::{Facts, Known};
use crate::cleaner::compaction::{Plan, plan};
use crate::observe::finding::{Finding, Place, Severity, bytes, duration};

/// What internal topics hold below this is nobody's concern.
const WORTH_TELLING: u64 = 64 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    Off,
    Transaction,
    MinLag,
    Active,
    Ratio,
}

/// What has not waited for so long is told of by nobody: it waits as it is meant to.
const LONG_MS: i64 = 3_600_000;

/// The partition of a topic with most to gain, and all that wait for the same.
struct Waiting<'a> {
    worst: &'a Known,
    plan: Plan,
    partitions: Vec<i32>,
}

pub fn look(facts: &Facts, findings: &mut Vec<Finding>) {
    let mut waiting: BTreeMap<(&str, Reason), Waiting<'_>> = BTreeMap::new();
    for known in facts.partitions.iter().filter(|known| is_of_interest(known)) {
        // What cannot be read is damaged, and told of as such.
        let settings = &known.topic.settings;
        let Ok(plan) = plan(&facts.shared.reader, known.id, settings, &known.usage, facts.now) else {
            continue;
        };
        let Some(reason) = reason(facts, known, &plan) else { continue };
        let is_configured = matches!(reason, Reason::MinLag | Reason::Active | Reason::Ratio);
        if is_configured && age(facts, &plan) < LONG_MS {
            continue;
        }
        let partition = known.index();
        let entry = waiting.entry((known.topic.name(), reason));
        let of = entry.or_insert_with(|| Waiting { worst: known, plan, partitions: Vec::new() });
        of.partitions.push(partition);
        if known.bytes() > of.worst.bytes()
            && let Ok(plan) = self::plan(&facts.shared.reader, known.id, settings, &known.usage, facts.now)
        {
            (of.worst, of.plan) = (known, plan);
        }
    }
    findings.extend(waiting.into_iter().map(|((_, reason), waiting)| told(facts, reason, waiting)));
}

fn is_of_interest(known: &Known) -> bool {
    let least =
        if known.topic.is_internal() || known.topic.name().starts_with('_') { WORTH_TELLING } else { 1 };
    // Damage has its own finding, and stops compaction.
    known.topic.settings.compact
        && known.usage.damage.is_empty()
        && known.bytes().saturating_sub(known.usage.cleaned.bytes) >= least
}

fn reason(facts: &Facts, known: &Known, plan: &Plan) -> Option<Reason> {
    let dirty = known.usage.offsets.high_watermark > plan.first_dirty;
    if !dirty {
        None
    } else if !facts.shared.config.cleaner.enabled {
        Some(Reason::Off)
    } else if plan.upper > plan.first_dirty {
        (!plan.due).then_some(Reason::Ratio)
    } else if plan.upper_without_lag > plan.first_dirty {
        Some(Reason::MinLag)
    } else if known.usage.offsets.last_stable <= plan.first_dirty {
        Some(Reason::Transaction)
    } else {
        Some(Reason::Active)
    }
}

/// Of the oldest record that waits.
fn age(facts: &Facts, plan: &Plan) -> i64 {
    plan.dirt.oldest_dirty.map_or(0, |at| (facts.now - at).max(0))
}

fn told(facts: &Facts, reason: Reason, waiting: Waiting<'_>) -> Finding {
    let Waiting { worst, plan, partitions } = waiting;
    let (topic, settings) = (worst.topic.name(), &worst.topic.settings);
    let total = bytes(worst.bytes().saturating_sub(worst.usage.cleaned.bytes));
    let age = age(facts, &plan);
    let (severity, kind, because, next) = match reason {
        Reason::Off => (
            Severity::Warning,
            "compaction_off",
            "log.cleaner.enable is false".to_owned(),
            "start the node with log.cleaner.enable=true".to_owned(),
        ),
        Reason::Transaction => (
            Severity::Note,
            "compaction_held",
            format!("an open transaction begins at {}", worst.usage.offsets.last_stable),
            "end the transaction; its own finding has the command".to_owned(),
        ),
        Reason::MinLag => (
            Severity::Note,
            "compaction_waits",
            format!(
                "min.compaction.lag.ms is {} and the oldest of it is {} old",
                duration(settings.min_compaction_lag_ms),
                duration(age)
            ),
            format!("lower min.compaction.lag.ms of {topic} if that is too long"),
        ),
        Reason::Active => (
            Severity::Note,
            "compaction_waits",
            format!(
                "it is in the active segment, which begins at offset {} and ends at segment.bytes {} or segment.ms {} (it is {} old)",
                plan.active,
                bytes(settings.segment_bytes.try_into().unwrap_or(0)),
                duration(settings.segment_ms),
                duration(age)
            ),
            format!(
                "lower segment.ms or segment.bytes of {topic}, or set max.compaction.lag.ms, if that is too long"
            ),
        ),
        Reason::Ratio => (
            Severity::Note,
            "compaction_waits",
            format!(
                "the dirty ratio is {:.2} and min.cleanable.dirty.ratio is {:.2}",
                dirty_ratio(plan.dirt.clean_bytes, plan.dirt.dirty_bytes),
                settings.min_cleanable_dirty_ratio
            ),
            format!(
                "lower min.cleanable.dirty.ratio of {topic}, or set max.compaction.lag.ms, if it should be sooner"
            ),
        ),
    };
    let of = if partitions.len() == 1 {
        worst.name()
    } else {
        format!("{} and {} more of {topic}", worst.name(), partitions.len() - 1)
    };
    Finding::new(severity, kind, format!("{total} of {of} wait to be compacted: {because}"))
        .at(Place {
            topic: Some(topic.to_owned()),
            partitions,
            first_offset: Some(plan.first_dirty),
            last_offset: Some(worst.usage.offsets.high_watermark - 1),
            ..Place::default()
        })
        .why("until then old values of the same keys take space, and a reader from the start sees them")
        .next(next)
}
