//! The HTTP address of a service behind TLS and identities: who comes in, what they may, and how instances know each other.

#[path = "../../../broker/tests/common/certificates.rs"]
mod certificates;
mod company;
mod instances;
mod limits;
mod people;
mod start;
#[path = "../support/mod.rs"]
mod support;
