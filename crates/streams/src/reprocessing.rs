//! Whether a record is processed again: it lies before where its partition ended when the application was reset.
//!
//! The end is committed with the position (`hw3;…;…;…;…;end`) by whoever reset it and by the tasks until they have come to it, so that
//! a restart does not forget it. Through repartition topics, and to what waits in a store, it travels as the last header,
//! `__headwater.reprocessing`, without a value, which is taken off before a record is processed.

use headwater_model::{Header, Offset};

const HEADER: &str = "__headwater.reprocessing";

pub(crate) fn mark(headers: &mut Vec<Header>) {
    headers.push(Header { key: HEADER.to_owned(), value: None });
}

/// Takes the mark off; whether there was one.
#[inline]
pub(crate) fn take(headers: &mut Vec<Header>) -> bool {
    if headers.last().is_some_and(|last| last.key == HEADER) {
        headers.pop();
        return true;
    }
    false
}

/// What to commit with an input's position so that everything before `end` counts as processed again. Clocks begin anew.
pub fn reprocess_until(end: Offset) -> String {
    format!("hw3;-1;-1;;;{end}")
}
