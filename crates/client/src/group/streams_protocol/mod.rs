//! The task behind a member of a streams group (KIP-1071): heartbeats, and what they lead to.
//!
//! What is to be done is decided in `consumer_protocol/member.rs`, where a place is a task in a role; here it is carried out.
//! Where tasks read from is their owner's business. Dropping the `Seat` ends the task; the coordinator then waits for
//! the end of the session.

mod application;
mod beat;
mod obstacle;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use headwater_wire::ErrorCode;
use headwater_wire::messages::{StreamsGroupHeartbeatRequestData, StreamsGroupHeartbeatResponseData};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::consumer_protocol::member::{Act, Beat, JOIN, Member, Places};
use super::consumer_protocol::{LEAVE, is_out, random_id, sleep_until};
use super::membership::News;
use super::seat::{Post, Seat, Standing};
use super::{GroupConfig, Lease};
use crate::admin::text;
use crate::cluster::{CoordinatorOf, Lane};
use crate::{Client, ClientError};
pub use application::{
    StreamsApplication, StreamsEndpoint, StreamsInternalTopic, StreamsSubtopology, StreamsTask, StreamsTasks,
};
use beat::Told;
use obstacle::Obstacle;

/// What a member does with a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Active,
    Standby,
    Warmup,
}

/// A subtopology in a role: with a partition, a task.
type Kind = (Role, i32);

/// Asks for the endpoints whatever they are.
const NO_ENDPOINTS: i32 = -1;
/// How soon a member asks again whose tasks are delayed.
const DELAYED: Duration = Duration::from_secs(1);
/// For how many intervals after a heartbeat a member is sure of its tasks. The broker does not tell how long sessions are; by
/// its defaults nine intervals.
const LEASE_INTERVALS: u32 = 3;

pub(super) fn start(
    client: Client,
    config: GroupConfig,
    application: Arc<StreamsApplication>,
    lease: Lease,
) -> Seat {
    let member_id = application.member_id.clone().unwrap_or_else(random_id);
    let task = {
        let (client, config, member_id) = (client.clone(), config.clone(), member_id.clone());
        let lease = lease.clone();
        move |post: Post| {
            let Post { lane, news, released, standing, hurry } = post;
            let task = Task {
                client,
                config,
                application,
                member_id,
                lane,
                lease,
                news,
                released,
                standing,
                hurry,
                begun: Instant::now(),
                member: Member::new(Duration::ZERO),
                jobs: JoinSet::new(),
                obstacles: Vec::new(),
                obstacles_since: Instant::now(),
                asks_again: false,
                untold: false,
                endpoint_epoch: NO_ENDPOINTS,
            };
            task.run()
        }
    };
    Seat::new(client, config, member_id, lease, task)
}

pub(super) async fn leave(seat: Seat) -> Result<(), ClientError> {
    seat.end();
    leave_as(&seat.client, seat.lane, &seat.config.group_id, &seat.member_id).await
}

async fn leave_as(client: &Client, lane: Lane, group: &str, member_id: &str) -> Result<(), ClientError> {
    let request = StreamsGroupHeartbeatRequestData::default()
        .with_group_id(text(group))
        .with_member_id(text(member_id))
        .with_member_epoch(LEAVE);
    let check = |answer: &StreamsGroupHeartbeatResponseData| {
        ClientError::check(answer.error_code, answer.error_message.as_ref(), || {
            format!("leave group {group}")
        })
    };
    let timeout = client.request_timeout();
    match client.call_coordinator(lane, CoordinatorOf::Group, group, &request, timeout, check).await {
        // Whoever is not known has left already, or never came.
        Err(error) if is_out(&error) => Ok(()),
        left => left.map(drop),
    }
}

struct Task {
    client: Client,
    config: GroupConfig,
    application: Arc<StreamsApplication>,
    member_id: String,
    lane: Lane,
    lease: Lease,
    news: mpsc::UnboundedSender<News>,
    released: mpsc::UnboundedReceiver<()>,
    standing: watch::Sender<Standing>,
    hurry: Arc<Notify>,
    begun: Instant,
    member: Member<Kind>,
    jobs: JoinSet<Done>,
    /// What the last heartbeat was told to be in the way, and since when that is so.
    obstacles: Vec<Obstacle>,
    obstacles_since: Instant,
    /// A heartbeat follows sooner than the broker asks for.
    asks_again: bool,
    /// The caller does not know yet that it has nothing: there may be something in a moment.
    untold: bool,
    endpoint_epoch: i32,
}

/// What was under way has come to an end.
enum Done {
    Beat(std::time::Instant, Result<Told, ClientError>),
    Waited,
}

impl Task {
    async fn run(mut self) {
        if let Err(error) = self.until_failure().await {
            // Nobody listens when the consumer is gone, and then nobody needs to.
            self.lease.end();
            let _ = self.news.send(News::Failed(error));
        }
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    async fn until_failure(&mut self) -> Result<(), ClientError> {
        loop {
            while let Some(act) = self.member.next(self.now()) {
                self.start(act);
            }
            let wake_at = self.member.wake_at().map(|at| self.begun + at);
            tokio::select! {
                Some(done) = self.jobs.join_next() => match done {
                    Ok(done) => self.accept(done)?,
                    // A job that panicked would be waited for in vain.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                Some(()) = self.released.recv() => self.member.released(self.begun.elapsed()),
                () = self.hurry.notified() => self.member.hurry(self.begun.elapsed()),
                () = sleep_until(wake_at) => {}
            }
        }
    }

    fn start(&mut self, act: Act<Kind>) {
        match act {
            Act::Beat(beat) => self.beat(&beat),
            // Subtopologies need no names.
            Act::Look(kinds) => {
                let names = kinds.into_iter().map(|kind| (kind, String::new())).collect();
                self.member.resolved(names, self.now(), 0.0);
            }
            Act::Take { round, .. } => {
                if let Some(handed) = self.member.taken(round, self.now()) {
                    self.tell(&handed.all);
                }
            }
            Act::Revoke { places, lost } => {
                if lost {
                    self.lease.end();
                    self.standing.send_modify(|standing| standing.is_member = false);
                }
                let _ = self.news.send(News::TasksRevoked { tasks: tasks(&places), lost });
            }
        }
    }

    fn beat(&mut self, beat: &Beat<Kind>) {
        if beat.full {
            self.endpoint_epoch = NO_ENDPOINTS;
        }
        let known = self.endpoint_epoch;
        let request = beat::request(&self.config, &self.application, &self.member_id, beat, known);
        let heartbeat = Heartbeat {
            client: self.client.clone(),
            group: self.config.group_id.clone(),
            lane: self.lane,
            timeout: self.member.beat_patience().min(self.client.request_timeout()),
        };
        let sent = std::time::Instant::now();
        self.jobs.spawn(async move { Done::Beat(sent, heartbeat.send(request).await) });
    }

    /// Says what the member has. That it has nothing is not said while something is to come.
    fn tell(&mut self, all: &Places<Kind>) {
        self.untold = all.is_empty() && self.obstacles.iter().any(Obstacle::delays);
        if !self.untold {
            let _ = self.news.send(News::Tasks {
                epoch: self.member.epoch(),
                member_id: self.member_id.clone(),
                tasks: tasks(all),
            });
        }
    }

    fn accept(&mut self, done: Done) -> Result<(), ClientError> {
        let now = self.now();
        let (sent, told) = match done {
            Done::Waited => {
                self.asks_again = false;
                self.member.hurry(now);
                return Ok(());
            }
            Done::Beat(_, Err(error)) => return self.failed(error, now),
            Done::Beat(sent, Ok(told)) => (sent, told),
        };
        let Told { answer, obstacles, endpoint_epoch, endpoints } = told;
        self.meet(obstacles)?;
        let term = (answer.interval * LEASE_INTERVALS).min(self.config.rebalance_timeout);
        self.lease.renew(sent, term);
        self.endpoint_epoch = endpoint_epoch;
        if let Some(endpoints) = endpoints {
            let _ = self.news.send(News::Endpoints(endpoints));
        }
        self.member.answered(answer, now);
        let epoch = Some(self.member.epoch());
        self.standing.send_if_modified(|standing| {
            let joined = Standing { epoch, is_member: true };
            std::mem::replace(standing, joined.clone()) != joined
        });
        if self.untold {
            self.tell(&Places::new());
        }
        if self.obstacles.iter().any(Obstacle::delays) && !std::mem::replace(&mut self.asks_again, true) {
            self.jobs.spawn(async {
                tokio::time::sleep(DELAYED).await;
                Done::Waited
            });
        }
        Ok(())
    }

    /// Takes note of what is in the way.
    ///
    /// # Errors
    /// What does not go by itself.
    fn meet(&mut self, obstacles: Vec<Obstacle>) -> Result<(), ClientError> {
        let group = &self.config.group_id;
        if obstacles != self.obstacles {
            self.obstacles_since = Instant::now();
            for obstacle in &obstacles {
                let what = obstacle.described();
                match obstacle.delays() {
                    true => tracing::info!(group, what, "tasks are delayed"),
                    false => tracing::warn!(group, what, "something is wrong with the group"),
                }
            }
            self.obstacles = obstacles;
        }
        let since = self.obstacles_since.elapsed();
        match self.obstacles.iter().find_map(|obstacle| obstacle.error(group, since)) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn failed(&mut self, error: ClientError, now: Duration) -> Result<(), ClientError> {
        let group = &self.config.group_id;
        if error.is_retriable() && error.code() != Some(ErrorCode::CoordinatorLoadInProgress) {
            self.client.forget_coordinator(CoordinatorOf::Group, group);
        }
        tracing::debug!(group, %error, "heartbeat failed");
        match self.member.failed(&error, now, rand::random_range(0.0..1.0)) {
            true => Ok(()),
            false if error.is_retriable() => Err(ClientError::GaveUp {
                what: format!("heartbeat in group {group}"),
                after: self.member.silence(now),
                last: Arc::new(error),
            }),
            false => Err(beat::explained(group, error)),
        }
    }
}

fn tasks(places: &Places<Kind>) -> StreamsTasks {
    let of = |wanted: fn(Role) -> bool| {
        let found = places.iter().filter(|((role, _), _)| wanted(*role));
        let found: BTreeSet<StreamsTask> = found
            .map(|((_, subtopology), partition)| StreamsTask {
                subtopology: *subtopology,
                partition: *partition,
            })
            .collect();
        found.into_iter().collect()
    };
    StreamsTasks { active: of(|role| role == Role::Active), standby: of(|role| role != Role::Active) }
}

struct Heartbeat {
    client: Client,
    group: String,
    lane: Lane,
    timeout: Duration,
}

impl Heartbeat {
    async fn send(self, request: StreamsGroupHeartbeatRequestData) -> Result<Told, ClientError> {
        let joins = request.member_epoch == JOIN;
        let told = self.send_once(&request).await;
        // The broker may not let a member in that it still has: the one before this start, which was killed.
        let Err(error) = &told else { return told };
        if !joins || error.code() != Some(ErrorCode::FencedMemberEpoch) {
            return told;
        }
        tracing::info!(group = self.group, %error, "leaving in the name of the member before this start");
        leave_as(&self.client, self.lane, &self.group, request.member_id.as_str()).await?;
        self.send_once(&request).await
    }

    async fn send_once(&self, request: &StreamsGroupHeartbeatRequestData) -> Result<Told, ClientError> {
        let address = self.client.coordinator(CoordinatorOf::Group, &self.group).await?;
        let connection = self.client.connection(self.lane, &address).await?;
        beat::answer(&self.group, connection.call(request, self.timeout).await?)
    }
}
