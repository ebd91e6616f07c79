//! The tests of the connectors in one binary: each one that is linked takes its time and tens of megabytes.

mod outbox;
mod scans;
mod sink;
mod support;
