//! A client of `headwater-client`: sends, transactions, polls, one operation after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use headwater_client::{
    AutoOffsetReset, Client, ClientError, Committed, Consumer, ConsumerConfig, Delivery, GroupMetadata,
    Isolation, ProduceRecord, Producer, ProducerConfig,
};
use headwater_history::{EventKind, Step, Value};
use headwater_model::TopicPartition;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{OWN, Recorder, SHARED, SHARED_PARTITIONS, connect_impatient, transactional_id};

/// Beyond this nobody waits for a delivery; what became of it is unknown then.
const DELIVERY: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(60);
const AGAIN: Duration = Duration::from_millis(100);
/// Longer than any fault, so that what times out was abandoned.
const TRANSACTION: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct Part {
    pub number: u32,
    pub transactional: bool,
    /// All partitions, which it reads.
    pub keys: Vec<(String, i32)>,
    pub address: String,
    pub request_timeout: Duration,
    pub patience: Duration,
    pub seed: u64,
}

struct Worker {
    part: Part,
    name: String,
    recorder: Recorder,
    random: SmallRng,
    next_op: u64,
    next_value: u64,
}

/// What it works with; made anew after an error that is not the transaction's own.
struct Tools {
    producer: Producer,
    consumer: Consumer,
    fresh: bool,
}

/// Works until it is told to stop.
pub async fn work(part: Part, recorder: Recorder, stop: Arc<AtomicBool>) {
    let random = SmallRng::seed_from_u64(part.seed);
    let name = format!("ours-{}", part.number);
    let mut worker = Worker { part, name, recorder, random, next_op: 0, next_value: 0 };
    let mut tools = None;
    while !stop.load(Ordering::Relaxed) {
        let Some(with) = &mut tools else {
            tools = worker.tools().await.ok();
            if tools.is_none() {
                tokio::time::sleep(AGAIN).await;
            }
            continue;
        };
        let done = match worker.random.random_range(0..4) {
            0 => worker.poll(with).await,
            _ if worker.part.transactional => worker.transaction(with).await,
            _ => worker.send(with).await,
        };
        if done.is_err() {
            tools = None;
        }
    }
}

/// `key` as histories name it.
pub fn key(topic: &str, partition: i32) -> String {
    format!("{topic}/{partition}")
}

pub fn consumer(client: &Client, keys: &[(String, i32)]) -> Consumer {
    let config = ConsumerConfig {
        isolation: Isolation::Committed,
        auto_offset_reset: AutoOffsetReset::Earliest,
        max_wait: Duration::from_millis(100),
        ..ConsumerConfig::default()
    };
    let mut consumer = Consumer::new(client, config);
    let from = keys.iter().map(|(topic, partition)| (TopicPartition::new(&**topic, *partition), 0));
    consumer.assign(from.collect());
    consumer
}

/// What a poll returned, as steps; a value that is no number of ours is 0, which nobody sends.
pub fn polled(fetched: Vec<headwater_client::Fetched>, last: bool) -> Vec<Step> {
    let runs = fetched.into_iter().filter(|run| !run.records.is_empty()).map(|run| {
        let number = |value: &Option<Bytes>| {
            let text = std::str::from_utf8(value.as_deref()?).ok()?;
            text.parse::<Value>().ok()
        };
        let records =
            run.records.iter().map(|record| (record.offset, number(&record.value).unwrap_or(0))).collect();
        let (topic, partition) = (&run.topic_partition.topic, run.topic_partition.partition);
        Step::Poll { key: key(topic, partition), records, uncommitted: false, last }
    });
    runs.collect()
}

impl Worker {
    async fn tools(&mut self) -> anyhow::Result<Tools> {
        let Part { address, request_timeout, patience, .. } = &self.part;
        let client = connect_impatient(address, &self.name, *request_timeout, *patience).await?;
        let config = ProducerConfig {
            transactional_id: self.part.transactional.then(|| transactional_id(self.part.number)),
            transaction_timeout: TRANSACTION,
            delivery_timeout: DELIVERY,
            // Several batches of one partition may be on their way at once.
            batch_bytes: 120,
            linger: Duration::from_millis(1),
            ..ProducerConfig::default()
        };
        let producer = Producer::new(&client, config).await?;
        Ok(Tools { producer, consumer: consumer(&client, &self.part.keys), fresh: true })
    }

    fn begin(&mut self, steps: &[Step]) -> u64 {
        let op = self.next_op;
        self.next_op += 1;
        self.recorder.note(&self.name, op, EventKind::Invoke, steps.to_vec());
        op
    }

    /// One to eight numbers for one to three partitions.
    fn values(&mut self) -> Vec<(String, i32, Value)> {
        let mut all = Vec::new();
        for _ in 0..self.random.random_range(1..=3) {
            let (topic, partition) = match self.random.random_range(0..3) {
                0 => (OWN, self.part.number as i32),
                _ => (SHARED, self.random.random_range(0..SHARED_PARTITIONS)),
            };
            for _ in 0..self.random.random_range(1..=3) {
                self.next_value += 1;
                let value = (u64::from(self.part.number) + 1) << 32 | self.next_value;
                all.push((topic.to_owned(), partition, value));
            }
        }
        all
    }

    async fn poll(&mut self, tools: &mut Tools) -> Result<(), ClientError> {
        let op = self.begin(&[]);
        let steps = self.polled(tools).await;
        let (kind, done) = match &steps {
            Ok(_) => (EventKind::Ok, Ok(())),
            Err(error) => (EventKind::Info, Err(error.clone())),
        };
        self.recorder.note(&self.name, op, kind, steps.unwrap_or_default());
        done
    }

    async fn polled(&mut self, tools: &mut Tools) -> Result<Vec<Step>, ClientError> {
        let fetched = tools.consumer.poll(POLL).await?;
        let mut steps = Vec::new();
        if std::mem::take(&mut tools.fresh) {
            steps.push(Step::Assign {});
        }
        steps.extend(polled(fetched, false));
        Ok(steps)
    }

    async fn send(&mut self, tools: &mut Tools) -> Result<(), ClientError> {
        let values = self.values();
        let op = self.begin(&intent(&values));
        let (steps, failed) = deliver(&tools.producer, &values).await;
        let kind = if failed.is_none() { EventKind::Ok } else { EventKind::Info };
        self.recorder.note(&self.name, op, kind, steps);
        failed.map_or(Ok(()), Err)
    }

    /// The number of the operation becomes the position in the process's own partition.
    async fn commit_position(&self, tools: &Tools, op: u64) -> Result<Step, ClientError> {
        let group = transactional_id(self.part.number);
        let (partition, offset) = (self.part.number as i32, op as i64 + 1);
        let committed = Committed { offset, ..Committed::default() };
        let offsets = [(TopicPartition::new(OWN, partition), committed)].into();
        tools.producer.send_offsets(&GroupMetadata::simple(&*group), &offsets).await?;
        Ok(Step::Position { group, key: key(OWN, partition), offset })
    }

    async fn transaction(&mut self, tools: &mut Tools) -> Result<(), ClientError> {
        tools.producer.begin_transaction().await?;
        let values = self.values();
        let op = self.begin(&intent(&values));
        let (mut steps, mut failed) = deliver(&tools.producer, &values).await;
        if failed.is_none() && self.random.random_bool(0.5) {
            match self.polled(tools).await {
                Ok(more) => steps.extend(more),
                Err(error) => failed = Some(error),
            }
        }
        if failed.is_none() && self.random.random_bool(0.5) {
            match self.commit_position(tools, op).await {
                Ok(step) => steps.push(step),
                Err(error) => failed = Some(error),
            }
        }
        self.recorder.note(&self.name, op, EventKind::Ending, Vec::new());
        let aborts = failed.is_some() || self.random.random_bool(0.2);
        let (kind, ended) = end(&tools.producer, aborts).await;
        self.recorder.note(&self.name, op, kind, steps);
        ended
    }
}

/// Commits or aborts. A commit that failed may have been carried out nevertheless: the abort after it tells.
async fn end(producer: &Producer, aborts: bool) -> (EventKind, Result<(), ClientError>) {
    if !aborts {
        match producer.commit_transaction().await {
            Ok(()) => return (EventKind::Ok, Ok(())),
            Err(error) if error.is_fenced() => return (EventKind::Info, Err(error)),
            Err(_) => {}
        }
    }
    match producer.abort_transaction().await {
        Ok(()) => (EventKind::Fail, Ok(())),
        Err(ClientError::Committed(_)) => (EventKind::Ok, Ok(())),
        Err(error) => (EventKind::Info, Err(error)),
    }
}

fn intent(values: &[(String, i32, Value)]) -> Vec<Step> {
    values.iter().map(|(topic, partition, value)| sent(topic, *partition, *value, None)).collect()
}

fn sent(topic: &str, partition: i32, value: Value, offset: Option<i64>) -> Step {
    Step::Send { key: key(topic, partition), value, offset: offset.filter(|offset| *offset >= 0) }
}

/// Sends all without waiting, then waits for all; the first failure beside what is known of each.
async fn deliver(producer: &Producer, values: &[(String, i32, Value)]) -> (Vec<Step>, Option<ClientError>) {
    let mut failed = None;
    let mut waiting: Vec<Option<Delivery>> = Vec::new();
    for (topic, partition, value) in values {
        let record = ProduceRecord {
            topic: topic.clone(),
            partition: Some(*partition),
            value: Some(Bytes::from(value.to_string())),
            ..ProduceRecord::default()
        };
        match producer.send(record).await {
            Ok(delivery) => waiting.push(Some(delivery)),
            Err(error) => {
                failed.get_or_insert(error);
                waiting.push(None);
            }
        }
    }
    let mut steps = Vec::new();
    for ((topic, partition, value), delivery) in values.iter().zip(waiting) {
        let offset = match delivery {
            Some(delivery) => match delivery.await {
                Ok(delivered) => Some(delivered.offset),
                Err(error) => {
                    failed.get_or_insert(error);
                    None
                }
            },
            None => None,
        };
        steps.push(sent(topic, *partition, *value, offset));
    }
    (steps, failed)
}
