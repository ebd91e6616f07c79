//! Differences that are meant: each with its reason, and a normalisation that takes away that difference and no other.
//!
//! A case whose rows differ is explained if the entries that apply to it make both sides equal. docs/streams-differential.md
//! has the same list for readers.

mod headers;
pub mod initial;
mod stream_joins;
mod tombstones;
mod windows;

use crate::case::{Program, Row};

/// The rows of both sides, while entries make them alike.
pub struct Sides<'a> {
    /// What ours ran.
    pub program: &'a Program,
    pub theirs: Vec<Row>,
    pub ours: Vec<Row>,
}

/// One meant difference.
pub struct Entry {
    pub name: &'static str,
    /// Whether a topology can show it.
    applies: fn(&Program) -> bool,
    /// Takes the difference away.
    even: fn(&mut Sides<'_>),
}

pub const LEDGER: &[Entry] = &[
    tombstones::ENTRY,
    stream_joins::OUT_OF_ORDER,
    stream_joins::TWO_LANES,
    windows::FILTERED,
    headers::ENTRY,
];

/// The entries that explain why `ours` is not `theirs`, if some do.
pub fn explain(program: &Program, theirs: &[Row], ours: &[Row]) -> Option<Vec<&'static str>> {
    let mut sides = Sides { program, theirs: theirs.to_vec(), ours: ours.to_vec() };
    let mut used = Vec::new();
    for entry in LEDGER {
        if sides.theirs == sides.ours {
            break;
        }
        if !(entry.applies)(program) {
            continue;
        }
        let before = (sides.theirs.clone(), sides.ours.clone());
        (entry.even)(&mut sides);
        if before != (sides.theirs.clone(), sides.ours.clone()) {
            used.push(entry.name);
        }
    }
    (sides.theirs == sides.ours).then_some(used)
}
