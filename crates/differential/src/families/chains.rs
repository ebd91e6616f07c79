//! Operators of all kinds, one to four of them behind each other.

use super::plan::Plan;
use super::{stateless, tables};
use crate::case::{At, Step};
use crate::input::{Input, Topic};

#[derive(Clone, Copy)]
enum Of {
    Stream(At),
    Table(At),
}

pub fn chains(plan: &mut Plan<'_>) {
    let stream = plan.stream("a");
    let (table, global) = (plan.table("b"), plan.add(Step::Global { topic: "c" }));
    let mut at = Of::Stream(stream);
    for _ in 0..=plan.draw.below(4) {
        at = match at {
            Of::Stream(of) => behind_stream(plan, of, table, global),
            Of::Table(of) => behind_table(plan, of, table),
        };
    }
    match at {
        Of::Stream(of) => plan.sink(of),
        Of::Table(of) => plan.sink_table(of),
    }
    plan.input(&Input::of(&[Topic::new("a"), Topic::new("a"), Topic::new("b"), Topic::new("c")]));
}

fn behind_stream(plan: &mut Plan<'_>, of: At, table: At, global: At) -> Of {
    match plan.draw.below(9) {
        0 => {
            let kind = plan.inner_or_left();
            Of::Stream(plan.add(Step::JoinTable { left: of, right: table, kind }))
        }
        1 => {
            let kind = plan.inner_or_left();
            Of::Stream(plan.add(Step::JoinGlobal { left: of, right: global, kind, by_key: false }))
        }
        2 => Of::Stream(plan.add(Step::Process { of, stream_time: None, wall_clock: None, shares: None })),
        3 => {
            let kept = plan.draw.coin();
            Of::Table(plan.add(Step::ToTable { of, kept }))
        }
        4 | 5 => {
            let (key, how) = (plan.new_key(), plan.how());
            Of::Table(plan.add(Step::Aggregate { of, key, how }))
        }
        _ => Of::Stream(stateless::operator(plan, of)),
    }
}

/// What Kafka Streams tells of rows that were not there before is compared where it leaves (see the ledger), so a derived
/// table goes on as a table only.
fn behind_table(plan: &mut Plan<'_>, of: At, table: At) -> Of {
    let joined = plan.has(|step| matches!(step, Step::JoinTables { .. } | Step::JoinForeign { .. }));
    let several = plan.has(|step| {
        matches!(step, Step::FlatMap { .. } | Step::FlatMapValues { .. } | Step::TableGroup { .. })
    });
    match plan.draw.below(5) {
        0 => {
            let (key, how) = (plan.key(), plan.how());
            let grouped = plan.add(Step::TableGroup { of, key, how });
            if plan.draw.coin() {
                Of::Table(grouped)
            } else {
                Of::Stream(plan.add(Step::ToStream { of: grouped }))
            }
        }
        // One join with this table: behind two, Kafka Streams takes back what was not there in between.
        1 if !joined => {
            // Behind a filter an outer join of Kafka Streams' repeats rows that have not changed; see the documentation.
            let filtered = plan.has(|step| matches!(step, Step::TableFilter { .. }));
            let kind = if filtered { plan.inner_or_left() } else { plan.kind() };
            let kept = plan.draw.coin();
            Of::Table(plan.add(Step::JoinTables { left: of, right: table, kind, kept }))
        }
        // Several records of one input record may overtake the answers to each other, here and there in another order.
        2 if !joined && !several => {
            let (kind, kept) = (plan.inner_or_left(), plan.draw.coin());
            Of::Table(plan.add(Step::JoinForeign { left: of, right: table, kind, kept, by_key: false }))
        }
        _ => Of::Table(tables::derived(plan, of)),
    }
}
