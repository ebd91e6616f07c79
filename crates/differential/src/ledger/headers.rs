//! What waited comes without headers: the last result of a window, and a record of a stream that found no partner.

use super::{Entry, Sides};
use crate::case::{Kind, Program, Step, Tell};

/// Kafka Streams gives a window's last result the headers of the update that happened to be the last, and an unmatched
/// record those of the record that happened to release it. Both depend on the order between source partitions; ours have
/// none.
pub const ENTRY: Entry = Entry { name: "what-waited-has-no-headers", applies, even };

fn applies(program: &Program) -> bool {
    program.has(|step| match step {
        Step::AggregateWindows { last, .. } => *last,
        Step::Windowed { tell, .. } => *tell != Tell::Updates,
        Step::JoinStreams { kind, .. } => *kind != Kind::Inner,
        _ => false,
    })
}

fn even(sides: &mut Sides<'_>) {
    for (theirs, ours) in sides.theirs.iter_mut().zip(&sides.ours) {
        if ours.headers.is_empty() {
            theirs.headers.clear();
        }
    }
}
