//! Sliding windows, and windows of all kinds that are told when they close.

use super::plan::Plan;
use super::windows::through;
use crate::case::{KeyFunction, Step, Tell, Windows};
use crate::input::{Input, Topic};

const GRACES: [u64; 5] = [0, 0, 4, 12, 60];

pub fn fixed(plan: &mut Plan<'_>) -> Windows {
    let size = plan.draw.of(&[1, 7, 10, 20, 40]);
    let advance = if plan.draw.coin() { size } else { (size / 3).max(1) };
    Windows::Fixed { size, advance, grace: plan.draw.of(&GRACES) }
}

pub fn slides(plan: &mut Plan<'_>) -> Windows {
    let difference = plan.draw.of(&[1, 5, 10, 20, 40]);
    Windows::Sliding { difference, grace: plan.draw.of(&GRACES) }
}

pub fn session(plan: &mut Plan<'_>) -> Windows {
    let gap = plan.draw.of(&[1, 5, 10, 20]);
    Windows::Sessions { gap, grace: plan.draw.of(&GRACES) }
}

fn told(plan: &mut Plan<'_>, windows: Windows, tell: Tell) {
    let stream = plan.stream("a");
    let of = through(plan, stream);
    let key = plan.draw.of(&[None, Some(KeyFunction::Bucket), Some(KeyFunction::Primed)]);
    let how = plan.how();
    let table = plan.add(Step::Windowed { of, key, how, windows, tell });
    plan.sink_windows(table);
    plan.input(&Input::of(&[Topic::new("a").full()]));
}

pub fn sliding(plan: &mut Plan<'_>) {
    let windows = slides(plan);
    told(plan, windows, Tell::Updates);
}

pub fn closing(plan: &mut Plan<'_>) {
    let windows = match plan.draw.below(3) {
        0 => fixed(plan),
        1 => slides(plan),
        // Times are in order and even, gap and grace odd together, so that no record comes to a session that has closed, or
        // closes with it: what Kafka Streams makes of that depends on how long its store keeps sessions.
        _ => {
            Windows::Sessions { gap: plan.draw.of(&[1, 5, 11, 21]), grace: plan.draw.of(&[0, 0, 4, 12, 60]) }
        }
    };
    told(plan, windows, Tell::Closed);
    if matches!(windows, Windows::Sessions { .. }) {
        plan.with_even_times_in_order();
    }
}
