//! What is told of windows once, and goes on: several results of one record, in their order.

use super::plan::Plan;
use super::windowed::{fixed, slides};
use crate::case::{At, KeyFunction, Step, Tell};
use crate::input::{Input, Topic};

pub fn behind_windows(plan: &mut Plan<'_>) {
    let of = plan.stream("a");
    let key = plan.draw.of(&[None, Some(KeyFunction::Bucket), Some(KeyFunction::Primed)]);
    let how = plan.how();
    let windows = match plan.draw.below(3) {
        0 => {
            let (size, grace) = (plan.draw.of(&[7, 10, 20]), plan.draw.of(&[0, 4, 12]));
            Step::AggregateWindows { of, key, how, size, advance: size, grace, last: true }
        }
        1 => Step::Windowed { of, key, how, windows: fixed(plan), tell: Tell::Closed },
        _ => Step::Windowed { of, key, how, windows: slides(plan), tell: Tell::Closed },
    };
    let table = plan.add(windows);
    let of = plan.add(Step::FromWindows { of: table });
    goes_on(plan, of);
    plan.input(&Input::of(&[Topic::new("a").full()]));
}

fn goes_on(plan: &mut Plan<'_>, of: At) {
    match plan.draw.below(4) {
        0 => {
            let (key, how) = (Some(KeyFunction::Bucket), plan.how());
            let table = plan.add(Step::Aggregate { of, key, how });
            plan.sink_table(table);
        }
        1 => {
            let kept = plan.draw.coin();
            let table = plan.add(Step::ToTable { of, kept });
            plan.sink_table(table);
        }
        2 => {
            let made = plan.add(Step::Process { of, stream_time: None, wall_clock: None, shares: None });
            plan.sink(made);
        }
        _ => {
            let (modulus, rest) = plan.modulus();
            let filtered = plan.add(Step::Filter { of, modulus, rest });
            let repartitioned = plan.add(Step::Repartition { of: filtered, partitions: None });
            plan.sink(repartitioned);
        }
    }
}
