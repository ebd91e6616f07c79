//! The tests of the runtime in one binary: each one that is linked takes its time and tens of megabytes.

mod calls;
#[path = "../../../broker/tests/it/common/certificates.rs"]
mod certificates;
mod cleanup;
mod external;
mod external_kill;
mod faults;
mod globals;
mod http_access;
mod inputs;
mod migration;
mod offset_resets;
mod operators;
mod production;
mod quarantine;
mod queries;
mod query_failover;
mod query_position;
mod remote_queries;
mod reprocessing;
mod restart;
#[path = "../../../external/tests/support/mod.rs"]
mod servers;
mod snapshots;
mod standby;
mod streams_protocol;
mod support;
mod word_count;
