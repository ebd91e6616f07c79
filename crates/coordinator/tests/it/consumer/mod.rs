//! Consumer groups of the consumer protocol (KIP-848), asked as their members ask.

mod classic;
mod history;
mod interval;
mod migration;
mod rules;
mod scale;

use std::collections::BTreeSet;

use headwater_coordinator::*;

use crate::support::Bench;

pub type Partitions = BTreeSet<TopicPartitionId>;

/// A consumer that follows the protocol: it gives up what it is told to, and takes what it is given.
#[derive(Debug, Clone, Default)]
pub struct Consumer {
    pub id: String,
    pub instance: Option<String>,
    pub epoch: i32,
    pub topics: Vec<String>,
    pub regex: Option<String>,
    pub assignor: Option<String>,
    pub owned: Partitions,
}

impl Consumer {
    pub fn of(id: &str, topics: &[&str]) -> Self {
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        Self { id: id.to_owned(), topics, ..Self::default() }
    }

    pub fn joining(&self, group: &str) -> ConsumerGroupHeartbeat {
        ConsumerGroupHeartbeat {
            group_id: group.into(),
            member_id: self.id.clone(),
            member_epoch: 0,
            instance_id: self.instance.clone(),
            rebalance_timeout_ms: Some(60_000),
            topics: Some(self.topics.clone()),
            regex: self.regex.clone(),
            assignor: self.assignor.clone(),
            owned: Some(Partitions::new()),
            names_itself: true,
            ..ConsumerGroupHeartbeat::default()
        }
    }

    pub fn beating(&self, group: &str) -> ConsumerGroupHeartbeat {
        ConsumerGroupHeartbeat {
            group_id: group.into(),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            instance_id: self.instance.clone(),
            owned: Some(self.owned.clone()),
            names_itself: true,
            ..ConsumerGroupHeartbeat::default()
        }
    }

    /// Says one thing and does as it is told.
    pub fn say(&mut self, bench: &mut Bench, beat: ConsumerGroupHeartbeat) -> Result<(), Error> {
        let answer = bench.beat(beat).map_err(|failure| failure.error)?;
        self.id = answer.member_id;
        self.epoch = answer.member_epoch;
        if let Some(assignment) = answer.assignment {
            self.owned = assignment;
        }
        Ok(())
    }

    pub fn join(&mut self, bench: &mut Bench) -> Result<(), Error> {
        self.owned.clear();
        self.say(bench, self.joining("g"))
    }

    pub fn beat(&mut self, bench: &mut Bench) -> Result<(), Error> {
        self.say(bench, self.beating("g"))
    }

    pub fn leave(&mut self, bench: &mut Bench, epoch: i32) -> Result<(), Error> {
        let beat = ConsumerGroupHeartbeat { member_epoch: epoch, owned: None, ..self.beating("g") };
        bench.beat(beat).map(drop).map_err(|failure| failure.error)
    }
}

impl Bench {
    pub fn beat(&mut self, beat: ConsumerGroupHeartbeat) -> Result<ConsumerGroupBeat, Failure> {
        match self.ask(Request::ConsumerGroupHeartbeat(beat)) {
            Response::ConsumerGroupHeartbeat(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    pub fn describe(&mut self) -> ConsumerGroupDescription {
        match self.ask(Request::DescribeConsumerGroups(vec!["g".into()])) {
            Response::DescribeConsumerGroups(mut groups) => groups.remove(0),
            other => panic!("{other:?}"),
        }
    }

    pub fn create(&mut self, name: &str, partitions: i32) {
        let topic = NewTopic { name: name.into(), partitions, replication_factor: -1, configs: Vec::new() };
        self.ask(Request::CreateTopics { topics: vec![topic], validate_only: false });
    }

    /// Lets everybody speak until nobody learns anything new.
    pub fn converge(&mut self, consumers: &mut [&mut Consumer]) {
        for _ in 0..10 {
            let before: Vec<_> = consumers.iter().map(|one| (one.epoch, one.owned.clone())).collect();
            for consumer in consumers.iter_mut() {
                consumer.beat(self).unwrap();
            }
            if before == consumers.iter().map(|one| (one.epoch, one.owned.clone())).collect::<Vec<_>>() {
                return;
            }
        }
        panic!("no end: {consumers:?}");
    }
}
