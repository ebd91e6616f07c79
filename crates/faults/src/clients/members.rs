//! Members of a classic group, and a board on which each writes what it owns.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use headwater_client::{Client, ConsumerConfig, GroupConfig, GroupConsumer, GroupEvent};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const POLL: Duration = Duration::from_millis(200);
/// Nothing is written to the topic: fetches only wait.
const FETCH_WAIT: Duration = Duration::from_secs(10);

/// How a member goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Going {
    /// It says so.
    Leave,
    /// It is heard of no more.
    Vanish,
}

#[derive(Default)]
struct Written {
    /// Whose a partition was in a generation.
    owners: HashMap<(i32, i32), u32>,
    /// What living members own now, with the generation.
    now: BTreeMap<u32, (i32, Vec<i32>)>,
    complaints: Vec<String>,
    rebalances: usize,
}

#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<Written>>);

impl Board {
    fn lock(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn assigned(&self, member: u32, generation: i32, partitions: Vec<i32>) {
        let mut written = self.lock();
        written.rebalances += 1;
        for partition in &partitions {
            if let Some(other) = written.owners.insert((generation, *partition), member)
                && other != member
            {
                let text = format!(
                    "partition {partition} is both {other}'s and {member}'s in generation {generation}"
                );
                written.complaints.push(text);
            }
        }
        written.now.insert(member, (generation, partitions));
    }

    fn gone(&self, member: u32) {
        self.lock().now.remove(&member);
    }

    pub fn complaints(&self) -> Vec<String> {
        self.lock().complaints.clone()
    }

    pub fn rebalances(&self) -> usize {
        self.lock().rebalances
    }

    /// Whether these members and no others own every partition once, in one generation.
    fn is_whole(&self, members: &BTreeSet<u32>, partitions: i32) -> bool {
        let written = self.lock();
        let generations: BTreeSet<i32> = written.now.values().map(|(generation, _)| *generation).collect();
        let owned: Vec<i32> = written.now.values().flat_map(|(_, owned)| owned.iter().copied()).collect();
        let each: BTreeSet<i32> = owned.iter().copied().collect();
        written.now.keys().eq(members)
            && generations.len() == 1
            && owned.len() == each.len()
            && each.len() == partitions as usize
    }

    /// How long that took; `None` when it did not come about.
    pub async fn whole(
        &self,
        members: &BTreeSet<u32>,
        partitions: i32,
        patience: Duration,
    ) -> Option<Duration> {
        let begun = Instant::now();
        while !self.is_whole(members, partitions) {
            if begun.elapsed() > patience {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Some(begun.elapsed())
    }
}

pub struct Member {
    go: oneshot::Sender<Going>,
    task: JoinHandle<()>,
}

impl Member {
    pub fn start(
        client: &Client,
        group: &str,
        topic: &str,
        number: u32,
        session: Duration,
        board: &Board,
    ) -> Self {
        let (go, gone) = oneshot::channel();
        let config = GroupConfig {
            session_timeout: session,
            rebalance_timeout: session,
            consumer: ConsumerConfig { max_wait: FETCH_WAIT, ..GroupConfig::new("", Vec::new()).consumer },
            ..GroupConfig::new(group, vec![topic.to_owned()])
        };
        let task = tokio::spawn(live(client.clone(), config, number, board.clone(), gone));
        Self { go, task }
    }

    pub async fn end(self, how: Going) -> Result<()> {
        let _ = self.go.send(how);
        Ok(self.task.await?)
    }
}

async fn live(
    client: Client,
    config: GroupConfig,
    number: u32,
    board: Board,
    mut gone: oneshot::Receiver<Going>,
) {
    let mut consumer = None;
    let how = loop {
        let Some(member) = &mut consumer else {
            tokio::select! {
                how = &mut gone => break how,
                joined = GroupConsumer::join(&client, config.clone()) => consumer = joined.ok(),
            }
            continue;
        };
        let event = tokio::select! {
            how = &mut gone => break how,
            event = member.poll(POLL) => event,
        };
        match event {
            Ok(Some(GroupEvent::Assigned { partitions, .. })) => {
                let partitions = partitions.into_iter().map(|at| at.partition).collect();
                board.assigned(number, member.metadata().generation, partitions);
            }
            Ok(Some(GroupEvent::Revoked { .. })) => board.gone(number),
            Ok(_) => {}
            // It has been put out, and comes again as another.
            Err(_) => {
                board.gone(number);
                consumer = None;
            }
        }
    };
    if let (Ok(Going::Leave), Some(consumer)) = (how, consumer) {
        // Whether the broker hears of it or not, the member is gone.
        let _ = consumer.leave().await;
    }
    board.gone(number);
}
