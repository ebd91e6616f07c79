//! Repartition topics of several partitions: a task each of ours, where Kafka Streams' driver has one for all.
//!
//! An input record comes through as one record at most, as those of one input record would come from one task there and from
//! several here. What looks at the time of a whole topic (last results, punctuations, sessions) is not behind it.

use super::plan::Plan;
use crate::case::{At, KeyFunction, Step};
use crate::input::{Input, Topic};

fn repartitioned(plan: &mut Plan<'_>, keys: &[KeyFunction]) -> At {
    let mut of = plan.stream("a");
    if plan.draw.coin() {
        let key = plan.draw.of(keys);
        of = plan.add(Step::SelectKey { of, key });
    }
    let partitions = Some(plan.draw.of(&[2, 3, 5]));
    plan.add(Step::Repartition { of, partitions })
}

pub fn partitions(plan: &mut Plan<'_>) {
    if plan.draw.one_in(4) { in_windows(plan) } else { without_windows(plan) }
}

fn without_windows(plan: &mut Plan<'_>) {
    let of = repartitioned(plan, &[KeyFunction::Bucket, KeyFunction::Primed, KeyFunction::Holes]);
    let (how, kept) = (plan.how(), plan.draw.coin());
    match plan.draw.below(4) {
        0 => plan.sink(of),
        1 => {
            let table = plan.add(Step::Aggregate { of, key: None, how });
            plan.sink_table(table);
        }
        2 => {
            let table = plan.add(Step::ToTable { of, kept });
            plan.sink_table(table);
        }
        _ => {
            let made = plan.add(Step::Process { of, stream_time: None, wall_clock: None, shares: None });
            plan.sink(made);
        }
    }
    plan.input(&Input::of(&[Topic::new("a")]));
}

/// Every record comes to the windows, so that they see its time on both sides.
fn in_windows(plan: &mut Plan<'_>) {
    let of = repartitioned(plan, &[KeyFunction::Bucket, KeyFunction::Primed]);
    let (how, grace) = (plan.how(), plan.draw.of(&[0, 12]));
    let windows = Step::AggregateWindows { of, key: None, how, size: 10, advance: 10, grace, last: false };
    let table = plan.add(windows);
    plan.sink_windows(table);
    plan.input(&Input::of(&[Topic::new("a").full()]));
}
