//! group-5: groups of the consumer protocol whose members are clients with sockets of their own, through a rolling
//! restart, and what that costs the broker and somebody who has nothing to do with them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use headwater_client::{Client, NewTopic};
use headwater_wire::messages::ConsumerGroupHeartbeatRequestData;

use super::fsync::noticed;
use super::storms::runtime;
use crate::broker::Broker;
use crate::case::{Case, Extent, Run};
use crate::clients::{Follower, Owners, connect};
use crate::kafka::{Connection, Power};
use crate::verify::Violation;

pub const ROLLING: Case = Case {
    name: "group-5-rolling-clients",
    promise: "P5 P12",
    about: "a rolling restart of groups of KIP-848 (with --long 500 members on 1,000 partitions: one group, then five): no partition twice, nobody put out, and what it costs a bystander",
    needs: &[],
    quick: Extent { runs: 1, seconds: 20 },
    long: Extent { runs: 2, seconds: 3600 },
    run: rolling,
};

const TOPIC: &str = "t";
/// So many members share connections' bookkeeping; each has sockets of its own.
const EACH_CLIENT: u32 = 50;
/// So many parts go one after the other, as a deployment does.
const PARTS: u32 = 10;
const BETWEEN_BEATS: Duration = Duration::from_millis(20);
/// Members are told to send a heartbeat so often by default; who waits longer for an answer is as good as silent.
const INTERVAL: Duration = Duration::from_secs(5);
/// What the broker may take for 500 members and their sockets.
const MOST_GROWTH_KIB: u64 = 256 << 10;

struct Crowd {
    clients: Vec<Client>,
    groups: Vec<String>,
    members: VecDeque<Follower>,
    owners: Owners,
    next: u32,
}

impl Crowd {
    fn join(&mut self) {
        let number = self.next;
        self.next += 1;
        let client = &self.clients[(number % self.clients.len() as u32) as usize];
        let group = &self.groups[(number % self.groups.len() as u32) as usize];
        self.members.push_back(Follower::start(client, group, TOPIC, number, &self.owners));
    }

    /// The oldest ones leave, and their successors come, without waiting for each other.
    async fn replace(&mut self, count: u32) -> Result<()> {
        let leaving: Vec<Follower> = (0..count).filter_map(|_| self.members.pop_front()).collect();
        let leaving = leaving.into_iter().map(|member| tokio::spawn(member.leave()));
        let leaving: Vec<_> = leaving.collect();
        (0..count).for_each(|_| self.join());
        for left in leaving {
            left.await??;
        }
        Ok(())
    }
}

/// Somebody else's member: how long each of its heartbeats waited for an answer.
struct Bystander {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Duration>>>,
}

impl Bystander {
    fn start(address: &str) -> Result<Self> {
        let connection = Connection::open(address, Duration::from_secs(60), &Power::default())?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || beats(connection, &stopped));
        Ok(Self { stop, thread })
    }

    fn end(self) -> Result<Vec<Duration>> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().map_err(|_| anyhow!("the bystander panicked"))?
    }
}

fn beats(mut connection: Connection, stopped: &AtomicBool) -> Result<Vec<Duration>> {
    let (mut waits, mut epoch) = (Vec::new(), 0);
    while !stopped.load(Ordering::SeqCst) {
        let mut request = ConsumerGroupHeartbeatRequestData::default()
            .with_group_id("bystander".to_owned().into())
            .with_member_id("bystander".to_owned().into())
            .with_member_epoch(epoch)
            .with_rebalance_timeout_ms(-1);
        if epoch == 0 {
            request = request
                .with_rebalance_timeout_ms(60_000)
                .with_subscribed_topic_names(Some(vec!["nobodys".to_owned().into()]))
                .with_topic_partitions(Some(Vec::new()));
        }
        let sent = Instant::now();
        let answer = connection.call(&request)?;
        waits.push(sent.elapsed());
        if answer.error_code != 0 {
            bail!("a bystander's heartbeat is refused with code {}", answer.error_code);
        }
        epoch = answer.member_epoch;
        std::thread::sleep(BETWEEN_BEATS);
    }
    waits.sort_unstable();
    Ok(waits)
}

/// Half of them, all but one in a hundred, and the longest.
fn shown(waits: &[Duration]) -> String {
    let at = |of: usize| waits.get((waits.len() * of / 100).min(waits.len().saturating_sub(1)));
    let [half, most, longest] = [50, 99, 100].map(|of| at(of).copied().unwrap_or_default());
    format!("p50 {half:.1?}, p99 {most:.1?}, longest {longest:.1?}")
}

fn told(wait: Option<Duration>) -> String {
    wait.map_or_else(|| "more time than there was".to_owned(), |wait| format!("{wait:.1?}"))
}

/// The most that the broker had in memory at any time.
async fn watched<T>(broker: &Broker, work: impl Future<Output = T>) -> (T, u64) {
    let mut most = 0;
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return (done, most),
            _ = tick.tick() => most = most.max(broker.resident_kib().unwrap_or(0)),
        }
    }
}

fn rolling(run: &Run) -> Result<Option<Vec<Violation>>> {
    let long = run.context.long;
    let (members, partitions) = if long { (500, 1000) } else { (20, 60) };
    let groups = if run.index == 0 { 1 } else { 5 };
    let between_parts = Duration::from_millis(if long { 1000 } else { 200 });
    let patience = Duration::from_secs(if long { 600 } else { 60 });
    let mut launch = run.launch(&run.data());
    if !long {
        // A short run has no time for the default, which is 5 s.
        let keys = ["group.consumer.min.heartbeat.interval.ms", "group.consumer.heartbeat.interval.ms"];
        launch.configs.extend(keys.map(|key| (key.to_owned(), "500".to_owned())));
    }
    let broker = launch.serve()?;
    let mut violations = Vec::new();
    let idle = Bystander::start(&broker.address)?;
    std::thread::sleep(Duration::from_secs(2));
    let idle = idle.end()?;
    let bystander = Bystander::start(&broker.address)?;
    runtime()?.block_on(async {
        let before = broker.resident_kib().unwrap_or(0);
        let mut crowd = gather(&broker, members, partitions, groups).await?;
        let places = (partitions * groups) as usize;
        let owners = crowd.owners.clone();
        let (gathered, _) = watched(&broker, owners.whole(places, members as usize, patience)).await;
        let (begun, ticks) = (Instant::now(), broker.ticks());
        let restart = async {
            for _ in 0..PARTS {
                crowd.replace(members / PARTS).await?;
                tokio::time::sleep(between_parts).await;
            }
            anyhow::Ok(owners.whole(places, members as usize, patience).await)
        };
        let (whole, most) = watched(&broker, restart).await;
        let whole = whole?;
        let (assignments, lost) = owners.counts();
        let growth = most.saturating_sub(before);
        run.note(format!(
            "{members} members in {groups} group(s) on {partitions} partitions: gathered in {}, restarted in {:.1?} with {} of waiting at the end; {} ticks of the broker's processor time, {assignments} assignments; memory {} MiB, at most {} MiB more",
            told(gathered),
            begun.elapsed(),
            told(whole),
            broker.ticks() - ticks,
            before >> 10,
            growth >> 10,
        ));
        if gathered.is_none() || whole.is_none() {
            violations.push(noticed(format!("not every partition has an owner within {patience:?}")));
        }
        if lost > 0 {
            violations.push(noticed(format!("members were put out {lost} times, and nobody was silent")));
        }
        if growth > MOST_GROWTH_KIB {
            violations.push(noticed(format!("the broker took {} MiB more than before", growth >> 10)));
        }
        violations.extend(owners.complaints().into_iter().map(noticed));
        anyhow::Ok(())
    })?;
    let waits = bystander.end()?;
    run.note(format!("a bystander's heartbeats: {}; before, {}", shown(&waits), shown(&idle)));
    if waits.last().is_some_and(|longest| *longest > INTERVAL) {
        violations.push(noticed(format!("a bystander's heartbeat waited longer than {INTERVAL:?}")));
    }
    broker.kill()?;
    Ok(Some(violations))
}

async fn gather(broker: &Broker, members: u32, partitions: u32, groups: u32) -> Result<Crowd> {
    let mut clients = Vec::new();
    for number in 0..members.div_ceil(EACH_CLIENT) {
        clients.push(connect(&broker.address, &format!("members-{number}"), Duration::from_secs(30)).await?);
    }
    let first = clients.first().context("no client")?;
    first.create_topic(NewTopic::new(TOPIC, partitions as i32)).await?;
    let groups = (0..groups).map(|number| format!("g{number}")).collect();
    let mut crowd = Crowd { clients, groups, members: VecDeque::new(), owners: Owners::default(), next: 0 };
    (0..members).for_each(|_| crowd.join());
    Ok(crowd)
}
