//! Streams joined with a global table.

use super::plan::Plan;
use crate::case::Step;
use crate::input::{Input, Topic};

pub fn stream_global(plan: &mut Plan<'_>) {
    let left = plan.stream("a");
    let right = plan.add(Step::Global { topic: "b" });
    let (kind, by_key) = (plan.inner_or_left(), plan.draw.coin());
    let joined = plan.add(Step::JoinGlobal { left, right, kind, by_key });
    plan.sink(joined);
    plan.input(&Input::of(&[Topic::new("a"), Topic::new("b")]));
}
