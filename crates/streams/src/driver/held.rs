//! What waits in a test: keys in quarantine, and calls that have not answered.

use std::task::{Context, Poll, Waker};

use headwater_model::{Bytes, TimestampMs};

use super::TopologyTestDriver;
use crate::calls::{CallFuture, CallId, CallOutcome};
use crate::error::TaskError;
use crate::quarantine::HeldKey;
use crate::task::TaskId;
use crate::windows::duration_ms;

/// A call of a task, and when it is given up.
pub(super) struct Calling {
    task: TaskId,
    id: CallId,
    future: CallFuture,
    until: TimestampMs,
}

impl TopologyTestDriver {
    /// The keys that are held, of all tasks in their order.
    pub fn quarantined(&self) -> Vec<HeldKey> {
        self.tasks.values().flat_map(|running| running.task.quarantined()).collect()
    }

    /// Releases a key, or all, and lets the tasks work; returns how many records were processed.
    pub fn release(&mut self, key: Option<&Bytes>) -> Result<usize, TaskError> {
        self.undoing(|driver| {
            let mut released = 0;
            for (id, running) in &mut driver.tasks {
                released += running.task.release(key, driver.now).map_err(|error| (*id, error))?;
            }
            driver.work()?;
            Ok(released)
        })
    }

    /// Makes the calls that are due and asks those under way for their answers; returns how many are over. A future is asked on
    /// each step of the test, in the order of the calls, and its time-out goes by the virtual clock.
    pub(super) fn call(&mut self) -> Result<usize, (TaskId, TaskError)> {
        for (task, running) in &mut self.tasks {
            let calls = running.task.take_calls(self.now).into_iter();
            self.calls.extend(calls.map(|call| Calling {
                task: *task,
                id: call.id,
                future: call.future,
                until: self.now.saturating_add(duration_ms(call.timeout)),
            }));
        }
        let mut over = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        for (place, call) in self.calls.iter_mut().enumerate() {
            match call.future.as_mut().poll(&mut context) {
                Poll::Ready(result) => over.push((place, CallOutcome::from(result))),
                Poll::Pending if call.until <= self.now => over.push((place, CallOutcome::TimedOut)),
                Poll::Pending => {}
            }
        }
        let (count, mut gone) = (over.len(), 0);
        for (place, outcome) in over {
            let call = self.calls.remove(place - gone);
            gone += 1;
            if let Some(running) = self.tasks.get_mut(&call.task) {
                running.task.complete(call.id, outcome, self.now).map_err(|error| (call.task, error))?;
            }
        }
        Ok(count)
    }

    /// Calls of services that are not over, those included that wait for their turn.
    pub fn calls_under_way(&self) -> usize {
        self.tasks.values().map(|running| running.task.calls_under_way()).sum()
    }
}
