//! The task behind a member of the classic protocol: join, sync, heartbeat, and again.
//!
//! It never joins again by itself after a rebalance: it waits for the word of `poll`, and keeps the
//! session alive meanwhile. Dropping the `Membership` ends the task; the session then runs out.

mod heartbeats;
mod topics;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headwater_model::TopicPartition;
use headwater_wire::ErrorCode;
use headwater_wire::messages::{
    JoinGroupRequestData, JoinGroupRequestProtocol, JoinGroupResponseData, SyncGroupRequestAssignment,
    SyncGroupRequestData,
};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::positions::positions_in_the_end;
use super::protocol;
use super::{GroupConfig, Lease, StreamsEndpoint, StreamsTasks};
use crate::admin::text;
use crate::assignor::{Assignment, MemberSubscription};
use crate::call::Call;
use crate::cluster::{CoordinatorOf, Lane, Pause};
use crate::connection::Connection;
use crate::{Client, ClientError, Position};
use topics::Led;

/// How long joining is tried against failures that may heal.
const JOIN_PATIENCE: Duration = Duration::from_secs(120);
/// A join is answered when all members have joined: at most the rebalance timeout, and this.
const JOIN_GRACE: Duration = Duration::from_secs(10);

pub(super) enum News {
    Assigned(Assigned),
    Revoked {
        partitions: Vec<TopicPartition>,
        lost: bool,
    },
    /// Of the streams protocol: what the member has, and no more than that.
    Tasks {
        epoch: i32,
        member_id: String,
        tasks: StreamsTasks,
    },
    TasksRevoked {
        tasks: StreamsTasks,
        lost: bool,
    },
    Endpoints(Vec<StreamsEndpoint>),
    Failed(ClientError),
}

/// What the member has, and no more than that.
pub(super) struct Assigned {
    pub(super) generation: i32,
    pub(super) member_id: String,
    pub(super) assignment: Assignment,
    /// Of what is new, unless the caller keeps positions.
    pub(super) positions: Vec<(TopicPartition, Position)>,
}

pub(super) struct Membership {
    news: mpsc::UnboundedReceiver<News>,
    rejoin: Arc<Notify>,
    enforced: Arc<Notify>,
    /// The member id, as soon as the coordinator has given one.
    member_id: Arc<Mutex<String>>,
    client: Client,
    config: GroupConfig,
    lanes: [Lane; 2],
    task: JoinHandle<()>,
}

impl Membership {
    pub(super) fn start(
        client: Client,
        config: GroupConfig,
        manage_positions: Arc<AtomicBool>,
        lease: Lease,
    ) -> Self {
        let (sender, news) = mpsc::unbounded_channel();
        let (rejoin, member_id) = (Arc::new(Notify::new()), Arc::new(Mutex::new(String::new())));
        let enforced = Arc::new(Notify::new());
        let lanes = [client.new_lane(), client.new_lane()];
        let task = Task {
            client: client.clone(),
            config: config.clone(),
            join_lane: lanes[0],
            beat_lane: lanes[1],
            manage_positions,
            news: sender,
            rejoin: Arc::clone(&rejoin),
            enforced: Arc::clone(&enforced),
            shared_id: Arc::clone(&member_id),
            member_id: String::new(),
            generation: -1,
            owned: Vec::new(),
            named_by: None,
            led: None,
            lease,
        };
        let task = tokio::spawn(task.run());
        Self { news, rejoin, enforced, member_id, client, config, lanes, task }
    }

    /// The caller has finished with the old generation.
    pub(super) fn release(&self) {
        self.rejoin.notify_one();
    }

    /// The group is to rebalance.
    pub(super) fn enforce(&self) {
        self.enforced.notify_one();
    }

    /// May be cancelled without losing anything.
    pub(super) async fn news(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            None => News::Failed(ClientError::State("the group membership has ended")),
        }
    }

    pub(super) async fn leave(self) -> Result<(), ClientError> {
        self.task.abort();
        let member_id = self.member_id.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if member_id.is_empty() || self.config.instance_id.is_some() {
            return Ok(());
        }
        let outcome = self.client.remove_member(&self.config.group_id, &member_id).await;
        match outcome {
            // Whoever is not known has left already.
            Err(error) if error.code() == Some(ErrorCode::UnknownMemberId) => Ok(()),
            outcome => outcome,
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.task.abort();
        self.lanes.iter().for_each(|lane| self.client.close_lane(*lane));
    }
}

struct Task {
    client: Client,
    config: GroupConfig,
    join_lane: Lane,
    beat_lane: Lane,
    manage_positions: Arc<AtomicBool>,
    news: mpsc::UnboundedSender<News>,
    rejoin: Arc<Notify>,
    enforced: Arc<Notify>,
    shared_id: Arc<Mutex<String>>,
    member_id: String,
    generation: i32,
    /// The last assignment, told to the leader at the next join.
    owned: Vec<TopicPartition>,
    /// The connection to a coordinator that knows this member's id.
    named_by: Option<Arc<Connection>>,
    /// What this member assigned by, if it leads.
    led: Option<Led>,
    lease: Lease,
}

/// Why a generation has ended for this member.
enum Ended {
    Rebalance,
    Lost,
    Fatal(ClientError),
}

impl Task {
    async fn run(mut self) {
        loop {
            if let Err(error) = self.one_generation().await {
                // Nobody listens when the consumer is gone, and then nobody needs to.
                self.lease.end();
                let _ = self.news.send(News::Failed(error));
                return;
            }
        }
    }

    async fn one_generation(&mut self) -> Result<(), ClientError> {
        let assignment = self.join_and_sync().await?;
        self.owned = assignment.partitions.clone();
        let ended = {
            let beats = self.heartbeats(false);
            tokio::pin!(beats);
            let managed = self.manage_positions.load(Ordering::Relaxed);
            let begin = if managed { &self.owned[..] } else { &[] };
            let positions = positions_in_the_end(&self.client, &self.config, begin);
            tokio::pin!(positions);
            tokio::select! {
                ended = &mut beats => Some(ended),
                positions = &mut positions => {
                    let assigned = Assigned {
                        generation: self.generation,
                        member_id: self.member_id.clone(),
                        assignment,
                        positions: positions?,
                    };
                    let _ = self.news.send(News::Assigned(assigned));
                    None
                }
            }
        };
        match ended {
            // The caller has not heard of this generation: nothing to revoke.
            Some(Ended::Rebalance) => Ok(()),
            Some(Ended::Lost) => {
                self.forget();
                Ok(())
            }
            Some(Ended::Fatal(error)) => Err(error),
            None => self.until_rejoin().await,
        }
    }

    /// Heartbeats until the generation ends, then until the caller has let go of it.
    async fn until_rejoin(&mut self) -> Result<(), ClientError> {
        let ended = tokio::select! {
            ended = self.heartbeats(false) => ended,
            () = self.enforced.notified() => Ended::Rebalance,
            () = self.grown() => Ended::Rebalance,
        };
        let lost = match ended {
            Ended::Rebalance => false,
            Ended::Lost => true,
            Ended::Fatal(error) => return Err(error),
        };
        let _ = self.news.send(News::Revoked { partitions: self.owned.clone(), lost });
        if lost {
            self.forget();
            self.rejoin.notified().await;
            return Ok(());
        }
        let ended = tokio::select! {
            biased;
            () = self.rejoin.notified() => return Ok(()),
            ended = self.heartbeats(true) => ended,
        };
        if let Ended::Fatal(error) = ended {
            return Err(error);
        }
        self.forget();
        self.rejoin.notified().await;
        Ok(())
    }

    fn set_member_id(&mut self, id: String) {
        self.shared_id.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&id);
        self.member_id = id;
    }

    /// This member is nobody to the group any more.
    fn forget(&mut self) {
        self.set_member_id(String::new());
        self.generation = -1;
        self.named_by = None;
        self.owned.clear();
        self.lease.end();
    }

    async fn join_and_sync(&mut self) -> Result<Assignment, ClientError> {
        let mut pause = Pause::new(JOIN_PATIENCE);
        // A coordinator that dies before the generation is complete forgets the id that it gave for this instance, and its
        // successor knows only the one from before: nobody has taken over. Who really has is met again. The coordinator that
        // gave the id knows it, so its word counts.
        let mut may_be_forgotten = self.member_id.is_empty();
        loop {
            let error = match self.join_once().await {
                Ok(assignment) => return Ok(assignment),
                Err(error) => error,
            };
            match error.code() {
                Some(ErrorCode::FencedInstanceId)
                    if may_be_forgotten && self.is_answered_by_another().await =>
                {
                    may_be_forgotten = false;
                    self.forget();
                }
                Some(ErrorCode::MemberIdRequired) => continue,
                Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => self.forget(),
                // Another one has come or gone before all had heard what they were given. A rebalance may take minutes, and many may
                // follow one another where a large group is restarted.
                Some(ErrorCode::RebalanceInProgress) => pause.begin_anew(),
                _ if error.is_retriable() => {
                    self.client.forget_coordinator(CoordinatorOf::Group, &self.config.group_id);
                }
                _ => return Err(error),
            }
            pause.wait("join the group", error).await?;
        }
    }

    async fn call<C: Call>(
        &self,
        lane: Lane,
        request: &C,
        timeout: Duration,
    ) -> Result<C::Response, ClientError> {
        self.connection(lane).await?.call(request, timeout).await
    }

    async fn connection(&self, lane: Lane) -> Result<Arc<Connection>, ClientError> {
        let address = self.client.coordinator(CoordinatorOf::Group, &self.config.group_id).await?;
        self.client.connection(lane, &address).await
    }

    /// Whether the last answer may be of another coordinator than the one that gave this member its id: it came over
    /// another connection. Without an id, nothing could have been forgotten.
    async fn is_answered_by_another(&self) -> bool {
        match (&self.named_by, self.connection(self.join_lane).await) {
            (Some(named_by), Ok(connection)) => !Arc::ptr_eq(named_by, &connection),
            (Some(_), Err(_)) => true,
            (None, _) => false,
        }
    }

    async fn join_once(&mut self) -> Result<Assignment, ClientError> {
        let config = &self.config;
        let what = || format!("join group {}", config.group_id);
        let user_data = config.assignor.user_data();
        let metadata =
            protocol::encode_subscription(&config.topics, user_data.as_ref(), &self.owned, self.generation);
        let offered = JoinGroupRequestProtocol::default()
            .with_name(text(config.assignor.name()))
            .with_metadata(metadata);
        let request = JoinGroupRequestData::default()
            .with_group_id(text(&config.group_id))
            .with_session_timeout_ms(millis(config.session_timeout))
            .with_rebalance_timeout_ms(millis(config.rebalance_timeout))
            .with_member_id(text(&self.member_id))
            .with_group_instance_id(config.instance_id.as_deref().map(text))
            .with_protocol_type(text(protocol::PROTOCOL_TYPE))
            .with_protocols(vec![offered]);
        let timeout = config.rebalance_timeout + JOIN_GRACE;
        let connection = self.connection(self.join_lane).await?;
        let answer = connection.call(&request, timeout).await?;
        let refused = ClientError::check(answer.error_code, None, what);
        if ErrorCode::from(answer.error_code) == ErrorCode::MemberIdRequired {
            self.set_member_id(answer.member_id.to_string());
        }
        refused?;
        self.named_by = Some(connection);
        self.set_member_id(answer.member_id.to_string());
        self.generation = answer.generation_id;
        self.sync(answer).await
    }

    async fn sync(&mut self, joined: JoinGroupResponseData) -> Result<Assignment, ClientError> {
        self.led = None;
        let mut assignments = Vec::new();
        // One that comes back to lead what is assigned already looks after it, too (KIP-814).
        let looks_after = !joined.skip_assignment || self.config.assignor.follows_topics();
        if joined.leader == joined.member_id && looks_after {
            let (led, members) = self.look_up(&joined).await?;
            if !joined.skip_assignment {
                assignments = self.lead(&led, &members).await;
            }
            self.led = Some(led);
        }
        let config = &self.config;
        let request = SyncGroupRequestData::default()
            .with_group_id(text(&config.group_id))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.member_id))
            .with_group_instance_id(config.instance_id.as_deref().map(text))
            .with_protocol_type(Some(text(protocol::PROTOCOL_TYPE)))
            .with_protocol_name(Some(text(config.assignor.name())))
            .with_assignments(assignments);
        let timeout = config.rebalance_timeout + JOIN_GRACE;
        let sent = std::time::Instant::now();
        let answer = self.call(self.join_lane, &request, timeout).await?;
        ClientError::check(answer.error_code, None, || format!("sync with group {}", config.group_id))?;
        self.lease.renew(sent, self.term());
        protocol::decode_assignment(&answer.assignment).map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, error: &protocol::Unreadable) -> ClientError {
        ClientError::Malformed {
            address: format!("a member of group {}", self.config.group_id),
            reason: error.to_string(),
        }
    }

    /// What there is to assign, and to whom.
    async fn look_up(
        &self,
        joined: &JoinGroupResponseData,
    ) -> Result<(Led, Vec<MemberSubscription>), ClientError> {
        let mut members = Vec::with_capacity(joined.members.len());
        for member in &joined.members {
            let said =
                protocol::decode_subscription(&member.metadata).map_err(|error| self.unreadable(&error))?;
            members.push(MemberSubscription {
                member_id: member.member_id.to_string(),
                instance_id: member.group_instance_id.as_ref().map(ToString::to_string),
                ..said
            });
        }
        let mut topics: Vec<String> =
            members.iter().flat_map(|member| member.topics.iter().cloned()).collect();
        topics.sort();
        topics.dedup();
        let partitions = self.partition_counts(&topics).await?;
        Ok((Led { topics, partitions }, members))
    }

    /// Decides for all members.
    async fn lead(&self, led: &Led, members: &[MemberSubscription]) -> Vec<SyncGroupRequestAssignment> {
        self.config.assignor.prepare().await;
        let assigned = self.config.assignor.assign(&led.partitions, members);
        let bytes = |(id, assignment): (&String, &Assignment)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(id))
                .with_assignment(protocol::encode_assignment(assignment))
        };
        assigned.iter().map(bytes).collect()
    }

    /// For how long after a heartbeat others are given nothing of this member's: until its session ends, or a rebalance
    /// that began right after it went on without this member.
    fn term(&self) -> Duration {
        self.config.session_timeout.min(self.config.rebalance_timeout)
    }
}

pub(super) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
