//! `faults cluster`: our clients and services on three nodes of Apache Kafka that are lost and come back one by one.
//!
//! Under load each node is killed or paused in turn; then everything is read back and compared with what was
//! acknowledged (docs/cluster.md).

mod groups;
pub mod nodes;
pub mod read;
mod schedule;
mod schemas;
mod unclean;
mod verify;
mod words;
mod writers;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use headwater_client::planted::{self, Bug};
use headwater_client::{Client, ClientConfig, NewTopic};
use tokio::task::JoinSet;

use groups::Copies;
use nodes::Nodes;
use schedule::Done;
use verify::Verdict;

const PLAIN: &str = "plain";
const COPIED: &str = "copied";
const COUNTS: &str = "counts";
const COPIERS: &str = "copiers";
const MEMBERS: &str = "members";
const PARTITIONS: i32 = 6;
/// How long what was written may take to be copied and counted once all nodes are back.
const DRAIN: Duration = Duration::from_secs(90);
/// Nobody listens there: the first address of every client is one that does not answer.
const DEAD_ADDRESS: &str = "127.0.0.1:1";

#[derive(clap::Args)]
pub struct Options {
    /// Where the schedule comes from [default: the time]
    #[arg(long)]
    seed: Option<u64>,
    /// Rounds until so many minutes have passed; without it one round
    #[arg(long)]
    minutes: Option<u64>,
    /// Instead of the load: one election of a replica that lacks records, which our consumers must notice
    #[arg(long)]
    unclean: bool,
    /// Where the nodes keep their data; it stays when something is wrong
    #[arg(long)]
    directory: Option<PathBuf>,
    /// The program of `cargo xtask`, which starts and kills nodes
    #[arg(long, env = "HEADWATER_XTASK")]
    xtask: PathBuf,
    /// A deliberate mistake: reset-sequence or commit-before-output (needs the feature planted-bugs)
    #[arg(long)]
    plant: Option<String>,
}

/// Whether there is still something to do, for those who write and those who read.
#[derive(Clone)]
struct Load {
    writing: Arc<AtomicBool>,
    reading: Arc<AtomicBool>,
}

/// What producers were told.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// Values by topic and partition.
    records: HashMap<(String, i32), HashSet<String>>,
    refused: usize,
}

impl Acknowledged {
    fn count(&self) -> usize {
        self.records.values().map(HashSet::len).sum()
    }

    fn add(&mut self, other: Self) {
        self.refused += other.refused;
        for (place, values) in other.records {
            self.records.entry(place).or_default().extend(values);
        }
    }
}

/// Everything that a run has to tell.
struct Report {
    seed: u64,
    done: Done,
    acknowledged: Acknowledged,
    copies: Vec<Copies>,
    seen_again: usize,
    schemas: usize,
    verdict: Verdict,
}

/// Whether nothing was lost and nothing came twice.
pub fn run(options: &Options) -> Result<bool> {
    plant(options.plant.as_deref())?;
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
    let seed = options.seed.unwrap_or_else(|| rand::random_range(0..1_000_000_000));
    let directory = match &options.directory {
        Some(directory) => directory.clone(),
        None => tempfile::Builder::new().prefix("headwater-cluster-").tempdir()?.keep(),
    };
    let directory = std::path::absolute(directory)?;
    eprintln!("cluster: seed {seed}, in {}", directory.display());
    let nodes = Arc::new(Nodes::start(&std::path::absolute(&options.xtask)?, &directory)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if options.unclean {
        let noticed = runtime.block_on(unclean::run(Arc::clone(&nodes)));
        drop(nodes);
        noticed.with_context(|| format!("the nodes' logs are in {}", directory.display()))?;
        println!("{}", serde_json::json!({"suite": "cluster", "unclean": true, "wrong": 0}));
        return Ok(true);
    }
    let length = Duration::from_secs(60 * options.minutes.unwrap_or(0));
    let report = runtime.block_on(suite(Arc::clone(&nodes), seed, length, &directory));
    runtime.shutdown_timeout(Duration::from_secs(5));
    drop(nodes);
    let report =
        report.with_context(|| format!("seed {seed}; the nodes' logs are in {}", directory.display()))?;
    report.print();
    let passed = report.verdict.wrong.is_empty();
    if passed && options.directory.is_none() {
        std::fs::remove_dir_all(&directory)?;
    }
    Ok(passed)
}

fn plant(bug: Option<&str>) -> Result<()> {
    let bug = match bug {
        None => return Ok(()),
        Some("reset-sequence") => Bug::ResetSequence,
        Some("commit-before-output") => Bug::CommitBeforeOutput,
        Some(other) => bail!("no mistake is called {other}: reset-sequence, commit-before-output"),
    };
    if !planted::plant(Some(bug)) {
        bail!("--plant needs `--features planted-bugs`; see docs/cluster.md");
    }
    Ok(())
}

async fn connect(bootstrap: &str, name: &str) -> Result<Client> {
    let mut config = ClientConfig::new(format!("{DEAD_ADDRESS},{bootstrap}"), name);
    config.request_timeout = Duration::from_secs(10);
    Ok(Client::connect(config).await?)
}

/// One that gives up while a node is away, so that what is left uncertain must be cleared up.
async fn connect_impatient(bootstrap: &str, name: &str) -> Result<Client> {
    let mut config = ClientConfig::new(format!("{DEAD_ADDRESS},{bootstrap}"), name);
    config.request_timeout = Duration::from_secs(2);
    config.api_timeout = Duration::from_secs(3);
    Ok(Client::connect(config).await?)
}

async fn suite(nodes: Arc<Nodes>, seed: u64, length: Duration, directory: &Path) -> Result<Report> {
    let bootstrap = nodes.bootstrap.clone();
    let client = connect(&bootstrap, "verifier").await?;
    for topic in [PLAIN, COPIED, COUNTS] {
        client.ensure_topic(NewTopic::new(topic, PARTITIONS)).await?;
    }
    let yes = || Arc::new(AtomicBool::new(true));
    let load = Load { writing: yes(), reading: yes() };
    let (mut writers, mut copiers, mut members) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
    for name in ["one", "two"] {
        let writer = connect(&bootstrap, name).await?;
        writers.spawn(writers::write(writer, name.to_owned(), load.clone()));
        let copier = connect_impatient(&bootstrap, &format!("copier-{name}")).await?;
        copiers.spawn(groups::copy(copier, format!("copier-{name}"), load.clone()));
        let member = connect(&bootstrap, &format!("member-{name}")).await?;
        members.spawn(groups::follow(member, load.clone()));
    }
    writers.spawn(writers::write_fresh(connect(&bootstrap, "fresh").await?, load.clone()));
    let registries = [
        schemas::serve(connect(&bootstrap, "registry-one").await?).await?,
        schemas::serve(connect(&bootstrap, "registry-two").await?).await?,
    ];
    let schemas = tokio::spawn(schemas::register(registries, load.clone()));
    let app = words::start(&format!("{DEAD_ADDRESS},{bootstrap}"), directory).await?;

    nodes.wait_in_sync()?;
    let until = Instant::now() + length;
    let lost = tokio::task::spawn_blocking(move || schedule::run(&nodes, seed, until));
    let done = lost.await?;
    load.writing.store(false, Ordering::Relaxed);
    let done = done?;
    let mut acknowledged = Acknowledged::default();
    while let Some(outcome) = writers.join_next().await {
        acknowledged.add(outcome?.context("a writer")?);
    }
    let ids = schemas.await?.context("the registry")?;
    let plain = read::values(&client, PLAIN).await?;
    let total: usize = plain.iter().map(Vec::len).sum();
    eprintln!("cluster: {total} records are to be copied and counted");
    drained(&client, total).await?;
    load.reading.store(false, Ordering::Relaxed);
    let mut copies = Vec::new();
    while let Some(outcome) = copiers.join_next().await {
        copies.push(outcome?.context("a copier")?);
    }
    let (mut seen, mut seen_again) = (HashSet::new(), 0);
    while let Some(outcome) = members.join_next().await {
        let (one, again) = outcome?.context("a member")?;
        seen.extend(one);
        seen_again += again;
    }
    let mut verdict = Verdict::default();
    if let Err(error) = app.stop().await {
        verdict.wrong.push(format!("the streams service ended: {error}"));
    }
    verify(&client, &plain, &acknowledged, &seen, &mut verdict).await?;
    let registry = connect(&bootstrap, "registry-three").await?;
    verdict.wrong.extend(schemas::check(registry, &ids).await?);
    Ok(Report { seed, done, acknowledged, copies, seen_again, schemas: ids.len(), verdict })
}

/// Waits until as much was copied and counted as there is; what is missing after a while is the verifier's to say.
async fn drained(client: &Client, total: usize) -> Result<()> {
    let begun = Instant::now();
    loop {
        let (copied, counted) = (read::count(client, COPIED).await?, read::count(client, COUNTS).await?);
        if copied >= total && counted >= total || begun.elapsed() > DRAIN {
            eprintln!("cluster: {copied} copied, {counted} counted after {:?}", begun.elapsed());
            // Whatever came too often may still be on its way.
            tokio::time::sleep(Duration::from_secs(1)).await;
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn verify(
    client: &Client,
    plain: &[Vec<String>],
    acknowledged: &Acknowledged,
    seen: &HashSet<String>,
    verdict: &mut Verdict,
) -> Result<()> {
    let fresh = acknowledged.records.keys().map(|(topic, _)| topic).filter(|topic| *topic != PLAIN);
    let fresh: HashSet<&String> = fresh.collect();
    verdict.written(PLAIN, plain, acknowledged);
    for topic in fresh {
        verdict.written(topic, &read::values(client, topic).await?, acknowledged);
    }
    verdict.copied(plain, &read::values(client, COPIED).await?);
    verdict.followed(plain, seen);
    verdict.wrong.extend(words::check(client, plain).await?);
    Ok(())
}

impl Report {
    fn print(&self) {
        for line in &self.verdict.wrong {
            eprintln!("cluster: {line}");
        }
        let sum = |of: fn(&Copies) -> usize| self.copies.iter().map(of).sum::<usize>();
        let line: BTreeMap<&str, serde_json::Value> = BTreeMap::from([
            ("suite", "cluster".into()),
            ("seed", self.seed.into()),
            ("kills", self.done.kills.into()),
            ("pauses", self.done.pauses.into()),
            ("controllers_lost", self.done.controllers.into()),
            ("records", self.acknowledged.count().into()),
            ("refused", self.acknowledged.refused.into()),
            ("transactions", sum(|copies| copies.transactions).into()),
            ("aborted", sum(|copies| copies.aborted).into()),
            ("committed_unheard", sum(|copies| copies.committed_unheard).into()),
            ("producers_renewed", sum(|copies| copies.renewed).into()),
            ("seen_again", self.seen_again.into()),
            ("schemas", self.schemas.into()),
            ("lost", self.verdict.lost.into()),
            ("duplicated", self.verdict.duplicated.into()),
            ("out_of_order", self.verdict.out_of_order.into()),
            ("wrong", self.verdict.wrong.len().into()),
        ]);
        println!("{}", serde_json::json!(line));
    }
}
