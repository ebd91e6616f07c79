//! Counts, reductions and aggregates of grouped streams.

use super::plan::Plan;
use super::stateless::operator;
use crate::case::Step;
use crate::input::{Input, Topic};

pub fn aggregations(plan: &mut Plan<'_>) {
    let mut stream = plan.stream("a");
    if plan.draw.coin() {
        stream = operator(plan, stream);
    }
    let (key, how) = (plan.new_key(), plan.how());
    let table = plan.add(Step::Aggregate { of: stream, key, how });
    plan.sink_table(table);
    plan.input(&Input::of(&[Topic::new("a")]));
}
