//! Clients at work whose every request and answer is noted as a history (`headwater-history`): ours and others'.
//!
//! All of them do the same: send unique numbers to partitions that all of them write and to one of their own, alone
//! or in transactions that also read, and read everything as committed readers. Who writes in which language differs.

mod followers;
mod foreign;
mod last;
mod members;
mod nemesis;
mod ours;
mod recorder;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, Result};
use headwater_client::{Client, ClientConfig, NewTopic};

pub use followers::{Follower, Owners};
pub use foreign::{Foreign, Language};
pub use last::read_everything;
pub use members::{Board, Going, Member};
pub use nemesis::{Nemesis, Trouble};
pub use recorder::{Recorder, now};

/// Everybody writes it.
pub const SHARED: &str = "shared";
pub const SHARED_PARTITIONS: i32 = 3;
/// Each process writes the partition of its number.
pub const OWN: &str = "own";

/// Who takes part, and how.
#[derive(Debug, Clone)]
pub struct Cast {
    /// Clients of `headwater-client`.
    pub ours: u32,
    /// Programs of other people's clients, with the number of clients in each.
    pub foreign: Vec<(Language, u32)>,
    /// Of each language every so manieth client uses transactions; 0: none.
    pub transactional: u32,
    pub request_timeout: Duration,
    /// After this long our clients give up a call that has failed until then.
    pub patience: Duration,
}

impl Cast {
    pub fn count(&self) -> u32 {
        self.ours + self.foreign.iter().map(|(_, count)| count).sum::<u32>()
    }

    pub fn is_transactional(&self, number: u32) -> bool {
        self.transactional > 0 && number.is_multiple_of(self.transactional)
    }
}

/// Everybody's partitions.
pub fn keys(count: u32) -> Vec<(String, i32)> {
    let shared = (0..SHARED_PARTITIONS).map(|partition| (SHARED.to_owned(), partition));
    let own = (0..count as i32).map(|partition| (OWN.to_owned(), partition));
    shared.chain(own).collect()
}

pub async fn connect(address: &str, name: &str, request_timeout: Duration) -> Result<Client> {
    let config = ClientConfig { request_timeout, ..ClientConfig::new(address, name) };
    Ok(Client::connect(config).await?)
}

/// One that gives up soon.
pub async fn connect_impatient(
    address: &str,
    name: &str,
    request_timeout: Duration,
    patience: Duration,
) -> Result<Client> {
    let config = ClientConfig { request_timeout, api_timeout: patience, ..ClientConfig::new(address, name) };
    Ok(Client::connect(config).await?)
}

pub async fn create_topics(address: &str, count: u32) -> Result<()> {
    let client = connect(address, "faults", Duration::from_secs(10)).await?;
    client.create_topic(NewTopic::new(SHARED, SHARED_PARTITIONS)).await.context("creating topics")?;
    client.create_topic(NewTopic::new(OWN, count as i32)).await.context("creating topics")?;
    Ok(())
}

/// The history files of a run, one for each program.
pub struct Stage {
    pub address: String,
    pub seed: u64,
    pub directory: PathBuf,
    pub stop: Arc<AtomicBool>,
}

impl Stage {
    pub fn new(address: &str, seed: u64, directory: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        Self { address: address.to_owned(), seed, directory: directory.to_owned(), stop }
    }

    /// Sets our own clients to work; they end when `stop` is set.
    pub fn start_ours(&self, cast: &Cast, recorder: &Recorder) -> Vec<tokio::task::JoinHandle<()>> {
        let all = keys(cast.count());
        let workers = (0..cast.ours).map(|number| {
            let part = ours::Part {
                number,
                transactional: cast.is_transactional(number),
                keys: all.clone(),
                address: self.address.clone(),
                request_timeout: cast.request_timeout,
                patience: cast.patience,
                seed: self.seed ^ u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            };
            tokio::spawn(ours::work(part, recorder.clone(), Arc::clone(&self.stop)))
        });
        workers.collect()
    }
}

/// The transactional id of a process, and the group whose positions it commits; starting a producer with it ends what the process left open.
pub fn transactional_id(number: u32) -> String {
    format!("faults-{number}")
}
