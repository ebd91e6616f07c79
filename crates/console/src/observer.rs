//! Looks at the broker once a second while somebody watches, and keeps the last five minutes.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use headwater_client::{Client, ClientError, Consumer, ConsumerConfig, GroupListing, Isolation, OffsetSpec};
use headwater_model::TopicPartition;
use serde::Serialize;
use tokio::sync::watch;

use crate::catalog::{self, Service};
use crate::view;

const PERIOD: Duration = Duration::from_secs(1);
/// How long the observer goes on after the last request; a paused tab costs nothing.
const LINGER_MS: i64 = 15_000;
const HISTORY: usize = 300;
/// How long the first look waits for the catalog.
const CATALOG: Duration = Duration::from_secs(3);
/// What was seen longer ago is not shown without another look.
const STALE_MS: i64 = 5_000;
/// How long who asks waits for that look.
const PATIENCE: Duration = Duration::from_secs(5);

/// One stream (topic) as the table shows it.
#[derive(Debug, Clone, Serialize)]
pub struct StreamRow {
    pub name: String,
    pub partitions: i32,
    /// Records between the first and the end offset, markers included.
    pub records: i64,
    pub records_per_second: f64,
    pub internal: bool,
}

impl StreamRow {
    /// Of rows in a table: by name, the internal ones last.
    pub(crate) fn order(&self, other: &Self) -> std::cmp::Ordering {
        self.internal.cmp(&other.internal).then_with(|| self.name.cmp(&other.name))
    }
}

/// One consumer group and how far it is behind.
#[derive(Debug, Clone, Serialize)]
pub struct GroupRow {
    pub group: String,
    pub state: String,
    pub lag: i64,
    /// Lag divided by what it consumes a second; absent when it consumes nothing.
    pub behind_seconds: Option<f64>,
    pub records_per_second: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceRow {
    pub name: String,
    #[serde(skip)]
    pub group_id: String,
    pub team: String,
    pub http: Option<String>,
    pub reads: Vec<String>,
    pub writes: Vec<String>,
}

/// Everything the overview shows, at one moment.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Overview {
    /// Milliseconds since 1970; 0 before the first look.
    pub at_ms: i64,
    pub error: Option<String>,
    pub streams: Vec<StreamRow>,
    pub groups: Vec<GroupRow>,
    pub services: Vec<ServiceRow>,
    /// Records a second over all streams that are not internal, oldest first, one a second.
    pub throughput: Vec<f64>,
    #[serde(skip)]
    pub graph_svg: String,
}

pub(crate) struct Observer {
    client: Client,
    overview: watch::Sender<Arc<Overview>>,
    wanted_until: Arc<AtomicI64>,
}

impl Observer {
    pub(crate) fn new(client: Client) -> Self {
        let (overview, _) = watch::channel(Arc::default());
        Self { client, overview, wanted_until: Arc::new(AtomicI64::new(0)) }
    }

    /// The newest overview; asking keeps the observer awake, and wakes it when it sleeps.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Overview>> {
        let receiver = self.overview.subscribe();
        let before = self.wanted_until.swap(now_ms() + LINGER_MS, Ordering::SeqCst);
        if before == 0 {
            let eye = Eye::new(self.client.clone());
            tokio::spawn(eye.run(self.overview.clone(), Arc::clone(&self.wanted_until)));
        }
        receiver
    }
}

impl Observer {
    /// What there is now, or was a moment ago.
    ///
    /// # Errors
    /// Why nothing was seen so far.
    pub(crate) async fn seen(&self) -> Result<Arc<Overview>, String> {
        let mut feed = self.watch();
        let is_stale = now_ms() - feed.borrow_and_update().at_ms > STALE_MS;
        if is_stale {
            // The last look is better than none.
            let _ = tokio::time::timeout(PATIENCE, feed.changed()).await;
        }
        let seen = Arc::clone(&feed.borrow());
        match seen.at_ms {
            0 => Err(seen.error.clone().unwrap_or_else(|| "the broker has not answered yet".to_owned())),
            _ => Ok(seen),
        }
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// One spell of watching.
struct Eye {
    client: Client,
    catalog: Option<Consumer>,
    services: BTreeMap<String, Service>,
    /// Where the catalog ended when reading it began, of partitions that are not read so far.
    unread: HashMap<TopicPartition, i64>,
    ends: HashMap<TopicPartition, i64>,
    /// What had no leader at the last look.
    away: HashSet<TopicPartition>,
    committed: HashMap<String, i64>,
    at_ms: i64,
    throughput: VecDeque<f64>,
}

impl Eye {
    fn new(client: Client) -> Self {
        Self {
            client,
            catalog: None,
            services: BTreeMap::new(),
            unread: HashMap::new(),
            ends: HashMap::new(),
            away: HashSet::new(),
            committed: HashMap::new(),
            at_ms: 0,
            throughput: VecDeque::new(),
        }
    }

    async fn run(mut self, overview: watch::Sender<Arc<Overview>>, wanted_until: Arc<AtomicI64>) {
        loop {
            let seen = match self.look().await {
                Ok(seen) => seen,
                Err(error) => {
                    let last = Overview::clone(&overview.borrow());
                    Overview { error: Some(error.to_string()), ..last }
                }
            };
            overview.send_replace(Arc::new(seen));
            tokio::time::sleep(PERIOD).await;
            if overview.receiver_count() > 0 {
                wanted_until.fetch_max(now_ms() + LINGER_MS, Ordering::SeqCst);
            }
            let until = wanted_until.load(Ordering::SeqCst);
            if until < now_ms()
                && wanted_until.compare_exchange(until, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            {
                return;
            }
        }
    }

    async fn look(&mut self) -> Result<Overview, ClientError> {
        self.read_catalog().await?;
        let topics = self.client.topics().await?;
        let partitions: Vec<TopicPartition> = topics
            .iter()
            .flat_map(|topic| {
                (0..topic.partitions).map(|partition| TopicPartition::new(&topic.name, partition))
            })
            .collect();
        // Their node is away: waiting for it would keep back what is known of all others.
        let away: HashSet<TopicPartition> =
            self.client.without_leader(&partitions).await?.into_iter().collect();
        let led: Vec<&TopicPartition> = partitions.iter().filter(|at| !away.contains(*at)).collect();
        let ask = |spec: OffsetSpec| led.iter().map(|at| ((*at).clone(), spec)).collect::<Vec<_>>();
        let mut ends = self.client.list_offsets(&ask(OffsetSpec::Latest), Isolation::Uncommitted).await?;
        let starts = self.client.list_offsets(&ask(OffsetSpec::Earliest), Isolation::Uncommitted).await?;
        // What was known of them stays, so that nothing seems to flow when they are back.
        let known = away.iter().filter_map(|at| Some((at.clone(), *self.ends.get(at)?)));
        ends.extend(known);
        let now = now_ms();
        let seconds = ((now - self.at_ms) as f64 / 1000.0).max(0.001);
        let first_look = self.at_ms == 0;

        let mut streams = Vec::with_capacity(topics.len());
        let mut flowing = 0.0;
        for topic in &topics {
            let mut row = StreamRow {
                name: topic.name.clone(),
                partitions: topic.partitions,
                records: 0,
                records_per_second: 0.0,
                internal: topic.internal || topic.name.starts_with('_') || is_internal(&topic.name),
            };
            for partition in 0..topic.partitions {
                let at = TopicPartition::new(&topic.name, partition);
                let end = ends.get(&at).copied().unwrap_or(0);
                row.records += starts.get(&at).map_or(0, |start| end - start);
                if !first_look {
                    let new = if self.away.contains(&at) { end } else { 0 };
                    let before = self.ends.get(&at).copied().unwrap_or(new);
                    row.records_per_second += (end - before).max(0) as f64 / seconds;
                }
            }
            if !row.internal {
                flowing += row.records_per_second;
            }
            streams.push(row);
        }
        streams.sort_by(StreamRow::order);
        if !first_look {
            self.throughput.push_back(flowing);
            if self.throughput.len() > HISTORY {
                self.throughput.pop_front();
            }
        }

        let groups = self.groups(&ends, seconds, first_look).await?;
        let error = leaderless(away.len());
        self.ends = ends;
        self.away = away;
        self.at_ms = now;
        let services: Vec<ServiceRow> = self.services.values().map(ServiceRow::from).collect();
        let mut overview = Overview {
            at_ms: now,
            error,
            streams,
            groups,
            services,
            throughput: self.throughput.iter().copied().collect(),
            graph_svg: String::new(),
        };
        overview.graph_svg = view::picture(&overview);
        Ok(overview)
    }

    async fn groups(
        &mut self,
        ends: &HashMap<TopicPartition, i64>,
        seconds: f64,
        first_look: bool,
    ) -> Result<Vec<GroupRow>, ClientError> {
        let mut rows = Vec::new();
        for listing in self.client.list_groups().await? {
            let (lag, reached) = self.progress(&listing, ends).await?;
            let before = self.committed.insert(listing.group_id.clone(), reached).unwrap_or(reached);
            let rate = if first_look { 0.0 } else { (reached - before).max(0) as f64 / seconds };
            rows.push(GroupRow {
                group: listing.group_id,
                state: listing.state,
                lag,
                behind_seconds: (rate > 0.0).then(|| lag as f64 / rate),
                records_per_second: rate,
            });
        }
        rows.sort_by(|a, b| a.group.cmp(&b.group));
        Ok(rows)
    }

    /// How many records a group has before it, and the sum of where it is.
    async fn progress(
        &self,
        listing: &GroupListing,
        ends: &HashMap<TopicPartition, i64>,
    ) -> Result<(i64, i64), ClientError> {
        let (mut lag, mut reached) = (0, 0);
        if listing.protocol_type == "share" {
            for offset in self.client.describe_share_group(&listing.group_id).await?.offsets {
                lag += offset.lag.max(0);
                reached += ends.get(&offset.partition).map_or(offset.start, |end| end - offset.lag.max(0));
            }
            return Ok((lag, reached));
        }
        // A transaction that somebody leaves open must not hold up the view of everything else.
        for (at, place) in self.client.committed_until_now(&listing.group_id).await? {
            lag += (ends.get(&at).copied().unwrap_or(place.offset) - place.offset).max(0);
            reached += place.offset;
        }
        Ok((lag, reached))
    }

    /// The first time all that is there is read, so that the first look does not lack services.
    async fn read_catalog(&mut self) -> Result<(), ClientError> {
        if self.catalog.is_some() {
            return self.poll_catalog().await;
        }
        let Some(topic) = self.client.topic(catalog::TOPIC).await? else { return Ok(()) };
        let partitions: Vec<TopicPartition> =
            (0..topic.partitions).map(|partition| TopicPartition::new(catalog::TOPIC, partition)).collect();
        if !self.client.without_leader(&partitions).await?.is_empty() {
            // It is read when it can be.
            return Ok(());
        }
        let ask = |spec: OffsetSpec| partitions.iter().map(|at| (at.clone(), spec)).collect::<Vec<_>>();
        let starts = self.client.list_offsets(&ask(OffsetSpec::Earliest), Isolation::Uncommitted).await?;
        let ends = self.client.list_offsets(&ask(OffsetSpec::Latest), Isolation::Uncommitted).await?;
        let mut consumer = Consumer::new(&self.client, ConsumerConfig::default());
        consumer.assign(partitions.into_iter().map(|at| (at, 0)).collect());
        self.catalog = Some(consumer);
        self.unread = ends;
        self.unread.retain(|at, end| starts.get(at).is_none_or(|start| *start < *end));
        let until = Instant::now() + CATALOG;
        while !self.unread.is_empty() && Instant::now() < until {
            self.poll_catalog().await?;
        }
        Ok(())
    }

    async fn poll_catalog(&mut self) -> Result<(), ClientError> {
        let Some(consumer) = &mut self.catalog else { return Ok(()) };
        for fetched in consumer.poll(Duration::from_millis(50)).await? {
            self.unread.retain(|at, end| *at != fetched.topic_partition || fetched.next_offset < *end);
            for record in &fetched.records {
                if let Some(service) = Service::from_record(record) {
                    self.services.insert(service.name.clone(), service);
                } else if record.value.is_none()
                    && let Some(name) = record.key.as_ref().and_then(|key| key.strip_prefix(b"service/"))
                {
                    self.services.remove(&*String::from_utf8_lossy(name));
                }
            }
        }
        Ok(())
    }
}

impl From<&Service> for ServiceRow {
    fn from(service: &Service) -> Self {
        Self {
            name: service.name.clone(),
            group_id: service.group_id.clone(),
            team: service.team.clone(),
            http: service.http.clone(),
            reads: service.reads.clone(),
            writes: service.writes.clone(),
        }
    }
}

/// What is said of partitions without a leader; their names are not for everybody.
fn leaderless(partitions: usize) -> Option<String> {
    let which = match partitions {
        0 => return None,
        1 => "1 partition has".to_owned(),
        more => format!("{more} partitions have"),
    };
    Some(format!("{which} no leader: the node that has them is away"))
}

fn is_internal(topic: &str) -> bool {
    topic.ends_with("-changelog") || topic.ends_with("-repartition")
}

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if number < 0 { format!("-{grouped}") } else { grouped }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_without_a_leader_are_counted() {
        assert_eq!(leaderless(0), None);
        assert!(leaderless(1).is_some_and(|said| said.starts_with("1 partition has no leader")));
        assert!(leaderless(7).is_some_and(|said| said.starts_with("7 partitions have no leader")));
    }
}
