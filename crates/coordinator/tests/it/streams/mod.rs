//! Streams groups (KIP-1071): by example, and random histories of clients that follow slowly.

mod history;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use headwater_coordinator::*;

use crate::support::Bench;

const GROUP: &str = "app";
const SESSION_MS: i64 = 45_000;
const DELAY_MS: i64 = 3_000;

fn named(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn internal(names: &[&str]) -> BTreeMap<String, InternalTopic> {
    let configs = BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
    let topic = InternalTopic { configs, ..InternalTopic::default() };
    names.iter().map(|name| ((*name).to_owned(), topic.clone())).collect()
}

/// "0" reads `orders` and writes to a repartition topic, from which "1" counts.
fn word_count() -> StreamsTopology {
    let split = Subtopology {
        source_topics: named(&["orders"]),
        repartition_sink_topics: named(&["app-repartition"]),
        ..Subtopology::default()
    };
    let count = Subtopology {
        repartition_source_topics: internal(&["app-repartition"]),
        state_changelog_topics: internal(&["app-changelog"]),
        ..Subtopology::default()
    };
    let subtopologies = BTreeMap::from([("0".to_owned(), split), ("1".to_owned(), count)]);
    StreamsTopology { epoch: 0, subtopologies }
}

/// A stream thread: it has what it was told to, and what it was told to give up for as long as it likes.
#[derive(Debug, Clone)]
struct Thread {
    member_id: String,
    process_id: String,
    epoch: i32,
    has: Tasks,
    lingers: BTreeSet<TaskId>,
    status: Vec<StreamsStatus>,
}

impl Thread {
    fn of(member_id: &str, process_id: &str) -> Self {
        Self {
            member_id: member_id.to_owned(),
            process_id: process_id.to_owned(),
            epoch: 0,
            has: Tasks::default(),
            lingers: BTreeSet::new(),
            status: Vec::new(),
        }
    }

    fn joining(&self) -> StreamsGroupHeartbeat {
        StreamsGroupHeartbeat {
            group_id: GROUP.to_owned(),
            member_id: self.member_id.clone(),
            rebalance_timeout_ms: Some(60_000),
            topology: Some(word_count()),
            active: Some(BTreeSet::new()),
            standby: Some(BTreeSet::new()),
            warmup: Some(BTreeSet::new()),
            process_id: Some(self.process_id.clone()),
            ..StreamsGroupHeartbeat::default()
        }
    }

    fn beating(&self) -> StreamsGroupHeartbeat {
        StreamsGroupHeartbeat {
            group_id: GROUP.to_owned(),
            member_id: self.member_id.clone(),
            member_epoch: self.epoch,
            active: Some(self.active()),
            standby: Some(self.has.standby.clone()),
            warmup: Some(BTreeSet::new()),
            ..StreamsGroupHeartbeat::default()
        }
    }

    /// What it works on, whatever it was told.
    fn active(&self) -> BTreeSet<TaskId> {
        self.has.active.union(&self.lingers).cloned().collect()
    }

    fn join(&mut self, bench: &mut Bench) -> Result<StreamsGroupBeat, Failure> {
        (self.epoch, self.has, self.lingers) = Default::default();
        let beat = self.joining();
        self.send(bench, beat, false)
    }

    /// `slow`: it goes on with what it is told to give up.
    fn beat(&mut self, bench: &mut Bench, slow: bool) -> Result<StreamsGroupBeat, Failure> {
        let beat = self.beating();
        self.send(bench, beat, slow)
    }

    fn leave(&mut self, bench: &mut Bench) -> Result<StreamsGroupBeat, Failure> {
        ask(bench, StreamsGroupHeartbeat { member_epoch: -1, ..self.beating() })
    }

    fn send(
        &mut self,
        bench: &mut Bench,
        beat: StreamsGroupHeartbeat,
        slow: bool,
    ) -> Result<StreamsGroupBeat, Failure> {
        let answer = ask(bench, beat)?;
        self.epoch = answer.member_epoch;
        self.status.clone_from(&answer.status);
        if let Some(tasks) = answer.tasks.clone() {
            let gone = self.active().difference(&tasks.active).cloned().collect();
            self.has = tasks;
            self.lingers = gone;
        }
        if !slow {
            self.lingers.clear();
        }
        Ok(answer)
    }

    fn kinds(&self) -> Vec<StreamsStatusKind> {
        self.status.iter().map(|one| one.kind).collect()
    }
}

/// Sends a heartbeat, and creates what it finds missing, as the broker does.
fn ask(bench: &mut Bench, beat: StreamsGroupHeartbeat) -> Result<StreamsGroupBeat, Failure> {
    let Response::StreamsGroupHeartbeat(answer) = bench.ask(Request::StreamsGroupHeartbeat(Box::new(beat)))
    else {
        panic!("a heartbeat is answered as one")
    };
    if let Ok(beat) = answer.as_ref()
        && !beat.missing.is_empty()
    {
        let topics = beat.missing.clone();
        bench.ask(Request::CreateTopics { topics, validate_only: false });
    }
    *answer
}

fn describe(bench: &mut Bench) -> StreamsGroupDescription {
    match bench.ask(Request::DescribeStreamsGroups(vec![GROUP.to_owned()])) {
        Response::DescribeStreamsGroups(mut described) => described.remove(0),
        other => panic!("{other:?}"),
    }
}

fn set(bench: &mut Bench, name: &str, value: i32) {
    let changes = vec![(name.to_owned(), ConfigChange::Set(value.to_string()))];
    let groups = vec![AlterGroupConfig { group_id: GROUP.to_owned(), replace: false, changes }];
    let altered = bench.ask(Request::AlterGroupConfigs { groups, validate_only: false });
    assert_eq!(altered, Response::AlterGroupConfigs(vec![(GROUP.to_owned(), Ok(()))]));
}

/// Lets everybody follow until nothing changes any more.
fn settle(bench: &mut Bench, threads: &mut [Thread]) {
    for _ in 0..12 {
        for thread in threads.iter_mut() {
            thread.beat(bench, false).unwrap_or_else(|error| panic!("{thread:?}: {error}"));
        }
        bench.pass(1_000);
    }
}
