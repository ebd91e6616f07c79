//! Windows of fixed size, hopping windows and sessions, with grace, and their last results alone.
//!
//! Every record reaches the windows here, so that the time of its partition, by which ours judge lateness, is the time that
//! the operator saw, by which Kafka Streams' do; see `lanes` for the rest.

use super::plan::Plan;
use crate::case::{At, How, KeyFunction, Step, ValueFunction};
use crate::input::{Input, Topic};

const GRACES: [u64; 5] = [0, 0, 4, 12, 60];

/// Operators that let every record through, in any shape.
pub fn through(plan: &mut Plan<'_>, of: At) -> At {
    match plan.draw.below(6) {
        0 => plan.add(Step::MapValues { of, function: ValueFunction::Keyed }),
        1 => plan.add(Step::FlatMap { of, least: 1 }),
        2 => plan.add(Step::FlatMapValues { of, least: 1 }),
        3 => plan.add(Step::SelectKey { of, key: KeyFunction::Bucket }),
        4 => plan.add(Step::Peek { of }),
        _ => of,
    }
}

/// A key that is never null.
fn key(plan: &mut Plan<'_>) -> Option<KeyFunction> {
    plan.draw.of(&[None, Some(KeyFunction::Bucket), Some(KeyFunction::Primed)])
}

/// A reduction has no use for nulls, and would not see their times.
fn input(plan: &mut Plan<'_>, how: How) {
    let topic = if how == How::Reduce { Topic::new("a").full() } else { Topic::new("a").keyed() };
    plan.input(&Input::of(&[topic]));
}

fn fixed(plan: &mut Plan<'_>, hops: bool) {
    let stream = plan.stream("a");
    let of = through(plan, stream);
    let (key, how) = (key(plan), plan.how());
    let size = plan.draw.of(&[1, 7, 10, 20, 40]);
    let advance = if hops { 1 + u64::from(plan.draw.below(size as u32)).max(size / 4) } else { size };
    let (grace, last) = (plan.draw.of(&GRACES), plan.draw.coin());
    let advance = advance.min(size);
    let table = plan.add(Step::AggregateWindows { of, key, how, size, advance, grace, last });
    plan.sink_windows(table);
    input(plan, how);
}

pub fn tumbling(plan: &mut Plan<'_>) {
    fixed(plan, false);
}

pub fn hopping(plan: &mut Plan<'_>) {
    fixed(plan, true);
}

pub fn sessions(plan: &mut Plan<'_>) {
    let (stream, last) = (plan.stream("a"), plan.draw.one_in(3));
    let (of, key) = (through(plan, stream), key(plan));
    let (gap, grace, how) = (plan.draw.of(&[1, 5, 10, 20]), plan.draw.of(&GRACES), plan.how());
    let table = plan.add(Step::AggregateSessions { of, key, how, gap, grace, last });
    plan.sink_windows(table);
    input(plan, how);
}
