//! `faults cluster --unclean`: a replica that lacks acknowledged records becomes the leader, and our consumers must notice
//! that what they have read is gone (KIP-320).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use headwater_client::{
    AutoOffsetReset, Client, ClientError, Committed, Consumer, ConsumerConfig, NewTopic, ProduceRecord,
    Producer, ProducerConfig,
};
use headwater_model::TopicPartition;

use super::connect;
use super::nodes::{Nodes, Placement};
use super::read::text;

const TOPIC: &str = "unclean";
const GROUP: &str = "unclean-readers";
/// Records that both replicas have, those that go with the first leader, and those of the second.
const KEPT: i64 = 100;
const LOST: i64 = 50;
const NEW: i64 = 120;
const PATIENCE: Duration = Duration::from_secs(90);

/// Two who have read everything, one of whom may choose where to go on.
struct Readers {
    strict: Consumer,
    lenient: Consumer,
}

/// # Errors
/// Also when a consumer reads on from a wrong place, or does not say where the logs part.
pub async fn run(nodes: Arc<Nodes>) -> Result<()> {
    let client = connect(&nodes.bootstrap, "unclean").await?;
    let topic = NewTopic::new(TOPIC, 1)
        .replication(2)
        .config("min.insync.replicas", "1")
        .config("unclean.leader.election.enable", "true");
    client.create_topic(topic).await?;
    until(&nodes, "both replicas are in sync", |at| at.in_sync.len() == 2).await?;
    let mut readers = Readers {
        strict: reader(&client, AutoOffsetReset::Fail),
        lenient: reader(&client, AutoOffsetReset::Earliest),
    };
    write(&client, "kept", KEPT).await?;
    let first = placement(&nodes).await?;
    let other = first.other().context("the topic has one replica")?;
    act(&nodes, "kill", other).await?;
    until(&nodes, "the leader is alone", |at| at.in_sync == [first.leader]).await?;
    write(&client, "lost", LOST).await?;
    readers.read_all(&client).await?;
    act(&nodes, "kill", first.leader).await?;
    act(&nodes, "restart", other).await?;
    until(&nodes, "the other replica leads", |at| at.leader == other).await?;
    write(&client, "new", NEW).await?;
    readers.check(&client).await?;
    act(&nodes, "restart", first.leader).await?;
    until(&nodes, "both replicas are in sync again", |at| at.in_sync.len() == 2).await
}

fn reader(client: &Client, auto_offset_reset: AutoOffsetReset) -> Consumer {
    let config = ConsumerConfig { auto_offset_reset, ..ConsumerConfig::default() };
    let mut consumer = Consumer::new(client, config);
    consumer.assign(vec![(partition(), 0)]);
    consumer
}

fn partition() -> TopicPartition {
    TopicPartition::new(TOPIC, 0)
}

async fn write(client: &Client, what: &str, count: i64) -> Result<()> {
    let producer = Producer::new(client, ProducerConfig::default()).await?;
    for number in 0..count {
        let record = ProduceRecord {
            topic: TOPIC.to_owned(),
            partition: Some(0),
            value: Some(format!("{what}-{number}").into()),
            ..ProduceRecord::default()
        };
        drop(producer.send(record).await?);
    }
    producer.flush().await.with_context(|| format!("writing the {what} records"))
}

/// Reads until the position is there; returns the values and what is to be committed.
async fn read_to(consumer: &mut Consumer, end: i64) -> Result<(Vec<String>, Option<Committed>)> {
    let (begun, mut values, mut committed) = (Instant::now(), Vec::new(), None);
    while consumer.position(&partition()) < Some(end) {
        ensure!(begun.elapsed() < PATIENCE, "{} of {end} records came", values.len());
        for run in consumer.poll(Duration::from_millis(500)).await? {
            committed = Some(Committed::from(&run));
            values.extend(run.records.iter().map(|record| text(record.value.as_deref())));
        }
    }
    Ok((values, committed))
}

impl Readers {
    async fn read_all(&mut self, client: &Client) -> Result<()> {
        let (_, committed) = read_to(&mut self.strict, KEPT + LOST).await?;
        read_to(&mut self.lenient, KEPT + LOST).await?;
        let committed = committed.context("nothing was read")?;
        ensure!(committed.leader_epoch.is_some(), "what was read has no leader epoch: {committed:?}");
        client.commit_offsets(GROUP, &HashMap::from([(partition(), committed)])).await?;
        Ok(())
    }

    async fn check(&mut self, client: &Client) -> Result<()> {
        truncated(&mut self.strict).await.context("the consumer that had read everything")?;
        let committed = client.committed(GROUP, Some(&[partition()])).await?;
        let committed = committed.get(&partition()).context("the committed offset is gone")?;
        let mut successor = reader(client, AutoOffsetReset::Fail);
        successor.add_positions(vec![(partition(), committed.position())]);
        truncated(&mut successor).await.context("the consumer that begins at what was committed")?;
        let (values, _) = read_to(&mut self.lenient, KEPT + NEW).await?;
        let new: Vec<String> = (0..NEW).map(|number| format!("new-{number}")).collect();
        ensure!(values == new, "the consumer that may choose went on with {:?}", values.first());
        self.strict.seek(&partition(), KEPT);
        let (values, _) = read_to(&mut self.strict, KEPT + NEW).await?;
        ensure!(values == new, "the consumer that was moved went on with {:?}", values.first());
        Ok(())
    }
}

async fn truncated(consumer: &mut Consumer) -> Result<()> {
    let begun = Instant::now();
    loop {
        ensure!(begun.elapsed() < PATIENCE, "it noticed nothing");
        match consumer.poll(Duration::from_millis(500)).await {
            Ok(fetched) => ensure!(fetched.is_empty(), "it read on, from {:?}", fetched[0].records.first()),
            Err(ClientError::Truncated { offset, divergent, .. }) => {
                ensure!(
                    (offset, divergent) == (KEPT + LOST, Some(KEPT)),
                    "it says that the logs part at {divergent:?}, before {offset}"
                );
                return Ok(());
            }
            Err(error) => bail!(error),
        }
    }
}

async fn act(nodes: &Arc<Nodes>, action: &'static str, node: usize) -> Result<()> {
    let nodes = Arc::clone(nodes);
    eprintln!("cluster: {action} node {node}");
    tokio::task::spawn_blocking(move || nodes.act(action, node)).await?
}

async fn placement(nodes: &Arc<Nodes>) -> Result<Placement> {
    let nodes = Arc::clone(nodes);
    tokio::task::spawn_blocking(move || nodes.placement(TOPIC)).await?
}

async fn until(nodes: &Arc<Nodes>, what: &str, so: impl Fn(&Placement) -> bool) -> Result<()> {
    let begun = Instant::now();
    loop {
        let found = placement(nodes).await;
        if found.as_ref().is_ok_and(&so) {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "after {PATIENCE:?} it is not so that {what}: {found:?}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
