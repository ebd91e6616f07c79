//! Which thread of this process has which task, so that two never have the same stores open.
//!
//! The group gives a task to one member at a time, but a member that was expelled learns of it only at its next call.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use headwater_streams::TaskId;

/// Who has a task's stores: a thread that has them open, to run it or to keep a copy, or who removes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Active(usize),
    Standby(usize),
    Cleanup,
}

#[derive(Default)]
struct Held {
    owners: HashMap<TaskId, Owner>,
    /// When a task was given up that nobody has.
    left: HashMap<TaskId, Instant>,
}

/// Tasks by who has them.
#[derive(Default)]
pub(crate) struct Claims {
    held: Mutex<Held>,
}

impl Claims {
    /// Every change is whole, so a panic elsewhere leaves the map usable.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims all of `tasks`, or none and names one that another owner still has.
    pub fn claim(&self, tasks: &[TaskId], owner: Owner) -> Result<(), TaskId> {
        let mut held = self.held();
        let is_anothers = |task: &&TaskId| held.owners.get(task).is_some_and(|other| *other != owner);
        if let Some(taken) = tasks.iter().find(is_anothers) {
            return Err(*taken);
        }
        for task in tasks {
            held.owners.insert(*task, owner);
            held.left.remove(task);
        }
        Ok(())
    }

    /// Claims a task that nobody has, nor had after `before`; whether it was so.
    pub fn claim_idle(&self, task: TaskId, before: Instant) -> bool {
        let mut held = self.held();
        let is_idle = !held.owners.contains_key(&task) && held.left.get(&task).is_none_or(|at| *at <= before);
        if is_idle {
            held.owners.insert(task, Owner::Cleanup);
        }
        is_idle
    }

    /// Who has a task, if anyone.
    pub fn holder(&self, task: TaskId) -> Option<Owner> {
        self.held().owners.get(&task).copied()
    }

    pub fn release(&self, owner: Owner) {
        self.give_up(owner, |_| true);
    }

    /// Gives up these, and keeps the rest.
    pub fn release_some(&self, tasks: &[TaskId], owner: Owner) {
        self.give_up(owner, |task| tasks.contains(task));
    }

    fn give_up(&self, owner: Owner, which: impl Fn(&TaskId) -> bool) {
        let now = Instant::now();
        let mut held = self.held();
        let Held { owners, left } = &mut *held;
        let gone = owners.extract_if(|task, other| *other == owner && which(task));
        left.extend(gone.map(|(task, _)| (task, now)));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

    #[test]
    fn a_task_is_idle_from_when_it_was_given_up() {
        let claims = Claims::default();
        let task = |partition| TaskId { subtopology: 0, partition };
        let begun = Instant::now();
        assert_eq!(claims.claim(&[task(0), task(1)], Owner::Active(0)), Ok(()));
        assert!(!claims.claim_idle(task(0), Instant::now()), "a thread has it");
        claims.release_some(&[task(0)], Owner::Active(0));
        assert!(begun.checked_sub(Duration::from_secs(1)).is_none_or(|at| !claims.claim_idle(task(0), at)));
        assert_eq!(claims.claim(&[task(0)], Owner::Standby(0)), Ok(()), "it came back as a copy");
        claims.release(Owner::Standby(0));
        assert!(claims.claim_idle(task(0), Instant::now()));
        assert!(claims.claim_idle(task(2), begun), "nobody ever had it");
        assert!(!claims.claim_idle(task(2), Instant::now()), "it is being removed");
        assert_eq!(claims.claim(&[task(2)], Owner::Active(1)), Err(task(2)), "who gets it waits");
        claims.release_some(&[task(2)], Owner::Cleanup);
        assert_eq!(claims.claim(&[task(2)], Owner::Active(1)), Ok(()));
        assert_eq!(claims.holder(task(0)), Some(Owner::Cleanup));
        assert_eq!(claims.holder(task(1)), Some(Owner::Active(0)), "it was kept");
    }
}
