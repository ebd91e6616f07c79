//! The transactions that the coordinator knows to be open.

use std::time::Duration;

use headwater_coordinator::{DescribedTransaction, ListTransactions, Request, Response};

use super::ask;
use crate::broker::Shared;

/// `None` when the engine does not answer in time.
pub async fn ongoing(shared: &Shared, patience: Duration) -> Option<Vec<DescribedTransaction>> {
    let filter = ListTransactions {
        states: vec!["Ongoing".to_owned()],
        longer_than_ms: -1,
        ..ListTransactions::default()
    };
    let Response::ListTransactions(listed) = ask(shared, Request::ListTransactions(filter), patience).await?
    else {
        return None;
    };
    if listed.is_empty() {
        return Some(Vec::new());
    }
    let ids = listed.into_iter().map(|one| one.transactional_id).collect();
    let described = ask(shared, Request::DescribeTransactions(ids), patience).await?;
    let Response::DescribeTransactions(mut described) = described else { return None };
    // One may have ended in between.
    described.retain(|one| one.started_ms >= 0);
    Some(described)
}
