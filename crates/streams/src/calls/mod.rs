//! Calls of services outside: what the core asks the shell to do, and what it is told came of it.
//!
//! The core decides what is called when, how often, and in which order; it never polls a future. What is under way at a commit is
//! kept in a store of the operator, so that the positions committed are past it: after a crash, or where the task has moved
//! to, it is called again. So a call may happen more than once, and its result goes on exactly once.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

pub(crate) mod pending;
pub(crate) mod schedule;

/// What a call answers, in an envelope; or what it failed with.
pub type CallFuture = Pin<Box<dyn Future<Output = Result<Box<dyn Any + Send>, String>> + Send>>;

/// Which call it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallId {
    pub(crate) node: usize,
    pub(crate) sequence: u64,
    /// From 1.
    pub(crate) attempt: u32,
}

/// A call for the shell to make: run the future, for no longer than the time-out, and tell [`crate::Task::complete`].
pub struct Call {
    pub id: CallId,
    pub timeout: Duration,
    pub future: CallFuture,
}

/// What came of a call.
pub enum CallOutcome {
    /// What the future answered.
    Answered(Box<dyn Any + Send>),
    Failed(String),
    TimedOut,
}

impl From<Result<Box<dyn Any + Send>, String>> for CallOutcome {
    fn from(result: Result<Box<dyn Any + Send>, String>) -> Self {
        match result {
            Ok(answer) => Self::Answered(answer),
            Err(message) => Self::Failed(message),
        }
    }
}
