//! Transactions of a producer: begin, offsets, commit, abort, and the state between them.
//!
//! ```text
//! Ready ─begin→ Open ─commit/abort→ Ending ─→ Ready
//!                 └─failure→ Failed ─abort→ Ending       any ─fenced→ Fenced (for good)
//! ```
//! A transaction whose commit could not be confirmed stays in `Ending`: only committing again, or
//! aborting, is allowed, and the coordinator knows which of them it was. An abort that finds the commit
//! carried out says `Committed`, and the producer is ready for the next transaction.

mod calls;
mod state;

use std::collections::HashMap;
use std::sync::Arc;

use headwater_model::TopicPartition;
use headwater_wire::ErrorCode;
use headwater_wire::messages::{
    AddOffsetsToTxnRequestData, AddOffsetsToTxnResponseData, EndTxnRequestData, EndTxnResponseData,
    TxnOffsetCommitRequestData, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponseData,
};
use tokio::time::Instant;

use crate::admin::{by_topic, text};
use crate::cluster::{CoordinatorOf, PATIENCE};
use crate::producer::Producer;
use crate::{ClientError, Committed};
use state::Phase;
pub(crate) use state::Transaction;

/// The generation whose offsets a transaction commits, so that the group's coordinator can refuse
/// those of a member that has been replaced (KIP-447).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMetadata {
    pub group_id: String,
    pub generation: i32,
    pub member_id: String,
    pub instance_id: Option<String>,
}

impl Default for GroupMetadata {
    fn default() -> Self {
        Self::simple("")
    }
}

impl GroupMetadata {
    /// A group without members.
    pub fn simple(group_id: impl Into<String>) -> Self {
        Self { group_id: group_id.into(), generation: -1, member_id: String::new(), instance_id: None }
    }
}

fn check_offsets(answer: &TxnOffsetCommitResponseData) -> Result<(), ClientError> {
    for topic in &answer.topics {
        for partition in &topic.partitions {
            let what = || format!("commit the offset of {}/{}", topic.name, partition.partition_index);
            ClientError::check(partition.error_code, None, what)?;
        }
    }
    Ok(())
}

impl Producer {
    /// Opens a transaction; the coordinator hears of it with the first record or offset.
    pub async fn begin_transaction(&self) -> Result<(), ClientError> {
        let mut state = self.shared().lock();
        match state.transaction.phase {
            Phase::Never => Err(ClientError::State("this producer has no transactional id")),
            Phase::Open => Err(ClientError::State("a transaction is open already: commit or abort it first")),
            Phase::Ending => {
                Err(ClientError::State("the last transaction is not ended: commit or abort it again"))
            }
            Phase::Failed(_) | Phase::Fenced(_) => state.transaction.failure().map_or(Ok(()), Err),
            Phase::Ready => {
                state.transaction.phase = Phase::Open;
                state.first_failure = None;
                Ok(())
            }
        }
    }

    /// Commits a group's offsets with the transaction.
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
        self.shared().lock().transaction.begun = true;
        let request = AddOffsetsToTxnRequestData::default()
            .with_transactional_id(text(id))
            .with_producer_id(identity.id)
            .with_producer_epoch(identity.epoch)
            .with_group_id(text(&group.group_id));
        let check = |answer: &AddOffsetsToTxnResponseData| {
            ClientError::check(answer.error_code, None, || {
                format!("add group {} to the transaction", group.group_id)
            })
        };
        let (client, lane, timeout) = (self.client(), self.control_lane(), self.client().request_timeout());
        client.call_coordinator(lane, CoordinatorOf::Transaction, id, &request, timeout, check).await?;
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
        let request = TxnOffsetCommitRequestData::default()
            .with_transactional_id(text(id))
            .with_group_id(text(&group.group_id))
            .with_producer_id(identity.id)
            .with_producer_epoch(identity.epoch)
            .with_generation_id(group.generation)
            .with_member_id(text(&group.member_id))
            .with_group_instance_id(group.instance_id.as_deref().map(text))
            .with_topics(topics.collect());
        let of = CoordinatorOf::Group;
        client.call_coordinator(lane, of, &group.group_id, &request, timeout, check_offsets).await?;
        Ok(())
    }

    /// Ends the transaction: all of it is visible, or, after an abortable error, nothing yet.
    ///
    /// Any other error leaves the end unknown; committing again asks for the same end.
    pub async fn commit_transaction(&self) -> Result<(), ClientError> {
        let _one_at_a_time = self.ending().await;
        {
            let mut state = self.shared().lock();
            match state.transaction.phase {
                Phase::Open | Phase::Ending => state.transaction.phase = Phase::Ending,
                Phase::Never => return Err(ClientError::State("this producer has no transactional id")),
                Phase::Ready => {
                    return Err(ClientError::State("no transaction is open: there is nothing to commit"));
                }
                Phase::Failed(_) | Phase::Fenced(_) => {
                    return state.transaction.failure().map_or(Ok(()), Err);
                }
            }
        }
        if let Err(error) = self.flush().await {
            return Err(self.transaction_failed(error));
        }
        if self.shared().lock().transaction.begun {
            match self.end_transaction(true).await {
                Ok(()) => {}
                // Perhaps committed, perhaps not: the phase stays.
                Err(error) if matches!(error, ClientError::GaveUp { .. }) => {
                    self.shared().lock().transaction.uncertain = true;
                    return Err(error);
                }
                Err(error) => return Err(self.transaction_failed(error)),
            }
        }
        self.ended();
        Ok(())
    }

    /// Ends the transaction with nothing of it visible; what is not sent yet is dropped.
    ///
    /// After a commit whose answer was lost, `ClientError::Committed` says that all of it is visible; the producer
    /// can begin the next one then, too.
    pub async fn abort_transaction(&self) -> Result<(), ClientError> {
        let _one_at_a_time = self.ending().await;
        {
            let mut state = self.shared().lock();
            match state.transaction.phase {
                Phase::Never => return Err(ClientError::State("this producer has no transactional id")),
                Phase::Ready => {
                    return Err(ClientError::State("no transaction is open: there is nothing to abort"));
                }
                Phase::Fenced(_) => return state.transaction.failure().map_or(Ok(()), Err),
                Phase::Open | Phase::Ending | Phase::Failed(_) => {}
            }
            state.transaction.fail(ClientError::State("the transaction was aborted by its owner"), false);
            state.drop_waiting();
        }
        self.settle().await?;
        let (begun, mut renew, uncertain) = {
            let state = self.shared().lock();
            (state.transaction.begun, state.transaction.renew, state.transaction.uncertain)
        };
        let mut committed = false;
        // The commit may still be on its way, and must not end the next transaction: the epoch fences it.
        renew |= uncertain;
        if begun {
            match self.end_transaction(false).await {
                Ok(()) => {}
                // The coordinator has no open transaction: a new epoch makes sure that none opens late. It had one
                // when it was asked to commit.
                Err(error) if error.code() == Some(ErrorCode::InvalidTxnState) => {
                    (renew, committed) = (true, uncertain);
                }
                Err(error) => return Err(self.keep_if_fenced(error)),
            }
        }
        if renew {
            self.renew_epoch().await?;
        }
        self.ended();
        if committed {
            return Err(ClientError::Committed(self.identity()?.0.to_owned()));
        }
        Ok(())
    }

    /// Waits until nothing of the transaction is on its way.
    async fn settle(&self) -> Result<(), ClientError> {
        let begun = Instant::now();
        loop {
            let changed = self.shared().settled.notified();
            {
                let state = self.shared().lock();
                if state.in_flight() == 0 && !state.transaction.asking {
                    return Ok(());
                }
            }
            let patience = self.client().request_timeout() + 2 * PATIENCE;
            if tokio::time::timeout_at(begun + patience, changed).await.is_err() {
                let last = Arc::new(ClientError::State("requests of the transaction are still on their way"));
                return Err(ClientError::GaveUp { what: "abort".into(), after: patience, last });
            }
        }
    }

    async fn end_transaction(&self, commit: bool) -> Result<(), ClientError> {
        let (id, identity) = self.identity()?;
        let request = EndTxnRequestData::default()
            .with_transactional_id(text(id))
            .with_producer_id(identity.id)
            .with_producer_epoch(identity.epoch)
            .with_committed(commit);
        let what = if commit { "commit" } else { "abort" };
        let check = |answer: &EndTxnResponseData| {
            ClientError::check(answer.error_code, None, || format!("{what} the transaction of {id}"))
        };
        let (lane, timeout) = (self.control_lane(), self.client().request_timeout());
        self.client()
            .call_coordinator(lane, CoordinatorOf::Transaction, id, &request, timeout, check)
            .await?;
        Ok(())
    }

    async fn renew_epoch(&self) -> Result<(), ClientError> {
        let (id, identity) = self.identity()?;
        let (lane, timeout) = (self.control_lane(), self.transaction_timeout_ms());
        let renewed = self.client().init_producer_id(lane, Some(id), timeout, Some(identity)).await;
        let renewed = renewed.map_err(|error| self.keep_if_fenced(error))?;
        self.shared().lock().renewed(renewed);
        Ok(())
    }

    fn ended(&self) {
        let mut state = self.shared().lock();
        state.leave_transaction();
        state.transaction = Transaction::new(true);
        state.first_failure = None;
    }

    /// Remembers the failure; returns it as every later call will.
    fn transaction_failed(&self, error: ClientError) -> ClientError {
        let mut state = self.shared().lock();
        let inner = match error {
            ClientError::Abortable(inner) => ClientError::clone(&inner),
            other => other,
        };
        state.transaction.fail(inner.clone(), false);
        state.drop_waiting();
        state.transaction.failure().unwrap_or(inner)
    }

    fn keep_if_fenced(&self, error: ClientError) -> ClientError {
        if error.is_fenced() {
            self.shared().lock().transaction.fail(error.clone(), false);
        }
        error
    }
}
