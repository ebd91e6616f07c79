//! Rows in one order over all partitions of a store, so that an answer can be cut into pages anywhere.
//!
//! A row's place is its key, escaped so that no key is the beginning of another, and behind it what tells the rows of a key
//! apart, in their order. Places are compared as bytes.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Bound;

use headwater_model::Bytes;
use serde_json::Value;

use super::{QueryError, QueryableStore};
use crate::store::keys::{push_escaped, read_escaped};

/// Rows, each behind its place, in the order of these.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    pub rows: Vec<(Bytes, Value)>,
    /// Whether the limit cut rows off.
    pub more: bool,
}

pub(super) fn place(key: &[u8], rest: &[i64]) -> Bytes {
    let mut out = Vec::with_capacity(key.len() + 2 + 8 * rest.len());
    push_escaped(&mut out, key);
    rest.iter().for_each(|part| out.extend_from_slice(&part.to_be_bytes()));
    Bytes::from(out)
}

/// Where keys begin: with `from`, or behind one that was told.
pub(super) fn low<'a>(from: Option<&'a Bytes>, after: Option<&'a Bytes>) -> Bound<&'a [u8]> {
    match (from, after) {
        (Some(from), Some(after)) if after < from => Bound::Included(&from[..]),
        (_, Some(after)) => Bound::Excluded(&after[..]),
        (Some(from), None) => Bound::Included(&from[..]),
        (None, None) => Bound::Unbounded,
    }
}

pub(super) fn high(to: Option<&Bytes>) -> Bound<&[u8]> {
    to.map_or(Bound::Unbounded, |to| Bound::Included(&to[..]))
}

impl QueryableStore {
    /// The key that a place begins with.
    pub(super) fn key_of(&self, place: &[u8]) -> Result<Bytes, QueryError> {
        let read = read_escaped(place).map(|(key, _)| Bytes::from(key));
        read.ok_or_else(|| QueryError::Place {
            store: self.name.to_string(),
            reason: "that is no place in it",
        })
    }
}

/// The first of what is offered in any order, by place.
pub(super) struct First<T> {
    limit: usize,
    after: Option<Bytes>,
    held: BinaryHeap<Placed<T>>,
    more: bool,
}

struct Placed<T>(Bytes, T);

impl<T> PartialEq for Placed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Placed<T> {}

impl<T> PartialOrd for Placed<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Placed<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl<T> First<T> {
    pub fn new(limit: usize, after: Option<&[u8]>) -> Self {
        let after = after.map(Bytes::copy_from_slice);
        Self { limit, after, held: BinaryHeap::new(), more: false }
    }

    pub fn offer(&mut self, place: Bytes, what: T) {
        if self.after.as_ref().is_some_and(|after| place <= *after) {
            return;
        }
        self.held.push(Placed(place, what));
        if self.held.len() > self.limit {
            self.held.pop();
            self.more = true;
        }
    }

    /// In order, and whether there was more.
    pub fn take(self) -> (impl Iterator<Item = (Bytes, T)>, bool) {
        let Self { held, more, .. } = self;
        (held.into_sorted_vec().into_iter().map(|Placed(place, what)| (place, what)), more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_behind_a_place_are_kept_in_order() {
        let at = |key: &str, time| place(key.as_bytes(), &[time]);
        let mut first = First::new(3, Some(&at("a", 7)));
        for (key, time) in [("c", 0), ("ab", 1), ("a", 8), ("a", 7), ("b", 2), ("a", 9), ("a", 1)] {
            first.offer(at(key, time), (key, time));
        }
        let (rows, more) = first.take();
        assert_eq!(rows.map(|(_, row)| row).collect::<Vec<_>>(), [("a", 8), ("a", 9), ("ab", 1)]);
        assert!(more);
    }

    #[test]
    fn a_page_never_begins_before_what_was_asked_for() {
        let (a, b) = (Bytes::from("a"), Bytes::from("b"));
        assert_eq!(low(Some(&b), Some(&a)), Bound::Included(&b[..]));
        assert_eq!(low(Some(&a), Some(&b)), Bound::Excluded(&b[..]));
        assert_eq!(low(Some(&a), None), Bound::Included(&a[..]));
    }
}
