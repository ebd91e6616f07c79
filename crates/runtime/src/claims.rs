//! Which thread of this process has which task, so that two never have the same stores open.
//!
//! The group gives a task to one member at a time, but a member that was expelled learns of it only at its next call.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use headwater_streams::TaskId;

/// Tasks by the thread that has them.
#[derive(Default)]
pub(crate) struct Claims {
    held: Mutex<HashMap<TaskId, usize>>,
}

impl Claims {
    /// Every change is whole, so a panic elsewhere leaves the map usable.
    fn held(&self) -> MutexGuard<'_, HashMap<TaskId, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims all of `tasks`, or none and names one that another thread still has.
    pub fn claim(&self, tasks: &[TaskId], thread: usize) -> Result<(), TaskId> {
        let mut held = self.held();
        if let Some(taken) = tasks.iter().find(|task| held.get(task).is_some_and(|owner| *owner != thread)) {
            return Err(*taken);
        }
        held.extend(tasks.iter().map(|task| (*task, thread)));
        Ok(())
    }

    pub fn release(&self, thread: usize) {
        self.held().retain(|_, owner| *owner != thread);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_has_one_thread_until_it_is_released() {
        let claims = Claims::default();
        let task = |partition| TaskId { subtopology: 0, partition };
        assert_eq!(claims.claim(&[task(0), task(1)], 0), Ok(()));
        assert_eq!(claims.claim(&[task(0)], 0), Ok(()));
        assert_eq!(claims.claim(&[task(2), task(1)], 1), Err(task(1)));
        claims.release(0);
        assert_eq!(claims.claim(&[task(2), task(1)], 1), Ok(()));
    }
}
