//! Retention, compaction and the removal of files, as clients see them.

mod cold;
mod compaction;
mod retention;
mod support;
