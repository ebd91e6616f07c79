//! Random histories of a share-partition against a naive reference: a map of offsets.

use std::collections::BTreeMap;

use headwater_coordinator::*;
use proptest::prelude::*;

use crate::support::{self, Bench};

const LIMIT: i16 = 5;
/// From so many deliveries on a record is suspect, and fewer come with it.
const SUSPECT: i16 = 3;
const LOCKS: i64 = 20;
const LOCK_MS: i64 = 1_000;
const GROUP: &str = "workers";

#[derive(Debug, Clone)]
enum Step {
    Append { length: i64, gap: i64, skipped: bool },
    Fetch { member: u8, most: i64, strict: bool, batches: usize },
    Settle { member: u8, kind: AcknowledgeType, from: usize, length: usize },
    Meddle { member: u8, from: usize },
    HangUp { member: u8 },
    Pass { ms: i64 },
    DeleteRecords { count: i64 },
    Restart,
    Compact,
}

fn step() -> impl Strategy<Value = Step> {
    let member = || 0..3u8;
    let kind = prop_oneof![
        4 => Just(AcknowledgeType::Accept),
        3 => Just(AcknowledgeType::Release),
        1 => Just(AcknowledgeType::Reject),
        1 => Just(AcknowledgeType::Gap),
        1 => Just(AcknowledgeType::Renew),
    ];
    prop_oneof![
        4 => (1..9i64, 0..3i64, prop::bool::weighted(0.2))
            .prop_map(|(length, gap, skipped)| Step::Append { length, gap, skipped }),
        6 => (member(), 1..15i64, any::<bool>(), 1..4usize)
            .prop_map(|(member, most, strict, batches)| Step::Fetch { member, most, strict, batches }),
        8 => (member(), kind, 0..20usize, 1..10usize)
            .prop_map(|(member, kind, from, length)| Step::Settle { member, kind, from, length }),
        1 => (member(), 0..20usize).prop_map(|(member, from)| Step::Meddle { member, from }),
        1 => member().prop_map(|member| Step::HangUp { member }),
        2 => (1..1_500i64).prop_map(|ms| Step::Pass { ms }),
        1 => (1..8i64).prop_map(|count| Step::DeleteRecords { count }),
        1 => Just(Step::Restart),
        1 => Just(Step::Compact),
    ]
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Available,
    Acquired { member: u8, deadline: i64 },
    Acknowledged,
    Archived,
}

/// What is known of each offset that was ever touched.
#[derive(Default)]
struct Reference {
    records: BTreeMap<i64, (State, i16)>,
    log_start: i64,
    /// How often each offset was accepted.
    accepted: BTreeMap<i64, u32>,
}

impl Reference {
    fn get(&self, offset: i64) -> (State, i16) {
        self.records.get(&offset).cloned().unwrap_or((State::Available, 0))
    }

    fn is_finished(&self, offset: i64) -> bool {
        matches!(self.get(offset).0, State::Acknowledged | State::Archived)
    }

    fn start(&self) -> i64 {
        (self.log_start..).find(|offset| !self.is_finished(*offset)).expect("an end")
    }

    fn end(&self) -> i64 {
        let fresh = (State::Available, 0);
        let touched = self.records.iter().filter(|(_, record)| **record != fresh);
        touched.map(|(offset, _)| offset + 1).next_back().unwrap_or(0).max(self.start())
    }

    fn next(&self) -> ShareNext {
        let (start, end) = (self.start(), self.end());
        match (start..end).find(|offset| self.get(*offset).0 == State::Available) {
            Some(offset) => ShareNext::At(offset),
            None if end - start < LOCKS => ShareNext::At(end),
            None => ShareNext::Full,
        }
    }

    fn acquire(&mut self, acquire: &Acquire, member: u8, now: i64) -> Vec<(i64, i16)> {
        let (start, end) = (self.start(), self.end());
        let read = &acquire.partitions[0].1;
        let (mut left, mut at, mut taken) = (acquire.max_records, read.from, Vec::new());
        for batch in &read.batches {
            if left <= 0 {
                break;
            }
            let offered = |offset: i64| offset >= start && self.get(offset).0 == State::Available;
            let is_suspect = |offset: i64| offered(offset) && self.get(offset).1 >= SUSPECT;
            let slow = !batch.skipped && (batch.first.max(at)..=batch.last).any(is_suspect);
            if slow && !taken.is_empty() {
                break;
            }
            let mut few = i64::MAX;
            for offset in at..=batch.last {
                let (state, count) = self.get(offset);
                if offset < start || state != State::Available {
                    continue;
                }
                if offset < batch.first || batch.skipped {
                    self.records.insert(offset, (State::Archived, count));
                } else if !(acquire.strict && left <= 0 || offset >= end && offset >= start + LOCKS) {
                    if slow && count >= SUSPECT {
                        if count + 1 >= LIMIT && !taken.is_empty() {
                            break;
                        }
                        if few == i64::MAX {
                            let halved = (batch.last - batch.first + 1) >> (count - SUSPECT + 1);
                            few = if count + 1 >= LIMIT { 1 } else { halved.max(1) };
                        }
                    }
                    if taken.len() as i64 >= few {
                        break;
                    }
                    left -= 1;
                    let deadline = now + LOCK_MS;
                    self.records.insert(offset, (State::Acquired { member, deadline }, count + 1));
                    taken.push((offset, count + 1));
                }
            }
            if slow {
                break;
            }
            at = batch.last + 1;
        }
        taken
    }

    fn held(&self, member: u8) -> Vec<i64> {
        let held = self.records.iter().filter(|(offset, (state, _))| {
            **offset >= self.log_start && matches!(state, State::Acquired { member: of, .. } if *of == member)
        });
        held.map(|(offset, _)| *offset).collect()
    }

    fn settle(&mut self, offset: i64, kind: AcknowledgeType, member: u8, now: i64) {
        let (_, count) = self.get(offset);
        let state = match kind {
            AcknowledgeType::Accept => {
                *self.accepted.entry(offset).or_default() += 1;
                State::Acknowledged
            }
            AcknowledgeType::Release if count < LIMIT => State::Available,
            AcknowledgeType::Renew => State::Acquired { member, deadline: now + LOCK_MS },
            _ => State::Archived,
        };
        self.records.insert(offset, (state, count));
    }

    /// What is held is given back, delivered once less.
    fn hang_up(&mut self, of: Option<u8>) {
        for (state, count) in self.records.values_mut() {
            if matches!(state, State::Acquired { member, .. } if of.is_none_or(|of| of == *member)) {
                (*state, *count) = (State::Available, *count - 1);
            }
        }
    }

    fn expire(&mut self, now: i64) {
        for (state, count) in self.records.values_mut() {
            if matches!(state, State::Acquired { deadline, .. } if *deadline <= now) {
                *state = if *count >= LIMIT { State::Archived } else { State::Available };
            }
        }
    }

    fn delete_before(&mut self, offset: i64) {
        self.log_start = self.log_start.max(offset);
        self.records.retain(|at, _| *at >= offset);
    }
}

struct Trial {
    bench: Bench,
    place: TopicPartitionId,
    log: Vec<ReadBatch>,
    reference: Reference,
}

impl Trial {
    fn new() -> Self {
        let share = ShareDefaults {
            min_delivery_count_limit: 1,
            min_max_record_locks: 1,
            min_lock_duration_ms: 1,
            ..ShareDefaults::default()
        };
        let mut bench = Bench::with(Settings { share, ..support::settings(7) });
        let place = (bench.coordinator.topic("orders").expect("the topic").id, 0);
        let set = |name: &str, value: i64| (name.to_owned(), ConfigChange::Set(value.to_string()));
        let mut trial = {
            let changes = vec![
                set("share.delivery.count.limit", LIMIT.into()),
                set("share.partition.max.record.locks", LOCKS),
                set("share.record.lock.duration.ms", LOCK_MS),
            ];
            let groups = vec![AlterGroupConfig { group_id: GROUP.to_owned(), replace: false, changes }];
            let altered = bench.ask(Request::AlterGroupConfigs { groups, validate_only: false });
            assert_eq!(altered, Response::AlterGroupConfigs(vec![(GROUP.to_owned(), Ok(()))]));
            Self { bench, place, log: Vec::new(), reference: Reference::default() }
        };
        let joined = trial.ask(ShareRequest::Heartbeat(ShareHeartbeat {
            group_id: GROUP.to_owned(),
            member_id: "one".to_owned(),
            member_epoch: 0,
            rack: None,
            subscription: Some(vec!["orders".to_owned()]),
        }));
        assert!(matches!(joined, ShareResponse::Heartbeat(Ok(_))), "{joined:?}");
        let (group_id, partition) = (GROUP.to_owned(), place);
        trial.ask(ShareRequest::Initialize { group_id, partition, offset: 0 });
        trial
    }

    fn ask(&mut self, request: ShareRequest) -> ShareResponse {
        match self.bench.ask(Request::Share(request)) {
            Response::Share(response) => response,
            other => panic!("{other:?}"),
        }
    }

    fn plan(&mut self, member: u8, acknowledgements: Vec<Acknowledgement>) -> SharePlan {
        let request = ShareRequest::Fetch {
            group_id: GROUP.to_owned(),
            member_id: member.to_string(),
            acknowledgements,
            wanted: vec![(self.place, self.reference.log_start)],
        };
        match self.ask(request) {
            ShareResponse::Fetch(Ok(plan)) => plan,
            other => panic!("{other:?}"),
        }
    }

    /// Whether anything was acquired or skipped.
    fn fetch(&mut self, member: u8, most: i64, strict: bool, batches: usize) -> bool {
        let next = self.plan(member, Vec::new()).next[0];
        assert_eq!(next, self.reference.next());
        let ShareNext::At(from) = next else { return false };
        let batches = self.log.iter().filter(|batch| batch.last >= from).take(batches).copied().collect();
        let acquire = Acquire {
            group_id: GROUP.to_owned(),
            member_id: member.to_string(),
            max_records: most,
            strict,
            batch_size: 4,
            partitions: vec![(self.place, ReadBatches { from, batches })],
        };
        let expected = self.reference.acquire(&acquire, member, self.bench.now);
        let any = !acquire.partitions[0].1.batches.is_empty();
        let ShareResponse::Acquire(acquired) = self.ask(ShareRequest::Acquire(acquire)) else { panic!() };
        let acquired: Vec<_> = acquired[0]
            .iter()
            .flat_map(|range| (range.first..=range.last).map(|offset| (offset, range.delivery_count)))
            .collect();
        assert_eq!(acquired, expected);
        any
    }

    fn acknowledge(&mut self, member: u8, kind: AcknowledgeType, offsets: &[i64]) -> Option<Error> {
        let batch = |run: &[i64]| AcknowledgementBatch {
            first: run[0],
            last: run[run.len() - 1],
            types: vec![kind; if run.len().is_multiple_of(2) { run.len() } else { 1 }],
        };
        let batches = offsets.chunk_by(|one, next| one + 1 == *next).map(batch).collect();
        let acknowledgement = Acknowledgement { partition: self.place, batches };
        self.plan(member, vec![acknowledgement]).acknowledged[0]
    }

    fn settle(&mut self, member: u8, kind: AcknowledgeType, offsets: &[i64]) {
        if !offsets.is_empty() {
            assert_eq!(self.acknowledge(member, kind, offsets), None);
            for offset in offsets {
                self.reference.settle(*offset, kind, member, self.bench.now);
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Append { length, gap, skipped } => {
                let first = self.log.last().map_or(0, |batch| batch.last + 1) + gap;
                self.log.push(ReadBatch { first, last: first + length - 1, skipped });
            }
            Step::Fetch { member, most, strict, batches } => drop(self.fetch(member, most, strict, batches)),
            Step::Settle { member, kind, from, length } => {
                let held = self.reference.held(member);
                let chosen: Vec<_> = held.into_iter().skip(from).take(length).collect();
                self.settle(member, kind, &chosen);
            }
            Step::Meddle { member, from } => {
                let held = self.reference.held((member + 1) % 3);
                if let Some(offset) = held.get(from) {
                    let refused = self.acknowledge(member, AcknowledgeType::Accept, &[*offset]);
                    assert_eq!(refused, Some(Error::InvalidRecordState));
                }
            }
            Step::HangUp { member } => {
                let (group_id, member_id) = (GROUP.to_owned(), member.to_string());
                self.ask(ShareRequest::Release { group_id, member_id });
                self.reference.hang_up(Some(member));
            }
            Step::Pass { ms } => {
                self.bench.pass(ms);
                self.reference.expire(self.bench.now);
            }
            Step::DeleteRecords { count } => {
                let end = self.log.last().map_or(0, |batch| batch.last + 1);
                self.reference.delete_before((self.reference.log_start + count).min(end));
                self.log.retain(|batch| batch.last >= self.reference.log_start);
                self.plan(0, Vec::new());
            }
            Step::Restart => {
                self.bench.restart();
                self.reference.hang_up(None);
            }
            Step::Compact => {
                self.bench.log = self.bench.coordinator.snapshot();
            }
        }
        self.check();
    }

    fn check(&mut self) {
        let (group_id, partitions) = (GROUP.to_owned(), Some(vec![self.place]));
        let ShareResponse::DescribeOffsets(Ok(offsets)) =
            self.ask(ShareRequest::DescribeOffsets { group_id, partitions })
        else {
            panic!("the group exists")
        };
        let (start, end) = (self.reference.start(), self.reference.end());
        let finished = (start..end).filter(|offset| self.reference.is_finished(*offset)).count() as i64;
        assert_eq!((offsets[0].start, offsets[0].finished), (start, finished));
        assert_eq!(self.bench.replayed().snapshot(), self.bench.coordinator.snapshot());
    }

    /// A consumer that accepts everything finishes all records, each at most once.
    fn drain(&mut self) {
        self.step(&Step::Pass { ms: LOCK_MS + 1 });
        while self.fetch(0, 5, false, 2) {
            let held = self.reference.held(0);
            self.settle(0, AcknowledgeType::Accept, &held);
            self.check();
        }
        let end = self.log.last().map_or(self.reference.log_start, |batch| batch.last + 1);
        assert_eq!(self.reference.start(), end.max(self.reference.log_start));
        assert!(self.reference.accepted.values().all(|times| *times == 1), "accepted twice");
        for (offset, (state, count)) in &self.reference.records {
            assert!(*count <= LIMIT, "{offset} was delivered {count} times");
            assert_eq!(*state == State::Acknowledged, self.reference.accepted.contains_key(offset));
        }
    }
}

proptest! {
    #[test]
    fn every_record_is_accepted_once_or_archived_and_counted_exactly(
        steps in prop::collection::vec(step(), 1..80)
    ) {
        let mut trial = Trial::new();
        for step in &steps {
            trial.step(step);
        }
        trial.drain();
    }
}
