//! One round: a topology, its input, its accidents, and what came of it.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use headwater_client::{Client, ClientConfig, Isolation, NewTopic, OffsetSpec};
use headwater_model::{Offset, TopicPartition};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::instance::Start;
use super::judge::{Found, Verdict};
use super::oracle::Oracle;
use super::plan::Plan;
use super::schedule::{Done, Lasts, Scene};
use super::server::Server;
use super::{input, topology};
use crate::cluster::read;

/// How long everything may take to be processed once all is back: a transaction that is left open ends within its
/// time-out, a member that is gone within its session.
const DRAIN: Duration = Duration::from_secs(60);
const HOUR_MS: i64 = 3_600_000;

pub struct Played {
    pub broker_assigns: bool,
    pub records: usize,
    pub done: Done,
    pub verdict: Verdict,
    /// Ends of processes that nobody asked for.
    pub ends: Vec<String>,
    pub drained: Duration,
}

/// What a round needs to know.
pub struct Round<'a> {
    pub number: u64,
    pub seed: u64,
    pub length: Duration,
    pub plant: Option<String>,
    pub directory: &'a Path,
}

/// Plays a round on `server` and hands it back.
pub fn play(round: &Round, server: Server) -> Result<(Played, Server)> {
    let mut random = StdRng::seed_from_u64(round.seed);
    let mut plan = Plan::random(&format!("eos{}", round.number), &mut random);
    // Mistakes are planted where they were found before.
    plan.broker_assigns =
        round.seed.is_multiple_of(2) && round.plant.is_none() && server.has_short_sessions();
    std::fs::create_dir_all(round.directory)?;
    let file = round.directory.join("plan.json");
    std::fs::write(&file, serde_json::to_string_pretty(&plan)?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let client = runtime.block_on(prepare(&server.bootstrap(), &plan))?;
    let start = Start {
        plan: file,
        bootstrap: server.bootstrap(),
        directory: round.directory.to_owned(),
        plant: round.plant.clone(),
    };
    let writing =
        runtime.spawn(input::write(client.clone(), plan.clone(), random.random(), base(), round.length));
    let lasts = Lasts {
        session: Duration::from_millis(plan.session_ms),
        transaction: Duration::from_millis(plan.transaction_ms),
    };
    let mut scene = Scene::begin(server, &start, random, lasts)?;
    scene.run(round.length)?;
    scene.heal()?;
    let acknowledged = runtime.block_on(writing)?.context("writing the input")?;
    let mut verdict = Verdict::default();
    let drained = drain(&runtime, &client, &plan, &mut scene, &mut verdict)?;
    scene.end()?;
    let records = runtime.block_on(judge(&client, &plan, &acknowledged, &mut verdict))?;
    runtime.shutdown_timeout(Duration::from_secs(2));
    let broker_assigns = plan.broker_assigns;
    Ok((
        Played { broker_assigns, records, done: scene.done, verdict, ends: scene.ends, drained },
        scene.server,
    ))
}

/// Windows are aligned alike in every run, and nothing is so old that a cluster deletes it.
fn base() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    i64::try_from(now).unwrap_or(0) / HOUR_MS * HOUR_MS
}

async fn prepare(bootstrap: &str, plan: &Plan) -> Result<Client> {
    let mut config = ClientConfig::new(bootstrap, "eos");
    config.request_timeout = Duration::from_secs(10);
    let client = Client::connect(config).await?;
    for source in &plan.streams {
        client.ensure_topic(NewTopic::new(&source.topic, source.partitions)).await?;
    }
    for table in plan.tables.iter().chain(&plan.globals) {
        let topic = NewTopic::new(&table.topic, table.partitions);
        client.ensure_topic(topic).await?;
    }
    Ok(client)
}

/// Waits until everything that was written is processed and committed.
fn drain(
    runtime: &tokio::runtime::Runtime,
    client: &Client,
    plan: &Plan,
    scene: &mut Scene,
    verdict: &mut Verdict,
) -> Result<Duration> {
    let begun = Instant::now();
    let topics = read_by_service(plan)?;
    let written: Vec<String> = (0..plan.ends.len()).map(|end| plan.output(end)).collect();
    loop {
        let behind = runtime.block_on(async {
            let mut behind = behind(client, plan, &topics).await?;
            for topic in topics.iter().chain(&written) {
                behind.extend(open(client, topic).await?);
            }
            anyhow::Ok(behind)
        });
        match behind {
            Ok(behind) if behind.is_empty() => return Ok(begun.elapsed()),
            Ok(behind) if begun.elapsed() > DRAIN => {
                verdict.say(format!("after {DRAIN:?} not everything was processed: {}", behind.join(", ")));
                return Ok(begun.elapsed());
            }
            Err(error) if begun.elapsed() > DRAIN => return Err(error.context("waiting for the end")),
            Ok(_) | Err(_) => {}
        }
        scene.settle()?;
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Input and repartition topics, but those of global tables: no task reads these, and nothing is committed of them.
fn read_by_service(plan: &Plan) -> Result<Vec<String>> {
    let topology = topology::build(plan)?;
    let internal = topology.internal_topics(&|topic| plan.partitions(topic))?;
    let internal = internal.into_iter().map(|topic| topic.name).filter(|name| name.ends_with("-repartition"));
    let is_global = |topic: &String| plan.globals.iter().any(|global| global.topic == *topic);
    let sources = topology.source_topics().into_iter().filter(|topic| !is_global(topic));
    Ok(sources.chain(internal).collect())
}

/// Partitions whose last record is not committed as processed.
async fn behind(client: &Client, plan: &Plan, topics: &[String]) -> Result<Vec<String>> {
    let committed = client.committed(&plan.application, None).await?;
    let mut behind = Vec::new();
    for topic in topics {
        let ends: HashMap<TopicPartition, Offset> = (0..)
            .zip(read::all(client, topic).await?)
            .filter_map(|(partition, records)| {
                Some((TopicPartition::new(topic.as_str(), partition), records.last()?.offset + 1))
            })
            .collect();
        for (at, end) in ends {
            let next = committed.get(&at).map_or(0, |position| position.offset);
            if next < end {
                behind.push(format!("{at} is at {next} of {end}"));
            }
        }
    }
    Ok(behind)
}

/// Partitions with a transaction that is open, behind which nobody sees what there is.
async fn open(client: &Client, topic: &str) -> Result<Vec<String>> {
    let partitions = (0..).zip(read::all(client, topic).await?);
    let ask: Vec<_> = partitions
        .map(|(partition, _)| (TopicPartition::new(topic, partition), OffsetSpec::Latest))
        .collect();
    let ends = client.list_offsets(&ask, Isolation::Uncommitted).await?;
    let stable = client.list_offsets(&ask, Isolation::Committed).await?;
    let open = ends.into_iter().filter(|(at, end)| stable.get(at).is_none_or(|stable| stable < end));
    Ok(open.map(|(at, _)| format!("{at} has an open transaction")).collect())
}

async fn judge(
    client: &Client,
    plan: &Plan,
    acknowledged: &input::Acknowledged,
    verdict: &mut Verdict,
) -> Result<usize> {
    let inputs = input::read_back(client, plan).await?;
    let total = input::check(plan, &inputs, acknowledged, verdict);
    let internal = topology::build(plan)?.internal_topics(&|topic| plan.partitions(topic))?;
    let counts: HashMap<String, i32> =
        internal.into_iter().map(|topic| (topic.name, topic.partitions)).collect();
    let count = |topic: &str| counts.get(topic).copied().unwrap_or(1);
    let oracle = Oracle::new(plan, &inputs, &count);
    for end in 0..plan.ends.len() {
        let topic = plan.output(end);
        let found: Vec<Found> = read::all(client, &topic)
            .await?
            .into_iter()
            .flatten()
            .map(|record| {
                let value = record.value.as_deref().map(|value| read::text(Some(value)));
                (read::text(record.key.as_deref()), value)
            })
            .collect();
        verdict.judge(&format!("{topic} ({:?})", plan.ends[end].shape), &found, &oracle.expected(end));
    }
    Ok(total)
}
