//! A produce request: many batches for one broker, in the version that their transaction speaks.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use headwater_wire::messages::{
    PartitionProduceData, ProduceRequestData, ProduceResponseData, TopicProduceData,
};

use super::queue::Batch;
use crate::ClientError;
use crate::admin::text;
use crate::call::TransactionV2;
use crate::connection::Connection;
use crate::transaction::Protocol;

const ALL_REPLICAS: i16 = -1;

pub(super) type Answer = Pin<Box<dyn Future<Output = Result<ProduceResponseData, ClientError>> + Send>>;

pub(super) fn of(batches: &[Batch], transactional_id: Option<&str>, timeout_ms: i32) -> ProduceRequestData {
    let mut topics: HashMap<&str, Vec<PartitionProduceData>> = HashMap::new();
    for batch in batches {
        let data = PartitionProduceData::default()
            .with_index(batch.partition)
            .with_records(Some(batch.bytes.clone()));
        topics.entry(&batch.topic).or_default().push(data);
    }
    let topics = topics
        .into_iter()
        .map(|(name, list)| TopicProduceData::default().with_name(text(name)).with_partition_data(list));
    ProduceRequestData::default()
        .with_transactional_id(transactional_id.map(text))
        .with_acks(ALL_REPLICAS)
        .with_timeout_ms(timeout_ms)
        .with_topic_data(topics.collect())
}

/// Sends now; the future waits for the answer.
pub(super) fn start(
    connection: &Connection,
    request: ProduceRequestData,
    protocol: Protocol,
    timeout: Duration,
) -> Result<Answer, ClientError> {
    Ok(match protocol {
        Protocol::V1 => Box::pin(connection.start(&request, timeout)?),
        Protocol::V2 => Box::pin(connection.start(&TransactionV2(request), timeout)?),
    })
}
