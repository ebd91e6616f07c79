//! Random histories against a naive reference: what each process believes to own.
//!
//! A process owns what its last answer said until it says that it owns less, is refused, is out by its own clock, or has
//! not given up what it was told to in the time for that. Nobody else may be given a partition before.

use std::collections::{BTreeMap, BTreeSet};

use headwater_coordinator::*;
use proptest::prelude::*;

use super::classic::{self, Classic};
use super::{Consumer, Partitions};
use crate::support::{Bench, settings};

const SESSION_MS: i64 = 45_000;
const REBALANCE_MS: i64 = 60_000;

#[derive(Debug, Clone)]
enum Step {
    Join {
        who: usize,
        topics: u8,
        regex: bool,
        range: bool,
    },
    /// `fast` also says at once what it gave up.
    Beat {
        who: usize,
        fast: bool,
    },
    /// The answer does not arrive.
    Lost {
        who: usize,
    },
    Subscribe {
        who: usize,
        topics: u8,
    },
    Leave {
        who: usize,
        back: bool,
    },
    /// A classic process does what comes next.
    Classic {
        who: usize,
    },
    Topic {
        number: u8,
        partitions: i32,
    },
    Pass {
        ms: i64,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..5usize;
    prop_oneof![
        4 => (who.clone(), 1..8u8, any::<bool>(), any::<bool>())
            .prop_map(|(who, topics, regex, range)| Step::Join { who, topics, regex, range }),
        8 => (who.clone(), any::<bool>()).prop_map(|(who, fast)| Step::Beat { who, fast }),
        2 => who.clone().prop_map(|who| Step::Lost { who }),
        1 => (who.clone(), 1..8u8).prop_map(|(who, topics)| Step::Subscribe { who, topics }),
        1 => (who, any::<bool>()).prop_map(|(who, back)| Step::Leave { who, back }),
        4 => (0..2usize).prop_map(|who| Step::Classic { who }),
        1 => (0..3u8, 0..6i32).prop_map(|(number, partitions)| Step::Topic { number, partitions }),
        2 => (1..50_000i64).prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::Restart),
    ]
}

/// A process: what it believes, and until when it may.
#[derive(Debug, Default)]
struct Process {
    consumer: Consumer,
    member: bool,
    /// What it works on: never less than what it reports.
    works_on: Partitions,
    heard_ms: i64,
    /// An answer did not come: the next heartbeat says and asks everything.
    unsure: bool,
    /// When it was told to give up all but these, and has not said that it did.
    told: Option<(i64, Partitions)>,
    lives: u32,
}

struct World {
    bench: Bench,
    processes: Vec<Process>,
    classics: [Classic; 2],
    epochs: BTreeMap<String, i32>,
    group_epoch: i32,
}

fn names(bits: u8) -> Vec<String> {
    (0..3).filter(|bit| bits & (1 << bit) != 0).map(|bit| format!("t{bit}")).collect()
}

impl World {
    fn new() -> Self {
        let mut bench = Bench::with(settings(5));
        bench.create("t0", 3);
        bench.create("t1", 4);
        let processes = (0..5).map(|_| Process::default()).collect();
        Self { bench, processes, classics: Default::default(), epochs: BTreeMap::new(), group_epoch: 0 }
    }

    /// Whoever has not been heard for a session is out, and who has not given up in time.
    fn lapse(&mut self) {
        let now = self.bench.now;
        for process in &mut self.processes {
            let late = process.told.as_ref().is_some_and(|(told, _)| now - told >= REBALANCE_MS);
            if late || now - process.heard_ms >= SESSION_MS {
                process.works_on.clear();
            }
        }
        for classic in
            self.classics.iter_mut().filter(|classic| now - classic.heard_ms >= classic::SESSION_MS)
        {
            classic.works_on.clear();
        }
    }

    /// Who works on what: the processes by number, the classic ones after them.
    fn works(&self) -> impl Iterator<Item = (usize, &TopicPartitionId)> {
        let classics = self.classics.iter().map(|classic| &classic.works_on);
        let all = self.processes.iter().map(|process| &process.works_on).chain(classics);
        all.enumerate().flat_map(|(who, works_on)| works_on.iter().map(move |partition| (who, partition)))
    }

    fn send(&mut self, who: usize, beat: ConsumerGroupHeartbeat, lost: bool) {
        let joins = beat.member_epoch == 0;
        let reported = beat.owned.clone().unwrap_or_default();
        let answer = self.bench.beat(beat);
        let now = self.bench.now;
        let process = &mut self.processes[who];
        process.unsure = lost;
        if let Ok(answer) = &answer {
            let told = process.told.take();
            let allowed = answer.assignment.clone().or(told.clone().map(|(_, allowed)| allowed));
            process.told = allowed
                .filter(|allowed| !reported.is_subset(allowed))
                .map(|allowed| (told.map_or(now, |(since, _)| since), allowed));
        }
        match answer {
            _ if lost => {}
            Ok(answer) => {
                let last = self.epochs.entry(answer.member_id.clone()).or_default();
                assert!(joins || answer.member_epoch >= *last, "a member's epoch went back");
                *last = answer.member_epoch;
                process.member = true;
                process.heard_ms = now;
                process.consumer.epoch = answer.member_epoch;
                if let Some(assignment) = answer.assignment {
                    process.consumer.owned = assignment.clone();
                    process.works_on = assignment;
                }
            }
            Err(_) => {
                process.member = false;
                process.told = None;
                process.works_on.clear();
                process.consumer.owned.clear();
            }
        }
    }

    fn join(&mut self, who: usize, topics: u8, regex: bool, range: bool) {
        let process = &mut self.processes[who];
        if process.member {
            return self.beat(who, true, false);
        }
        process.lives += 1;
        (process.told, process.unsure) = (None, false);
        process.works_on.clear();
        process.consumer = Consumer {
            id: format!("p{who}-{}", process.lives),
            instance: (who >= 3).then(|| format!("i{who}")),
            topics: if regex { Vec::new() } else { names(topics) },
            regex: regex.then(|| format!("t[0-{}]", topics % 3)),
            assignor: range.then(|| "range".to_owned()),
            ..Consumer::default()
        };
        let beat = process.consumer.joining("g");
        self.send(who, beat, false);
    }

    fn beat(&mut self, who: usize, fast: bool, lost: bool) {
        if !self.processes[who].member {
            return;
        }
        let process = &self.processes[who];
        let mut beat = process.consumer.beating("g");
        if process.unsure {
            let all = process.consumer.joining("g");
            (beat.rebalance_timeout_ms, beat.topics, beat.regex) =
                (all.rebalance_timeout_ms, all.topics, all.regex);
        }
        self.send(who, beat, lost);
        if fast && !lost && self.processes[who].member {
            let beat = self.processes[who].consumer.beating("g");
            self.send(who, beat, false);
        }
    }

    fn leave(&mut self, who: usize, back: bool) {
        let process = &mut self.processes[who];
        if !process.member {
            return;
        }
        process.works_on.clear();
        process.member = false;
        let epoch = if back && process.consumer.instance.is_some() { -2 } else { -1 };
        let _ = process.consumer.leave(&mut self.bench, epoch);
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Join { who, topics, regex, range } => self.join(who, topics, regex, range),
            Step::Beat { who, fast } => self.beat(who, fast, false),
            Step::Lost { who } => self.beat(who, false, true),
            Step::Subscribe { who, topics } if self.processes[who].member => {
                let consumer = &mut self.processes[who].consumer;
                consumer.topics = names(topics);
                let topics = Some(consumer.topics.clone());
                let beat = ConsumerGroupHeartbeat { topics, ..consumer.beating("g") };
                let regex = consumer.regex.clone();
                self.send(
                    who,
                    ConsumerGroupHeartbeat { regex, rebalance_timeout_ms: Some(60_000), ..beat },
                    false,
                );
            }
            Step::Subscribe { .. } => {}
            Step::Leave { who, back } => self.leave(who, back),
            Step::Topic { number, partitions: 0 } => {
                self.bench.ask(Request::DeleteTopics(vec![TopicRef::Name(format!("t{number}"))]));
            }
            Step::Topic { number, partitions } => self.bench.create(&format!("t{number}"), partitions),
            Step::Classic { who } => self.classics[who].step(&mut self.bench),
            Step::Pass { ms } => self.bench.pass(ms),
            Step::Restart => {
                self.bench.restart();
                self.classics.iter_mut().for_each(Classic::lose_connection);
            }
        }
    }

    fn check(&mut self) {
        self.lapse();
        let mut owners = BTreeMap::new();
        for (who, partition) in self.works() {
            if let Some(other) = owners.insert(*partition, who) {
                panic!("{partition:?} belongs to processes {other} and {who}");
            }
        }
        let described = self.bench.describe();
        if described.error.is_some() {
            // A classic group counts generations, and one that is gone begins anew.
            self.group_epoch = 0;
        } else {
            assert!(described.epoch >= self.group_epoch, "the group's epoch went back");
            assert!(described.assignment_epoch <= described.epoch);
            self.group_epoch = described.epoch;
        }
    }

    /// Everybody speaks until all is quiet: then all that is read is owned, and evenly.
    fn settle(&mut self) {
        for _ in 0..12 {
            for who in 0..self.processes.len() {
                self.beat(who, true, false);
            }
            self.bench.pass(5_000);
            self.check();
        }
        self.bench.pass(SESSION_MS + REBALANCE_MS);
        let live: Vec<usize> = (0..5).filter(|&who| self.processes[who].member).collect();
        for &who in &live {
            self.processes[who].member = false;
            self.join(who, 7, false, false);
        }
        for _ in 0..6 {
            live.iter().for_each(|&who| self.beat(who, true, false));
        }
        self.check();
        let existing: BTreeSet<TopicPartitionId> = self
            .bench
            .coordinator
            .topics()
            .filter(|topic| topic.name.starts_with('t'))
            .flat_map(|topic| (0..topic.partitions).map(|number| (topic.id, number)))
            .collect();
        let owned: BTreeSet<_> =
            live.iter().flat_map(|&who| self.processes[who].works_on.iter().copied()).collect();
        if !live.is_empty() {
            assert_eq!(owned, existing, "members converge on all there is");
            let loads: Vec<usize> = live.iter().map(|&who| self.processes[who].works_on.len()).collect();
            let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
            assert!(most - least <= 1, "evenly: {loads:?}");
            assert_eq!(self.bench.describe().state, "Stable");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_partition_ever_has_two_owners_and_members_converge(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check();
            let replayed = world.bench.replayed().snapshot();
            prop_assert_eq!(replayed, world.bench.coordinator.snapshot(), "replay after {:?}", step);
        }
        world.settle();
    }
}
