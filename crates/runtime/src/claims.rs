//! Which thread of this process has which task, so that two never have the same stores open.
//!
//! The group gives a task to one member at a time, but a member that was expelled learns of it only at its next call.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use headwater_streams::TaskId;

/// Who has a task's stores open: a thread, to run it or to keep a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Active(usize),
    Standby(usize),
}

/// Tasks by who has them.
#[derive(Default)]
pub(crate) struct Claims {
    held: Mutex<HashMap<TaskId, Owner>>,
}

impl Claims {
    /// Every change is whole, so a panic elsewhere leaves the map usable.
    fn held(&self) -> MutexGuard<'_, HashMap<TaskId, Owner>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims all of `tasks`, or none and names one that another owner still has.
    pub fn claim(&self, tasks: &[TaskId], owner: Owner) -> Result<(), TaskId> {
        let mut held = self.held();
        if let Some(taken) = tasks.iter().find(|task| held.get(task).is_some_and(|other| *other != owner)) {
            return Err(*taken);
        }
        held.extend(tasks.iter().map(|task| (*task, owner)));
        Ok(())
    }

    /// Who has a task, if anyone.
    pub fn holder(&self, task: TaskId) -> Option<Owner> {
        self.held().get(&task).copied()
    }

    pub fn release(&self, owner: Owner) {
        self.held().retain(|_, other| *other != owner);
    }

    /// Gives up these, and keeps the rest.
    pub fn release_some(&self, tasks: &[TaskId], owner: Owner) {
        self.held().retain(|task, other| *other != owner || !tasks.contains(task));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_has_one_thread_until_it_is_released() {
        let claims = Claims::default();
        let task = |partition| TaskId { subtopology: 0, partition };
        let (first, second, copy) = (Owner::Active(0), Owner::Active(1), Owner::Standby(0));
        assert_eq!(claims.claim(&[task(0), task(1)], first), Ok(()));
        assert_eq!(claims.claim(&[task(0)], first), Ok(()));
        assert_eq!(claims.claim(&[task(2), task(1)], second), Err(task(1)));
        assert_eq!(claims.claim(&[task(0)], copy), Err(task(0)));
        assert_eq!(claims.holder(task(0)), Some(first));
        claims.release(first);
        assert_eq!(claims.claim(&[task(2), task(1)], second), Ok(()));
        assert_eq!(claims.claim(&[task(0)], copy), Ok(()));
        claims.release_some(&[task(2), task(0)], second);
        assert_eq!(claims.claim(&[task(2)], first), Ok(()));
        assert_eq!(claims.claim(&[task(0)], first), Err(task(0)), "it is another's");
        assert_eq!(claims.claim(&[task(1)], first), Err(task(1)), "it was kept");
    }
}
