//! Members of groups of the consumer protocol (KIP-848), and who has which partition by their own account.
//!
//! Unlike in a classic group nobody stops when others come or go: who has what is judged at every moment, not by
//! generation. Invariant: a member strikes out what it gives up before the broker can hear of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use headwater_client::{Client, ConsumerConfig, GroupConfig, GroupConsumer, GroupEvent, GroupProtocol};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const POLL: Duration = Duration::from_millis(500);
/// Nothing is written to the topic: fetches only wait.
const FETCH_WAIT: Duration = Duration::from_secs(10);

/// A group and a partition of its topic.
type Place = (String, i32);

#[derive(Default)]
struct Written {
    owners: BTreeMap<Place, u32>,
    complaints: Vec<String>,
    assignments: usize,
    lost: usize,
}

#[derive(Clone, Default)]
pub struct Owners(Arc<Mutex<Written>>);

impl Owners {
    fn lock(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn assigned(&self, group: &str, member: u32, partitions: impl IntoIterator<Item = i32>) {
        let mut written = self.lock();
        written.assignments += 1;
        for partition in partitions {
            let before = written.owners.insert((group.to_owned(), partition), member);
            if let Some(other) = before.filter(|other| *other != member) {
                let text =
                    format!("partition {partition} is given to {member} of {group} while {other} has it");
                written.complaints.push(text);
            }
        }
    }

    fn gives_up(&self, member: u32, group: &str, partitions: &BTreeSet<i32>) {
        let mut written = self.lock();
        written.owners.retain(|(of, partition), owner| {
            *owner != member || of != group || !partitions.contains(partition)
        });
    }

    fn is_gone(&self, member: u32) {
        self.lock().owners.retain(|_, owner| *owner != member);
    }

    pub fn complaints(&self) -> Vec<String> {
        self.lock().complaints.clone()
    }

    /// How often anybody was told what it has, and how often a member was put out.
    pub fn counts(&self) -> (usize, usize) {
        let written = self.lock();
        (written.assignments, written.lost)
    }

    /// Whether so many partitions have somebody, and so many members something.
    fn is_whole(&self, places: usize, members: usize) -> bool {
        let written = self.lock();
        let having: BTreeSet<u32> = written.owners.values().copied().collect();
        written.owners.len() == places && having.len() == members
    }

    /// How long that takes; `None` when it does not come about.
    pub async fn whole(&self, places: usize, members: usize, patience: Duration) -> Option<Duration> {
        let begun = Instant::now();
        while !self.is_whole(places, members) {
            if begun.elapsed() > patience {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(begun.elapsed())
    }
}

pub struct Follower {
    go: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Follower {
    pub fn start(client: &Client, group: &str, topic: &str, number: u32, owners: &Owners) -> Self {
        let (go, gone) = oneshot::channel();
        let config = GroupConfig {
            protocol: GroupProtocol::consumer(),
            consumer: ConsumerConfig { max_wait: FETCH_WAIT, ..GroupConfig::new("", Vec::new()).consumer },
            ..GroupConfig::new(group, vec![topic.to_owned()])
        };
        let task = tokio::spawn(live(client.clone(), config, number, owners.clone(), gone));
        Self { go, task }
    }

    /// It leaves, and says so.
    pub async fn leave(self) -> Result<()> {
        let _ = self.go.send(());
        Ok(self.task.await?)
    }
}

async fn live(
    client: Client,
    config: GroupConfig,
    number: u32,
    owners: Owners,
    mut gone: oneshot::Receiver<()>,
) {
    let mut consumer = None;
    loop {
        let Some(member) = &mut consumer else {
            tokio::select! {
                _ = &mut gone => break,
                joined = GroupConsumer::join(&client, config.clone()) => consumer = joined.ok(),
            }
            continue;
        };
        let event = tokio::select! {
            _ = &mut gone => break,
            event = member.poll(POLL) => event,
        };
        match event {
            Ok(Some(GroupEvent::Assigned { partitions, .. })) => {
                owners.assigned(&config.group_id, number, partitions.into_iter().map(|at| at.partition));
            }
            Ok(Some(GroupEvent::Revoked { partitions, lost })) => {
                owners.lock().lost += usize::from(lost);
                let partitions = partitions.into_iter().map(|at| at.partition).collect();
                owners.gives_up(number, &config.group_id, &partitions);
            }
            Ok(_) => {}
            Err(_) => {
                owners.lock().lost += 1;
                owners.is_gone(number);
                consumer = None;
            }
        }
    }
    owners.is_gone(number);
    if let Some(consumer) = consumer {
        // Whether the broker hears of it or not, the member is gone.
        let _ = consumer.leave().await;
    }
}
