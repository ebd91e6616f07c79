//! A process that speaks the classic protocol and gives up everything before it joins (the eager way).

use bytes::{BufMut, Bytes, BytesMut};
use headwater_coordinator::*;

use super::Partitions;
use crate::support::Bench;

pub const SESSION_MS: i64 = 30_000;
/// The topic that it reads.
const TOPIC: &str = "t0";

#[derive(Debug, Default)]
pub struct Classic {
    id: String,
    join: Option<u64>,
    sync: Option<u64>,
    generation: Option<i32>,
    pub works_on: Partitions,
    pub heard_ms: i64,
}

fn assignment(partitions: &[i32]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_slice(b"\0\0\0\0\0\x01\0\x02t0");
    bytes.put_i32(partitions.len() as i32);
    partitions.iter().for_each(|partition| bytes.put_i32(*partition));
    bytes.put_i32(-1);
    bytes.freeze()
}

/// The partitions of an assignment of at most one topic.
fn read(bytes: &[u8]) -> Vec<i32> {
    let number = |at: usize| i32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    if bytes.is_empty() || number(2) == 0 {
        return Vec::new();
    }
    (0..number(10)).map(|index| number(14 + 4 * index as usize)).collect()
}

impl Classic {
    /// The broker is another process now: nobody answers what was asked of the old one.
    pub fn lose_connection(&mut self) {
        if self.join.take().is_some() || self.sync.take().is_some() {
            self.generation = None;
        }
    }

    /// Does what comes next: joins, asks for its assignment, or says that it lives.
    pub fn step(&mut self, bench: &mut Bench) {
        match (self.join, self.sync, self.generation) {
            (Some(ticket), ..) => self.joined(bench, ticket),
            (_, Some(ticket), _) => self.synced(bench, ticket),
            (.., Some(generation)) => self.beat(bench, generation),
            _ => self.join(bench),
        }
    }

    fn join(&mut self, bench: &mut Bench) {
        self.works_on.clear();
        let metadata = Bytes::from_static(b"\0\0\0\0\0\x01\0\x02t0\xff\xff\xff\xff");
        let ticket = bench.send(Request::JoinGroup(JoinGroup {
            group_id: "g".into(),
            session_timeout_ms: SESSION_MS as i32,
            rebalance_timeout_ms: 60_000,
            member_id: self.id.clone(),
            instance_id: None,
            protocol_type: "consumer".into(),
            protocols: vec![("range".into(), metadata)],
            require_known_member_id: false,
            supports_skipping_assignment: true,
        }));
        self.join = Some(ticket);
    }

    fn failed(&mut self, error: Error) {
        self.works_on.clear();
        self.generation = None;
        if error == Error::UnknownMemberId {
            self.id.clear();
        }
    }

    fn joined(&mut self, bench: &mut Bench, ticket: u64) {
        if bench.answer(ticket).is_none() {
            return;
        }
        self.join = None;
        let joined = bench.joined(ticket);
        if let Some(error) = joined.error {
            return self.failed(error);
        }
        (self.id, self.generation, self.heard_ms) = (joined.member_id, Some(joined.generation), bench.now);
        let partitions = bench.coordinator.topic(TOPIC).map_or(0, |topic| topic.partitions);
        let share = |place: usize| {
            let mine = |number: &i32| *number as usize % joined.members.len() == place;
            assignment(&(0..partitions).filter(mine).collect::<Vec<_>>())
        };
        let members = joined.members.iter().enumerate();
        let assignments = members.map(|(place, member)| (member.member_id.clone(), share(place))).collect();
        let ticket = bench.send(Request::SyncGroup(SyncGroup {
            group_id: "g".into(),
            generation: joined.generation,
            member_id: self.id.clone(),
            instance_id: None,
            protocol_type: None,
            protocol: joined.protocol.clone(),
            assignments,
        }));
        self.sync = Some(ticket);
        self.synced(bench, ticket);
    }

    fn synced(&mut self, bench: &mut Bench, ticket: u64) {
        if bench.answer(ticket).is_none() {
            return;
        }
        self.sync = None;
        let synced = bench.synced(ticket);
        if let Some(error) = synced.error {
            return self.failed(error);
        }
        self.heard_ms = bench.now;
        if let Some(topic) = bench.coordinator.topic(TOPIC) {
            self.works_on =
                read(&synced.assignment).into_iter().map(|partition| (topic.id, partition)).collect();
        }
    }

    fn beat(&mut self, bench: &mut Bench, generation: i32) {
        let id = self.id.clone();
        match bench.heartbeat("g", generation, &id) {
            None => self.heard_ms = bench.now,
            Some(error) => {
                self.failed(error);
                self.join(bench);
            }
        }
    }
}
