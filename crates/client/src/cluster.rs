//! Brokers, leaders and coordinators: who must be asked, and what to do when that has changed.

mod coordinators;
mod features;
mod leaders;
mod pause;
mod topic_ids;
mod waits;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use headwater_wire::messages::{MetadataRequestData, MetadataRequestTopic, MetadataResponseData};
use headwater_wire::{ErrorCode, KafkaString};

use crate::ClientError;
use crate::call::Call;
use crate::connection::{Connection, Opening};
use crate::kinds::Catalog;
use crate::security::Security;
pub(crate) use features::Features;
use leaders::{Leader, TopicState};
pub(crate) use pause::Pause;
pub use waits::Wait;
pub(crate) use waits::Waiting;
use waits::Waits;

/// How long something that may heal is tried before it becomes an error.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long a topic that does not exist is waited for: it may just have been created.
const TOPIC_PATIENCE: Duration = Duration::from_secs(10);
/// How long a node may be behind with what another has done.
const NEWS_PATIENCE: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an address that did not answer is asked last.
const SUSPICION: Duration = Duration::from_secs(30);

/// Where to connect, and as whom.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// `HOST:PORT`, several with commas between.
    pub bootstrap: String,
    pub client_id: String,
    pub request_timeout: Duration,
    /// How long a call is repeated while its failure may heal (Kafka's default.api.timeout.ms).
    pub api_timeout: Duration,
    /// TLS and SASL; neither unless set.
    pub security: Security,
}

impl ClientConfig {
    pub fn new(bootstrap: impl Into<String>, client_id: impl Into<String>) -> Self {
        Self {
            bootstrap: bootstrap.into(),
            client_id: client_id.into(),
            request_timeout: Duration::from_secs(30),
            api_timeout: PATIENCE,
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
type Slot = Arc<tokio::sync::Mutex<Place>>;

#[derive(Default)]
struct Place {
    connection: Option<Arc<Connection>>,
    /// Why it could not be opened, and when: whoever waited for that need not wait for the same again.
    failed: Option<(Instant, ClientError)>,
}

struct Inner {
    config: ClientConfig,
    state: Mutex<State>,
    connections: Mutex<HashMap<(Lane, String), Slot>>,
    next_lane: AtomicU64,
    catalog: tokio::sync::Mutex<Catalog>,
    waits: Waits,
}

#[derive(Default)]
struct State {
    brokers: HashMap<i32, String>,
    topics: HashMap<String, TopicState>,
    coordinators: HashMap<(CoordinatorOf, String), String>,
    /// Addresses that did not answer, and when that was.
    suspects: HashMap<String, Instant>,
    features: Features,
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
            waits: Waits::default(),
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

    pub(crate) fn patience(&self) -> Pause {
        self.pause(self.inner.config.api_timeout)
    }

    /// Whoever asks what is waited for is told of it.
    pub(crate) fn pause(&self, patience: Duration) -> Pause {
        Pause::new(patience).told(&self.inner.waits)
    }

    /// What this client has waited for the longest; long polls of consumers are no waiting.
    pub fn waits_for(&self) -> Option<Wait> {
        self.inner.waits.longest()
    }

    pub(crate) fn waiting(&self, what: String) -> Waiting {
        self.inner.waits.begin(what, Instant::now())
    }

    /// Until `answer` has come; nothing is told of what is answered at once.
    pub(crate) async fn waiting_for<T>(
        &self,
        api: &str,
        address: &str,
        answer: impl Future<Output = T>,
    ) -> T {
        let _waiting = self.waiting(format!("{address} to answer {api}"));
        answer.await
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
        let asked = Instant::now();
        let mut place = slot.lock().await;
        if let Some(connection) = place.connection.as_ref().filter(|connection| connection.is_alive()) {
            return Ok(Arc::clone(connection));
        }
        if let Some((_, error)) = place.failed.as_ref().filter(|(at, _)| *at > asked) {
            return Err(error.clone());
        }
        let timeout = CONNECT_TIMEOUT.min(self.request_timeout());
        let ClientConfig { client_id, security, .. } = &self.inner.config;
        let opened = Connection::open(Opening { address, client_id, security, timeout }).await;
        let opened = opened.inspect_err(|error| {
            place.failed = Some((Instant::now(), error.clone()));
            self.suspect(address);
        })?;
        let opened = Arc::new(opened);
        *place = Place { connection: Some(Arc::clone(&opened)), failed: None };
        let mut state = self.state();
        state.suspects.remove(address);
        state.features.learn(opened.features());
        Ok(opened)
    }

    /// This address did not answer: others are asked first for a while.
    fn suspect(&self, address: &str) {
        self.state().suspects.insert(address.to_owned(), Instant::now());
    }

    /// Where something can be asked that every broker knows: the brokers that are known, then the bootstrap list, from
    /// which a client finds back when all addresses have changed (KIP-899); whoever has not answered lately comes last.
    fn addresses(&self) -> Vec<String> {
        let state = self.state();
        let mut addresses: Vec<String> = state.brokers.values().cloned().collect();
        for address in self.inner.config.bootstrap.split(',').map(str::trim) {
            if !addresses.iter().any(|known| known == address) {
                addresses.push(address.to_owned());
            }
        }
        let suspected =
            |address: &String| state.suspects.get(address).is_some_and(|at| at.elapsed() < SUSPICION);
        addresses.sort_by_key(suspected);
        addresses
    }

    /// Any broker that answers: those that are known first, then the bootstrap list.
    pub(crate) async fn any(&self, lane: Lane) -> Result<Arc<Connection>, ClientError> {
        let mut reason = "the list of addresses is empty".to_owned();
        for address in self.addresses() {
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
        self.call_any_within(request, self.request_timeout()).await
    }

    async fn call_any_within<C: Call>(
        &self,
        request: &C,
        timeout: Duration,
    ) -> Result<C::Response, ClientError> {
        let connection = self.any(Lane::ADMIN).await?;
        let answer = self.waiting_for(C::NAME, connection.address(), connection.call(request, timeout)).await;
        answer.inspect_err(|_| self.suspect(connection.address()))
    }

    /// What a broker answers from memory: one that takes long is not there, and another one knows it, too.
    async fn look_up<C: Call>(&self, request: &C) -> Result<C::Response, ClientError> {
        self.call_any_within(request, LOOK_UP_TIMEOUT.min(self.request_timeout())).await
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
        let answer = self.look_up(&request).await?;
        self.learn(&answer);
        Ok(answer)
    }

    fn learn(&self, answer: &MetadataResponseData) {
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
            let updated = TopicState::update(state.topics.get(&name), topic);
            state.topics.insert(name, updated);
        }
    }

    /// The same, again while no broker can be asked.
    async fn refresh_patiently(
        &self,
        topics: Option<&[String]>,
    ) -> Result<MetadataResponseData, ClientError> {
        let mut pause = self.patience();
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

    /// One topic, asked of the broker; `None` when it does not exist, also because no topic can have the name.
    pub async fn topic(&self, name: &str) -> Result<Option<TopicInfo>, ClientError> {
        match self.possible_topic(name).await {
            Err(error) if error.code() == Some(ErrorCode::InvalidTopicException) => Ok(None),
            found => found,
        }
    }

    /// The same; a name that no topic can have is an error.
    async fn possible_topic(&self, name: &str) -> Result<Option<TopicInfo>, ClientError> {
        let names = [name.to_owned()];
        let answer = self.refresh_patiently(Some(&names)).await?;
        let mut topics = answer.topics.iter();
        let asked = topics.find(|topic| topic.name.as_ref().is_some_and(|found| found.as_str() == name));
        let Some(topic) = asked else { return Ok(None) };
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
        let known = |topic: &TopicState| (!topic.forgotten).then_some(topic.leaders.len() as i32);
        let cached = self.state().topics.get(topic).and_then(known);
        if let Some(count) = cached.filter(|count| *count > 0) {
            return Ok(count);
        }
        let mut pause = self.pause(TOPIC_PATIENCE);
        loop {
            match self.possible_topic(topic).await? {
                Some(info) if info.partitions > 0 => return Ok(info.partitions),
                _ => pause.wait(topic, ClientError::UnknownTopic(topic.to_owned())).await?,
            }
        }
    }

    /// Number of partitions as the cache has it, be it right or not.
    pub(crate) fn cached_partitions(&self, topic: &str) -> Option<i32> {
        self.state().topics.get(topic).map(|topic| topic.leaders.len() as i32)
    }

    /// The leader's address, if the cache knows one.
    pub(crate) fn cached_leader(&self, topic: &str, partition: i32) -> Option<String> {
        let state = self.state();
        let leader = state.topics.get(topic)?.leaders.get(usize::try_from(partition).ok()?)?;
        state.brokers.get(&leader.node).cloned()
    }

    /// The epoch of the leader that the cache knows; -1 where it knows none.
    pub(crate) fn leader_epoch(&self, topic: &str, partition: i32) -> i32 {
        let state = self.state();
        let index = usize::try_from(partition).unwrap_or(usize::MAX);
        state.topics.get(topic).and_then(|topic| topic.leaders.get(index)).map_or(-1, |leader| leader.epoch)
    }

    /// A broker that leads no more has said who does (KIP-951). Whether that is news.
    pub(crate) fn leader_moved(&self, topic: &str, partition: i32, node: i32, epoch: i32) -> bool {
        let mut state = self.state();
        if node < 0 || !state.brokers.contains_key(&node) {
            return false;
        }
        let index = usize::try_from(partition).unwrap_or(usize::MAX);
        let known = state.topics.get_mut(topic).and_then(|topic| topic.leaders.get_mut(index));
        let Some(known) = known.filter(|known| known.epoch < epoch) else { return false };
        *known = Leader { node, epoch };
        true
    }

    /// Where a node is, as a broker has said beside an answer.
    pub(crate) fn learn_broker(&self, node: i32, host: &KafkaString, port: i32) {
        self.state().brokers.insert(node, format!("{host}:{port}"));
    }

    /// The address of a partition's leader; asks when it is not known.
    pub(crate) async fn leader(&self, topic: &str, partition: i32) -> Result<String, ClientError> {
        if let Some(address) = self.cached_leader(topic, partition) {
            return Ok(address);
        }
        let names = [topic.to_owned()];
        let mut pause = Pause::new(NEWS_PATIENCE);
        loop {
            let answer = self.refresh(Some(&names)).await?;
            if let Some(address) = self.cached_leader(topic, partition) {
                return Ok(address);
            }
            let code = answer.topics.first().map_or(0, |topic| topic.error_code);
            if ErrorCode::from(code) != ErrorCode::UnknownTopicOrPartition {
                return Err(ClientError::kafka(
                    format!("find the leader of {topic}/{partition}"),
                    ErrorCode::LeaderNotAvailable.code(),
                    None,
                ));
            }
            // A node of a cluster hears of a new topic later than the one that made it.
            pause.wait(topic, ClientError::UnknownTopic(topic.to_owned())).await?;
        }
    }

    /// Those of these partitions that are there and have no leader; what is not known is asked for once.
    pub async fn without_leader(
        &self,
        of: &[headwater_model::TopicPartition],
    ) -> Result<Vec<headwater_model::TopicPartition>, ClientError> {
        let is_led =
            |at: &headwater_model::TopicPartition| self.cached_leader(&at.topic, at.partition).is_some();
        let mut topics: Vec<String> = of.iter().filter(|at| !is_led(at)).map(|at| at.topic.clone()).collect();
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        topics.sort();
        topics.dedup();
        self.refresh_patiently(Some(&topics)).await?;
        let is_there = |at: &headwater_model::TopicPartition| {
            self.cached_partitions(&at.topic).is_some_and(|count| (0..count).contains(&at.partition))
        };
        Ok(of.iter().filter(|at| is_there(at) && !is_led(at)).cloned().collect())
    }

    /// What is known of these topics may be wrong.
    pub(crate) fn forget_topic(&self, topic: &str) {
        if let Some(topic) = self.state().topics.get_mut(topic) {
            topic.forget();
        }
    }

    /// This broker does not answer: what it leads may have moved.
    pub(crate) fn forget_leader(&self, address: &str) {
        let mut state = self.state();
        let gone: Vec<i32> =
            state.brokers.iter().filter(|(_, at)| *at == address).map(|(id, _)| *id).collect();
        let led = state.topics.values_mut();
        led.filter(|topic| topic.leaders.iter().any(|leader| gone.contains(&leader.node)))
            .for_each(TopicState::forget);
    }
}
