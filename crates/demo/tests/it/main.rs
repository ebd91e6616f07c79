//! The tests of the demo in one binary: each one that is linked takes its time and tens of megabytes.

#[path = "../../../broker/tests/it/common/certificates.rs"]
mod certificates;
mod guarded;
mod main_job;
mod oracle_finds_differences;
