//! Transactions as their coordinator knows them (KIP-664).

use headwater_wire::ErrorCode;
use headwater_wire::messages::{DescribeTransactionsRequestData, DescribeTransactionsResponseData};

use super::text;
use crate::cluster::{CoordinatorOf, Lane};
use crate::{Client, ClientError};

/// What a coordinator knows of a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionDescription {
    /// `Empty`, `Ongoing`, `PrepareCommit`, `PrepareAbort`, `CompleteCommit`, `CompleteAbort` and so on.
    pub state: String,
    pub producer_id: i64,
}

impl TransactionDescription {
    /// Something is written that is neither committed nor aborted to its end.
    pub fn is_open(&self) -> bool {
        matches!(self.state.as_str(), "Ongoing" | "PrepareCommit" | "PrepareAbort" | "PrepareEpochFence")
    }
}

impl Client {
    /// `None` where no producer has come with the transactional id, or it was long ago.
    ///
    /// # Errors
    /// Those of the broker; `TooOld` of an Apache Kafka before 3.0.
    pub async fn describe_transaction(
        &self,
        transactional_id: &str,
    ) -> Result<Option<TransactionDescription>, ClientError> {
        let request =
            DescribeTransactionsRequestData::default().with_transactional_ids(vec![text(transactional_id)]);
        let unknown = |code: i16| ErrorCode::from(code) == ErrorCode::TransactionalIdNotFound;
        let check = |answer: &DescribeTransactionsResponseData| {
            let code = answer.transaction_states.first().map_or(0, |state| state.error_code);
            match unknown(code) {
                true => Ok(()),
                false => ClientError::check(code, None, || {
                    format!("describe the transaction of {transactional_id}")
                }),
            }
        };
        let (of, timeout) = (CoordinatorOf::Transaction, self.request_timeout());
        let answer =
            self.call_coordinator(Lane::ADMIN, of, transactional_id, &request, timeout, check).await?;
        let known = answer.transaction_states.into_iter().find(|state| !unknown(state.error_code));
        Ok(known.map(|state| TransactionDescription {
            state: state.transaction_state.to_string(),
            producer_id: state.producer_id,
        }))
    }
}
