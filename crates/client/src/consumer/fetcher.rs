//! The background task that keeps a consumer's buffers filled.
//!
//! Each broker has at most two fetches in flight, on connections of their own ([`super::lanes`] says which); no partition is
//! in both.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use headwater_model::TopicPartition;
use headwater_wire::ErrorCode;
use headwater_wire::messages::fetch_request::{FetchPartition, FetchRequestData, FetchTopic};
use headwater_wire::messages::fetch_response::{FetchResponseData, PartitionData};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::batches::{Answered, runs};
use super::lanes::{Kind, Lanes};
use super::state::{Shared, Wanted};
use super::{AutoOffsetReset, Isolation, Position};
use crate::admin::{OffsetSpec, by_topic, text};
use crate::cluster::Lane;
use crate::{Client, ClientError};

/// How long a fetch waits for data where it may hold up partitions of which there is more.
const SHORT_WAIT: Duration = Duration::from_millis(20);

pub(super) struct Fetcher {
    client: Client,
    shared: Arc<Shared>,
    lanes: [Lane; 2],
    /// By broker.
    flying: HashMap<String, Lanes>,
    jobs: JoinSet<Done>,
    /// Leaders are being looked up.
    looking: bool,
}

enum Done {
    /// By which lane of which broker, and what is somewhere else than in its leader's log.
    Fetched(String, usize, Vec<Wanted>),
    Looked,
    Validated,
    Reset,
}

impl Fetcher {
    pub(super) fn new(client: Client, shared: Arc<Shared>, lanes: [Lane; 2]) -> Self {
        Self { client, shared, lanes, flying: HashMap::new(), jobs: JoinSet::new(), looking: false }
    }

    pub(super) async fn run(mut self) {
        loop {
            let retry_at = self.start_jobs();
            tokio::select! {
                () = self.shared.work.notified() => {}
                Some(done) = self.jobs.join_next() => match done {
                    Ok(Done::Fetched(address, lane, strayed)) => {
                        self.flying.entry(address).or_default().landed(lane);
                        self.find_offsets(strayed);
                    }
                    Ok(Done::Looked) => self.looking = false,
                    Ok(Done::Validated | Done::Reset) => {}
                    // A fetch that panicked has left its partitions in flight: say so rather than hang.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                () = sleep_until(retry_at) => {}
            }
        }
    }

    /// Starts what can be started; returns when to look again at the latest.
    fn start_jobs(&mut self) -> Option<Instant> {
        let limit = usize::try_from(self.shared.config.max_partition_bytes).unwrap_or(0).max(1);
        let mut state = self.shared.lock();
        let demand = state.demand(limit);
        let mut by_broker: HashMap<String, Vec<Wanted>> = HashMap::new();
        let mut unvalidated: HashMap<String, Vec<Wanted>> = HashMap::new();
        let mut unknown = Vec::new();
        for mut wanted in demand.wanted {
            wanted.leader_epoch = self.client.leader_epoch(&wanted.at.topic, wanted.at.partition);
            match self.client.cached_leader(&wanted.at.topic, wanted.at.partition) {
                Some(address) if wanted.is_unvalidated() => {
                    unvalidated.entry(address).or_default().push(wanted);
                }
                Some(address) => by_broker.entry(address).or_default().push(wanted),
                None => unknown.push(wanted),
            }
        }
        for (address, part) in by_broker {
            let (mut ends, mut behind): (Vec<_>, Vec<_>) = part.into_iter().partition(|wanted| wanted.at_end);
            let lanes = self.flying.entry(address.clone()).or_default();
            for (lane, kind) in lanes.start(!behind.is_empty(), !ends.is_empty()) {
                let mut part = Vec::new();
                if matches!(kind, Kind::Behind | Kind::All) {
                    part.append(&mut behind);
                }
                if kind != Kind::Behind {
                    part.append(&mut ends);
                }
                part.iter().for_each(|wanted| {
                    state.begin(wanted);
                    state.validated(wanted);
                });
                let longest = self.shared.config.max_wait;
                let wait = if kind == Kind::Ends { longest } else { longest.min(SHORT_WAIT) };
                let flight = Flight { client: self.client.clone(), shared: Arc::clone(&self.shared), part };
                let (on, address) = (self.lanes[lane], address.clone());
                self.jobs.spawn(async move {
                    let strayed = flight.run(on, &address, wait).await;
                    Done::Fetched(address, lane, strayed)
                });
            }
        }
        for (address, part) in unvalidated {
            part.iter().for_each(|wanted| state.begin(wanted));
            let flight = Flight { client: self.client.clone(), shared: Arc::clone(&self.shared), part };
            self.jobs.spawn(async move {
                flight.validate(&address).await;
                Done::Validated
            });
        }
        if !unknown.is_empty() && !self.looking {
            self.looking = true;
            unknown.iter().for_each(|wanted| state.begin(wanted));
            let flight =
                Flight { client: self.client.clone(), shared: Arc::clone(&self.shared), part: unknown };
            self.jobs.spawn(async move {
                flight.find_leaders().await;
                Done::Looked
            });
        }
        demand.retry_at
    }

    /// Each on its own: a partition that has no leader now would hold up the others.
    fn find_offsets(&mut self, strayed: Vec<Wanted>) {
        for wanted in strayed {
            let (client, shared) = (self.client.clone(), Arc::clone(&self.shared));
            self.jobs.spawn(async move {
                let flight = Flight { client, shared, part: vec![wanted] };
                flight.find_offsets().await;
                Done::Reset
            });
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// One request, and the partitions that wait for it.
pub(super) struct Flight {
    pub(super) client: Client,
    pub(super) shared: Arc<Shared>,
    pub(super) part: Vec<Wanted>,
}

impl Flight {
    /// Returns the partitions whose offset is out of range, which stay in flight.
    async fn run(mut self, lane: Lane, address: &str, wait: Duration) -> Vec<Wanted> {
        let strayed = match self.fetch(lane, address, wait).await {
            Ok(answer) => self.accept(address, answer),
            Err(error) => {
                self.all_failed(&error);
                HashSet::new()
            }
        };
        let all = std::mem::take(&mut self.part);
        let (strayed, rest) = all.into_iter().partition(|wanted| strayed.contains(&wanted.at));
        self.part = rest;
        self.finish();
        strayed
    }

    async fn find_offsets(&self) {
        for wanted in &self.part {
            if let Err(error) = self.reset(wanted).await {
                self.failed(wanted, error);
            }
        }
        self.finish();
    }

    async fn find_leaders(&self) {
        let mut topics: Vec<String> = self.part.iter().map(|wanted| wanted.at.topic.clone()).collect();
        topics.sort();
        topics.dedup();
        let outcome = self.client.refresh(Some(&topics)).await;
        let mut state = self.shared.lock();
        for wanted in &self.part {
            if self.client.cached_leader(&wanted.at.topic, wanted.at.partition).is_some() {
                continue;
            }
            let is_there = |count: i32| wanted.at.partition < count;
            let error = match &outcome {
                Err(error) => error.clone(),
                // Its brokers are away, which passes.
                Ok(_) if self.client.cached_partitions(&wanted.at.topic).is_some_and(is_there) => {
                    let what = format!("find the leader of {}", wanted.at);
                    ClientError::kafka(what, ErrorCode::LeaderNotAvailable.code(), None)
                }
                Ok(_) => ClientError::UnknownTopic(wanted.at.topic.clone()),
            };
            state.trouble(wanted, &error);
        }
        drop(state);
        self.finish();
    }

    pub(super) fn finish(&self) {
        let mut state = self.shared.lock();
        self.part.iter().for_each(|wanted| state.finish(wanted));
        drop(state);
        self.shared.ready.notify_one();
    }

    async fn fetch(
        &self,
        lane: Lane,
        address: &str,
        wait: Duration,
    ) -> Result<FetchResponseData, ClientError> {
        let config = &self.shared.config;
        let connection = self.client.connection(lane, address).await?;
        let wanted = self.part.iter().map(|wanted| (&wanted.at, wanted));
        let topics = by_topic(wanted).into_iter().map(|(name, list)| {
            let partition = |(index, wanted): (i32, &Wanted)| {
                FetchPartition::default()
                    .with_partition(index)
                    // A leader of before, which does not know yet that it is none, refuses this one.
                    .with_current_leader_epoch(wanted.leader_epoch)
                    // For replicas only: of a compacted log it contradicts what is right.
                    .with_last_fetched_epoch(-1)
                    .with_fetch_offset(wanted.from.offset)
                    .with_partition_max_bytes(config.max_partition_bytes)
            };
            FetchTopic::default()
                .with_topic(text(name))
                .with_partitions(list.into_iter().map(partition).collect())
        });
        let request = FetchRequestData::default()
            .with_max_wait_ms(i32::try_from(wait.as_millis()).unwrap_or(i32::MAX))
            .with_min_bytes(config.min_bytes)
            .with_max_bytes(config.max_bytes)
            .with_isolation_level(config.isolation.level())
            .with_topics(topics.collect());
        let answer = connection.call(&request, self.client.request_timeout() + wait).await?;
        ClientError::check(answer.error_code, None, || format!("fetch from {address}"))?;
        Ok(answer)
    }

    pub(super) fn all_failed(&self, error: &ClientError) {
        self.part.iter().for_each(|wanted| self.failed(wanted, error.clone()));
    }

    /// There may be thousands, and an answer is about each of them.
    pub(super) fn by_place(&self) -> HashMap<&TopicPartition, &Wanted> {
        self.part.iter().map(|wanted| (&wanted.at, wanted)).collect()
    }

    /// The partitions whose offset is out of range.
    fn accept(&self, address: &str, answer: FetchResponseData) -> HashSet<TopicPartition> {
        let mut strayed = HashSet::new();
        let asked = self.by_place();
        for topic in answer.responses {
            for data in topic.partitions {
                let at = TopicPartition::new(topic.topic.as_str(), data.partition_index);
                let Some(wanted) = asked.get(&at).copied() else { continue };
                match ErrorCode::from(data.error_code) {
                    ErrorCode::None => {
                        if let Err(error) = self.decode(wanted, data) {
                            self.failed(wanted, ClientError::Batch(Arc::new(error)));
                        }
                    }
                    ErrorCode::OffsetOutOfRange => drop(strayed.insert(at)),
                    code => {
                        let what = format!("fetch {at} from {address}");
                        self.failed(wanted, ClientError::kafka(what, code.code(), None));
                    }
                }
            }
        }
        strayed
    }

    /// Tries again when that may help; the leader may be another one by now.
    pub(super) fn failed(&self, wanted: &Wanted, error: ClientError) {
        let mut state = self.shared.lock();
        match error.is_retriable() {
            true => {
                self.client.forget_topic(&wanted.at.topic);
                state.trouble(wanted, &error);
            }
            false => state.fail(wanted, error),
        }
    }

    fn decode(&self, wanted: &Wanted, data: PartitionData) -> Result<(), headwater_wire::BatchError> {
        let aborted = (self.shared.config.isolation == Isolation::Committed).then(|| {
            let listed = data.aborted_transactions.unwrap_or_default();
            listed.into_iter().map(|aborted| (aborted.producer_id, aborted.first_offset)).collect()
        });
        let end = match self.shared.config.isolation {
            Isolation::Committed => data.last_stable_offset,
            Isolation::Uncommitted => data.high_watermark,
        };
        let runs = runs(Answered {
            at: wanted.at.clone(),
            from: wanted.from.offset,
            records: data.records.unwrap_or_default(),
            aborted,
            high_watermark: data.high_watermark,
            last_stable_offset: data.last_stable_offset,
        })?;
        let mut state = self.shared.lock();
        state.healthy(wanted);
        state.fill(wanted, runs, end);
        Ok(())
    }

    pub(super) async fn reset(&self, wanted: &Wanted) -> Result<(), ClientError> {
        let spec = match self.shared.config.auto_offset_reset {
            AutoOffsetReset::Earliest => OffsetSpec::Earliest,
            AutoOffsetReset::Latest => OffsetSpec::Latest,
            AutoOffsetReset::Fail => {
                return Err(ClientError::OffsetOutOfRange {
                    at: wanted.at.clone(),
                    offset: wanted.from.offset,
                });
            }
        };
        let isolation = self.shared.config.isolation;
        let found = self.client.list_offsets(&[(wanted.at.clone(), spec)], isolation).await?;
        let offset = found.get(&wanted.at).copied().unwrap_or(0);
        tracing::warn!(at = %wanted.at, from = wanted.from.offset, to = offset, "offset out of range; going on elsewhere");
        self.shared.lock().reset(wanted, Position::from(offset));
        Ok(())
    }
}
