//! What the transaction coordinator is asked before anything is written.

use std::collections::HashMap;
use std::sync::Arc;

use headwater_wire::ErrorCode;
use headwater_wire::messages::{
    AddPartitionsToTxnRequestData, AddPartitionsToTxnResponseData, AddPartitionsToTxnTopic,
    InitProducerIdRequestData, InitProducerIdResponseData,
};

use crate::admin::text;
use crate::cluster::{CoordinatorOf, Lane};
use crate::producer::Identity;
use crate::{Client, ClientError};

impl Client {
    /// A producer id; `current` asks for the next epoch of one that is held.
    pub(crate) async fn init_producer_id(
        &self,
        lane: Lane,
        transactional_id: Option<&str>,
        timeout_ms: i32,
        current: Option<Identity>,
    ) -> Result<Identity, ClientError> {
        let current = current.unwrap_or(Identity { id: -1, epoch: -1 });
        let request = InitProducerIdRequestData::default()
            .with_transactional_id(transactional_id.map(text))
            .with_transaction_timeout_ms(timeout_ms)
            .with_producer_id(current.id)
            .with_producer_epoch(current.epoch);
        let check = |answer: &InitProducerIdResponseData| {
            ClientError::check(answer.error_code, None, || "get a producer id".to_owned())
        };
        let timeout = self.request_timeout();
        let answer = match transactional_id {
            Some(id) => {
                self.call_coordinator(lane, CoordinatorOf::Transaction, id, &request, timeout, check).await?
            }
            None => self.init_plain(&request, check).await?,
        };
        Ok(Identity { id: answer.producer_id, epoch: answer.producer_epoch })
    }

    async fn init_plain(
        &self,
        request: &InitProducerIdRequestData,
        check: impl Fn(&InitProducerIdResponseData) -> Result<(), ClientError>,
    ) -> Result<InitProducerIdResponseData, ClientError> {
        let mut pause = self.patience();
        loop {
            let error = match self.call_any(request).await.and_then(|answer| check(&answer).map(|()| answer))
            {
                Err(error) if error.is_retriable() => error,
                outcome => return outcome,
            };
            pause.wait("InitProducerId", error).await?;
        }
    }

    pub(crate) async fn add_partitions(
        &self,
        lane: Lane,
        transactional_id: &str,
        identity: Identity,
        partitions: &[(Arc<str>, i32)],
    ) -> Result<(), ClientError> {
        let mut topics: HashMap<&str, Vec<i32>> = HashMap::new();
        partitions.iter().for_each(|(topic, index)| topics.entry(topic).or_default().push(*index));
        let topics = topics.into_iter().map(|(name, list)| {
            AddPartitionsToTxnTopic::default().with_name(text(name)).with_partitions(list)
        });
        let request = AddPartitionsToTxnRequestData::default()
            .with_v3_and_below_transactional_id(text(transactional_id))
            .with_v3_and_below_producer_id(identity.id)
            .with_v3_and_below_producer_epoch(identity.epoch)
            .with_v3_and_below_topics(topics.collect());
        let (of, timeout) = (CoordinatorOf::Transaction, self.request_timeout());
        self.call_coordinator(lane, of, transactional_id, &request, timeout, check_added).await?;
        Ok(())
    }
}

/// One refused partition leaves the others "not attempted": the refusal is what counts.
fn check_added(answer: &AddPartitionsToTxnResponseData) -> Result<(), ClientError> {
    let mut refused = None;
    for topic in &answer.results_by_topic_v3_and_below {
        for result in topic.results_by_partition.iter().filter(|result| result.partition_error_code != 0) {
            let what = format!("add {}/{} to the transaction", topic.name, result.partition_index);
            let not_attempted =
                ErrorCode::from(result.partition_error_code) == ErrorCode::OperationNotAttempted;
            if refused.is_none() || !not_attempted {
                refused = Some(ClientError::kafka(what, result.partition_error_code, None));
            }
        }
    }
    refused.map_or(Ok(()), Err)
}
