//! Streams of several topics.

use super::plan::Plan;
use super::stateless::operator;
use crate::case::Step;
use crate::input::{Input, Topic};

pub fn topics(plan: &mut Plan<'_>) {
    let mut of = plan.add(Step::StreamOfTopics { topics: ["a", "b"] });
    for _ in 0..plan.draw.below(3) {
        of = operator(plan, of);
    }
    match plan.draw.below(3) {
        0 => plan.sink(of),
        1 => {
            let (key, how) = (plan.new_key(), plan.how());
            let table = plan.add(Step::Aggregate { of, key, how });
            plan.sink_table(table);
        }
        _ => {
            let kept = plan.draw.coin();
            let table = plan.add(Step::ToTable { of, kept });
            plan.sink_table(table);
        }
    }
    plan.input(&Input::of(&[Topic::new("a"), Topic::new("b")]));
}
