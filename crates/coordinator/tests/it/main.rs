//! The tests of the coordinators in one binary: each one that is linked takes its time and tens of megabytes.

mod acls;
mod consumer;
mod histories;
mod quotas;
mod rules;
mod share;
mod share_histories;
mod streams;
mod support;
mod usage;
