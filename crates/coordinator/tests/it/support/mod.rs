//! Short ways to ask a coordinator, shared by the tests of this crate.

use bytes::Bytes;
use headwater_coordinator::*;
use headwater_model::TopicPartition;

pub struct Bench {
    settings: Settings,
    pub coordinator: Coordinator,
    pub now: i64,
    pub log: Vec<StateRecord>,
    pub markers: Vec<(Vec<TopicPartitionId>, i64, i16, bool)>,
    pub replies: Vec<(u64, Response)>,
    pub woken: Vec<TopicPartitionId>,
    pub next_ticket: u64,
}

pub fn settings(seed: u64) -> Settings {
    Settings { seed, ..Settings::default() }
}

pub fn partition(number: i32) -> TopicPartition {
    TopicPartition::new("orders", number)
}

pub fn offset(number: i32, offset: i64) -> NewOffset {
    NewOffset { partition: partition(number), offset, leader_epoch: -1, metadata: Some("m".into()) }
}

impl Bench {
    /// With a topic `orders` of four partitions.
    pub fn new() -> Self {
        Self::with(settings(7))
    }

    pub fn with(settings: Settings) -> Self {
        let (log, markers, replies, woken) = Default::default();
        let coordinator = Coordinator::new(settings.clone());
        let mut bench =
            Self { settings, coordinator, now: 1_000, log, markers, replies, woken, next_ticket: 0 };
        bench.ask(Request::CreateTopics {
            topics: vec![NewTopic {
                name: "orders".into(),
                partitions: 4,
                replication_factor: -1,
                configs: vec![],
            }],
            validate_only: false,
        });
        bench
    }

    pub fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Append(record) => {
                    assert_eq!(StateRecord::decode(&record.encode()), Ok(record.clone()));
                    self.log.push(record);
                }
                Effect::Markers { partitions, producer_id, producer_epoch, commit } => {
                    self.markers.push((partitions, producer_id, producer_epoch, commit));
                }
                Effect::Wake(partition) => self.woken.push(partition),
                Effect::Reply { ticket, response } => self.replies.push((ticket, response)),
                Effect::Settled(_) | Effect::Forgotten { .. } => {}
            }
        }
    }

    pub fn send(&mut self, request: Request) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let client = Client { id: "client".into(), host: "/127.0.0.1".into(), ..Client::default() };
        let effects = self.coordinator.handle(ticket, &client, request, self.now);
        self.take(effects);
        ticket
    }

    pub fn answer(&self, ticket: u64) -> Option<Response> {
        self.replies.iter().find(|(other, _)| *other == ticket).map(|(_, response)| response.clone())
    }

    pub fn ask(&mut self, request: Request) -> Response {
        let ticket = self.send(request);
        self.answer(ticket).expect("an answer at once")
    }

    pub fn pass(&mut self, ms: i64) {
        let end = self.now + ms;
        while let Some(at) = self.coordinator.next_deadline().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            let effects = self.coordinator.tick(self.now);
            self.take(effects);
        }
        self.now = end;
    }

    pub fn replayed(&self) -> Coordinator {
        // Another seed each time, or ids repeat.
        let mut other = Coordinator::new(Settings { seed: 99 + self.next_ticket, ..self.settings.clone() });
        for record in &self.log {
            other.apply(record, self.now);
        }
        other
    }

    pub fn restart(&mut self) {
        self.coordinator = self.replayed();
    }

    pub fn join(&mut self, group: &str, member: &str, instance: Option<&str>) -> u64 {
        self.send(Request::JoinGroup(JoinGroup {
            group_id: group.into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 20_000,
            member_id: member.into(),
            instance_id: instance.map(str::to_owned),
            protocol_type: "consumer".into(),
            protocols: vec![("range".into(), Bytes::from_static(b"x"))],
            require_known_member_id: false,
            supports_skipping_assignment: true,
        }))
    }

    pub fn joined(&self, ticket: u64) -> JoinedGroup {
        match self.answer(ticket) {
            Some(Response::JoinGroup(joined)) => joined,
            other => panic!("ticket {ticket}: {other:?}"),
        }
    }

    pub fn sync(&mut self, group: &str, joined: &JoinedGroup) -> u64 {
        let assignments =
            joined.members.iter().map(|m| (m.member_id.clone(), Bytes::from(m.member_id.clone()))).collect();
        self.send(Request::SyncGroup(SyncGroup {
            group_id: group.into(),
            generation: joined.generation,
            member_id: joined.member_id.clone(),
            instance_id: None,
            protocol_type: None,
            protocol: None,
            assignments,
        }))
    }

    pub fn synced(&self, ticket: u64) -> SyncedGroup {
        match self.answer(ticket) {
            Some(Response::SyncGroup(synced)) => synced,
            other => panic!("ticket {ticket}: {other:?}"),
        }
    }

    pub fn heartbeat(&mut self, group: &str, generation: i32, member: &str) -> Option<Error> {
        let beat =
            Heartbeat { group_id: group.into(), generation, member_id: member.into(), instance_id: None };
        match self.ask(Request::Heartbeat(beat)) {
            Response::Heartbeat(error) => error,
            other => panic!("{other:?}"),
        }
    }

    pub fn commit(
        &mut self,
        group: &str,
        generation: i32,
        member: &str,
        offsets: Vec<NewOffset>,
    ) -> Option<Error> {
        match self.ask(Request::OffsetCommit(OffsetCommit {
            group_id: group.into(),
            generation,
            member_id: member.into(),
            instance_id: None,
            knows_member_epochs: true,
            offsets,
        })) {
            Response::OffsetCommit(results) => results[0].error,
            other => panic!("{other:?}"),
        }
    }

    pub fn fetch(&mut self, group: &str, number: i32, require_stable: bool) -> Result<i64, Error> {
        let groups = vec![OffsetFetchGroup {
            group_id: group.into(),
            member: None,
            partitions: Some(vec![partition(number)]),
        }];
        match self.ask(Request::OffsetFetch(OffsetFetch { groups, require_stable })) {
            Response::OffsetFetch(groups) => match groups[0].offsets[0].error {
                Some(error) => Err(error),
                None => Ok(groups[0].offsets[0].offset),
            },
            other => panic!("{other:?}"),
        }
    }

    pub fn init(&mut self, id: &str, known: Option<ProducerIdentity>) -> Result<ProducerIdentity, Error> {
        let known = known.unwrap_or(ProducerIdentity { producer_id: -1, producer_epoch: -1 });
        match self.ask(Request::InitProducerId(InitProducerId {
            transactional_id: Some(id.into()),
            transaction_timeout_ms: 60_000,
            producer_id: known.producer_id,
            producer_epoch: known.producer_epoch,
        })) {
            Response::InitProducerId(result) => result,
            other => panic!("{other:?}"),
        }
    }

    pub fn add(&mut self, id: &str, producer: ProducerIdentity, number: i32) -> Option<Error> {
        match self.ask(Request::AddPartitionsToTxn(vec![AddPartitions {
            transactional_id: id.into(),
            producer_id: producer.producer_id,
            producer_epoch: producer.producer_epoch,
            verify_only: false,
            partitions: vec![partition(number)],
        }])) {
            Response::AddPartitionsToTxn(added) => added[0].partitions[0].error,
            other => panic!("{other:?}"),
        }
    }

    pub fn txn_commit(
        &mut self,
        id: &str,
        producer: ProducerIdentity,
        group: &str,
        new: NewOffset,
    ) -> Option<Error> {
        match self.ask(Request::TxnOffsetCommit(TxnOffsetCommit {
            transactional_id: id.into(),
            producer_id: producer.producer_id,
            producer_epoch: producer.producer_epoch,
            group_id: group.into(),
            generation: -1,
            member_id: String::new(),
            instance_id: None,
            implicit: true,
            offsets: vec![new],
        })) {
            Response::TxnOffsetCommit(results) => results[0].error,
            other => panic!("{other:?}"),
        }
    }

    pub fn end(
        &mut self,
        id: &str,
        producer: ProducerIdentity,
        commit: bool,
        bump_epoch: bool,
    ) -> Result<ProducerIdentity, Error> {
        match self.ask(Request::EndTxn(EndTxn {
            transactional_id: id.into(),
            producer_id: producer.producer_id,
            producer_epoch: producer.producer_epoch,
            commit,
            bump_epoch,
        })) {
            Response::EndTxn(result) => result,
            other => panic!("{other:?}"),
        }
    }
}
