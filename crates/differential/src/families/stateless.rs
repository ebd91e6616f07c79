//! Operators that keep nothing, one after another, and other times for records.

use super::plan::Plan;
use crate::case::{At, Step};
use crate::input::{Input, Topic};

const A: Topic = Topic::new("a");
const B: Topic = Topic::new("b");

/// One operator behind `of`; a split may end in sinks of its own.
pub fn operator(plan: &mut Plan<'_>, of: At) -> At {
    let (modulus, rest) = plan.modulus();
    match plan.draw.below(11) {
        0 => plan.add(Step::Filter { of, modulus, rest }),
        1 => plan.add(Step::FilterNot { of, modulus, rest }),
        2 => {
            let (key, function) = (plan.key(), plan.value());
            plan.add(Step::Map { of, key, function })
        }
        3 => {
            let function = plan.value();
            plan.add(Step::MapValues { of, function })
        }
        4 => {
            let least = plan.draw.below(2);
            plan.add(Step::FlatMap { of, least })
        }
        5 => {
            let least = plan.draw.below(2);
            plan.add(Step::FlatMapValues { of, least })
        }
        6 => {
            let key = plan.key();
            plan.add(Step::SelectKey { of, key })
        }
        7 => plan.add(Step::Peek { of }),
        8 => plan.add(Step::Repartition { of, partitions: None }),
        9 => plan.add(Step::Timestamp { of }),
        _ => {
            let moduli: Vec<u32> = (0..=plan.draw.below(2)).map(|place| 2 + place).collect();
            let rest = plan.draw.coin();
            let count = moduli.len() + usize::from(rest);
            let last = plan.add(Step::Split { of, moduli, rest });
            for branch in last + 1 - count..last {
                plan.sink(branch);
            }
            last
        }
    }
}

pub fn stateless(plan: &mut Plan<'_>) {
    let mut at = plan.stream("a");
    let two = plan.draw.one_in(3);
    if two {
        let other = plan.stream("b");
        let other = operator(plan, other);
        at = plan.add(Step::Merge { left: at, right: other });
    }
    if plan.draw.one_in(4) {
        let function = plan.value();
        let mapped = plan.add(Step::MapValues { of: at, function });
        at = plan.add(Step::Merge { left: at, right: mapped });
    }
    for _ in 0..=plan.draw.below(4) {
        at = operator(plan, at);
    }
    plan.sink(at);
    plan.input(&Input::of(if two { &[A, B] } else { &[A] }));
}

/// Times that an extractor finds, some of them negative; then an operator that looks at times.
pub fn extractors(plan: &mut Plan<'_>) {
    if plan.draw.one_in(4) {
        return of_a_table(plan);
    }
    let stream = plan.add(Step::Stream { topic: "a", extracts: true });
    let how = plan.how();
    if plan.draw.coin() {
        let key = plan.new_key();
        let table = plan.add(Step::Aggregate { of: stream, key, how });
        plan.sink_table(table);
        plan.input(&Input::of(&[A]));
    } else {
        let last = plan.draw.coin();
        let windows =
            Step::AggregateWindows { of: stream, key: None, how, size: 20, advance: 20, grace: 8, last };
        let table = plan.add(windows);
        plan.sink_windows(table);
        plan.input(&Input::of(&[A.full()]));
    }
}

fn of_a_table(plan: &mut Plan<'_>) {
    let kept = plan.draw.coin();
    let mut table = plan.add(Step::Table { topic: "a", kept, extracts: true });
    if plan.draw.coin() {
        let (key, how) = (plan.key(), plan.how());
        table = plan.add(Step::TableGroup { of: table, key, how });
    }
    plan.sink_table(table);
    plan.input(&Input::of(&[A]));
}
