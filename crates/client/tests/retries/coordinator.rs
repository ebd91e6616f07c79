//! The fake broker's transactions: one transactional id, whose state changes as Kafka's coordinator changes it under
//! both versions of the protocol; a request says by its own version which of them it speaks.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use headwater_client::ErrorCode;
use headwater_wire::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use headwater_wire::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use headwater_wire::messages::{
    AddOffsetsToTxnResponseData, AddPartitionsToTxnRequestData, AddPartitionsToTxnResponseData,
    EndTxnRequestData, EndTxnResponseData, FindCoordinatorResponseData, InitProducerIdRequestData,
    InitProducerIdResponseData, TxnOffsetCommitRequestData, TxnOffsetCommitResponseData,
};
use headwater_wire::{ApiKey, KafkaString};

use crate::fake::Act;

/// From these versions on a request belongs to a transaction of the second protocol.
pub const PRODUCE_V2: i16 = 12;
const OFFSETS_V2: i16 = 5;
const END_V2: i16 = 5;
/// The one above only fences.
const LAST_EPOCH: i16 = i16::MAX - 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Committed,
    Aborted,
}

/// Id and epoch.
pub type Producer = (i64, i16);

pub struct Transaction {
    /// What happens to requests that end a transaction, and to those with offsets.
    pub acts: VecDeque<Act>,
    pub offset_acts: VecDeque<Act>,
    /// What happens to requests for a producer id.
    pub identity_acts: VecDeque<Act>,
    /// How each transaction that was open ended.
    pub ended: Vec<End>,
    /// The last offset that is final.
    pub offset: i64,
    pending_offset: Option<i64>,
    open: bool,
    /// `None`: Kafka's state Empty.
    complete: Option<End>,
    pub producer: Producer,
    /// Whose end brought the present epoch.
    last: Producer,
    /// Who asked for the present epoch, and may do so again.
    asked_by: Producer,
    /// Ends that were lost on their way.
    lost: Vec<(i16, EndTxnRequestData)>,
}

impl Default for Transaction {
    fn default() -> Self {
        Self {
            acts: VecDeque::new(),
            offset_acts: VecDeque::new(),
            identity_acts: VecDeque::new(),
            ended: Vec::new(),
            offset: -1,
            pending_offset: None,
            open: false,
            complete: None,
            producer: (1000, 0),
            last: (-1, -1),
            asked_by: (-1, -1),
            lost: Vec::new(),
        }
    }
}

impl Transaction {
    /// A new epoch; what is open is aborted.
    pub fn identity(&mut self, asked: &InitProducerIdRequestData) -> InitProducerIdResponseData {
        let answer = InitProducerIdResponseData::default();
        let asking = (asked.producer_id, asked.producer_epoch);
        if asked.producer_id >= 0 && asking == self.asked_by {
            return answer.with_producer_id(self.producer.0).with_producer_epoch(self.producer.1);
        }
        if asked.producer_id >= 0 && asking != self.producer {
            return answer.with_error_code(ErrorCode::ProducerFenced.code());
        }
        if self.open {
            self.finish(End::Aborted);
        }
        self.complete = None;
        self.bump();
        self.last = (-1, -1);
        self.asked_by = asking;
        answer.with_producer_id(self.producer.0).with_producer_epoch(self.producer.1)
    }

    fn bump(&mut self) {
        self.last = self.producer;
        self.asked_by = (-1, -1);
        self.producer = match self.producer {
            (id, LAST_EPOCH) => (id + 1, 0),
            (id, epoch) => (id, epoch + 1),
        };
    }

    fn finish(&mut self, end: End) {
        self.open = false;
        self.ended.push(end);
        if let (Some(offset), End::Committed) = (self.pending_offset.take(), end) {
            self.offset = offset;
        }
    }

    /// Something is written by a producer, which belongs to the transaction already or, under the second protocol, from
    /// now on.
    pub fn write(&mut self, producer: Producer, adds: bool) -> ErrorCode {
        if producer != self.producer {
            return ErrorCode::InvalidProducerEpoch;
        }
        if !adds && !self.open {
            return ErrorCode::InvalidTxnState;
        }
        self.open = true;
        ErrorCode::None
    }

    /// `None` closes the connection.
    pub fn answer(
        &mut self,
        key: i16,
        version: i16,
        port: u16,
        body: &mut Bytes,
        into: &mut BytesMut,
    ) -> Option<()> {
        match ApiKey::from_i16(key) {
            Some(ApiKey::FindCoordinator) => {
                let host = KafkaString::from_static("127.0.0.1");
                let found = FindCoordinatorResponseData::default().with_node_id(1).with_host(host);
                found.with_port(i32::from(port)).write(into, version).unwrap();
            }
            Some(ApiKey::AddPartitionsToTxn) => {
                let request = AddPartitionsToTxnRequestData::read(body, version).unwrap();
                self.open = true;
                added(&request).write(into, version).unwrap();
            }
            Some(ApiKey::AddOffsetsToTxn) => {
                self.open = true;
                AddOffsetsToTxnResponseData::default().write(into, version).unwrap();
            }
            Some(ApiKey::TxnOffsetCommit) => {
                let request = TxnOffsetCommitRequestData::read(body, version).unwrap();
                let act = self.offset_acts.pop_front().unwrap_or(Act::Answer);
                let code = act.code(|| self.take_offset(&request, version))?;
                offsets_answer(&request, code).write(into, version).unwrap();
            }
            Some(ApiKey::EndTxn) => {
                let request = EndTxnRequestData::read(body, version).unwrap();
                let act = self.acts.pop_front().unwrap_or(Act::Answer);
                if matches!(act, Act::LoseRequest) {
                    self.lost.push((version, request.clone()));
                }
                let code = act.code(|| self.end(version, &request))?;
                let mut answer = EndTxnResponseData::default().with_error_code(code.code());
                if version >= END_V2 && code == ErrorCode::None {
                    (answer.producer_id, answer.producer_epoch) = self.producer;
                }
                answer.write(into, version).unwrap();
            }
            _ => panic!("api {key} is not known here"),
        }
        Some(())
    }

    fn take_offset(&mut self, request: &TxnOffsetCommitRequestData, version: i16) -> ErrorCode {
        let producer = (request.producer_id, request.producer_epoch);
        let code = self.write(producer, version >= OFFSETS_V2);
        if code == ErrorCode::None {
            self.pending_offset = Some(request.topics[0].partitions[0].committed_offset);
        }
        code
    }

    /// Ends that were lost come after all.
    pub fn come_late(&mut self) -> Vec<ErrorCode> {
        let lost = std::mem::take(&mut self.lost);
        lost.iter().map(|(version, request)| self.end(*version, request)).collect()
    }

    fn end(&mut self, version: i16, request: &EndTxnRequestData) -> ErrorCode {
        let end = if request.committed { End::Committed } else { End::Aborted };
        let producer = (request.producer_id, request.producer_epoch);
        match version >= END_V2 {
            true => self.end_v2(producer, end),
            false => self.end_v1(producer, end),
        }
    }

    fn end_v1(&mut self, producer: Producer, end: End) -> ErrorCode {
        if producer != self.producer {
            return ErrorCode::InvalidProducerEpoch;
        }
        if self.open {
            self.finish(end);
            self.complete = Some(end);
        }
        if self.complete == Some(end) { ErrorCode::None } else { ErrorCode::InvalidTxnState }
    }

    /// The table of Kafka's TransactionCoordinator.
    fn end_v2(&mut self, producer: Producer, end: End) -> ErrorCode {
        if producer == self.last && !self.open && self.complete.is_some() {
            return if self.complete == Some(end) { ErrorCode::None } else { ErrorCode::InvalidTxnState };
        }
        match (producer == self.producer, self.open, end) {
            (false, ..) => return ErrorCode::ProducerFenced,
            (true, false, End::Committed) => return ErrorCode::InvalidTxnState,
            (true, true, end) => self.finish(end),
            (true, false, End::Aborted) => {}
        }
        self.complete = Some(end);
        self.bump();
        ErrorCode::None
    }
}

fn added(request: &AddPartitionsToTxnRequestData) -> AddPartitionsToTxnResponseData {
    let topics = request.v3_and_below_topics.iter().map(|topic| {
        let partition = |index: &i32| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*index)
                .with_partition_error_code(0)
        };
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(topic.partitions.iter().map(partition).collect())
    });
    AddPartitionsToTxnResponseData::default().with_results_by_topic_v3_and_below(topics.collect())
}

fn offsets_answer(request: &TxnOffsetCommitRequestData, code: ErrorCode) -> TxnOffsetCommitResponseData {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code.code())
        });
        TxnOffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    TxnOffsetCommitResponseData::default().with_topics(topics.collect())
}
