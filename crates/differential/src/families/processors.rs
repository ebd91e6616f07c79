//! Operators written by hand, with a store and punctuations of both kinds.

use super::plan::Plan;
use crate::case::Step;
use crate::input::{Input, Topic};

pub fn process(plan: &mut Plan<'_>) {
    let of = plan.stream("a");
    let interval = |plan: &mut Plan<'_>| plan.draw.coin().then(|| u64::from(1 + plan.draw.below(30)));
    let (stream_time, wall_clock) = (interval(plan), interval(plan));
    let made = plan.add(Step::Process { of, stream_time, wall_clock, shares: None });
    plan.sink(made);
    let mut topics = vec![Topic::new("a")];
    if plan.draw.one_in(3) {
        let of = plan.stream("b");
        let (stream_time, wall_clock) = (None, interval(plan));
        let other = plan.add(Step::Process { of, stream_time, wall_clock, shares: Some(made) });
        plan.sink(other);
        topics.push(Topic::new("b"));
    }
    plan.input(&Input { wall: true, ..Input::of(&topics) });
}

pub fn process_versions(plan: &mut Plan<'_>) {
    let of = plan.stream("a");
    let (history, back) = (plan.draw.of(&[0, 10, 40, 1_000_000]), plan.draw.of(&[0, 5, 20, 80]));
    let made = plan.add(Step::ProcessVersions { of, history, back });
    plan.sink(made);
    plan.input(&Input::of(&[Topic::new("a").keyed()]));
    plan.without_instant_tombstones();
}
