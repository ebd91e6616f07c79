//! Tables with versions: what is derived from them, and joins that see the row as of a time.

use super::plan::Plan;
use crate::case::{At, Step, ValueFunction};
use crate::input::{Input, Topic};

/// Longer than any case lasts. Ours ends the history by stream time, Kafka Streams' by the latest write to the store, so they
/// agree on a shorter one only where every record is such a write.
const LONG: u64 = 1_000_000;

fn derived(plan: &mut Plan<'_>, of: At) -> At {
    let (modulus, rest) = plan.modulus();
    match plan.draw.below(3) {
        0 => plan.add(Step::TableFilter { of, modulus, rest, kept: false }),
        1 => plan.add(Step::TableMapValues { of, function: ValueFunction::Mark, kept: false }),
        _ => of,
    }
}

/// A table with versions from a topic or from a stream.
fn source(plan: &mut Plan<'_>, topic: &'static str, history: u64) -> At {
    if plan.draw.coin() {
        return plan.add(Step::VersionedTable { topic, history });
    }
    let of = plan.stream(topic);
    plan.add(Step::ToVersionedTable { of, history })
}

pub fn versions(plan: &mut Plan<'_>) {
    let history = plan.draw.of(&[0, 10, 40, LONG]);
    let table = source(plan, "a", history);
    let mut table = derived(plan, table);
    if plan.draw.coin() {
        let (key, how) = (plan.key(), plan.how());
        table = plan.add(Step::TableGroup { of: table, key, how });
    }
    plan.sink_table(table);
    plan.input(&Input::of(&[Topic::new("a").keyed()]));
    plan.without_instant_tombstones();
}

pub fn joined(plan: &mut Plan<'_>) {
    match plan.draw.below(4) {
        0 => of_tables(plan),
        1 => by_foreign_key(plan),
        _ => of_a_stream(plan),
    }
    plan.input(&Input::of(&[Topic::new("a").keyed(), Topic::new("b").keyed()]));
    plan.without_instant_tombstones();
}

fn of_a_stream(plan: &mut Plan<'_>) {
    let left = plan.stream("a");
    let right = if plan.draw.one_in(3) {
        aggregated(plan, "b")
    } else {
        let right = source(plan, "b", LONG);
        derived(plan, right)
    };
    let kind = plan.inner_or_left();
    let joined = plan.add(Step::JoinVersions { left, right, kind, grace: None });
    plan.sink(joined);
}

/// Records of the stream that wait for late rows. No time is close to 0: a grace would reach to before it.
pub fn held_back(plan: &mut Plan<'_>) {
    let left = plan.stream("a");
    let right = plan.add(Step::VersionedTable { topic: "b", history: LONG });
    let right = derived(plan, right);
    let (kind, grace) = (plan.inner_or_left(), plan.draw.of(&[0, 4, 12, 60, 200]));
    let joined = plan.add(Step::JoinVersions { left, right, kind, grace: Some(grace) });
    plan.sink(joined);
    // Ours takes the time of a null value, too; Kafka Streams' buffer does not.
    plan.input(&Input::of(&[Topic::new("a").full(), Topic::new("b").keyed()]));
    plan.without_instant_tombstones();
    plan.later_by(1_000);
}

/// What is aggregated never goes back in time, so its versions do not either.
fn aggregated(plan: &mut Plan<'_>, topic: &'static str) -> At {
    let of = plan.stream(topic);
    let (key, how) = (plan.new_key(), plan.how());
    plan.add(Step::AggregateVersions { of, key, how, history: LONG })
}

/// Two tables, one of which may keep no versions.
fn two(plan: &mut Plan<'_>) -> (At, At) {
    match plan.draw.below(4) {
        0 => (plan.table("a"), source(plan, "b", LONG)),
        1 => (source(plan, "a", LONG), plan.table("b")),
        _ => (source(plan, "a", LONG), source(plan, "b", LONG)),
    }
}

fn by_foreign_key(plan: &mut Plan<'_>) {
    let (left, right) = two(plan);
    let (kind, kept, by_key) = (plan.inner_or_left(), plan.draw.one_in(3), plan.draw.coin());
    let joined = plan.add(Step::JoinForeign { left, right, kind, kept, by_key });
    plan.sink_table(joined);
}

fn of_tables(plan: &mut Plan<'_>) {
    let (left, right) = two(plan);
    let kind = plan.kind();
    let joined = plan.add(Step::JoinTables { left, right, kind, kept: false });
    plan.sink_table(joined);
}
