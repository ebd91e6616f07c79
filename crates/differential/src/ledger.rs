//! Differences that are meant: each with its reason, and a normalisation that takes away that difference and no other.
//!
//! A case whose rows differ is explained if one entry makes both sides equal. docs/streams-differential.md has the same
//! list for readers.

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
    headers::ENTRY,
    tombstones::ENTRY,
    stream_joins::OUT_OF_ORDER,
    stream_joins::TWO_LANES,
    windows::FILTERED,
];

/// The entry that explains why `ours` is not `theirs`, if one of them does.
pub fn explain(program: &Program, theirs: &[Row], ours: &[Row]) -> Option<&'static str> {
    let explains = |entry: &&Entry| {
        let mut sides = Sides { program, theirs: theirs.to_vec(), ours: ours.to_vec() };
        (entry.applies)(program) && {
            (entry.even)(&mut sides);
            sides.theirs == sides.ours
        }
    };
    LEDGER.iter().find(explains).map(|entry| entry.name)
}
