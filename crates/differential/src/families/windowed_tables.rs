//! Tables of windows: filtered, mapped, grouped by key, joined with each other.
//!
//! What is grouped looks at old values, and only a reduction begins with none (see the ledger).

use super::plan::Plan;
use crate::case::{At, How, KeyFunction, Step, ValueFunction};
use crate::input::{Input, Topic};

const GRACES: [u64; 4] = [0, 4, 12, 60];

/// A key that is never null.
fn key(plan: &mut Plan<'_>) -> Option<KeyFunction> {
    plan.draw.of(&[None, Some(KeyFunction::Bucket), Some(KeyFunction::Primed)])
}

fn sessions(plan: &mut Plan<'_>, how: How) -> At {
    let (of, key) = (plan.stream("a"), key(plan));
    let (gap, grace) = (plan.draw.of(&[1, 5, 10, 20]), plan.draw.of(&GRACES));
    plan.add(Step::AggregateSessions { of, key, how, gap, grace, last: false })
}

fn fixed(plan: &mut Plan<'_>, how: How) -> At {
    let (of, key) = (plan.stream("a"), key(plan));
    let (size, grace) = (plan.draw.of(&[7, 10, 20, 40]), plan.draw.of(&GRACES));
    let advance = if plan.draw.coin() { size } else { size / 2 };
    plan.add(Step::AggregateWindows { of, key, how, size, advance, grace, last: false })
}

fn filtered(plan: &mut Plan<'_>, of: At) -> At {
    let (modulus, rest) = plan.modulus();
    plan.add(Step::WindowedFilter { of, modulus, rest })
}

fn mapped(plan: &mut Plan<'_>, of: At) -> At {
    let function = plan.draw.of(&[ValueFunction::Mark, ValueFunction::Keyed]);
    plan.add(Step::WindowedMapValues { of, function })
}

pub fn windowed_tables(plan: &mut Plan<'_>) {
    match plan.draw.below(3) {
        0 => derived(plan),
        1 => grouped(plan),
        _ => joined(plan),
    }
    plan.input(&Input::of(&[Topic::new("a").full()]));
}

/// Sessions are not filtered: see `grouped`.
fn derived(plan: &mut Plan<'_>) {
    let how = plan.how();
    let of_sessions = plan.draw.one_in(3);
    let mut table = if of_sessions { sessions(plan, how) } else { fixed(plan, how) };
    for _ in 0..=plan.draw.below(2) {
        let filters = !of_sessions && plan.draw.coin();
        table = if filters { filtered(plan, table) } else { mapped(plan, table) };
    }
    plan.sink_windows(table);
}

/// Not of sessions: where one of a single moment gets another record, Kafka Streams does not tell what it was before.
fn grouped(plan: &mut Plan<'_>) {
    let mut of = fixed(plan, How::Reduce);
    if plan.draw.one_in(3) {
        of = if plan.draw.coin() { filtered(plan, of) } else { mapped(plan, of) };
    }
    let how = plan.how();
    let table = plan.add(Step::WindowedGroup { of, how });
    plan.sink_table(table);
}

/// Two tables of one stream's windows, so that windows of both are open for equally long.
fn joined(plan: &mut Plan<'_>) {
    let of = plan.stream("a");
    let (size, grace) = (plan.draw.of(&[7, 10, 20, 40]), plan.draw.of(&GRACES));
    let windows =
        |of, how| Step::AggregateWindows { of, key: None, how, size, advance: size, grace, last: false };
    let how = plan.how();
    let left = plan.add(windows(of, how));
    let (modulus, rest) = plan.modulus();
    let left = plan.add(Step::WindowedFilter { of: left, modulus, rest });
    let keyed = plan.add(Step::MapValues { of, function: ValueFunction::Keyed });
    let how = plan.how();
    let right = plan.add(windows(keyed, how));
    let kind = plan.inner_or_left();
    let table = plan.add(Step::JoinWindowed { left, right, kind });
    plan.sink_windows(table);
}
