//! The task behind a member of the consumer protocol (KIP-848): heartbeats, and what they lead to.
//!
//! What is to be done is decided in `consumer_protocol/member.rs`; here it is carried out. Dropping the `Seat` ends
//! the task; the coordinator then waits for the end of the session.

mod beat;
pub(super) mod member;
#[cfg(test)]
mod simulation;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use headwater_model::TopicPartition;
use headwater_wire::ErrorCode;
use headwater_wire::messages::{ConsumerGroupHeartbeatRequestData, ConsumerGroupHeartbeatResponseData};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::membership::{Assigned, News};
use super::positions::{UNKNOWN_PAUSE, may_heal, note, positions};
use super::seat::{Post, Seat, Standing};
use super::{GroupConfig, Lease, Remote};
use crate::admin::text;
use crate::assignor::Assignment;
use crate::cluster::{CoordinatorOf, Lane};
use crate::{Client, ClientError, Position};
use member::{Act, Answer, Member, Places, TopicId};

/// The member epoch with which a member leaves for good, and that with which a static one leaves to come back.
pub(super) const LEAVE: i32 = -1;
const LEAVE_STATIC: i32 = -2;

pub(super) fn start(
    client: Client,
    config: GroupConfig,
    remote: Remote,
    manage_positions: Arc<AtomicBool>,
    lease: Lease,
) -> Seat {
    let member_id = random_id();
    let task = {
        let (client, config, member_id) = (client.clone(), config.clone(), member_id.clone());
        move |post: Post| {
            let Post { lane, news, released, standing, hurry } = post;
            let task = Task {
                client,
                config,
                remote,
                member_id,
                lane,
                manage_positions,
                news,
                released,
                standing,
                hurry,
                begun: Instant::now(),
                member: Member::new(Duration::ZERO),
                jobs: JoinSet::new(),
            };
            task.run()
        }
    };
    Seat::new(client, config, member_id, lease, task)
}

/// A static member keeps its partitions for who comes with its instance id before the session ends.
pub(super) async fn leave(seat: Seat) -> Result<(), ClientError> {
    seat.end();
    let group = &seat.config.group_id;
    let epoch = if seat.config.instance_id.is_some() { LEAVE_STATIC } else { LEAVE };
    let request = ConsumerGroupHeartbeatRequestData::default()
        .with_group_id(text(group))
        .with_member_id(text(&seat.member_id))
        .with_instance_id(seat.config.instance_id.as_deref().map(text))
        .with_member_epoch(epoch);
    let check = |answer: &ConsumerGroupHeartbeatResponseData| {
        ClientError::check(answer.error_code, answer.error_message.as_ref(), || {
            format!("leave group {group}")
        })
    };
    let timeout = seat.client.request_timeout();
    let left =
        seat.client.call_coordinator(seat.lane, CoordinatorOf::Group, group, &request, timeout, check).await;
    match left {
        // Whoever is not known has left already, or never came.
        Err(error) if is_out(&error) => Ok(()),
        left => left.map(drop),
    }
}

pub(super) fn is_out(error: &ClientError) -> bool {
    matches!(
        error.code(),
        Some(ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId | ErrorCode::GroupIdNotFound)
    )
}

/// As Kafka's own ids are written; nobody else has it (KIP-1082).
pub(super) fn random_id() -> String {
    let [a, b] = [rand::random::<u64>(), rand::random::<u64>()];
    headwater_wire::KafkaUuid::from_parts(a, b).to_string()
}

struct Task {
    client: Client,
    config: GroupConfig,
    remote: Remote,
    member_id: String,
    lane: Lane,
    manage_positions: Arc<AtomicBool>,
    news: mpsc::UnboundedSender<News>,
    released: mpsc::UnboundedReceiver<()>,
    standing: watch::Sender<Standing>,
    hurry: Arc<Notify>,
    begun: Instant,
    member: Member,
    jobs: JoinSet<Done>,
}

/// What was under way has come to an end.
enum Done {
    Beat(Result<Answer, ClientError>),
    Names(Result<BTreeMap<TopicId, String>, ClientError>),
    Positions(u64, Result<Vec<(TopicPartition, Position)>, ClientError>),
}

impl Task {
    async fn run(mut self) {
        if let Err(error) = self.until_failure().await {
            // Nobody listens when the consumer is gone, and then nobody needs to.
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

    fn start(&mut self, act: Act) {
        match act {
            Act::Beat(beat) => {
                let request = beat::request(&self.config, &self.remote, &self.member_id, &beat);
                let heartbeat = Heartbeat {
                    client: self.client.clone(),
                    group: self.config.group_id.clone(),
                    lane: self.lane,
                    timeout: self.member.beat_patience().min(self.client.request_timeout()),
                };
                self.jobs.spawn(async move { Done::Beat(heartbeat.send(request).await) });
            }
            Act::Look(ids) => {
                let client = self.client.clone();
                self.jobs.spawn(async move { Done::Names(names(&client, ids).await) });
            }
            Act::Take { round, places } => self.find_positions(round, &places, Duration::ZERO),
            Act::Revoke { places, lost } => {
                if lost {
                    self.standing.send_modify(|standing| standing.is_member = false);
                }
                let partitions = self.named(&places);
                let _ = self.news.send(News::Revoked { partitions, lost });
            }
        }
    }

    fn find_positions(&mut self, round: u64, places: &Places, after: Duration) {
        let (client, config) = (self.client.clone(), self.config.clone());
        let managed = self.manage_positions.load(Ordering::Relaxed);
        let at = if managed { self.named(places) } else { Vec::new() };
        self.jobs.spawn(async move {
            tokio::time::sleep(after).await;
            Done::Positions(round, positions(&client, &config, &at).await)
        });
    }

    fn named(&self, places: &Places) -> Vec<TopicPartition> {
        let mut named: Vec<_> = places.iter().filter_map(|place| self.member.named(place)).collect();
        named.sort();
        named
    }

    fn accept(&mut self, done: Done) -> Result<(), ClientError> {
        let (now, jitter) = (self.now(), rand::random_range(0.0..1.0));
        match done {
            Done::Beat(Ok(answer)) => {
                self.member.answered(answer, now);
                let epoch = Some(self.member.epoch());
                self.standing.send_if_modified(|standing| {
                    let joined = Standing { epoch, is_member: true };
                    std::mem::replace(standing, joined.clone()) != joined
                });
            }
            Done::Beat(Err(error)) => self.failed(error, now, jitter)?,
            Done::Names(Ok(names)) => self.member.resolved(names, now, jitter),
            Done::Names(Err(error)) if error.is_retriable() => {
                self.member.resolved(BTreeMap::new(), now, jitter);
            }
            Done::Names(Err(error)) => return Err(error),
            Done::Positions(round, Err(error)) if may_heal(&error) => {
                note(&self.config, &error);
                if let Some(places) = self.member.still_taking(round).cloned() {
                    self.find_positions(round, &places, UNKNOWN_PAUSE);
                }
            }
            Done::Positions(round, positions) => {
                let Some(handed) = self.member.taken(round, now) else { return Ok(()) };
                let new = self.named(&handed.new);
                let mut positions = positions?;
                positions.retain(|(at, _)| new.contains(at));
                let partitions = self.named(&handed.all);
                let _ = self.news.send(News::Assigned(Assigned {
                    generation: self.member.epoch(),
                    member_id: self.member_id.clone(),
                    assignment: Assignment { partitions, user_data: None },
                    positions,
                }));
            }
        }
        Ok(())
    }

    fn failed(&mut self, error: ClientError, now: Duration, jitter: f64) -> Result<(), ClientError> {
        let group = &self.config.group_id;
        if error.is_retriable() && error.code() != Some(ErrorCode::CoordinatorLoadInProgress) {
            self.client.forget_coordinator(CoordinatorOf::Group, group);
        }
        tracing::debug!(group, %error, "heartbeat failed");
        match self.member.failed(&error, now, jitter) {
            true => Ok(()),
            false if error.is_retriable() => Err(ClientError::GaveUp {
                what: format!("heartbeat in group {group}"),
                after: self.member.silence(now),
                last: Arc::new(error),
            }),
            false => Err(beat::explained(error, &self.remote)),
        }
    }
}

pub(super) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn names(client: &Client, ids: BTreeSet<TopicId>) -> Result<BTreeMap<TopicId, String>, ClientError> {
    let ids: Vec<_> = ids.into_iter().map(beat::uuid).collect();
    let names = client.topic_names(&ids).await?;
    Ok(names.into_iter().map(|(id, name)| (id.to_bytes(), name)).collect())
}

struct Heartbeat {
    client: Client,
    group: String,
    lane: Lane,
    timeout: Duration,
}

impl Heartbeat {
    async fn send(self, request: ConsumerGroupHeartbeatRequestData) -> Result<Answer, ClientError> {
        let address = self.client.coordinator(CoordinatorOf::Group, &self.group).await?;
        let connection = self.client.connection(self.lane, &address).await?;
        beat::answer(&self.group, connection.call(&request, self.timeout).await?)
    }
}
