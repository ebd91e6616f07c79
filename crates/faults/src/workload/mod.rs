//! The work a broker does while a fault hits it: producers of three kinds, a consumer that follows, and
//! a client that creates, changes and deletes.
//!
//! A [`World`] outlives the broker: after a restart the same producers go on where they were, so that
//! their retries meet what the broker remembers.

mod check;
mod churn;
mod script;
mod session;
mod tailer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::history::{ProducerKind, Progress, Shared};
use crate::kafka::{Connection, Failure, Isolation, NewTopic};
pub use churn::CHURN;
use churn::Churn;
pub use script::Played;
pub use session::{Session, Shape, Target};

pub const PATIENCE: Duration = Duration::from_secs(30);

const COMPACTED: [(&str, &str); 3] =
    [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.01"), ("segment.ms", "50")];
const RETAINED: [(&str, &str); 2] = [("retention.bytes", "30000"), ("segment.ms", "50")];

/// How much work, and of what kind.
#[derive(Debug, Clone)]
pub struct Plan {
    pub producers: usize,
    pub topics: usize,
    /// Of each topic.
    pub partitions: i32,
    pub shape: Shape,
    /// Topics are created and deleted, records deleted, positions committed.
    pub churn: bool,
    pub tail: bool,
    /// Producers of transactions take part.
    pub transactions: bool,
    /// And no others.
    pub only_transactions: bool,
    /// Producers go on after a refusal.
    pub persistent: bool,
    /// A topic with `cleanup.policy=compact` and one with `retention.bytes` are among them.
    pub cleaned: bool,
    /// After so long without an answer a producer connects again and repeats.
    pub answer_within: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            producers: 6,
            topics: 2,
            partitions: 3,
            shape: Shape::default(),
            churn: true,
            tail: true,
            transactions: true,
            only_transactions: false,
            persistent: false,
            cleaned: true,
            answer_within: PATIENCE,
        }
    }
}

pub struct World {
    pub shared: Shared,
    pub plan: Plan,
    rng: SmallRng,
    sessions: Vec<Session>,
    targets: Vec<Target>,
    churn: Churn,
}

/// Threads at work.
pub struct Running {
    stop: Arc<AtomicBool>,
    sessions: Vec<JoinHandle<Session>>,
    churn: Option<JoinHandle<Churn>>,
    others: Vec<JoinHandle<()>>,
}

impl World {
    /// For a look from outside.
    pub fn connect(&self, address: &str) -> Result<Connection, Failure> {
        self.shared.connect(address, PATIENCE)
    }

    pub fn new(seed: u64, plan: Plan) -> Self {
        let shared = Shared::new(seed);
        let rng = SmallRng::seed_from_u64(seed);
        let mut churn = Churn::new(shared.clone(), seed);
        // Some worlds keep nothing for ever, so that whole files can go.
        churn.spares_none = seed.is_multiple_of(3);
        Self { shared, plan, rng, sessions: Vec::new(), targets: Vec::new(), churn }
    }

    /// Creates the topics that stay.
    pub fn prepare(&mut self, address: &str) -> Result<()> {
        let mut connection = self.connect(address)?;
        for number in 0..self.plan.topics {
            let name = format!("main-{number}");
            self.create(&mut connection, &name, self.plan.partitions, &[])?;
        }
        if self.plan.cleaned {
            self.create(&mut connection, "compacted", 1, &COMPACTED)?;
            self.create(&mut connection, "retained", 1, &RETAINED)?;
        }
        for number in 0..self.plan.producers {
            self.add_session(number);
        }
        self.resume(address)
    }

    fn create(
        &mut self,
        connection: &mut Connection,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<()> {
        let compacted = configs == COMPACTED;
        let topic = {
            let mut history = self.shared.lock();
            let topic = history.add_topic(name, partitions, compacted);
            history.topics[topic].retained = configs == RETAINED;
            topic
        };
        let configs = configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        connection.create_topic(&NewTopic { name: name.to_owned(), partitions, configs })?;
        self.shared.lock().topics[topic].created = Progress::Acknowledged;
        let keys = if compacted { 8 } else { 1000 };
        let target = |partition| Target { place: (topic, partition), at: (name.to_owned(), partition), keys };
        self.targets.extend((0..partitions).map(target));
        Ok(())
    }

    fn add_session(&mut self, number: usize) {
        let kind = match number % 3 {
            _ if self.plan.only_transactions => ProducerKind::Transactional,
            0 => ProducerKind::Idempotent,
            1 => ProducerKind::Plain,
            _ if self.plan.transactions => ProducerKind::Transactional,
            _ => ProducerKind::Idempotent,
        };
        let seed = self.rng.random();
        let targets = self.targets.clone();
        self.sessions.push(Session::new(self.shared.clone(), kind, targets, self.plan.shape, seed));
    }

    /// Sets all producers to work.
    pub fn start(&mut self, address: &str) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let mut running =
            Running { stop: Arc::clone(&stop), sessions: Vec::new(), churn: None, others: Vec::new() };
        let (persistent, within) = (self.plan.persistent, self.plan.answer_within);
        for mut session in self.sessions.drain(..) {
            let (address, stop) = (address.to_owned(), Arc::clone(&stop));
            running.sessions.push(std::thread::spawn(move || {
                session.work(&address, &stop, persistent, within);
                session
            }));
        }
        if self.plan.churn {
            let mut churn = std::mem::replace(&mut self.churn, Churn::new(self.shared.clone(), 0));
            let (address, stop) = (address.to_owned(), Arc::clone(&stop));
            running.churn = Some(std::thread::spawn(move || {
                churn.work(&address, &stop);
                churn
            }));
        }
        if self.plan.tail {
            for isolation in [Isolation::Uncommitted, Isolation::Committed] {
                let (address, shared, targets) =
                    (address.to_owned(), self.shared.clone(), self.targets.clone());
                let stop = Arc::clone(&stop);
                let follow = move || tailer::follow(&address, &shared, &targets, isolation, &stop);
                running.others.push(std::thread::spawn(follow));
            }
        }
        running
    }

    /// Waits until `more` records are acknowledged, or the time is over.
    pub fn wait_acknowledged(&self, more: usize, patience: Duration) -> usize {
        let (before, begun) = (self.shared.lock().order.len(), Instant::now());
        loop {
            let now = self.shared.lock().order.len() - before;
            if now >= more || begun.elapsed() > patience {
                return now;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends the work and takes the producers back.
    pub fn stop(&mut self, running: Running) -> Result<()> {
        running.stop.store(true, Ordering::Relaxed);
        for session in running.sessions {
            self.sessions.push(session.join().ok().context("a producer's thread panicked")?);
        }
        if let Some(churn) = running.churn {
            self.churn = churn.join().ok().context("the churn's thread panicked")?;
        }
        for other in running.others {
            other.join().ok().context("the consumer's thread panicked")?;
        }
        Ok(())
    }

    /// After a restart: repeats what idempotent producers do not know the end of, ends transactions.
    pub fn resume(&mut self, address: &str) -> Result<()> {
        let mut connection = self.connect(address)?;
        for session in &mut self.sessions {
            if let Err(failure) = session.resume(&mut connection) {
                if failure.is_lost() {
                    bail!("the restarted broker does not answer: {failure}");
                }
                let who = session.describe();
                self.shared.complain(format!("a retry after the restart, {who}: {failure}"));
            }
        }
        Ok(())
    }
}
