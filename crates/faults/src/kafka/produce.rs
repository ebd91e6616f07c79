//! Produce with acks=all: one batch a request.

use bytes::Bytes;
use headwater_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use headwater_wire::messages::{ProduceRequestData, ProduceResponseData};

use super::{At, Connection, Failure};

const TIMEOUT_MS: i32 = 30_000;
const ALL: i16 = -1;

/// A batch and where it goes.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub at: At,
    pub batch: Bytes,
    pub transactional_id: Option<String>,
}

/// Where the broker says it stored a batch; -1 for a duplicate whose place it no longer knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    pub base_offset: i64,
}

impl Connection {
    pub fn send_batch(&mut self, outgoing: &Outgoing) -> Result<(), Failure> {
        let partition = PartitionProduceData::default()
            .with_index(outgoing.at.1)
            .with_records(Some(outgoing.batch.clone()));
        let topic = TopicProduceData::default()
            .with_name(outgoing.at.0.clone().into())
            .with_partition_data(vec![partition]);
        let request = ProduceRequestData::default()
            .with_acks(ALL)
            .with_timeout_ms(TIMEOUT_MS)
            .with_transactional_id(outgoing.transactional_id.clone().map(Into::into))
            .with_topic_data(vec![topic]);
        self.send(&request)
    }

    pub fn receive_stored(&mut self) -> Result<Stored, Failure> {
        let answer: ProduceResponseData = self.receive::<ProduceRequestData>()?;
        let partition = answer.responses.first().and_then(|topic| topic.partition_responses.first());
        let partition = partition.ok_or_else(|| Failure::Malformed("an empty produce answer".into()))?;
        let message = partition.error_message.as_ref().map(|text| text.as_str());
        Failure::check("produce", partition.error_code, message)?;
        Ok(Stored { base_offset: partition.base_offset })
    }

    pub fn produce(&mut self, outgoing: &Outgoing) -> Result<Stored, Failure> {
        self.send_batch(outgoing)?;
        self.receive_stored()
    }
}
