//! What the fuzzer calls with bytes that it makes up; docs/reliability.md says how it is run.
//!
//! A target returns, or panics about a promise that is broken: nothing here may be brought to panic, to take memory that
//! the bytes do not account for, or to say of its own bytes that they are not right. The fuzzer's programs are in
//! `fuzz/`, a workspace of its own; `tests/replay.rs` feeds the same targets from the corpus in every test run.

#![forbid(unsafe_code)]

mod batch;
mod groups;
mod request;
#[cfg(feature = "sasl")]
mod sasl;

pub use batch::batch;
pub use groups::groups;
pub use request::{apis, request};
#[cfg(feature = "sasl")]
pub use sasl::sasl;

/// A target and its name, as `fuzz/fuzz_targets` has it.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("request", request),
    ("batch", batch),
    ("groups", groups),
    #[cfg(feature = "sasl")]
    ("sasl", sasl),
];
