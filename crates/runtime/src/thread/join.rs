//! How a thread begins: its producer first, so that a predecessor's transaction is over, then its membership.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_client::{
    AutoOffsetReset, Client, ClientError, ConsumerConfig, GroupConfig, GroupConsumer, GroupProtocol,
    Isolation, Producer, ProducerConfig,
};
use headwater_model::TopicPartition;
use tokio::runtime::Handle;

use super::Worker;
use super::commit::Transaction;
use super::purge::Purge;
use super::trouble::{Failures, Trouble, heals};
use super::writing::Unwritten;
use crate::app::Shared;
use crate::assignor::{Owned, StreamsAssignor};
use crate::config::Guarantee;
use crate::error::AppError;
use crate::membership::instance_id;

/// Between attempts that have taken their time already.
const RETRY: Duration = Duration::from_millis(500);

/// Tries for as long as a broker is away, as a thread that runs does; `None` if the application is stopped meanwhile.
fn patiently<T>(
    shared: &Shared,
    runtime: &Handle,
    attempt: impl AsyncFn() -> Result<T, ClientError>,
) -> Result<Option<T>, ClientError> {
    loop {
        let done = runtime.block_on(async {
            tokio::select! {
                done = attempt() => Some(done),
                () = shared.stopped() => None,
            }
        });
        match done {
            Some(Err(error)) if heals(&error) => {
                tracing::warn!(%error, "a thread cannot start yet; trying again");
                std::thread::sleep(RETRY);
            }
            done => return done.transpose(),
        }
    }
}

impl Worker {
    /// `None` if the application was stopped before.
    pub(super) fn join(
        shared: Arc<Shared>,
        runtime: Handle,
        client: Client,
        index: usize,
    ) -> Result<Option<Self>, AppError> {
        let owned = Owned::default();
        let producer = patiently(&shared, &runtime, async || {
            Producer::new(&client, producer_config(&shared, index)).await
        });
        let Some(producer) = producer.map_err(AppError::client("start the producer"))? else {
            return Ok(None);
        };
        let group = patiently(&shared, &runtime, async || {
            member(&client, group_config(&shared, &client, index, &owned)).await
        });
        let Some(group) = group.map_err(AppError::client("join the group"))? else { return Ok(None) };
        Ok(Some(Self {
            purge: Purge::new(&shared.topology),
            shared,
            runtime,
            client,
            index,
            owned,
            group,
            membership_ended: false,
            producer: Some(producer),
            had_assignment: false,
            assigned: Vec::new(),
            open_at: None,
            claim_wait: Default::default(),
            active: Default::default(),
            readers: HashMap::new(),
            paused: Default::default(),
            restoring: Default::default(),
            restorer: None,
            standbys: None,
            probing_at: None,
            restored_at: Instant::now(),
            link: None,
            prepared: false,
            transaction: Transaction::default(),
            unwritten: Unwritten::default(),
            writing: None,
            held: Vec::new(),
            last_commit: Instant::now(),
            pace: Default::default(),
            failures: Failures::default(),
            unsettled: Default::default(),
            refused: Vec::new(),
        }))
    }

    /// A new producer of this thread; under exactly-once its start ends the transaction of the one before.
    pub(super) fn ensure_producer(&mut self) -> Result<(), Trouble> {
        if self.producer.is_none() {
            let config = producer_config(&self.shared, self.index);
            let started = self.runtime.block_on(Producer::new(&self.client, config));
            self.producer = Some(started.map_err(Trouble::client("start the producer again"))?);
        }
        Ok(())
    }

    /// A membership that ended with an error is replaced: the tasks it had may be another member's.
    pub(super) fn ensure_member(&mut self) -> Result<(), Trouble> {
        if self.membership_ended {
            self.shared.given.revoked(self.index, true);
            self.unlist();
            self.assigned.clear();
            self.owned.set(Vec::new(), Vec::new());
            self.open_at = None;
            (self.standbys, self.probing_at) = (None, None);
            let config = group_config(&self.shared, &self.client, self.index, &self.owned);
            let joined = self.runtime.block_on(member(&self.client, config));
            self.group = joined.map_err(Trouble::client("join the group again"))?;
            self.membership_ended = false;
        }
        Ok(())
    }

    /// The partitions that the assigned tasks read.
    pub(super) fn assigned_inputs(&self) -> Vec<TopicPartition> {
        self.assigned.iter().filter_map(|task| self.shared.tasks.get(task)).flatten().cloned().collect()
    }
}

/// Start positions are this thread's business: tasks are restored before their inputs are read.
async fn member(client: &Client, config: GroupConfig) -> Result<GroupConsumer, ClientError> {
    let mut group = GroupConsumer::join(client, config).await?;
    group.manage_positions(false);
    Ok(group)
}

fn producer_config(shared: &Shared, index: usize) -> ProducerConfig {
    let config = &shared.config;
    let transactional_id = match config.guarantee {
        Guarantee::ExactlyOnce => Some(format!("{}-{}-{index}", config.application_id, shared.instance)),
        Guarantee::AtLeastOnce => None,
    };
    ProducerConfig {
        transactional_id,
        transaction_timeout: config.transaction_timeout,
        ..ProducerConfig::default()
    }
}

fn group_config(shared: &Arc<Shared>, client: &Client, index: usize, owned: &Owned) -> GroupConfig {
    let config = &shared.config;
    let topics: BTreeSet<String> = shared.tasks.values().flatten().map(|input| input.topic.clone()).collect();
    let mut group = GroupConfig::new(config.application_id.clone(), topics.into_iter().collect());
    match shared.membership.application(shared, index) {
        Some(application) => group.protocol = GroupProtocol::Streams(Arc::new(application)),
        None => {
            group.instance_id = Some(instance_id(&shared.instance, index));
            group.session_timeout = config.session_timeout;
            group.assignor = Arc::new(StreamsAssignor::new(shared, client, owned.clone()));
        }
    }
    group.rebalance_timeout = config.rebalance_timeout;
    group.consumer = ConsumerConfig {
        isolation: Isolation::Committed,
        auto_offset_reset: AutoOffsetReset::Earliest,
        ..ConsumerConfig::default()
    };
    group
}
