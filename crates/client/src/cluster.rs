//! Brokers, leaders and coordinators: who must be asked, and what to do when that has changed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use headwater_wire::messages::{
    FindCoordinatorRequestData, MetadataRequestData, MetadataRequestTopic, MetadataResponseData,
};
use headwater_wire::{ErrorCode, KafkaString};
use rand::Rng;

use crate::ClientError;
use crate::call::Call;
use crate::connection::{Connection, Opening};
use crate::kinds::Catalog;
use crate::security::Security;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const BRIEF_PAUSE: Duration = Duration::from_millis(5);
/// How long something that may heal is tried before it becomes an error.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long a topic that does not exist is waited for: it may just have been created.
const TOPIC_PATIENCE: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where to connect, and as whom.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// `HOST:PORT`, several with commas between.
    pub bootstrap: String,
    pub client_id: String,
    pub request_timeout: Duration,
    /// TLS and SASL; neither unless set.
    pub security: Security,
}

impl ClientConfig {
    pub fn new(bootstrap: impl Into<String>, client_id: impl Into<String>) -> Self {
        Self {
            bootstrap: bootstrap.into(),
            client_id: client_id.into(),
            request_timeout: Duration::from_secs(30),
            security: Security::default(),
        }
    }

    #[must_use]
    pub fn security(mut self, security: Security) -> Self {
        self.security = security;
        self
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo {
    pub name: String,
    /// One of the broker's own.
    pub internal: bool,
    pub partitions: i32,
}

/// A connection of its own for each kind of work with each broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Lane(u64);

impl Lane {
    pub(crate) const ADMIN: Self = Self(0);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum CoordinatorOf {
    Group,
    Transaction,
}

/// A cluster's client; clones share its connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

/// Held while its connection is opened.
type Slot = Arc<tokio::sync::Mutex<Option<Arc<Connection>>>>;

struct Inner {
    config: ClientConfig,
    state: Mutex<State>,
    connections: Mutex<HashMap<(Lane, String), Slot>>,
    next_lane: AtomicU64,
    catalog: tokio::sync::Mutex<Catalog>,
}

#[derive(Default)]
struct State {
    brokers: HashMap<i32, String>,
    topics: HashMap<String, TopicState>,
    coordinators: HashMap<(CoordinatorOf, String), String>,
}

#[derive(Debug, Clone)]
struct TopicState {
    leaders: Vec<i32>,
}

impl Client {
    /// Connects to the first bootstrap address that answers.
    pub async fn connect(config: ClientConfig) -> Result<Self, ClientError> {
        let inner = Inner {
            config,
            state: Mutex::default(),
            connections: Mutex::default(),
            next_lane: AtomicU64::new(1),
            catalog: tokio::sync::Mutex::default(),
        };
        let client = Self { inner: Arc::new(inner) };
        client.refresh(Some(&[])).await?;
        Ok(client)
    }

    pub(crate) fn catalog(&self) -> &tokio::sync::Mutex<Catalog> {
        &self.inner.catalog
    }

    pub fn bootstrap(&self) -> &str {
        &self.inner.config.bootstrap
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.inner.config.request_timeout
    }

    pub(crate) fn new_lane(&self) -> Lane {
        Lane(self.inner.next_lane.fetch_add(1, Ordering::Relaxed))
    }

    /// Forgets a lane's connections; they close when their last user is done.
    pub(crate) fn close_lane(&self, lane: Lane) {
        let mut connections = self.inner.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.retain(|(of, _), _| *of != lane);
    }

    /// The addresses of all brokers that are known.
    pub(crate) fn brokers(&self) -> Vec<String> {
        self.state().brokers.values().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lane's connection to an address, opened when there is none or the old one is gone.
    pub(crate) async fn connection(&self, lane: Lane, address: &str) -> Result<Arc<Connection>, ClientError> {
        let slot = {
            let mut connections = self.inner.connections.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(connections.entry((lane, address.to_owned())).or_default())
        };
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| connection.is_alive()) {
            return Ok(Arc::clone(connection));
        }
        let timeout = CONNECT_TIMEOUT.min(self.request_timeout());
        let ClientConfig { client_id, security, .. } = &self.inner.config;
        let opened = Arc::new(Connection::open(Opening { address, client_id, security, timeout }).await?);
        *slot = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// Any broker that answers: those that are known first, then the bootstrap list.
    pub(crate) async fn any(&self, lane: Lane) -> Result<Arc<Connection>, ClientError> {
        let mut addresses: Vec<String> = self.state().brokers.values().cloned().collect();
        addresses.extend(self.inner.config.bootstrap.split(',').map(|address| address.trim().to_owned()));
        let mut reason = "the list of addresses is empty".to_owned();
        for address in addresses {
            match self.connection(lane, &address).await {
                Ok(connection) => return Ok(connection),
                Err(
                    error @ (ClientError::TooOld { .. }
                    | ClientError::Malformed { .. }
                    | ClientError::Authentication { .. }
                    | ClientError::Tls { .. }),
                ) => return Err(error),
                Err(error) => reason = error.to_string(),
            }
        }
        Err(ClientError::Unreachable { bootstrap: self.inner.config.bootstrap.clone(), reason })
    }

    pub(crate) async fn call_any<C: Call>(&self, request: &C) -> Result<C::Response, ClientError> {
        self.any(Lane::ADMIN).await?.call(request, self.request_timeout()).await
    }

    /// Asks for metadata: of all topics, or of some. Topics that do not exist leave the cache.
    pub(crate) async fn refresh(
        &self,
        topics: Option<&[String]>,
    ) -> Result<MetadataResponseData, ClientError> {
        let wanted = topics.map(|names| {
            let name = |name: &String| {
                MetadataRequestTopic::default().with_name(Some(KafkaString::from(name.clone())))
            };
            names.iter().map(name).collect::<Vec<_>>()
        });
        let request =
            MetadataRequestData::default().with_topics(wanted).with_allow_auto_topic_creation(false);
        let answer = self.call_any(&request).await?;
        let mut state = self.state();
        if !answer.brokers.is_empty() {
            let address = |host: &KafkaString, port: i32| format!("{host}:{port}");
            state.brokers = answer.brokers.iter().map(|b| (b.node_id, address(&b.host, b.port))).collect();
        }
        for topic in &answer.topics {
            let Some(name) = topic.name.as_ref().map(ToString::to_string) else { continue };
            if topic.error_code != 0 {
                state.topics.remove(&name);
                continue;
            }
            let mut leaders = vec![-1; topic.partitions.len()];
            for partition in &topic.partitions {
                if let Some(slot) = leaders.get_mut(partition.partition_index as usize) {
                    *slot = partition.leader_id;
                }
            }
            state.topics.insert(name, TopicState { leaders });
        }
        Ok(answer)
    }

    /// The same, again while no broker can be asked.
    async fn refresh_patiently(
        &self,
        topics: Option<&[String]>,
    ) -> Result<MetadataResponseData, ClientError> {
        let mut pause = Pause::new(PATIENCE);
        loop {
            match self.refresh(topics).await {
                Err(error) if error.is_retriable() => pause.wait("ask for metadata", error).await?,
                outcome => return outcome,
            }
        }
    }

    /// All topics of the cluster.
    pub async fn topics(&self) -> Result<Vec<TopicInfo>, ClientError> {
        let answer = self.refresh_patiently(None).await?;
        let topics = answer.topics.iter().filter(|topic| topic.error_code == 0).filter_map(|topic| {
            let name = topic.name.as_ref()?.to_string();
            Some(TopicInfo { name, internal: topic.is_internal, partitions: topic.partitions.len() as i32 })
        });
        Ok(topics.collect())
    }

    /// One topic, asked of the broker; `None` when it does not exist.
    pub async fn topic(&self, name: &str) -> Result<Option<TopicInfo>, ClientError> {
        let names = [name.to_owned()];
        let answer = self.refresh_patiently(Some(&names)).await?;
        let Some(topic) = answer.topics.first() else { return Ok(None) };
        match ErrorCode::from(topic.error_code) {
            ErrorCode::UnknownTopicOrPartition => Ok(None),
            // Just created: its leader is being chosen.
            ErrorCode::LeaderNotAvailable => Ok(None),
            code if code.is_error() => {
                Err(ClientError::kafka(format!("describe {name}"), topic.error_code, None))
            }
            _ => Ok(Some(TopicInfo {
                name: name.to_owned(),
                internal: topic.is_internal,
                partitions: topic.partitions.len() as i32,
            })),
        }
    }

    /// Number of partitions, from the cache when it is there.
    pub(crate) async fn partitions(&self, topic: &str) -> Result<i32, ClientError> {
        let cached = self.state().topics.get(topic).map(|topic| topic.leaders.len() as i32);
        if let Some(count) = cached.filter(|count| *count > 0) {
            return Ok(count);
        }
        let mut pause = Pause::new(TOPIC_PATIENCE);
        loop {
            match self.topic(topic).await? {
                Some(info) if info.partitions > 0 => return Ok(info.partitions),
                _ => pause.wait(topic, ClientError::UnknownTopic(topic.to_owned())).await?,
            }
        }
    }

    /// The leader's address, if the cache knows one.
    pub(crate) fn cached_leader(&self, topic: &str, partition: i32) -> Option<String> {
        let state = self.state();
        let leader = *state.topics.get(topic)?.leaders.get(usize::try_from(partition).ok()?)?;
        state.brokers.get(&leader).cloned()
    }

    /// The address of a partition's leader; asks when it is not known.
    pub(crate) async fn leader(&self, topic: &str, partition: i32) -> Result<String, ClientError> {
        if let Some(address) = self.cached_leader(topic, partition) {
            return Ok(address);
        }
        let names = [topic.to_owned()];
        let answer = self.refresh(Some(&names)).await?;
        if let Some(address) = self.cached_leader(topic, partition) {
            return Ok(address);
        }
        let code = answer.topics.first().map_or(0, |topic| topic.error_code);
        match ErrorCode::from(code) {
            ErrorCode::UnknownTopicOrPartition => Err(ClientError::UnknownTopic(topic.to_owned())),
            _ => Err(ClientError::kafka(
                format!("find the leader of {topic}/{partition}"),
                ErrorCode::LeaderNotAvailable.code(),
                None,
            )),
        }
    }

    /// What is known of these topics may be wrong.
    pub(crate) fn forget_topic(&self, topic: &str) {
        self.state().topics.remove(topic);
    }

    /// This broker does not answer: what it leads may have moved.
    pub(crate) fn forget_leader(&self, address: &str) {
        let mut state = self.state();
        let gone: Vec<i32> =
            state.brokers.iter().filter(|(_, at)| *at == address).map(|(id, _)| *id).collect();
        state.topics.retain(|_, topic| !topic.leaders.iter().any(|leader| gone.contains(leader)));
    }

    pub(crate) async fn coordinator(&self, of: CoordinatorOf, key: &str) -> Result<String, ClientError> {
        let cache_key = (of, key.to_owned());
        if let Some(address) = self.state().coordinators.get(&cache_key).cloned() {
            return Ok(address);
        }
        let request = FindCoordinatorRequestData::default()
            .with_key(KafkaString::from(key.to_owned()))
            .with_key_type(if of == CoordinatorOf::Group { 0 } else { 1 });
        let answer = self.call_any(&request).await?;
        if answer.error_code != 0 {
            let message = answer.error_message.as_ref().map(|m| m.as_str());
            return Err(ClientError::kafka(
                format!("find the coordinator of {key}"),
                answer.error_code,
                message,
            ));
        }
        let address = format!("{}:{}", answer.host, answer.port);
        self.state().coordinators.insert(cache_key, address.clone());
        Ok(address)
    }

    pub(crate) fn forget_coordinator(&self, of: CoordinatorOf, key: &str) {
        self.state().coordinators.remove(&(of, key.to_owned()));
    }

    /// Calls a coordinator and tries again, at another one if need be, until `check` is content.
    pub(crate) async fn call_coordinator<C: Call>(
        &self,
        lane: Lane,
        of: CoordinatorOf,
        key: &str,
        request: &C,
        timeout: Duration,
        check: impl Fn(&C::Response) -> Result<(), ClientError>,
    ) -> Result<C::Response, ClientError> {
        let mut pause = Pause::new(PATIENCE);
        loop {
            let attempt = async {
                let address = self.coordinator(of, key).await?;
                let answer = self.connection(lane, &address).await?.call(request, timeout).await?;
                check(&answer).map(|()| answer)
            };
            match attempt.await {
                Ok(answer) => return Ok(answer),
                Err(error) if !error.is_retriable() => return Err(error),
                // The one before is being completed, which takes milliseconds.
                Err(error) if error.code() == Some(ErrorCode::ConcurrentTransactions) => {
                    pause.wait_briefly(C::NAME, error).await?;
                }
                Err(error) => {
                    if error.code() != Some(ErrorCode::UnstableOffsetCommit) {
                        self.forget_coordinator(of, key);
                    }
                    pause.wait(C::NAME, error).await?;
                }
            }
        }
    }
}

/// Exponential pauses with jitter, and an end.
pub(crate) struct Pause {
    begun: Instant,
    patience: Duration,
    next: Duration,
}

impl Pause {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { begun: Instant::now(), patience, next: FIRST_PAUSE }
    }

    /// Waits, or gives up with what was wrong last.
    pub(crate) async fn wait(&mut self, what: &str, last: ClientError) -> Result<(), ClientError> {
        self.check(what, last)?;
        let jitter = rand::rng().random_range(0.5..1.0);
        tokio::time::sleep(self.next.mul_f64(jitter)).await;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        Ok(())
    }

    /// The same without the pauses growing, for what is known to be short.
    pub(crate) async fn wait_briefly(&mut self, what: &str, last: ClientError) -> Result<(), ClientError> {
        self.check(what, last)?;
        tokio::time::sleep(BRIEF_PAUSE).await;
        Ok(())
    }

    fn check(&self, what: &str, last: ClientError) -> Result<(), ClientError> {
        if self.begun.elapsed() >= self.patience {
            if matches!(last, ClientError::UnknownTopic(_)) {
                return Err(last);
            }
            return Err(ClientError::GaveUp {
                what: what.to_owned(),
                after: self.begun.elapsed(),
                last: Arc::new(last),
            });
        }
        tracing::debug!(what, %last, "trying again");
        Ok(())
    }
}
