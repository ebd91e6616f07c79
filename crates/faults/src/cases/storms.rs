//! group-1 and group-4: members that come, go and vanish in storms, and rolling restarts of large groups.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use headwater_client::NewTopic;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::fsync::noticed;
use crate::case::{Case, Extent, Run};
use crate::clients::{Board, Going, Member, connect};
use crate::verify::Violation;

pub const REJOINING: Case = Case {
    name: "group-1-rejoin-storm",
    promise: "P5",
    about: "members of a classic group join, leave and vanish: one owner a generation, all owned within a session and 5 s",
    needs: &[],
    quick: Extent { runs: 1, seconds: 8 },
    long: Extent { runs: 50, seconds: 1800 },
    run: rejoining,
};

pub const ROLLING: Case = Case {
    name: "group-4-rolling-classic",
    promise: "P5 P12",
    about: "a rolling restart of a classic group (500 members on 1,000 partitions with --long) ends, and what it costs",
    needs: &[],
    quick: Extent { runs: 1, seconds: 8 },
    long: Extent { runs: 3, seconds: 1800 },
    run: rolling,
};

const GROUP: &str = "g";
const TOPIC: &str = "t";
const SESSION: Duration = Duration::from_secs(6);
/// The promise of group-1, and what a busy machine adds.
const ALL_OWNED: Duration = Duration::from_secs(6 + 5 + 5);
/// So many members share connections' bookkeeping; each has sockets of its own.
const EACH_CLIENT: u32 = 50;

struct Crowd {
    members: BTreeMap<u32, Member>,
    clients: Vec<headwater_client::Client>,
    board: Board,
    next: u32,
}

impl Crowd {
    async fn new(address: &str, partitions: i32, most: u32) -> Result<Self> {
        let mut clients = Vec::new();
        for number in 0..most.div_ceil(EACH_CLIENT) {
            clients.push(connect(address, &format!("members-{number}"), Duration::from_secs(30)).await?);
        }
        let first = clients.first().context("no client")?;
        first.create_topic(NewTopic::new(TOPIC, partitions)).await?;
        Ok(Self { members: BTreeMap::new(), clients, board: Board::default(), next: 0 })
    }

    fn join(&mut self) {
        let number = self.next;
        self.next += 1;
        let client = &self.clients[(number % self.clients.len() as u32) as usize];
        self.members.insert(number, Member::start(client, GROUP, TOPIC, number, SESSION, &self.board));
    }

    async fn end(&mut self, number: u32, how: Going) -> Result<()> {
        match self.members.remove(&number) {
            Some(member) => member.end(how).await,
            None => Ok(()),
        }
    }

    fn numbers(&self) -> BTreeSet<u32> {
        self.members.keys().copied().collect()
    }

    async fn whole(&self, partitions: i32, patience: Duration) -> Option<Duration> {
        self.board.whole(&self.numbers(), partitions, patience).await
    }
}

pub fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

fn rejoining(run: &Run) -> Result<Option<Vec<Violation>>> {
    let (most, partitions, lasting) = if run.context.long { (100, 200, 60) } else { (16, 32, 4) };
    let broker = run.launch(&run.data()).serve()?;
    let mut random = SmallRng::seed_from_u64(run.seed);
    let (violations, rebalances) = runtime()?.block_on(async {
        let mut crowd = Crowd::new(&broker.address, partitions, most).await?;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(lasting) {
            let numbers: Vec<u32> = crowd.numbers().into_iter().collect();
            let picked = numbers.get(random.random_range(0..most as usize)).copied();
            match picked {
                Some(number) if random.random_bool(0.9) => crowd.end(number, Going::Leave).await?,
                Some(number) => crowd.end(number, Going::Vanish).await?,
                None => crowd.join(),
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(1..60))).await;
        }
        while crowd.members.len() < (most / 2) as usize {
            crowd.join();
        }
        let whole = crowd.whole(partitions, ALL_OWNED).await;
        let mut violations: Vec<Violation> = crowd.board.complaints().into_iter().map(noticed).collect();
        match whole {
            Some(took) => run.note(format!("all owned {took:?} after the storm")),
            None => violations
                .push(noticed(format!("not all partitions are owned {ALL_OWNED:?} after the storm"))),
        }
        anyhow::Ok((violations, crowd.board.rebalances()))
    })?;
    run.tally("assignments", rebalances);
    broker.kill()?;
    Ok(Some(violations))
}

fn rolling(run: &Run) -> Result<Option<Vec<Violation>>> {
    let (members, partitions) = if run.context.long { (500, 1000) } else { (24, 96) };
    let patience = Duration::from_secs(if run.context.long { 300 } else { 45 });
    let broker = run.launch(&run.data()).serve()?;
    let violations = runtime()?.block_on(async {
        let mut crowd = Crowd::new(&broker.address, partitions, members).await?;
        (0..members).for_each(|_| crowd.join());
        let mut violations = Vec::new();
        let gathered = crowd.whole(partitions, patience).await;
        let (begun, ticks) = (Instant::now(), broker.ticks());
        // A tenth at a time, as a deployment does.
        for number in 0..members {
            crowd.end(number, Going::Leave).await?;
            crowd.join();
            if number % (members / 10).max(1) == 0 {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        let whole = crowd.whole(partitions, patience).await;
        run.note(format!(
            "{members} members on {partitions} partitions: gathered in {gathered:?}, restarted one after the other in {:?}, of which the last wait {whole:?}; {} ticks of the broker's processor time, {} assignments",
            begun.elapsed(),
            broker.ticks() - ticks,
            crowd.board.rebalances()
        ));
        if gathered.is_none() || whole.is_none() {
            violations.push(noticed(format!("the group did not settle within {patience:?}")));
        }
        violations.extend(crowd.board.complaints().into_iter().map(noticed));
        anyhow::Ok(violations)
    })?;
    broker.kill()?;
    Ok(Some(violations))
}
