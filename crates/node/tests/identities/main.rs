//! The HTTP address behind the identities and rules of the listeners: who comes in sees and changes what the rules
//! allow, and nobody else anything.

#[path = "../../../broker/tests/it/common/certificates.rs"]
mod certificates;
mod proofs;
mod rules;
mod services;
mod strangers;
mod support;
