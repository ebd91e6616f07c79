//! Consumers that follow the producers and remember what they were given: one reads uncommitted, one
//! committed.

use std::sync::atomic::{AtomicBool, Ordering};

use headwater_model::Record;
use headwater_wire::{BatchHeader, batch};

use super::{PATIENCE, Target};
use crate::history::{Followed, Shared};
use crate::kafka::{Connection, Failure, Isolation, PartitionFetched};
use crate::readback::Aborted;
use crate::record;

/// Partitions followed at a time.
const MOST_FOLLOWED: usize = 32;
const WAIT_MS: i32 = 20;

/// Follows until told to stop, or until the connection is lost.
pub fn follow(address: &str, shared: &Shared, targets: &[Target], isolation: Isolation, stop: &AtomicBool) {
    let Ok(mut connection) = shared.connect(address, PATIENCE) else { return };
    let step = targets.len().div_ceil(MOST_FOLLOWED).max(1);
    let mut followers: Vec<Follower> =
        targets.iter().step_by(step).map(|target| Follower::new(shared, target, isolation)).collect();
    while !stop.load(Ordering::Relaxed) {
        if once(&mut connection, &mut followers, isolation).is_err() {
            return;
        }
    }
}

fn once(
    connection: &mut Connection,
    followers: &mut [Follower],
    isolation: Isolation,
) -> Result<(), Failure> {
    let wanted: Vec<_> = followers.iter().map(|one| (one.target.at.clone(), one.position)).collect();
    for fetched in connection.fetch(&wanted, isolation, WAIT_MS)? {
        let Some(one) = followers.iter_mut().find(|one| one.target.at == fetched.at) else { continue };
        match fetched.error {
            Ok(()) => one.take(fetched),
            Err(_) => {
                if let Ok(earliest) = connection.earliest(&one.target.at) {
                    one.begin_at(earliest);
                }
            }
        }
    }
    Ok(())
}

/// One partition, as far as it was read.
struct Follower {
    shared: Shared,
    target: Target,
    isolation: Isolation,
    position: i64,
}

impl Follower {
    fn new(shared: &Shared, target: &Target, isolation: Isolation) -> Self {
        let position = {
            let history = shared.lock();
            history.followed(isolation).get(&target.place).map_or(0, |followed| followed.next)
        };
        let (shared, target) = (shared.clone(), target.clone());
        Self { shared, target, isolation, position }
    }

    /// What lies before is gone.
    fn begin_at(&mut self, earliest: i64) {
        if earliest > self.position {
            self.position = earliest;
            let mut history = self.shared.lock();
            let followed = history.followed_mut(self.isolation).entry(self.target.place).or_default();
            *followed = Followed { from: earliest, next: earliest, ..Followed::default() };
        }
    }

    fn take(&mut self, fetched: PartitionFetched) {
        let mut aborted = Aborted::listed(&fetched.aborted);
        let mut bytes = fetched.records;
        while let Ok(header) = BatchHeader::read(&bytes) {
            let one = bytes.split_to(header.size);
            if header.last_offset() < self.position {
                continue;
            }
            let hidden = self.isolation == Isolation::Committed && aborted.hides(&header, &one);
            match header.verify(&one).and_then(|()| batch::decode(&header, &one)) {
                Ok(_) if hidden || header.is_control() => self.note(&[], header.last_offset() + 1),
                Ok(records) => self.note(&records, header.last_offset() + 1),
                Err(error) => {
                    let (topic, partition) = &self.target.at;
                    self.shared.complain(format!("a consumer of {topic}/{partition} was given: {error}"));
                }
            }
            self.position = header.last_offset() + 1;
        }
    }

    fn note(&self, records: &[Record], next: i64) {
        let mut history = self.shared.lock();
        let (seed, place) = (history.seed, self.target.place);
        let mut complaints = Vec::new();
        let followed = history.followed_mut(self.isolation).entry(place).or_default();
        for record in records.iter().filter(|record| record.offset >= self.position) {
            let offset = record.offset;
            match record::decode(seed, record.key.as_deref(), record.value.as_deref()) {
                Ok(id) => {
                    let before = followed.records.insert(offset, id).filter(|before| *before != id);
                    complaints.extend(before.map(|before| format!("{before} and then {id} at {offset}")));
                }
                Err(wrong) => complaints.push(format!("at {offset}: {wrong}")),
            }
        }
        followed.next = next;
        let at = history.place_name(place);
        history.complaints.extend(complaints.into_iter().map(|what| format!("{at} gave {what}")));
    }
}
