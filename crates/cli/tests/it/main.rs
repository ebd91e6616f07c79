//! The tests of the program, all but `memory` in one binary: each one that is linked takes its time and tens of megabytes.

mod acls;
mod backup;
mod broker_configs;
#[path = "../../../broker/tests/it/common/certificates.rs"]
mod certificates;
mod cold_store;
mod command_line;
mod common;
mod console;
mod consumer_protocol;
mod dead_letters;
mod demo;
mod doctor;
mod errors;
mod foreign_clients;
mod http_identities;
mod java;
mod migrate;
mod operate;
mod quotas;
mod rebuild;
mod replication;
mod reprocess;
mod security;
#[path = "../../../external/tests/support/mod.rs"]
mod servers;
mod service_identities;
mod share_consumers;
mod streams_groups;
mod streams_secured;
mod tokens;
mod up;
mod usage;
