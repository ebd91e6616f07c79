//! The typed DSL: streams and tables that append operators to the graph.
//!
//! One file per thing one holds in one's hand; [`parts`] has what they share.

pub(crate) mod buffered_join;
pub(crate) mod builder;
pub(crate) mod called;
pub(crate) mod calls;
pub(crate) mod chosen;
pub(crate) mod closing;
pub(crate) mod cogroup;
pub(crate) mod deduplicate;
pub(crate) mod fallible;
pub(crate) mod foreign;
pub(crate) mod foreign_messages;
pub(crate) mod global;
pub(crate) mod grouped;
pub(crate) mod join_entries;
pub(crate) mod kstream;
pub(crate) mod ktable;
pub(crate) mod options;
pub(crate) mod parts;
pub(crate) mod rows;
pub(crate) mod sliding;
pub(crate) mod sources;
pub(crate) mod stream_join;
pub(crate) mod suppress;
pub(crate) mod table_group;
pub(crate) mod table_join;
pub(crate) mod windowed;
