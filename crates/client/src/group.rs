//! A member of a group, by the classic protocol with eager rebalances, by the consumer protocol (KIP-848), or, of a streams
//! application, by the streams protocol (KIP-1071).
//!
//! A background task (`group/membership.rs`, `group/consumer_protocol/`, `group/streams_protocol/`) joins, keeps the session alive and learns of
//! rebalances; `poll` turns what it learns into events. The caller sees `Revoked` before others are given what goes, so
//! whatever is committed until the next poll is still this member's to commit.

mod choice;
mod consumer_protocol;
mod lease;
mod membership;
mod positions;
pub(crate) mod protocol;
mod seat;
mod streams_protocol;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use headwater_model::TopicPartition;
use headwater_wire::ErrorCode;
use headwater_wire::messages::OffsetCommitRequestData;
use tokio::time::Instant;

use crate::admin::text;
use crate::assignor::{Assignment, Assignor, RangeAssignor};
use crate::cluster::{CoordinatorOf, Lane, PATIENCE, Pause};
use crate::consumer::{AutoOffsetReset, Consumer, ConsumerConfig, Fetched};
use crate::{Client, ClientError, Committed, GroupMetadata};
use choice::Membership;
pub use choice::{GroupProtocol, Remote};
pub use lease::Lease;
use membership::News;
pub use streams_protocol::{
    StreamsApplication, StreamsEndpoint, StreamsInternalTopic, StreamsSubtopology, StreamsTask, StreamsTasks,
};

#[derive(Clone)]
pub struct GroupConfig {
    pub group_id: String,
    /// By name; beside these, the consumer protocol takes a regular expression.
    pub topics: Vec<String>,
    /// Kafka's `group.protocol`.
    pub protocol: GroupProtocol,
    /// A static member keeps its assignment over a restart within the session timeout. In the classic protocol whoever
    /// comes with the same id takes the place at once. In the consumer protocol that is so after a `leave` only: the
    /// place of a member that was killed is released at the end of its session, and until then joining fails with
    /// UNRELEASED_INSTANCE_ID (KIP-848).
    pub instance_id: Option<String>,
    /// Of the classic protocol; under the consumer protocol sessions are the broker's to set.
    pub session_timeout: Duration,
    /// How long members may take to commit and join again, or to let go of what is revoked.
    pub rebalance_timeout: Duration,
    /// Of the classic protocol; under the consumer protocol the broker assigns.
    pub assignor: Arc<dyn Assignor>,
    /// Of the classic protocol: how often the member that leads looks whether there are more partitions (Kafka's
    /// `metadata.max.age.ms`). A topic that is not there is looked for each second.
    pub metadata_max_age: Duration,
    pub consumer: ConsumerConfig,
}

impl GroupConfig {
    /// Kafka's defaults: range, sessions of 45 s; where nothing is committed, from the beginning.
    pub fn new(group_id: impl Into<String>, topics: Vec<String>) -> Self {
        Self {
            group_id: group_id.into(),
            topics,
            protocol: GroupProtocol::Classic,
            instance_id: None,
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(60),
            assignor: Arc::new(RangeAssignor),
            metadata_max_age: Duration::from_secs(300),
            consumer: ConsumerConfig {
                auto_offset_reset: AutoOffsetReset::Earliest,
                ..ConsumerConfig::default()
            },
        }
    }
}

#[derive(Debug)]
pub enum GroupEvent {
    /// These partitions are this member's, and no others. Under the consumer protocol some of them may have been before;
    /// their positions stay.
    Assigned {
        partitions: Vec<TopicPartition>,
        user_data: Option<Bytes>,
    },
    /// These partitions are not this member's any more after the next poll; if `lost`, they are not
    /// already, and commits are refused. `Assigned` follows with what the member has then.
    Revoked {
        partitions: Vec<TopicPartition>,
        lost: bool,
    },
    Records(Vec<Fetched>),
    /// Under the streams protocol: these tasks are this member's, and no others; those that were before go on. The caller
    /// adds to `consumer()` what they read.
    Tasks(StreamsTasks),
    /// As `Revoked`, by tasks. The caller takes from `consumer()` what they read.
    TasksRevoked {
        tasks: StreamsTasks,
        lost: bool,
    },
    /// Which process answers for what, of those that said where they are asked.
    Endpoints(Vec<StreamsEndpoint>),
}

pub struct GroupConsumer {
    client: Client,
    config: GroupConfig,
    lane: Lane,
    consumer: Consumer,
    manage_positions: Arc<AtomicBool>,
    /// Runs from the first poll on.
    membership: Option<Membership>,
    metadata: GroupMetadata,
    /// The caller was told of a revocation: the next poll says that it has let go.
    release: bool,
    failure: Option<ClientError>,
    lease: Lease,
}

impl GroupConsumer {
    /// Finds the group's coordinator. The member joins with the first `poll`, which must then be called
    /// again and again: others wait for this member when the group rebalances.
    pub async fn join(client: &Client, config: GroupConfig) -> Result<Self, ClientError> {
        let mut pause = Pause::new(PATIENCE);
        loop {
            match client.coordinator(CoordinatorOf::Group, &config.group_id).await {
                Ok(_) => break,
                Err(error) if error.is_retriable() => {
                    pause.wait("find the group's coordinator", error).await?
                }
                Err(error) => return Err(error),
            }
        }
        let metadata = GroupMetadata {
            instance_id: config.instance_id.clone(),
            ..GroupMetadata::simple(&config.group_id)
        };
        Ok(Self {
            client: client.clone(),
            lane: client.new_lane(),
            consumer: Consumer::new(client, config.consumer.clone()),
            config,
            manage_positions: Arc::new(AtomicBool::new(true)),
            membership: None,
            metadata,
            release: false,
            failure: None,
            lease: Lease::default(),
        })
    }

    /// The next event; `None` when there was none within `timeout`. May be cancelled at any point.
    ///
    /// An error that is not retriable ends the membership: it comes back at each poll.
    pub async fn poll(&mut self, timeout: Duration) -> Result<Option<GroupEvent>, ClientError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let deadline = Instant::now() + timeout;
        let membership = self.membership.get_or_insert_with(|| {
            let positions = Arc::clone(&self.manage_positions);
            Membership::start(self.client.clone(), self.config.clone(), positions, self.lease.clone())
        });
        if std::mem::take(&mut self.release) {
            membership.release();
        }
        let news = tokio::select! {
            biased;
            news = membership.news() => news,
            fetched = poll_records(&mut self.consumer, deadline) => {
                let fetched = fetched?;
                return Ok((!fetched.is_empty()).then_some(GroupEvent::Records(fetched)));
            }
        };
        self.accept(news).map(Some)
    }

    fn accept(&mut self, news: News) -> Result<GroupEvent, ClientError> {
        match news {
            News::Assigned(assigned) => {
                self.metadata.generation = assigned.generation;
                self.metadata.member_id = assigned.member_id;
                self.consumer.add_positions(assigned.positions);
                let Assignment { partitions, user_data } = assigned.assignment;
                Ok(GroupEvent::Assigned { partitions, user_data })
            }
            News::Revoked { partitions, lost } => {
                self.release = true;
                self.consumer.remove(&partitions);
                Ok(GroupEvent::Revoked { partitions, lost })
            }
            News::Tasks { epoch, member_id, tasks } => {
                (self.metadata.generation, self.metadata.member_id) = (epoch, member_id);
                Ok(GroupEvent::Tasks(tasks))
            }
            News::TasksRevoked { tasks, lost } => {
                self.release = true;
                Ok(GroupEvent::TasksRevoked { tasks, lost })
            }
            News::Endpoints(endpoints) => Ok(GroupEvent::Endpoints(endpoints)),
            News::Failed(error) => {
                self.failure = Some(error.clone());
                self.consumer.assign(Vec::new());
                Err(error)
            }
        }
    }

    /// Whether the membership is over: then the error of `poll` is its end, and not that of a partition that could not be read.
    pub fn has_ended(&self) -> bool {
        self.failure.is_some()
    }

    /// Whether start positions come from committed offsets (the default), or the caller adds each
    /// assigned partition to `consumer()` itself. Call it before the first poll.
    pub fn manage_positions(&mut self, yes: bool) {
        self.manage_positions.store(yes, Ordering::Relaxed);
    }

    /// Lets the group rebalance (KIP-568): the next polls bring `Revoked` and `Assigned`. A static member's user data has to
    /// have changed since it joined, or the coordinator leaves everything as it is. Nothing under the other protocols.
    pub fn enforce_rebalance(&self) {
        if let Some(membership) = &self.membership {
            membership.enforce();
        }
    }

    /// Until when nobody else is given what this member has.
    pub fn lease(&self) -> Lease {
        self.lease.clone()
    }

    pub fn consumer(&mut self) -> &mut Consumer {
        &mut self.consumer
    }

    /// The generation or member epoch this member is in, for `Producer::send_offsets`.
    pub fn metadata(&self) -> GroupMetadata {
        match self.membership.as_ref().and_then(Membership::standing) {
            Some((member_id, generation)) => GroupMetadata { generation, member_id, ..self.metadata.clone() },
            None => self.metadata.clone(),
        }
    }

    /// Commits under this member's generation; refused when the group has moved on.
    ///
    /// Under the consumer protocol the group moves on without this member losing anything: then the commit is sent again
    /// with the member epoch that the next heartbeat brings.
    pub async fn commit(&mut self, offsets: &HashMap<TopicPartition, Committed>) -> Result<(), ClientError> {
        let mut pause = self.client.patience();
        loop {
            let as_member = self.metadata();
            let request = OffsetCommitRequestData::default()
                .with_group_id(text(&self.config.group_id))
                .with_generation_id_or_member_epoch(as_member.generation)
                .with_member_id(text(&as_member.member_id))
                .with_group_instance_id(as_member.instance_id.as_deref().map(text));
            let sent = self.client.commit_with(self.lane, &self.config.group_id, request, offsets).await;
            let error = match (sent, &mut self.membership) {
                (Err(error), Some(membership)) if error.code() == Some(ErrorCode::StaleMemberEpoch) => {
                    match membership.passes(as_member.generation, self.client.request_timeout()).await {
                        true => error,
                        false => return Err(error),
                    }
                }
                (sent, _) => return sent,
            };
            pause.wait("commit", error).await?;
        }
    }

    /// Leaves, so that the others need not wait for the session to end. A static member is expected back and keeps its
    /// partitions until then.
    pub async fn leave(mut self) -> Result<(), ClientError> {
        match self.membership.take() {
            Some(membership) => membership.leave().await,
            None => Ok(()),
        }
    }
}

impl Drop for GroupConsumer {
    fn drop(&mut self) {
        self.client.close_lane(self.lane);
    }
}

async fn poll_records(consumer: &mut Consumer, deadline: Instant) -> Result<Vec<Fetched>, ClientError> {
    consumer.poll(deadline.saturating_duration_since(Instant::now())).await
}
