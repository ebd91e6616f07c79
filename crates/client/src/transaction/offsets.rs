//! A group's offsets that become final with a transaction (KIP-98, KIP-447).

use std::collections::HashMap;

use headwater_model::TopicPartition;
use headwater_wire::messages::{
    AddOffsetsToTxnRequestData, AddOffsetsToTxnResponseData, TxnOffsetCommitRequestData,
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic, TxnOffsetCommitResponseData,
};

use super::{GroupMetadata, Protocol};
use crate::admin::{by_topic, text};
use crate::call::TransactionV2;
use crate::cluster::CoordinatorOf;
use crate::producer::{Identity, Producer};
use crate::{ClientError, Committed};

/// Offsets that were sent, until there is an answer: without one the transaction must not be committed, and what may
/// still be on its way is left to an epoch that is over.
struct Unheard<'a>(Option<&'a Producer>);

impl Unheard<'_> {
    fn heard(mut self) {
        self.0 = None;
    }
}

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        if let Some(producer) = self.0 {
            let why = "sending offsets was cancelled, so nobody knows whether they belong to the transaction";
            producer.shared().lock().transaction.fail(ClientError::State(why), true);
        }
    }
}

fn check(answer: &TxnOffsetCommitResponseData) -> Result<(), ClientError> {
    for topic in &answer.topics {
        for partition in &topic.partitions {
            let what = || format!("commit the offset of {}/{}", topic.name, partition.partition_index);
            ClientError::check(partition.error_code, None, what)?;
        }
    }
    Ok(())
}

fn request(
    id: &str,
    identity: Identity,
    group: &GroupMetadata,
    offsets: &HashMap<TopicPartition, Committed>,
) -> TxnOffsetCommitRequestData {
    let topics = by_topic(offsets).into_iter().map(|(name, list)| {
        let partition = |(index, committed): (i32, &Committed)| {
            TxnOffsetCommitRequestPartition::default()
                .with_partition_index(index)
                .with_committed_offset(committed.offset)
                .with_committed_leader_epoch(committed.leader_epoch.unwrap_or(-1))
                .with_committed_metadata(Some(text(&committed.metadata)))
        };
        TxnOffsetCommitRequestTopic::default()
            .with_name(text(name))
            .with_partitions(list.into_iter().map(partition).collect())
    });
    TxnOffsetCommitRequestData::default()
        .with_transactional_id(text(id))
        .with_group_id(text(&group.group_id))
        .with_producer_id(identity.id)
        .with_producer_epoch(identity.epoch)
        .with_generation_id(group.generation)
        .with_member_id(text(&group.member_id))
        .with_group_instance_id(group.instance_id.as_deref().map(text))
        .with_topics(topics.collect())
}

impl Producer {
    /// Commits a group's offsets with the transaction.
    ///
    /// A call that is dropped before its end leaves it unknown whether they belong to the transaction, which can only be
    /// aborted then.
    pub async fn send_offsets(
        &self,
        group: &GroupMetadata,
        offsets: &HashMap<TopicPartition, Committed>,
    ) -> Result<(), ClientError> {
        if !self.shared().lock().transaction.is_transactional() {
            return Err(ClientError::State("this producer has no transactional id"));
        }
        self.shared().lock().transaction.check_send()?;
        if offsets.is_empty() {
            return Ok(());
        }
        let sent = self.send_offsets_now(group, offsets).await;
        sent.map_err(|error| self.transaction_failed(error))
    }

    async fn send_offsets_now(
        &self,
        group: &GroupMetadata,
        offsets: &HashMap<TopicPartition, Committed>,
    ) -> Result<(), ClientError> {
        let (id, identity) = self.identity()?;
        let protocol = {
            let mut state = self.shared().lock();
            state.transaction.begins();
            state.transaction.protocol
        };
        let request = request(id, identity, group, offsets);
        let unheard = Unheard(Some(self));
        let sent = self.ask(protocol, &group.group_id, request).await;
        unheard.heard();
        sent
    }

    async fn ask(
        &self,
        protocol: Protocol,
        group: &str,
        request: TxnOffsetCommitRequestData,
    ) -> Result<(), ClientError> {
        let (client, lane, timeout) = (self.client(), self.control_lane(), self.client().request_timeout());
        let of = CoordinatorOf::Group;
        match protocol {
            Protocol::V1 => {
                self.add_group(group).await?;
                client.call_coordinator(lane, of, group, &request, timeout, check).await?;
            }
            Protocol::V2 => {
                client.call_coordinator(lane, of, group, &TransactionV2(request), timeout, check).await?;
            }
        }
        Ok(())
    }

    async fn add_group(&self, group: &str) -> Result<(), ClientError> {
        let (id, identity) = self.identity()?;
        let request = AddOffsetsToTxnRequestData::default()
            .with_transactional_id(text(id))
            .with_producer_id(identity.id)
            .with_producer_epoch(identity.epoch)
            .with_group_id(text(group));
        let check = |answer: &AddOffsetsToTxnResponseData| {
            ClientError::check(answer.error_code, None, || format!("add group {group} to the transaction"))
        };
        let (lane, of, timeout) =
            (self.control_lane(), CoordinatorOf::Transaction, self.client().request_timeout());
        self.client().call_coordinator(lane, of, id, &request, timeout, check).await?;
        Ok(())
    }
}
