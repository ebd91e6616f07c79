//! Records whose stream time is not what the operator sees: of two topics, or behind a filter. Here ours and Kafka
//! Streams' differ on purpose; models in the ledger show that nothing else does.

use super::plan::Plan;
use super::stream_joins;
use crate::case::Step;
use crate::input::{Input, Topic};

pub fn lanes(plan: &mut Plan<'_>) {
    if plan.draw.coin() { two_topics(plan) } else { behind_a_filter(plan) }
}

fn two_topics(plan: &mut Plan<'_>) {
    let (left, right) = (plan.stream("a"), plan.stream("b"));
    let kind = plan.kind();
    let joined = stream_joins::join(plan, left, right, kind);
    plan.sink(joined);
    plan.input(&Input::of(&[Topic::new("a").full(), Topic::new("b").full()]));
}

fn behind_a_filter(plan: &mut Plan<'_>) {
    let of = plan.stream("a");
    let (modulus, rest) = plan.modulus();
    let of = plan.add(Step::Filter { of, modulus, rest });
    let (how, last) = (plan.how(), plan.draw.coin());
    let (size, grace) = (plan.draw.of(&[10, 20]), plan.draw.of(&[0, 4, 12]));
    let table = plan.add(Step::AggregateWindows { of, key: None, how, size, advance: size, grace, last });
    plan.sink_windows(table);
    plan.input(&Input::of(&[Topic::new("a").full()]));
}
