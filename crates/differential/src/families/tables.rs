//! Tables, what is derived from them, and tables grouped by another key.

use super::plan::Plan;
use crate::case::{At, Step, ValueFunction};
use crate::input::{Input, Topic};

const A: Topic = Topic::new("a");

/// A table from a topic or from a stream.
pub fn source(plan: &mut Plan<'_>, topic: &'static str) -> At {
    if plan.draw.coin() {
        return plan.table(topic);
    }
    let stream = plan.stream(topic);
    let stream = if plan.draw.one_in(3) {
        let key = plan.key();
        plan.add(Step::SelectKey { of: stream, key })
    } else {
        stream
    };
    let kept = plan.draw.coin();
    plan.add(Step::ToTable { of: stream, kept })
}

/// A table derived from `of`.
pub fn derived(plan: &mut Plan<'_>, of: At) -> At {
    let ((modulus, rest), kept) = (plan.modulus(), plan.draw.coin());
    if plan.draw.coin() { plan.add(Step::TableFilter { of, modulus, rest, kept }) } else { mapped(plan, of) }
}

/// The same rows with other values.
pub fn mapped(plan: &mut Plan<'_>, of: At) -> At {
    let function = plan.draw.of(&[ValueFunction::Mark, ValueFunction::Keyed]);
    let kept = plan.draw.coin();
    plan.add(Step::TableMapValues { of, function, kept })
}

pub fn tables(plan: &mut Plan<'_>) {
    let mut table = source(plan, "a");
    for _ in 0..plan.draw.below(4) {
        table = derived(plan, table);
    }
    plan.sink_table(table);
    plan.input(&Input::of(&[A]));
}

pub fn grouped(plan: &mut Plan<'_>) {
    let mut table = source(plan, "a");
    for _ in 0..plan.draw.below(2) {
        table = derived(plan, table);
    }
    let (key, how) = (plan.key(), plan.how());
    let table = plan.add(Step::TableGroup { of: table, key, how });
    plan.sink_table(table);
    plan.input(&Input::of(&[A]));
}
