//! Writes what was told, a short while of it at once.
//!
//! A client that tries again and again what it may not is one line for each while, in the stream as in the log.

use std::collections::HashMap;
use std::collections::hash_map;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use headwater_coordinator::{Bucket, Client, Error, NewTopic, Request, Response};
use headwater_log::Durability;
use headwater_model::{Principal, TimestampMs};
use headwater_wire::{BatchBuilder, Compression};
use thiserror::Error as ThisError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::TOPIC;
use super::entry::{AUTHENTICATE, Entry, Subject};
use crate::catalog::{Catalog, Topic};
use crate::engine::{Batch, Engine, Produce, Unavailable};

const WHILE: Duration = Duration::from_millis(200);
/// Subjects of one while; further denials wait in the channel.
const MOST: usize = 512;
/// Failed attempts of one while that have a line each. Strangers call themselves as they like: the others share one, of
/// nobody and from nowhere, so that nobody fills the disk who may do nothing.
const ATTEMPTS: usize = 4;
/// Denials of one principal that have a line each: so many a second, which is more than one that is tried all the time takes,
/// and those of so long at once. The others of one while share one, for the same reason.
const A_SECOND: f64 = 10.0;
const AT_ONCE_MS: i64 = 25_600;
const OTHERS: &str = "one of many refusals of this principal";
/// Denials that the log shows of one while.
const LOGGED: usize = 4;
/// How long the stream is kept unless its topic says otherwise.
const RETENTION_MS: &str = "2592000000";

#[derive(Debug, ThisError)]
enum WriteError {
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error("the topic {TOPIC} cannot be created: {0}")]
    Topic(String),
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Batch(#[from] headwater_wire::CompressionError),
}

pub struct Writer {
    engine: Engine,
    catalog: Arc<Catalog>,
}

/// What was told in one while: changes one by one, denials by their subject.
#[derive(Default)]
struct Gathered {
    lines: Vec<(Entry, u64)>,
    denied: HashMap<Subject, usize>,
    /// Denials without a line of their own, by who was denied.
    others: HashMap<Arc<Principal>, usize>,
    attempts: usize,
}

/// For how many lines each principal is good that was denied something lately.
#[derive(Default)]
struct Budget(HashMap<Arc<Principal>, Bucket>);

impl Budget {
    fn spend(&mut self, principal: &Arc<Principal>, now: TimestampMs) -> bool {
        let full = || Bucket::full(A_SECOND, AT_ONCE_MS, now);
        let bucket = self.0.entry(Arc::clone(principal)).or_insert_with(full);
        bucket.spend_if_free(1.0, A_SECOND, AT_ONCE_MS, now).is_ok()
    }

    /// Forgets whoever is as good as new.
    fn tidy(&mut self, now: TimestampMs) {
        self.0.retain(|_, bucket| !bucket.is_full(A_SECOND, AT_ONCE_MS, now));
    }
}

impl Gathered {
    fn add(&mut self, mut entry: Entry, budget: &mut Budget) {
        if entry.allowed {
            return self.lines.push((entry, 1));
        }
        let is_new = !self.denied.contains_key(&entry.subject);
        let is_attempt = entry.subject.operation == AUTHENTICATE;
        if is_new && !is_attempt && !budget.spend(&entry.subject.principal, entry.time) {
            return self.add_to_others(entry);
        }
        if is_new && is_attempt {
            self.attempts += 1;
            if self.attempts > ATTEMPTS {
                entry.subject.host = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
                entry.subject.client_id.clear();
                entry.subject.name.clear();
                entry.detail = None;
            }
        }
        match self.denied.entry(entry.subject.clone()) {
            hash_map::Entry::Occupied(line) => self.lines[*line.get()].1 += 1,
            hash_map::Entry::Vacant(line) => {
                line.insert(self.lines.len());
                self.lines.push((entry, 1));
            }
        }
    }

    /// The first says what it was about.
    fn add_to_others(&mut self, mut entry: Entry) {
        match self.others.entry(Arc::clone(&entry.subject.principal)) {
            hash_map::Entry::Occupied(line) => self.lines[*line.get()].1 += 1,
            hash_map::Entry::Vacant(line) => {
                line.insert(self.lines.len());
                entry.subject.host = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
                entry.subject.client_id.clear();
                entry.subject.name.clear();
                entry.detail = Some(OTHERS.to_owned());
                self.lines.push((entry, 1));
            }
        }
    }

    fn log(&self) {
        let denied = self.lines.iter().filter(|(entry, _)| !entry.allowed);
        for (Entry { subject, .. }, count) in denied.clone().take(LOGGED) {
            let Subject { principal, host, api, operation, resource, name, .. } = subject;
            tracing::warn!(%principal, %host, api, operation, %resource, name, count, "denied");
        }
        let more = denied.count().saturating_sub(LOGGED);
        if more > 0 {
            tracing::warn!(more, "further denials are in the topic {TOPIC} only");
        }
    }
}

impl Writer {
    pub fn new(engine: Engine, catalog: Arc<Catalog>) -> Self {
        Self { engine, catalog }
    }

    pub async fn run(self, mut entries: mpsc::Receiver<Entry>, mut stop: oneshot::Receiver<()>) {
        let mut budget = Budget::default();
        loop {
            let first = tokio::select! {
                biased;
                first = entries.recv() => first,
                // Told to stop, or nobody is left who could: what is there is written.
                _ = &mut stop => entries.try_recv().ok(),
            };
            let Some(first) = first else { return };
            let mut gathered = Gathered::default();
            budget.tidy(first.time);
            gathered.add(first, &mut budget);
            let until = Instant::now() + WHILE;
            while gathered.lines.len() < MOST
                && let Ok(Some(entry)) = timeout_at(until, entries.recv()).await
            {
                gathered.add(entry, &mut budget);
            }
            gathered.log();
            if let Err(error) = self.write(&gathered).await {
                tracing::error!(%error, lines = gathered.lines.len(), "the audit stream lost what it was told");
            }
        }
    }

    async fn write(&self, gathered: &Gathered) -> Result<(), WriteError> {
        let topic = self.topic().await?;
        let Some(partition) = topic.partition(0) else { return Err(WriteError::Topic("it is empty".into())) };
        let mut builder = BatchBuilder::new();
        for (entry, count) in &gathered.lines {
            let line = entry.json(*count).to_string();
            builder.push(
                entry.time,
                Some(entry.subject.principal.to_string().as_bytes()),
                Some(line.as_bytes()),
                &[],
            );
        }
        let batch = Batch {
            partition,
            bytes: builder.build(Compression::None, None, false)?,
            producer_id: -1,
            producer_epoch: -1,
            transactional: false,
            durability: Durability::Synced,
        };
        let produce = Produce { transactional_id: None, implicit: false, batches: vec![batch] };
        let produced = self.engine.produce(produce).await?;
        match produced.into_iter().find_map(Result::err) {
            Some(refusal) => Err(WriteError::Refused(refusal.to_string())),
            None => Ok(()),
        }
    }

    /// The stream's topic, which may have been deleted.
    async fn topic(&self) -> Result<Arc<Topic>, WriteError> {
        if let Some(topic) = self.catalog.by_name(TOPIC) {
            return Ok(topic);
        }
        let configs = [("retention.ms", RETENTION_MS), ("cleanup.policy", "delete")]
            .map(|(key, value)| (key.to_owned(), Some(value.to_owned())))
            .to_vec();
        let new = NewTopic { name: TOPIC.to_owned(), partitions: 1, replication_factor: -1, configs };
        let create = Request::CreateTopics { topics: vec![new], validate_only: false };
        let response = self.engine.ask(Client::default(), create).await?;
        let failure = match response {
            Response::CreateTopics(results) => results.into_iter().find_map(|result| result.result.err()),
            _ => None,
        };
        match failure.filter(|failure| failure.error != Error::TopicAlreadyExists) {
            Some(failure) => Err(WriteError::Topic(failure.message)),
            None => self.catalog.by_name(TOPIC).ok_or_else(|| WriteError::Topic("it is gone again".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use headwater_model::acl::ResourceType;

    use super::*;

    #[test]
    fn of_many_failed_attempts_a_few_are_told_by_name_and_all_are_counted() {
        let (mut gathered, mut budget) = (Gathered::default(), Budget::default());
        for attempt in 0..100_u8 {
            let subject = Subject {
                principal: Arc::default(),
                host: IpAddr::V4(Ipv4Addr::new(10, 0, 0, attempt)),
                client_id: format!("client {attempt}"),
                api: "HTTP GET",
                operation: AUTHENTICATE,
                resource: ResourceType::User,
                name: format!("user {attempt}"),
            };
            let detail = Some("wrong".to_owned());
            gathered.add(Entry { time: 0, subject, allowed: false, detail }, &mut budget);
        }
        assert_eq!(gathered.lines.len(), ATTEMPTS + 1);
        assert_eq!(gathered.lines.iter().map(|(_, count)| count).sum::<u64>(), 100);
        let (others, count) = &gathered.lines[ATTEMPTS];
        assert_eq!((others.subject.name.as_str(), *count), ("", 100 - ATTEMPTS as u64));
    }

    fn refusal(user: &str, topic: usize, time: TimestampMs) -> Entry {
        let subject = Subject {
            principal: Arc::new(Principal::user(user)),
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            client_id: "client".to_owned(),
            api: "Metadata",
            operation: "DESCRIBE",
            resource: ResourceType::Topic,
            name: format!("topic {topic}"),
        };
        Entry { time, subject, allowed: false, detail: None }
    }

    #[test]
    fn of_one_principals_many_refusals_some_are_told_by_name_and_all_are_counted() {
        let named = |gathered: &Gathered| {
            gathered.lines.iter().filter(|(entry, _)| !entry.subject.name.is_empty()).count()
        };
        let (mut gathered, mut budget) = (Gathered::default(), Budget::default());
        (0..10_000).for_each(|topic| gathered.add(refusal("eve", topic, 0), &mut budget));
        assert!((250..260).contains(&named(&gathered)), "{}", named(&gathered));
        assert_eq!(gathered.lines.len(), named(&gathered) + 1);
        assert_eq!(gathered.lines.iter().map(|(_, count)| count).sum::<u64>(), 10_000);
        gathered.add(refusal("alice", 1, 0), &mut budget);
        assert_eq!(gathered.lines.last().map(|(entry, _)| entry.subject.name.as_str()), Some("topic 1"));
        // A second later some more are named.
        let mut later = Gathered::default();
        budget.tidy(1_000);
        (0..100).for_each(|topic| later.add(refusal("eve", topic, 1_000), &mut budget));
        assert!((9..12).contains(&named(&later)), "{}", named(&later));
        budget.tidy(1_000_000);
        assert!(budget.0.is_empty(), "nobody is remembered for good");
    }
}
