//! The tests of the log, all but `planted` in one binary: each one that is linked takes its time and tens of megabytes.

mod backup;
mod cold;
mod common;
mod compaction;
mod corruption;
mod format;
mod full_start;
mod mirror;
mod past_cache;
mod racing;
mod simulation;
mod space;
