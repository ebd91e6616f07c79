//! The task that takes batches to their leaders.
//!
//! One loop owns the connections: it starts requests in order, at most five a broker, and lets their
//! answers come back as jobs. Whatever must be looked up or waited for is a job too, so that a broker
//! that does not answer holds up nobody else's batches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use headwater_model::TopicPartition;
use headwater_wire::ErrorCode;
use headwater_wire::messages::ProduceResponseData;
use headwater_wire::messages::produce_response::PartitionProduceResponse;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::queue::{Batch, Identity, Taken};
use super::{ProducerConfig, Shared, millis, request};
use crate::cluster::{Lane, Waiting};
use crate::connection::Connection;
use crate::transaction::Protocol;
use crate::{Client, ClientError};

const REQUESTS_IN_FLIGHT: usize = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often it is asked whether topics have more partitions by now: Kafka's metadata.max.age.ms.
const METADATA_AGE: Duration = Duration::from_secs(300);
/// How often batches that cannot be sent are looked at.
const EXPIRY: Duration = Duration::from_millis(500);

pub(super) struct Sender {
    client: Client,
    config: ProducerConfig,
    shared: Arc<Shared>,
    lane: Lane,
    control: Lane,
    links: HashMap<String, Link>,
    jobs: JoinSet<Done>,
    looking: bool,
    renewing: bool,
    /// Leaders are looked up again no earlier than this.
    look_at: Instant,
    look_pause: Duration,
    /// Then what is known of topics is old.
    old_at: Instant,
    renew_at: Instant,
    /// While there is something in the way.
    waiting: Option<Waiting>,
}

/// A broker as the sender sees it.
#[derive(Default)]
struct Link {
    connection: Option<Arc<Connection>>,
    connecting: bool,
    in_flight: usize,
    pause: Duration,
    retry_at: Option<Instant>,
}

enum Done {
    Connected(String, Result<Arc<Connection>, ClientError>),
    Answered(String, Vec<Batch>, Result<ProduceResponseData, ClientError>),
    Joined(Vec<(Arc<str>, i32)>, Result<(), ClientError>),
    Renewed(Result<Identity, ClientError>),
    Looked(Option<ClientError>),
}

impl Sender {
    pub(super) fn new(client: Client, config: ProducerConfig, shared: Arc<Shared>, control: Lane) -> Self {
        let now = Instant::now();
        Self {
            lane: client.new_lane(),
            client,
            config,
            shared,
            control,
            links: HashMap::new(),
            jobs: JoinSet::new(),
            looking: false,
            renewing: false,
            look_at: now,
            look_pause: FIRST_PAUSE,
            old_at: now + METADATA_AGE,
            renew_at: now,
            waiting: None,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let next = self.round();
            if self.is_over() {
                break;
            }
            tokio::select! {
                () = self.shared.wake.notified() => {}
                Some(done) = self.jobs.join_next() => match done {
                    Ok(done) => self.done(done),
                    Err(error) => tracing::error!(%error, "a job of the producer ended early"),
                },
                () = tokio::time::sleep_until(next) => {}
            }
            while let Some(Ok(done)) = self.jobs.try_join_next() {
                self.done(done);
            }
        }
        self.client.close_lane(self.lane);
    }

    /// All handles are gone, and nothing is left that could still be delivered.
    fn is_over(&self) -> bool {
        let state = self.shared.lock();
        state.closed && (state.transaction.is_transactional() || state.outstanding().is_empty())
    }

    /// Starts everything that can be started; returns when to look again at the latest.
    fn round(&mut self) -> Instant {
        let now = Instant::now();
        let mut wanted = Vec::new();
        let (mut round, joining, renew, expired) = {
            let mut state = self.shared.lock();
            let expired = state.expire(now);
            let joining = state.transaction.ask();
            let links = &self.links;
            let leader = |topic: &str, partition: i32| self.client.cached_leader(topic, partition);
            let admits = |address: &str| {
                let admits = links.get(address).is_some_and(Link::admits);
                if !admits {
                    wanted.push(address.to_owned());
                }
                admits
            };
            let round = state.take(now, leader, admits);
            let identity = state.identity.filter(|_| state.renew && state.in_flight() == 0);
            (round, (joining, state.identity), identity, expired)
        };
        if expired {
            // Of a partition without a leader nothing is answered that would tell.
            self.announce();
        }
        let mut next = round.next.unwrap_or(now + EXPIRY).min(now + EXPIRY);
        if let (joining, Some(identity)) = joining
            && !joining.is_empty()
        {
            self.join(joining, identity);
        }
        if renew.is_some() && !self.renewing {
            next = next.min(self.renew(now));
        }
        if round.leaderless.is_empty() {
            self.look_pause = FIRST_PAUSE;
        }
        if now >= self.old_at {
            round.leaderless.extend(self.shared.lock().topics());
        }
        if !round.leaderless.is_empty() && !self.looking {
            next = next.min(self.look(round.leaderless, now));
        }
        for (address, taken) in round.taken {
            // There may be more of the same partitions.
            next = now;
            self.send(&address, taken, round.protocol);
        }
        for address in wanted {
            if let Some(at) = self.connect(address, now) {
                next = next.min(at);
            }
        }
        next
    }

    fn join(&mut self, partitions: Vec<(Arc<str>, i32)>, identity: Identity) {
        let (client, lane) = (self.client.clone(), self.control);
        let id = self.config.transactional_id.clone().unwrap_or_default();
        self.jobs.spawn(async move {
            let outcome = client.add_partitions(lane, &id, identity, &partitions).await;
            Done::Joined(partitions, outcome)
        });
    }

    /// A new producer id, once nothing of the old one is on its way.
    fn renew(&mut self, now: Instant) -> Instant {
        if self.renew_at > now {
            return self.renew_at;
        }
        self.renewing = true;
        let (client, lane, timeout) =
            (self.client.clone(), self.control, millis(self.config.transaction_timeout));
        self.jobs
            .spawn(async move { Done::Renewed(client.init_producer_id(lane, None, timeout, None).await) });
        now + EXPIRY
    }

    fn look(&mut self, mut topics: Vec<String>, now: Instant) -> Instant {
        if self.look_at > now {
            return self.look_at;
        }
        topics.sort();
        topics.dedup();
        self.looking = true;
        if now >= self.old_at {
            self.old_at = now + METADATA_AGE;
        }
        let client = self.client.clone();
        self.jobs.spawn(async move {
            let known = client.refresh(Some(&topics)).await;
            if let Err(error) = &known {
                tracing::warn!(%error, ?topics, "cannot learn the leaders to produce to; trying again");
            }
            Done::Looked(known.err())
        });
        now + EXPIRY
    }

    /// Connects unless that is under way; returns when to try, if that is later.
    fn connect(&mut self, address: String, now: Instant) -> Option<Instant> {
        let link = self.links.entry(address.clone()).or_default();
        if link.connecting || link.is_connected() {
            return None;
        }
        if let Some(at) = link.retry_at.filter(|at| *at > now) {
            return Some(at);
        }
        link.connecting = true;
        let (client, lane) = (self.client.clone(), self.lane);
        self.jobs.spawn(async move {
            let connected = client.connection(lane, &address).await;
            Done::Connected(address, connected)
        });
        None
    }

    fn send(&mut self, address: &str, taken: Vec<Taken>, protocol: Protocol) {
        let transactional = self.config.transactional_id.is_some();
        let mut batches = Vec::with_capacity(taken.len());
        for one in taken {
            let (batch, builder, encoded) = one.encode(self.config.compression, transactional);
            let mut state = self.shared.lock();
            builder.into_iter().for_each(|builder| state.recycle(builder));
            match encoded {
                Ok(()) => batches.push(batch),
                Err(error) => {
                    state.landed(&batch);
                    state.fail(batch, error);
                }
            }
        }
        if batches.is_empty() {
            return;
        }
        let timeout = self.client.request_timeout();
        let id = self.config.transactional_id.as_deref();
        let request = request::of(&batches, id, millis(timeout));
        let link = self.links.entry(address.to_owned()).or_default();
        let started = match &link.connection {
            Some(connection) => request::start(connection, request, protocol, timeout),
            None => {
                Err(ClientError::Disconnected { address: address.to_owned(), reason: "not connected".into() })
            }
        };
        match started {
            Ok(answer) => {
                link.in_flight += 1;
                let address = address.to_owned();
                self.jobs.spawn(async move { Done::Answered(address, batches, answer.await) });
            }
            Err(error) => self.answered(address, batches, Err(error)),
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Connected(address, outcome) => self.connected(address, outcome),
            Done::Answered(address, batches, outcome) => {
                if let Some(link) = self.links.get_mut(&address) {
                    link.in_flight = link.in_flight.saturating_sub(1);
                }
                self.answered(&address, batches, outcome);
            }
            Done::Joined(partitions, outcome) => {
                let mut state = self.shared.lock();
                state.transaction.asking = false;
                match outcome {
                    Ok(()) => state.joined(&partitions),
                    Err(error) => {
                        state.transaction.fail(error, false);
                        state.drop_waiting();
                    }
                }
                drop(state);
                self.announce();
            }
            Done::Renewed(outcome) => self.renewed(outcome),
            // Whether it helped shows in the next round; if it did not, the one after waits longer.
            Done::Looked(failure) => {
                self.looking = false;
                self.hindered(failure);
                self.shared.lock().grow(|topic| self.client.cached_partitions(topic));
                self.look_at = Instant::now() + self.look_pause;
                self.look_pause = (self.look_pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    fn connected(&mut self, address: String, outcome: Result<Arc<Connection>, ClientError>) {
        let link = self.links.entry(address.clone()).or_default();
        link.connecting = false;
        match outcome {
            Ok(connection) => {
                link.connection = Some(connection);
                (link.pause, link.retry_at) = (Duration::ZERO, None);
            }
            Err(error) => {
                link.back_off();
                tracing::warn!(%address, %error, "cannot connect to produce; trying again");
                self.hindered(Some(error));
                // Its partitions may have moved to another broker.
                self.client.forget_leader(&address);
            }
        }
    }

    fn renewed(&mut self, outcome: Result<Identity, ClientError>) {
        self.renewing = false;
        match outcome {
            Ok(identity) => {
                self.shared.lock().renewed(identity);
                // What may have been written has failed.
                self.announce();
            }
            Err(error) => {
                tracing::warn!(%error, "cannot get a new producer id; trying again");
                self.renew_at = Instant::now() + LONGEST_PAUSE;
            }
        }
    }

    fn answered(
        &mut self,
        address: &str,
        batches: Vec<Batch>,
        outcome: Result<ProduceResponseData, ClientError>,
    ) {
        let answer = match outcome {
            Ok(answer) => answer,
            Err(error) => {
                self.lost(address);
                let mut state = self.shared.lock();
                for mut batch in batches {
                    self.client.forget_topic(&batch.topic);
                    state.landed(&batch);
                    batch.doubtful = true;
                    match error.is_retriable() {
                        true => state.repeat(batch, error.clone()),
                        false => state.fail(batch, error.clone()),
                    }
                }
                drop(state);
                return self.announce();
            }
        };
        answer.node_endpoints.iter().for_each(|node| {
            self.client.learn_broker(node.node_id, &node.host, node.port);
        });
        let mut results: HashMap<TopicPartition, PartitionProduceResponse> = HashMap::new();
        for topic in answer.responses {
            for result in topic.partition_responses {
                results.insert(TopicPartition::new(topic.name.as_str(), result.index), result);
            }
        }
        for batch in batches {
            let at = TopicPartition::new(&*batch.topic, batch.partition);
            match results.remove(&at) {
                Some(result) => self.resolve(batch, &at, result),
                None => {
                    let reason = format!("the answer to a produce request does not mention {at}");
                    let error = ClientError::Malformed { address: address.to_owned(), reason };
                    let mut state = self.shared.lock();
                    state.landed(&batch);
                    state.fail(batch, error);
                }
            }
        }
        self.announce();
    }

    /// Once for all requests of a connection; a newer one stays.
    fn lost(&mut self, address: &str) {
        if let Some(link) = self.links.get_mut(address)
            && !link.is_connected()
            && link.connection.take().is_some()
        {
            link.back_off();
        }
    }

    fn resolve(&self, mut batch: Batch, at: &TopicPartition, result: PartitionProduceResponse) {
        let mut state = self.shared.lock();
        let after_unresolved = state.landed(&batch);
        let code = ErrorCode::from(result.error_code);
        let message = result.error_message.as_ref().map(|message| message.as_str());
        let error = || ClientError::kafka(format!("produce to {at}"), result.error_code, message);
        let transactional = self.config.transactional_id.is_some();
        match code {
            ErrorCode::None => state.acknowledge(batch, result.base_offset),
            // Written before, by a request whose answer was lost.
            ErrorCode::DuplicateSequenceNumber => state.acknowledge(batch, -1),
            ErrorCode::OutOfOrderSequenceNumber if after_unresolved => state.repeat(batch, error()),
            // The end of the last transaction is being written, and so nothing of this one yet.
            ErrorCode::ConcurrentTransactions => state.repeat(batch, error()),
            ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::UnknownProducerId
            | ErrorCode::InvalidProducerEpoch
                if batch.stamp.is_some() && !transactional =>
            {
                tracing::warn!(%at, ?code, "the broker does not know this producer's sequence; beginning a new one");
                state.renew = true;
                state.repeat(batch, error());
            }
            ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge if batch.count > 1 => {
                state.split(batch, error())
            }
            // The broker does not say which: smaller batches tell.
            ErrorCode::InvalidRecord | ErrorCode::InvalidTimestamp
                if batch.count > 1 && result.record_errors.is_empty() =>
            {
                state.split(batch, error());
            }
            ErrorCode::MessageTooLarge
            | ErrorCode::RecordListTooLarge
            | ErrorCode::InvalidRecord
            | ErrorCode::InvalidTimestamp => {
                let wrong = result.record_errors.iter().map(|wrong| wrong.batch_index).collect();
                let error = batch.refused(code, error(), wrong);
                state.fail(batch, error);
            }
            _ => {
                let error = error();
                if error.is_retriable() {
                    tracing::debug!(%at, %error, "produce again");
                    batch.doubtful |= may_be_written(code);
                    let leader = &result.current_leader;
                    let (node, epoch) = (leader.leader_id, leader.leader_epoch);
                    if !self.client.leader_moved(&at.topic, at.partition, node, epoch) {
                        self.client.forget_topic(&at.topic);
                    }
                    state.repeat(batch, error);
                } else {
                    state.fail(batch, error);
                }
            }
        }
    }

    /// Somebody may wait for space, or for the last answer; or wants to know what is in the way.
    fn announce(&mut self) {
        self.shared.space.notify_waiters();
        self.shared.settled.notify_waiters();
        let Self { shared, waiting, client, .. } = self;
        match shared.lock().in_the_way() {
            None => *waiting = None,
            Some(obstacle) => {
                let waiting = waiting.get_or_insert_with(|| client.waiting("produce".to_owned()));
                waiting.refused(obstacle);
            }
        }
    }

    /// Nothing can be sent, to one broker or to any.
    fn hindered(&mut self, by: Option<ClientError>) {
        let Some(error) = by else { return };
        self.shared.lock().obstacle = Some(error);
        self.announce();
    }
}

/// Whether a broker that answers so may have appended the batch before: it says that it leads no more, or that the
/// other replicas are late, also while it waits for them.
fn may_be_written(code: ErrorCode) -> bool {
    !matches!(code, ErrorCode::NotEnoughReplicas | ErrorCode::OutOfOrderSequenceNumber)
}

impl Link {
    fn is_connected(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.is_alive())
    }

    fn admits(&self) -> bool {
        self.is_connected() && self.in_flight < REQUESTS_IN_FLIGHT
    }

    fn back_off(&mut self) {
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.retry_at = Some(Instant::now() + self.pause);
    }
}
