//! Producer ids and the transaction protocol before KIP-890's second part.

use headwater_wire::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use headwater_wire::messages::{AddPartitionsToTxnRequestData, EndTxnRequestData, InitProducerIdRequestData};

use super::{At, Connection, Failure, by_topic};

const TRANSACTION_TIMEOUT_MS: i32 = 60_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub id: i64,
    pub epoch: i16,
}

impl Connection {
    /// A new producer id; with a transactional id, its next epoch, and what was open is aborted.
    pub fn init_producer(&mut self, transactional_id: Option<&str>) -> Result<Identity, Failure> {
        let request = InitProducerIdRequestData::default()
            .with_transactional_id(transactional_id.map(|id| id.to_owned().into()))
            .with_transaction_timeout_ms(TRANSACTION_TIMEOUT_MS)
            .with_producer_id(-1)
            .with_producer_epoch(-1);
        let answer = self.call(&request)?;
        Failure::check("init producer id", answer.error_code, None)?;
        Ok(Identity { id: answer.producer_id, epoch: answer.producer_epoch })
    }

    pub fn add_partitions(&mut self, txn_id: &str, who: Identity, parts: &[At]) -> Result<(), Failure> {
        let topics = by_topic(parts.iter().cloned()).into_iter().map(|(name, list)| {
            AddPartitionsToTxnTopic::default().with_name(name.into()).with_partitions(list)
        });
        let request = AddPartitionsToTxnRequestData::default()
            .with_v3_and_below_transactional_id(txn_id.to_owned().into())
            .with_v3_and_below_producer_id(who.id)
            .with_v3_and_below_producer_epoch(who.epoch)
            .with_v3_and_below_topics(topics.collect());
        let answer = self.call(&request)?;
        for topic in answer.results_by_topic_v3_and_below {
            for partition in topic.results_by_partition {
                Failure::check("add partitions", partition.partition_error_code, None)?;
            }
        }
        Ok(())
    }

    pub fn end_transaction(&mut self, txn_id: &str, who: Identity, commit: bool) -> Result<(), Failure> {
        let request = EndTxnRequestData::default()
            .with_transactional_id(txn_id.to_owned().into())
            .with_producer_id(who.id)
            .with_producer_epoch(who.epoch)
            .with_committed(commit);
        Failure::check("end transaction", self.call(&request)?.error_code, None)
    }
}
