//! A world's questions to a broker: what is there, is it right, does it take more.

use std::collections::HashSet;

use anyhow::Result;
use rand::Rng;

use super::{PATIENCE, Session, Shape, Target, World};
use crate::history::{Place, ProducerKind, Shared};
use crate::kafka::{Connection, Failure, Power};
use crate::readback::{self, ReadBack};
use crate::verify::{Allowed, Rule, Violation, verify};

/// After a restart the end of partitions is tried on so many at most.
const MOST_PROBED: usize = 40;

impl World {
    /// Reads everything and compares; then each partition must take a record at its end.
    pub fn check(&mut self, address: &str, allowed: Allowed) -> Result<Vec<Violation>> {
        let mut connection = self.connect(address)?;
        let read = {
            let history = self.shared.lock().clone();
            readback::read_all(&mut connection, &history)?
        };
        let mut violations = verify(&self.shared.lock(), &read, allowed);
        if !allowed.lost_tail {
            violations.extend(self.probe(&mut connection, &read));
        }
        Ok(violations)
    }

    /// Without the probes, for a log that must not change.
    pub fn compare(&self, address: &str, allowed: Allowed) -> Result<Vec<Violation>> {
        Ok(self.compare_counting(address, allowed)?.0)
    }

    /// Also how many offsets the broker refused to read.
    pub fn compare_counting(&self, address: &str, allowed: Allowed) -> Result<(Vec<Violation>, usize)> {
        let mut connection = self.connect(address)?;
        let history = self.shared.lock().clone();
        let read = readback::read_all(&mut connection, &history)?;
        let refused: HashSet<(Place, i64)> = read
            .partitions
            .iter()
            .flat_map(|(place, read)| read.refused.iter().map(|(offset, _)| (*place, *offset)))
            .collect();
        Ok((verify(&history, &read, allowed), refused.len()))
    }

    fn probe(&mut self, connection: &mut Connection, read: &ReadBack) -> Vec<Violation> {
        let mut places: Vec<_> = read.partitions.iter().collect();
        places.sort_by_key(|(place, _)| **place);
        let step = places.len().div_ceil(MOST_PROBED).max(1);
        let mut wrong = Vec::new();
        for (place, partition) in places.into_iter().step_by(step) {
            let name = self.shared.lock().topics[place.0].name.clone();
            let target = Target { place: *place, at: (name, place.1), keys: 4 };
            let seed = self.rng.random();
            let (kind, shape) = (ProducerKind::Plain, self.plan.shape);
            let mut session = Session::new(self.shared.clone(), kind, vec![target], shape, seed);
            match session.probe(connection) {
                Ok(offset) if offset == partition.high_watermark => {}
                Ok(offset) => wrong.push(Violation {
                    rule: Rule::Changed,
                    detail: format!(
                        "{}: a new record was put at {offset}, the end was {}",
                        self.shared.lock().place_name(*place),
                        partition.high_watermark
                    ),
                }),
                Err(failure) => wrong.push(Violation {
                    rule: Rule::Noticed,
                    detail: format!(
                        "{}: a new record after the restart: {failure}",
                        self.shared.lock().place_name(*place)
                    ),
                }),
            }
        }
        wrong
    }

    /// Reads everything as a consumer would, and remembers it.
    pub fn observe(&self, address: &str) -> Result<()> {
        let mut connection = self.connect(address)?;
        let history = self.shared.lock().clone();
        let read = readback::read_records(&mut connection, &history, |_| true)?;
        for (place, partition) in read.partitions {
            let given = partition.records.into_iter().filter_map(|(offset, id)| Some((offset, id.ok()?)));
            self.shared.lock().seen.entry(place).or_default().records.extend(given);
        }
        Ok(())
    }

    /// One record more, by a producer of its own.
    pub fn one_more(&mut self, address: &str) -> Result<()> {
        let mut connection = self.connect(address)?;
        let (target, seed) = (self.targets[0].clone(), self.rng.random());
        let shape = Shape { most_records: 1, ..self.plan.shape };
        let (shared, kind) = (self.shared.clone(), ProducerKind::Plain);
        Session::new(shared, kind, vec![target], shape, seed).probe(&mut connection)?;
        Ok(())
    }

    /// One record that the history does not know; where it was put.
    pub fn stranger(&self, address: &str) -> Result<i64, Failure> {
        let mut connection = Connection::open(address, PATIENCE, &Power::default())?;
        let (target, shape) = (self.targets[0].clone(), self.plan.shape);
        let shared = Shared::new(0);
        Session::new(shared, ProducerKind::Plain, vec![target], shape, 0).probe(&mut connection)
    }

    /// As if the last acknowledgement had not come.
    pub fn forget_last(&self) {
        let mut history = self.shared.lock();
        let Some(last) = history.order.pop() else { return };
        let sent = &mut history.producers[last.producer as usize].sent;
        sent[last.sequence as usize].acknowledged = None;
    }

    /// One step of one producer after the other.
    pub fn step(&mut self, address: &str, number: usize) -> Result<()> {
        let mut connection = self.connect(address)?;
        let turn = number % self.sessions.len();
        self.sessions[turn].step(&mut connection)?;
        Ok(())
    }

    /// How many acknowledged batches are served before the first that is not, and a later one that is.
    pub fn kept_of_order(&self, address: &str) -> Result<(usize, Option<usize>)> {
        let mut connection = self.connect(address)?;
        let history = self.shared.lock().clone();
        let read = readback::read_records(&mut connection, &history, |_| true)?;
        let records = read.partitions.values().flat_map(|partition| &partition.records);
        let there: HashSet<_> = records.filter_map(|(_, id)| id.clone().ok()).collect();
        let kept = history.order.iter().take_while(|id| there.contains(id)).count();
        let later = (kept..history.order.len()).find(|place| there.contains(&history.order[*place]));
        Ok((kept, later))
    }
}
