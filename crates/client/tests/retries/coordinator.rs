//! The fake broker's transactions: one transactional id, whose state changes as Kafka's coordinator changes it under
//! the first version of the protocol.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use headwater_client::ErrorCode;
use headwater_wire::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use headwater_wire::messages::{
    AddPartitionsToTxnRequestData, AddPartitionsToTxnResponseData, EndTxnRequestData, EndTxnResponseData,
    FindCoordinatorResponseData, InitProducerIdResponseData,
};
use headwater_wire::{ApiKey, KafkaString};

use crate::fake::Act;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Committed,
    Aborted,
}

#[derive(Default)]
pub struct Transaction {
    pub acts: VecDeque<Act>,
    /// How each transaction ended.
    pub ended: Vec<End>,
    open: bool,
    epoch: i16,
}

impl Transaction {
    /// A new epoch; what is open is aborted.
    pub fn identity(&mut self) -> InitProducerIdResponseData {
        if std::mem::take(&mut self.open) {
            self.ended.push(End::Aborted);
        }
        self.epoch += 1;
        InitProducerIdResponseData::default().with_producer_id(1000).with_producer_epoch(self.epoch)
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
        if key == ApiKey::FindCoordinator as i16 {
            let host = KafkaString::from_static("127.0.0.1");
            let found = FindCoordinatorResponseData::default().with_node_id(1).with_host(host);
            found.with_port(i32::from(port)).write(into, version).unwrap();
        } else if key == ApiKey::AddPartitionsToTxn as i16 {
            let request = AddPartitionsToTxnRequestData::read(body, version).unwrap();
            self.open = true;
            added(&request).write(into, version).unwrap();
        } else {
            assert_eq!(key, ApiKey::EndTxn as i16);
            let request = EndTxnRequestData::read(body, version).unwrap();
            let code = match self.acts.pop_front().unwrap_or(Act::Answer) {
                Act::Refuse(code) | Act::RefuseWritten(code) => code,
                Act::LoseRequest => return None,
                Act::Answer => self.end(&request),
                Act::LoseAnswer => {
                    self.end(&request);
                    return None;
                }
            };
            EndTxnResponseData::default().with_error_code(code.code()).write(into, version).unwrap();
        }
        Some(())
    }

    fn end(&mut self, request: &EndTxnRequestData) -> ErrorCode {
        let end = if request.committed { End::Committed } else { End::Aborted };
        if request.producer_epoch != self.epoch {
            return ErrorCode::InvalidProducerEpoch;
        }
        if std::mem::take(&mut self.open) {
            self.ended.push(end);
            return ErrorCode::None;
        }
        match self.ended.last() {
            Some(last) if *last == end => ErrorCode::None,
            _ => ErrorCode::InvalidTxnState,
        }
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
