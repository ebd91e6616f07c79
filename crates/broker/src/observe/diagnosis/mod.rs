//! Why something does not happen: what holds back readers, retention, compaction and groups.
//!
//! One file for each question. Each looks at [`Facts`], which are gathered once, and adds findings.

mod compaction;
mod facts;
mod groups;
mod replication;
mod retention;
mod storage;
mod transactions;

use std::sync::Arc;

use headwater_model::TimestampMs;
use serde::{Deserialize, Serialize};

use super::finding::{Finding, Severity};
use super::health;
use crate::broker::Shared;
use crate::clock;
use facts::Facts;

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    pub topics: usize,
    pub partitions: usize,
    pub files: usize,
    pub groups: usize,
    pub transactions: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Diagnosis {
    pub at_ms: TimestampMs,
    pub looked_at: Looked,
    /// The worst first.
    pub findings: Vec<Finding>,
}

pub(super) async fn run(shared: Arc<Shared>) -> Option<Diagnosis> {
    let answers = facts::Answers::ask(&shared).await;
    // Places of batches may have to be read from files.
    tokio::task::spawn_blocking(move || judge(shared, answers)).await.ok()
}

fn judge(shared: Arc<Shared>, answers: facts::Answers) -> Diagnosis {
    let facts = Facts::gather(shared, answers);
    let mut findings = health::findings(&facts.shared);
    // Named one by one below.
    findings.retain(|finding| finding.kind != "damage");
    storage::look(&facts, &mut findings);
    transactions::look(&facts, &mut findings);
    retention::look(&facts, &mut findings);
    compaction::look(&facts, &mut findings);
    groups::look(&facts, &mut findings);
    replication::look(&facts, &mut findings);
    if facts.answers.is_incomplete() {
        findings.push(
            Finding::new(Severity::Warning, "no_answer", "the engine did not answer within 2 s")
                .why("it waits for the disk; transactions and groups are not looked at in full")
                .next("headwater doctor, when the disk answers again"),
        );
    }
    findings.sort_by_key(|finding| finding.severity);
    Diagnosis { at_ms: clock::wall(), looked_at: facts.looked_at(), findings }
}
