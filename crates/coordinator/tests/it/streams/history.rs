//! Random histories against what a naive observer expects: nobody ever works on a task that somebody else works on, and
//! when all have followed, every task is worked on once and the work is even.

use headwater_coordinator::*;
use proptest::prelude::*;

use super::{DELAY_MS, SESSION_MS, Thread, describe, set, settle};
use crate::support::{Bench, settings};

#[derive(Debug, Clone)]
enum Step {
    Join {
        process: u8,
    },
    Beat {
        which: usize,
        slow: bool,
    },
    /// The answer is lost, so the thread goes on with the epoch and the tasks of before.
    Lost {
        which: usize,
    },
    Leave {
        which: usize,
    },
    /// It is gone without a word.
    Die {
        which: usize,
    },
    Pass {
        ms: i64,
    },
    Standbys {
        count: i32,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let which = || 0..8usize;
    prop_oneof![
        3 => (0..4u8).prop_map(|process| Step::Join { process }),
        9 => (which(), any::<bool>()).prop_map(|(which, slow)| Step::Beat { which, slow }),
        1 => which().prop_map(|which| Step::Lost { which }),
        1 => which().prop_map(|which| Step::Leave { which }),
        1 => which().prop_map(|which| Step::Die { which }),
        3 => (1..9_000i64).prop_map(|ms| Step::Pass { ms }),
        1 => (0..3i32).prop_map(|count| Step::Standbys { count }),
        1 => Just(Step::Restart),
    ]
}

struct Trial {
    bench: Bench,
    threads: Vec<Thread>,
    born: usize,
    standbys: i32,
}

impl Trial {
    fn take(&mut self, step: Step) {
        let count = self.threads.len();
        let at = |which: usize| (count > 0).then(|| which % count);
        match step {
            Step::Join { process } if count < 6 => {
                self.born += 1;
                let mut thread = Thread::of(&format!("thread-{}", self.born), &format!("process-{process}"));
                thread.join(&mut self.bench).expect("anybody may join");
                self.threads.push(thread);
            }
            Step::Beat { which, slow } => {
                let Some(at) = at(which) else { return };
                let known = self.threads[at].beat(&mut self.bench, slow);
                if let Err(failure) = known {
                    // It was silent for too long, or did not give up its tasks: it begins anew.
                    let fenced = [Error::UnknownMemberId, Error::FencedMemberEpoch];
                    assert!(fenced.contains(&failure.error), "{failure:?}");
                    self.threads[at].join(&mut self.bench).expect("anybody may join");
                }
            }
            Step::Lost { which } => {
                let Some(at) = at(which) else { return };
                // What the thread is told to take it does not take, and what to give up it does not.
                drop(self.threads[at].clone().beat(&mut self.bench, true));
            }
            Step::Leave { which } => {
                let Some(at) = at(which) else { return };
                drop(self.threads.remove(at).leave(&mut self.bench));
            }
            Step::Die { which } => {
                let Some(at) = at(which) else { return };
                self.threads.remove(at);
            }
            Step::Pass { ms } => self.bench.pass(ms),
            Step::Standbys { count } => {
                set(&mut self.bench, "streams.num.standby.replicas", count);
                self.standbys = count;
            }
            Step::Restart => self.bench.restart(),
            Step::Join { .. } => {}
        }
    }

    /// What threads work on that the coordinator still believes in.
    fn check_exclusive(&mut self) {
        let members = describe(&mut self.bench).members;
        let lives = |thread: &&Thread| members.iter().any(|one| one.record.member_id == thread.member_id);
        let mut working: Vec<TaskId> = self.threads.iter().filter(lives).flat_map(Thread::active).collect();
        let all = working.len();
        working.sort();
        working.dedup();
        assert_eq!(working.len(), all, "{:#?}", self.threads);
    }

    /// Everybody follows, and the dead are found.
    fn come_to_rest(&mut self) {
        for _ in 0..3 {
            for thread in &mut self.threads {
                if thread.beat(&mut self.bench, false).is_err() {
                    thread.join(&mut self.bench).expect("anybody may join");
                }
            }
            self.bench.pass(SESSION_MS - 1_000);
        }
        self.bench.pass(DELAY_MS);
        for thread in &mut self.threads {
            if thread.beat(&mut self.bench, false).is_err() {
                thread.join(&mut self.bench).expect("anybody may join");
            }
        }
        self.bench.pass(DELAY_MS);
        settle(&mut self.bench, &mut self.threads);
    }

    fn check_rest(&mut self) {
        let described = describe(&mut self.bench);
        if self.threads.is_empty() {
            assert!(matches!(described.state, "Empty" | ""), "{described:?}");
            return;
        }
        assert_eq!(described.state, "Stable", "{described:#?}");
        let tasks: Vec<TaskId> =
            ["0", "1"].into_iter().flat_map(|id| (0..4).map(move |at| (id.to_owned(), at))).collect();
        for task in &tasks {
            let workers = self.threads.iter().filter(|thread| thread.has.active.contains(task));
            let workers: Vec<&str> = workers.map(|thread| thread.process_id.as_str()).collect();
            assert_eq!(workers.len(), 1, "{task:?}: {:#?}", self.threads);
            let copies = self.threads.iter().filter(|thread| thread.has.standby.contains(task));
            let mut places: Vec<&str> = copies.map(|thread| thread.process_id.as_str()).collect();
            let mut processes: Vec<&str> =
                self.threads.iter().map(|thread| thread.process_id.as_str()).collect();
            processes.sort_unstable();
            processes.dedup();
            let wanted = if task.0 == "1" { (self.standbys as usize).min(processes.len() - 1) } else { 0 };
            assert_eq!(places.len(), wanted, "{task:?}: {:#?}", self.threads);
            places.extend(workers);
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), wanted + 1, "a process has it twice: {task:?} {:#?}", self.threads);
        }
        let loads: Vec<usize> = self.threads.iter().map(|thread| thread.has.active.len()).collect();
        assert_eq!(loads.iter().sum::<usize>(), tasks.len());
        let fair = tasks.len().div_ceil(self.threads.len());
        assert!(loads.iter().all(|load| *load <= fair + 1), "{loads:?} {:#?}", self.threads);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_task_has_two_workers_and_in_the_end_every_task_has_one(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let bench = Bench::with(settings(5));
        let mut trial = Trial { bench, threads: Vec::new(), born: 0, standbys: 0 };
        for step in steps {
            trial.take(step);
            trial.check_exclusive();
            prop_assert_eq!(trial.bench.replayed().snapshot(), trial.bench.coordinator.snapshot());
        }
        trial.come_to_rest();
        trial.check_rest();
        prop_assert_eq!(trial.bench.replayed().snapshot(), trial.bench.coordinator.snapshot());
    }
}
