//! The course of events: commits, restarts, crashes, and what must be there after each.

use headwater_log::{CommitJob, Disk, Durability, FileId, LogError, Origin};
use headwater_wire::{BatchHeader, batch};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::model::Model;
use super::world::{Disks, Sequence, World};
use super::{Visible, id};

impl World {
    pub fn begin(&mut self) {
        if self.ticket.is_some() {
            return;
        }
        if !self.steady && self.rng.random_bool(0.02) {
            let side = self.rng.random_range(0..2);
            self.on_side(side, |faults| faults.fail_next_sync = true);
        }
        if let Some(mut job) = self.log.begin_commit() {
            self.flying = Some(self.staged.clone());
            if !self.steady && self.rng.random_bool(0.05) {
                self.on_both(|faults| faults.full = true);
                match job.attempt() {
                    // A side may have gone meanwhile.
                    Err(refused) if self.mirror.is_none() => {
                        assert!(CommitJob::<Disks>::may_retry(&refused));
                    }
                    Err(_) => {}
                    Ok(()) => panic!("there is no space"),
                }
                self.on_both(|faults| faults.full = false);
            }
            self.ticket = Some(job.run());
        }
        self.on_both(|faults| faults.fail_next_sync = false);
    }

    pub fn end(&mut self) {
        let Some((ticket, outcome)) = self.ticket.take() else { return };
        let failed = outcome.is_err();
        let synced = ticket.synced();
        assert_eq!(self.log.end_commit(ticket, outcome).is_err(), failed);
        if failed {
            let refused = self.log.create_partition(id(0));
            assert!(matches!(refused, Err(LogError::Fenced(_))), "{refused:?}");
            self.crash();
        } else {
            let now = self.flying.take().expect("one was flying");
            match synced {
                true => self.unsynced.clear(),
                false => self.unsynced.push(std::mem::replace(&mut self.durable, now.clone())),
            }
            self.durable = now;
            self.check();
        }
    }

    /// Stopped and started without a crash: nothing is lost, unsynced or not.
    pub(super) fn restart(&mut self) {
        self.end();
        self.begin();
        self.end();
        self.log = self.reopened();
        self.unsynced.clear();
        self.recovered();
    }

    /// Power off and on. What was acknowledged is there; a frame in flight is there as a whole or not.
    pub fn crash(&mut self) {
        let mut rng = StdRng::seed_from_u64(self.rng.random());
        self.disk = self.disk.crash(|| rng.random_bool(0.5));
        if let Some(mirror) = &mut self.mirror {
            mirror.disk = mirror.disk.crash(|| rng.random_bool(0.5));
        }
        self.log = self.reopened();
        let found = self.observe();
        let possible = self.unsynced.drain(..).chain([self.durable.clone()]).chain(self.flying.take());
        let possible: Vec<Model> = possible.collect();
        let shown: Vec<_> = possible.iter().map(Self::visible).collect();
        let at = shown.iter().position(|shown| *shown == found);
        let at =
            at.unwrap_or_else(|| panic!("what is on the disk is none of {} possible states", shown.len()));
        self.durable = possible.into_iter().nth(at).expect("it was found there");
        self.recovered();
    }

    pub(super) fn recovered(&mut self) {
        self.ticket = None;
        self.flying = None;
        self.staged = self.durable.clone();
        self.chores.clear();
        assert_eq!(self.log.damage(), [], "a crash damages nothing");
        self.check();
        self.retry_what_is_there();
        // Producers learn where they stand from what is there.
        self.sequences.clear();
        self.last_sent.clear();
        self.crashes += 1;
        for number in 0..4 {
            for writer in 1..5 {
                self.sequences
                    .insert((self.slot(number), writer), Sequence { epoch: self.crashes * 100, next: 0 });
            }
        }
        self.do_chores();
        self.check();
        self.check_files();
    }

    /// A batch that survived is recognized when it is sent again.
    pub(super) fn retry_what_is_there(&mut self) {
        for ((at, writer), (bytes, base)) in self.last_sent.clone() {
            let known = self.durable.partitions.get(&at).and_then(|p| p.records.get(base as usize));
            let size = BatchHeader::read(&bytes).expect("a batch").record_count;
            let ours = known.is_some_and(|sent| {
                let values =
                    batch::decode(&BatchHeader::read(&bytes).expect("a batch"), &bytes).expect("records");
                sent.producer == writer && sent.value == values[0].value && size > 0
            });
            if ours {
                let again = self.log.append(at, &bytes, Origin::Client, Durability::Synced, 0);
                let again = again.expect("a retry is fine after a restart");
                assert!(again.duplicate && again.base_offset == base, "{again:?}, first at {base}");
            }
        }
    }

    /// No file is left that nobody needs, but for two journals and spares.
    pub(super) fn check_files(&self) {
        let needed: Vec<FileId> = self
            .log
            .partitions()
            .into_iter()
            .flat_map(|id| {
                let usage = self.log.reader().usage(id).expect("it exists");
                usage.extents.into_iter().map(|extent| extent.file)
            })
            .collect();
        let newest = self.newest_journal().number();
        for name in self.disks.list().expect("listed") {
            if let Some(file) = FileId::parse(&name) {
                let kept = needed.contains(&file) || (!file.is_run() && file.number() + 1 >= newest);
                assert!(kept, "{name} is left, and nobody needs it");
            }
        }
    }

    pub fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            if self.rng.random_bool(0.003) {
                self.log.roll();
            }
            match self.rng.random_range(0..100) {
                0..55 => self.append(),
                55..64 => self.end_transaction(),
                64..70 => self.create_or_trim(),
                70..72 => self.relocate(),
                72..84 => self.begin(),
                84..95 => self.end(),
                95 => {
                    self.do_chores();
                    if self.cools {
                        self.cool();
                    }
                }
                96 => self.delete(),
                97 => self.restart(),
                _ => self.crash(),
            }
        }
    }

    /// All that is staged is on disk, and no work is left.
    pub fn settle(&mut self) {
        self.end();
        for _ in 0..2 {
            self.begin();
            self.end();
        }
        self.do_chores();
    }

    /// As [`Self::run`], on a machine that does not fail. Returns what became visible, in its order.
    pub fn live(&mut self, steps: usize) -> Vec<Visible> {
        let mut shown = Vec::new();
        for _ in 0..steps {
            if self.rng.random_bool(0.02) {
                self.log.roll();
            }
            match self.rng.random_range(0..100) {
                0..50 => self.append(),
                50..58 => self.end_transaction(),
                58..64 => self.create_or_trim(),
                64..70 => self.relocate(),
                70..80 => shown.extend(self.begin_without_faults()),
                80..90 => self.end(),
                90..96 => self.do_chores(),
                96..98 => self.delete(),
                98 => self.cool(),
                _ => {
                    self.end();
                    shown.extend(self.begin_without_faults());
                    self.end();
                    self.log = self.reopened();
                    self.unsynced.clear();
                    self.recovered();
                }
            }
        }
        shown
    }

    pub(super) fn begin_without_faults(&mut self) -> Option<Visible> {
        if self.ticket.is_none()
            && let Some(job) = self.log.begin_commit()
        {
            self.flying = Some(self.staged.clone());
            self.ticket = Some(job.run());
            return self.on_its_way();
        }
        None
    }

    /// What will be visible when the commit under way ends.
    pub fn on_its_way(&self) -> Option<Visible> {
        self.flying.as_ref().map(Self::visible)
    }
}
