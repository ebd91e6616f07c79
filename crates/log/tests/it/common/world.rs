//! A log on disks that fail, beside the model of it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use headwater_log::{
    Chore, CommitTicket, Disk, Faults, FileId, InTurn, Log, MirroredDisk, Mirroring, Orphans, Ownership,
    PartitionId, Side, SimDisk,
};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::SETTINGS;
use super::model::Model;
use super::store::Store;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sequence {
    pub(super) epoch: i16,
    pub(super) next: i32,
}

/// What the log of a world is on: one disk, or two.
pub type Disks = MirroredDisk<SimDisk>;

/// A second disk, and which of the two are not there at the next start.
pub struct Mirror {
    pub disk: SimDisk,
    pub away: [bool; 2],
}

pub struct World {
    pub rng: StdRng,
    pub disk: SimDisk,
    pub mirror: Option<Mirror>,
    /// The log's view of both.
    pub disks: Disks,
    pub(super) opened: u64,
    pub store: Store,
    /// Whether files go to the store while it runs.
    pub cools: bool,
    /// Whether no sync fails and space is never short.
    pub steady: bool,
    pub log: Log<Disks>,
    /// Acknowledged, and what is on its way: the staged model and the one in flight.
    pub durable: Model,
    pub staged: Model,
    pub(super) flying: Option<Model>,
    /// What was acknowledged since the last sync, oldest first: a power cut may leave any of it.
    pub(super) unsynced: Vec<Model>,
    pub(super) ticket: Option<(CommitTicket<Disks>, std::io::Result<()>)>,
    pub(super) sequences: HashMap<(PartitionId, i64), Sequence>,
    pub(super) last_sent: HashMap<(PartitionId, i64), (Bytes, i64)>,
    pub(super) chores: Vec<Chore<Disks>>,
    /// How often the partition of each slot was deleted; a new one has another id.
    pub(super) generations: [u8; 4],
    pub(super) serial: u64,
    pub(super) crashes: i16,
}

pub fn attach(disk: &SimDisk, mirror: Option<&Mirror>, opened: u64) -> Disks {
    let Some(mirror) = mirror else { return MirroredDisk::single(disk.clone()) };
    let side = |at: usize, disk: &SimDisk| Side {
        name: at.to_string(),
        disk: if mirror.away[at] { Err("it is away".to_owned()) } else { Ok(disk.clone()) },
    };
    let mirroring = Mirroring { required: false, seed: opened, beside: Arc::new(InTurn) };
    MirroredDisk::open([side(0, disk), side(1, &mirror.disk)], mirroring).expect("the mirror opens")
}

impl World {
    pub fn new(seed: u64, lying: bool) -> Self {
        let disk = SimDisk::new();
        disk.faults(|faults| faults.lying_sync = lying);
        Self::on(seed, disk, None)
    }

    pub fn mirrored(seed: u64) -> Self {
        Self::on(seed, SimDisk::new(), Some(Mirror { disk: SimDisk::new(), away: [false; 2] }))
    }

    pub(super) fn on(seed: u64, disk: SimDisk, mirror: Option<Mirror>) -> Self {
        let store = Store::default();
        let disks = attach(&disk, mirror.as_ref(), 0);
        let log = Log::open_with(Arc::new(disks.clone()), SETTINGS, Some(Arc::new(store.clone())));
        let log = log.expect("a new log opens");
        Self {
            rng: StdRng::seed_from_u64(seed),
            disk,
            mirror,
            disks,
            opened: 0,
            store,
            cools: true,
            steady: false,
            log,
            durable: Model::default(),
            staged: Model::default(),
            flying: None,
            unsynced: Vec::new(),
            ticket: None,
            sequences: HashMap::new(),
            last_sent: HashMap::new(),
            chores: Vec::new(),
            generations: [0; 4],
            serial: 0,
            crashes: 0,
        }
    }

    pub fn reopened(&mut self) -> Log<Disks> {
        let store = Arc::new(self.store.clone());
        self.opened += 1;
        self.disks = attach(&self.disk, self.mirror.as_ref(), self.opened << 20);
        let log = Log::open_with(Arc::new(self.disks.clone()), SETTINGS, Some(store));
        let log = log.expect("it opens");
        if self.owns_its_place(&log) {
            let swept = log.reader().sweep_cold_store(&mut Orphans::default(), 0, 0, usize::MAX);
            swept.expect("the store is swept");
        }
        log
    }

    /// A disk that lies may have forgotten the log's name.
    fn owns_its_place(&self, log: &Log<Disks>) -> bool {
        let claimed = log.reader().claim_cold_store(self.opened);
        let ours = claimed.expect("the store is asked") == Ownership::Ours;
        let mut lies = false;
        self.disk.faults(|faults| lies = faults.lying_sync);
        assert!(ours || lies, "a log's place in the store stays its own");
        ours
    }

    pub fn newest_journal(&self) -> FileId {
        let names = self.disks.list().expect("listed");
        let journals = names.iter().filter_map(|name| FileId::parse(name)).filter(|file| !file.is_run());
        journals.max().expect("there is a journal")
    }

    /// Side 1 is the mirror's, when there is one.
    pub fn on_side(&self, side: usize, change: impl FnOnce(&mut Faults)) {
        match &self.mirror {
            Some(mirror) if side == 1 => mirror.disk.faults(change),
            _ => self.disk.faults(change),
        }
    }

    pub fn on_both(&self, change: impl Fn(&mut Faults)) {
        self.on_side(0, &change);
        self.on_side(1, &change);
    }
}
