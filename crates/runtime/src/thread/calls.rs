//! Calls of services that a task asked for: each runs on the application's runtime, and dies with the task.

use std::panic::resume_unwind;

use headwater_streams::{CallId, CallOutcome, Task, TaskError, TimestampMs};
use tokio::task::JoinSet;
use tokio::time::timeout;

#[derive(Default)]
pub(super) struct Calls {
    under_way: JoinSet<(CallId, CallOutcome)>,
}

impl Calls {
    /// Whether an answer may come at any time.
    pub fn any(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Starts what is due.
    pub fn start(&mut self, task: &mut Task, now: TimestampMs) {
        for call in task.take_calls(now) {
            let (id, patience, future) = (call.id, call.timeout, call.future);
            self.under_way.spawn(async move {
                let outcome = match timeout(patience, future).await {
                    Ok(result) => CallOutcome::from(result),
                    Err(_) => CallOutcome::TimedOut,
                };
                (id, outcome)
            });
        }
    }

    /// Hands the answers that have come to the task; returns how many. A call that panics is a mistake in the program.
    pub fn answer(&mut self, task: &mut Task, now: TimestampMs) -> Result<usize, TaskError> {
        let mut answers = 0;
        while let Some(ended) = self.under_way.try_join_next() {
            match ended {
                Ok((id, outcome)) => task.complete(id, outcome, now)?,
                Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
                // Nobody aborts a call but by dropping all of them.
                Err(_) => continue,
            }
            answers += 1;
        }
        Ok(answers)
    }
}
