//! What the fuzzer calls with bytes that it makes up; docs/reliability.md says how it is run.
//!
//! A target returns, or panics about a promise that is broken: nothing here may be brought to panic, to take memory that
//! the bytes do not account for, or to say of its own bytes that they are not right. The fuzzer's programs are in
//! `fuzz/`, a workspace of its own; `tests/replay.rs` feeds the same targets from the corpus in every test run.

#![forbid(unsafe_code)]

mod batch;
mod groups;
mod request;
mod sasl;

pub use batch::batch;
pub use groups::groups;
pub use request::{apis, request};
pub use sasl::sasl;

/// A target by its name.
pub fn target(name: &str) -> Option<fn(&[u8])> {
    let found = TARGETS.iter().find(|(known, _)| *known == name)?;
    Some(found.1)
}

/// All of them, as `fuzz/fuzz_targets` names them.
pub const TARGETS: [(&str, fn(&[u8])); 4] =
    [("request", request), ("batch", batch), ("sasl", sasl), ("groups", groups)];
