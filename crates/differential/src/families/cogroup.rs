//! Several streams in one aggregate. With windows all come from one topic, record by record, as ours judges lateness by the time of
//! the source partition; without, from one or two.

use super::plan::Plan;
use super::windowed::{fixed, session, slides};
use crate::case::{Step, ValueFunction};
use crate::input::{Input, Topic};

pub fn cogroup(plan: &mut Plan<'_>) {
    if plan.draw.one_in(3) { without_windows(plan) } else { with_windows(plan) }
}

fn without_windows(plan: &mut Plan<'_>) {
    let (mut left, mut right) = (plan.stream("a"), plan.stream("b"));
    if plan.draw.coin() {
        let key = plan.key();
        left = plan.add(Step::SelectKey { of: left, key });
    }
    if plan.draw.coin() {
        let key = plan.key();
        right = plan.add(Step::SelectKey { of: right, key });
    }
    let table = plan.add(Step::Cogroup { left, right });
    plan.sink_table(table);
    plan.input(&Input::of(&[Topic::new("a"), Topic::new("b")]));
}

fn with_windows(plan: &mut Plan<'_>) {
    let stream = plan.stream("a");
    let keyed = plan.add(Step::MapValues { of: stream, function: ValueFunction::Keyed });
    let (left, right) = if plan.draw.coin() { (stream, keyed) } else { (keyed, stream) };
    let windows = match plan.draw.below(3) {
        0 => fixed(plan),
        1 => slides(plan),
        _ => session(plan),
    };
    let table = plan.add(Step::CogroupWindows { left, right, windows });
    plan.sink_windows(table);
    plan.input(&Input::of(&[Topic::new("a").full()]));
}
