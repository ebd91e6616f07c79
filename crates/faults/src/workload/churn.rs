//! A client that creates topics, writes to them, changes and deletes them, deletes records of the
//! others, and commits positions of a group.

use std::sync::atomic::{AtomicBool, Ordering};

use headwater_wire::ErrorCode;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::{PATIENCE, Session, Shape, Target};
use crate::history::{ProducerKind, Progress, Shared, TopicIndex};
use crate::kafka::{Connection, Failure, NewTopic};
use crate::readback::CONFIG;

/// Topics of its own that it lets live at a time.
const MOST_ALIVE: usize = 6;
/// Names it uses again after a deletion.
const NAMES: u32 = 12;
/// What their names begin with.
pub const CHURN: &str = "churn-";
const GROUP: &str = "faults-group";

pub struct Churn {
    shared: Shared,
    rng: SmallRng,
    alive: Vec<TopicIndex>,
    /// Records of every partition are deleted, not of all but the last.
    pub spares_none: bool,
}

impl Churn {
    pub fn new(shared: Shared, seed: u64) -> Self {
        Self { shared, rng: SmallRng::seed_from_u64(seed ^ 0xc4), alive: Vec::new(), spares_none: false }
    }

    pub fn work(&mut self, address: &str, stop: &AtomicBool) {
        let Ok(mut connection) = self.shared.connect(address, PATIENCE) else { return };
        while !stop.load(Ordering::Relaxed) {
            if let Err(failure) = self.step(&mut connection) {
                let mut history = self.shared.lock();
                if !failure.is_lost() {
                    history.note_refusal(&failure);
                }
                return;
            }
        }
    }

    pub fn step(&mut self, connection: &mut Connection) -> Result<(), Failure> {
        match self.rng.random_range(0..if self.spares_none { 14 } else { 10 }) {
            0..3 => self.create(connection),
            3..5 => self.delete(connection),
            5 => self.configure(connection),
            6..8 => self.commit_position(connection),
            _ => self.delete_records(connection),
        }
    }

    fn create(&mut self, connection: &mut Connection) -> Result<(), Failure> {
        let name = format!("{CHURN}{}", self.rng.random_range(0..NAMES));
        let partitions = self.rng.random_range(1..=8);
        let topic = {
            let mut history = self.shared.lock();
            let before = history.topic_named(&name).map(|topic| history.topics[topic].deleted);
            // A name whose end is unknown is left alone.
            if self.alive.len() >= MOST_ALIVE || !matches!(before, None | Some(Progress::Acknowledged)) {
                return Ok(());
            }
            history.add_topic(&name, partitions, false)
        };
        connection.create_topic(&NewTopic { name: name.clone(), partitions, configs: Vec::new() })?;
        self.shared.lock().topics[topic].created = Progress::Acknowledged;
        self.alive.push(topic);
        let partition = self.rng.random_range(0..partitions);
        let target = Target { place: (topic, partition), at: (name, partition), keys: 10 };
        let (shared, seed) = (self.shared.clone(), self.rng.random());
        Session::new(shared, ProducerKind::Plain, vec![target], Shape::default(), seed).step(connection)
    }

    fn delete(&mut self, connection: &mut Connection) -> Result<(), Failure> {
        if self.alive.is_empty() {
            return Ok(());
        }
        let topic = self.alive.swap_remove(self.rng.random_range(0..self.alive.len()));
        let name = {
            let topic = &mut self.shared.lock().topics[topic];
            topic.deleted = Progress::Asked;
            topic.name.clone()
        };
        connection.delete_topic(&name)?;
        self.shared.lock().topics[topic].deleted = Progress::Acknowledged;
        Ok(())
    }

    fn configure(&mut self, connection: &mut Connection) -> Result<(), Failure> {
        let (topic, name, value) = {
            let history = &mut self.shared.lock();
            let Some(topic) = self.alive.choose(&mut self.rng).copied() else { return Ok(()) };
            let configs = &mut history.topics[topic].configs;
            // A change whose end is unknown stays the last one.
            let value = (2_000_000 + configs.len()).to_string();
            configs.push(value.clone());
            (topic, history.topics[topic].name.clone(), value)
        };
        connection.set_config(&name, CONFIG, &value)?;
        let topic = &mut self.shared.lock().topics[topic];
        topic.configs_acknowledged = topic.configs.len();
        Ok(())
    }

    fn commit_position(&mut self, connection: &mut Connection) -> Result<(), Failure> {
        let (place, at, offset) = {
            let mut history = self.shared.lock();
            let place = (0, self.rng.random_range(0..history.topics[0].partitions));
            let at = (history.topics[0].name.clone(), place.1);
            let position = history.committed.entry((GROUP.to_owned(), place)).or_default();
            position.asked += self.rng.random_range(1..=5);
            (place, at, position.asked)
        };
        connection.commit_offset(GROUP, &at, offset)?;
        if let Some(position) = self.shared.lock().committed.get_mut(&(GROUP.to_owned(), place)) {
            position.acknowledged = offset;
        }
        Ok(())
    }

    /// Of a partition that all write to, up to some acknowledged record.
    fn delete_records(&mut self, connection: &mut Connection) -> Result<(), Failure> {
        let (place, at, offset) = {
            let mut history = self.shared.lock();
            let Some(producer) = history.producers.choose(&mut self.rng) else { return Ok(()) };
            let Some(sent) = producer.sent.choose(&mut self.rng) else { return Ok(()) };
            let (place, offset) = (sent.place, sent.acknowledged.unwrap_or(-1));
            let topic = &history.topics[place.0];
            let last = place.1 == topic.partitions - 1 && !self.spares_none;
            if topic.compacted || topic.retained || !history.is_alive(place.0) || last {
                return Ok(());
            }
            let at = (history.topics[place.0].name.clone(), place.1);
            let deleted = history.deleted_before.entry(place).or_default();
            if offset <= deleted.asked {
                return Ok(());
            }
            deleted.asked = offset;
            (place, at, offset)
        };
        let outcome = connection.delete_records(&at, offset);
        if outcome.as_ref().is_err_and(|f| f.code() == Some(ErrorCode::PolicyViolation)) {
            return Ok(());
        }
        let low = outcome?;
        let mut history = self.shared.lock();
        if low != offset {
            let at = history.place_name(place);
            history.complaints.push(format!("{at}: records before {offset} deleted, low watermark {low}"));
        }
        history.deleted_before.entry(place).or_default().acknowledged = offset;
        Ok(())
    }
}
