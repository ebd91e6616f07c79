//! The value that an aggregation begins with is no row.
//!
//! Kafka Streams tells a new row's initial value as its old value, so a table that is grouped behind a count or an aggregate
//! takes back what was never put in, and a filter does not delete a row that it had let through. Ours tells that there was no row. Kafka Streams does the same if the initial value is
//! null, so it runs such a case once more like that, and must then agree.

use crate::case::{How, Program, Step};

pub const NAME: &str = "initial-value-is-no-row";

/// Whether something that looks at old values is behind an aggregation that begins with a value.
pub fn may_show(program: &Program) -> bool {
    let begins = |step: &Step| matches!(step, Step::Aggregate { how: How::Count | How::Aggregate, .. });
    let looks = |step: &Step| {
        matches!(step, Step::TableGroup { .. } | Step::TableFilter { .. } | Step::JoinForeign { .. })
    };
    program.has(begins) && program.has(looks)
}
