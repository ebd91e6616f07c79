//! Joins with tables: of a stream, of another table by the same key, of another table by a foreign key.

use super::plan::Plan;
use super::tables::{derived, mapped, source};
use crate::case::Step;
use crate::input::{Input, Topic};

const BOTH: [Topic; 2] = [Topic::new("a"), Topic::new("b")];

pub fn stream_table(plan: &mut Plan<'_>) {
    let mut left = plan.stream("a");
    if plan.draw.one_in(3) {
        let key = plan.key();
        left = plan.add(Step::SelectKey { of: left, key });
    }
    let mut right = source(plan, "b");
    if plan.draw.one_in(3) {
        right = derived(plan, right);
    }
    let kind = plan.inner_or_left();
    let joined = plan.add(Step::JoinTable { left, right, kind });
    plan.sink(joined);
    plan.input(&Input::of(&BOTH));
}

/// A stream with what is aggregated of itself: each record sees the row that it has made.
pub fn stream_itself(plan: &mut Plan<'_>) {
    let left = plan.stream("a");
    let how = plan.how();
    let right = plan.add(Step::Aggregate { of: left, key: None, how });
    let kind = plan.inner_or_left();
    let joined = plan.add(Step::JoinTable { left, right, kind });
    plan.sink(joined);
    plan.input(&Input::of(&[Topic::new("a")]));
}

pub fn table_table(plan: &mut Plan<'_>) {
    let (mut left, mut right) = (source(plan, "a"), source(plan, "b"));
    if plan.draw.one_in(3) {
        left = mapped(plan, left);
    }
    if plan.draw.one_in(3) {
        right = mapped(plan, right);
    }
    let (kind, kept) = (plan.kind(), plan.draw.coin());
    let mut joined = plan.add(Step::JoinTables { left, right, kind, kept });
    if plan.draw.one_in(3) {
        joined = derived(plan, joined);
    }
    if plan.draw.one_in(3) {
        let (key, how) = (plan.key(), plan.how());
        joined = plan.add(Step::TableGroup { of: joined, key, how });
    }
    plan.sink_table(joined);
    plan.input(&Input::of(&BOTH));
}

pub fn foreign_key(plan: &mut Plan<'_>) {
    let (left, right) = (source(plan, "a"), source(plan, "b"));
    let (kind, kept, by_key) = (plan.inner_or_left(), plan.draw.one_in(3), plan.draw.one_in(3));
    let mut joined = plan.add(Step::JoinForeign { left, right, kind, kept, by_key });
    if plan.draw.one_in(4) {
        let (key, how) = (plan.key(), plan.how());
        joined = plan.add(Step::TableGroup { of: joined, key, how });
    }
    plan.sink_table(joined);
    plan.input(&Input::of(&BOTH));
}
