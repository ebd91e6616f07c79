//! What waited for its window to close comes without headers.

use super::{Entry, Sides};
use crate::case::{Program, Step};

/// Kafka Streams keeps the headers of a window's last update beside its result. Ours do not: which update is the last one
/// depends on the order between source partitions, and the result does not.
pub const ENTRY: Entry = Entry { name: "last-results-without-headers", applies, even };

fn applies(program: &Program) -> bool {
    program.has(|step| matches!(step, Step::AggregateWindows { last: true, .. }))
}

fn even(sides: &mut Sides<'_>) {
    for (theirs, ours) in sides.theirs.iter_mut().zip(&sides.ours) {
        if ours.headers.is_empty() {
            theirs.headers.clear();
        }
    }
}
