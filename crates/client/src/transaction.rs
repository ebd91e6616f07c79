//! Transactions of a producer: begin, offsets, commit, abort, and the state between them.
//!
//! ```text
//! Ready ─begin→ Open ─commit/abort→ Ending ─→ Ready
//!                 └─failure→ Failed ─abort→ Ending       any ─fenced→ Fenced (for good)
//! ```
//! A transaction whose commit could not be confirmed stays in `Ending`: only committing again, or
//! aborting, is allowed, and the coordinator knows which of them it was. An abort that finds the commit
//! carried out says `Committed`, and the producer is ready for the next transaction.
//!
//! Each transaction speaks one of two protocols, chosen at its begin by what the cluster has finalized (`Protocol`).
//! Under the second one every end brings the next epoch, so that whatever is late is of an epoch that is over.

mod calls;
mod offsets;
mod state;

use std::sync::Arc;

use headwater_wire::ErrorCode;
use headwater_wire::messages::{EndTxnRequestData, EndTxnResponseData};
use tokio::time::Instant;

use crate::ClientError;
use crate::admin::text;
use crate::call::TransactionV2;
use crate::cluster::{CoordinatorOf, PATIENCE};
use crate::planted::{self, Bug};
use crate::producer::{Identity, Producer};
use state::Phase;
pub(crate) use state::{Protocol, Transaction};

/// The feature by whose level a cluster says which protocol it speaks.
const TRANSACTION_VERSION: &str = "transaction.version";

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

impl Producer {
    /// Opens a transaction; the coordinator hears of it with the first record or offset.
    ///
    /// Where the cluster has come to speak the second protocol since the last one, a new epoch is asked for first.
    pub async fn begin_transaction(&self) -> Result<(), ClientError> {
        let protocol = Protocol::of(self.client().finalized_level(TRANSACTION_VERSION));
        if !self.open(protocol)? {
            let _one_at_a_time = self.ending().await;
            self.shared().lock().transaction.check_begin()?;
            self.renew_epoch().await?;
            self.open(protocol)?;
        }
        Ok(())
    }

    /// `false` when a new epoch is needed before that.
    fn open(&self, protocol: Protocol) -> Result<bool, ClientError> {
        let mut state = self.shared().lock();
        state.transaction.check_begin()?;
        if state.transaction.needs_new_epoch(protocol) {
            return Ok(false);
        }
        state.transaction.open(protocol);
        state.first_failure = None;
        Ok(true)
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
            self.ask_to_commit().await?;
        }
        self.ended();
        Ok(())
    }

    async fn ask_to_commit(&self) -> Result<(), ClientError> {
        self.shared().lock().transaction.uncertain = true;
        let error = match self.end_transaction(true).await {
            Ok(()) => return Ok(()),
            // Perhaps committed, perhaps not: the phase stays.
            Err(error) if matches!(error, ClientError::GaveUp { .. }) => return Err(error),
            Err(error) => error,
        };
        {
            // An attempt before the refused one may have been carried out; an abort finds out. Under the first
            // protocol INVALID_TXN_STATE is the exception: a commit that was carried out is answered with success when
            // it is repeated, so this one never was.
            let mut state = self.shared().lock();
            state.transaction.uncertain = state.transaction.protocol == Protocol::V2
                || error.code() != Some(ErrorCode::InvalidTxnState);
        }
        Err(self.transaction_failed(error))
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
        self.shared().freed();
        self.settle().await?;
        let (begun, protocol, over) = {
            let state = self.shared().lock();
            (state.transaction.begun, state.transaction.protocol, state.transaction.over)
        };
        let committed = match (over, begun, protocol) {
            // Whoever called before did not wait for the new epoch. The old one is good for asking again, no more.
            (Some(committed), ..) => committed,
            (None, false, _) => false,
            (None, true, Protocol::V1) => self.abort_v1().await?,
            (None, true, Protocol::V2) => self.abort_v2().await?,
        };
        self.shared().lock().transaction.over = Some(committed);
        if self.shared().lock().transaction.renew {
            self.renew_epoch().await?;
        }
        self.ended();
        if committed && !planted::is(Bug::AbortUnheardCommit) {
            return Err(ClientError::Committed(self.identity()?.0.to_owned()));
        }
        Ok(())
    }

    /// Whether it was committed before.
    async fn abort_v1(&self) -> Result<bool, ClientError> {
        let uncertain = self.shared().lock().transaction.uncertain;
        let refused = match self.end_transaction(false).await {
            Ok(()) => false,
            // The coordinator has no open transaction. It had one when it was asked to commit.
            Err(error) if error.code() == Some(ErrorCode::InvalidTxnState) => true,
            Err(error) => return Err(self.keep_if_fenced(error)),
        };
        // A commit that is still on its way must not end the next transaction, nor a late addition open one: the epoch
        // fences them.
        self.shared().lock().transaction.renew |= uncertain || refused;
        Ok(uncertain && refused)
    }

    /// Whether it was committed before.
    ///
    /// The coordinator refuses to abort what it has committed under this epoch, and nothing else. The same commit
    /// again is answered as the first one was, with the next epoch.
    async fn abort_v2(&self) -> Result<bool, ClientError> {
        let uncertain = self.shared().lock().transaction.uncertain;
        let committed = match self.end_transaction(false).await {
            Err(error) if uncertain && error.code() == Some(ErrorCode::InvalidTxnState) => true,
            outcome => outcome.map(|()| false).map_err(|error| self.keep_if_fenced(error))?,
        };
        if committed {
            self.end_transaction(true).await.map_err(|error| self.keep_if_fenced(error))?;
        }
        Ok(committed)
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

    /// Asks until the coordinator has answered; the next epoch, where one comes with the answer, is the producer's.
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
        let (client, lane, timeout) = (self.client(), self.control_lane(), self.client().request_timeout());
        let of = CoordinatorOf::Transaction;
        let protocol = self.shared().lock().transaction.protocol;
        let answer = match protocol {
            Protocol::V1 => client.call_coordinator(lane, of, id, &request, timeout, check).await?,
            Protocol::V2 => {
                client.call_coordinator(lane, of, id, &TransactionV2(request), timeout, check).await?
            }
        };
        if answer.producer_id >= 0 {
            let next = Identity { id: answer.producer_id, epoch: answer.producer_epoch };
            let mut state = self.shared().lock();
            state.renewed(next);
            state.transaction.renew = false;
        }
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
        state.transaction.close();
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
        self.shared().freed();
        state.transaction.failure().unwrap_or(inner)
    }

    fn keep_if_fenced(&self, error: ClientError) -> ClientError {
        if error.is_fenced() {
            self.shared().lock().transaction.fail(error.clone(), false);
        }
        error
    }
}
