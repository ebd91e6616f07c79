//! A derived table does not tell of a row that is not there and was not there before.

use std::collections::HashSet;

use super::{Entry, Sides};
use crate::case::{Program, Row, Step};

/// Kafka Streams' filters, mappings and joins of tables forward a change from nothing to nothing unless somebody asked for
/// old values; ours never do. The first answer of our inner foreign-key join may be a tombstone where Kafka Streams' has
/// none. So tombstones of keys that have no row are left out on both sides.
pub const ENTRY: Entry = Entry { name: "nothing-to-nothing", applies, even };

fn applies(program: &Program) -> bool {
    program.has(|step| {
        matches!(
            step,
            Step::TableFilter { .. }
                | Step::TableMapValues { .. }
                | Step::TableGroup { .. }
                | Step::JoinTables { .. }
                | Step::JoinForeign { .. }
                | Step::WindowedFilter { .. }
                | Step::JoinWindowed { .. }
        )
    })
}

fn even(sides: &mut Sides<'_>) {
    without_idle_tombstones(&mut sides.theirs);
    without_idle_tombstones(&mut sides.ours);
}

/// Leaves out tombstones of keys whose last record in the topic is a tombstone or missing.
fn without_idle_tombstones(rows: &mut Vec<Row>) {
    let mut live = HashSet::new();
    rows.retain(|row| {
        let key = (row.topic.clone(), row.key.clone());
        if row.value.is_some() {
            live.insert(key);
            return true;
        }
        live.remove(&key)
    });
}
