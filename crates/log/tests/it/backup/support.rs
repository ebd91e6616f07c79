//! Backups on simulated disks, and what comes back from them.

use std::sync::Arc;

use headwater_log::backup::{
    Backup, BackupError, Manifest, Outcome, Source, back_up, copy_back, open_restored,
};
use headwater_log::{ColdStore, Disk, Log, SimDisk};

use crate::common::{SETTINGS, World};

pub const CREATED: &str = "2026-01-02T03:04:05Z";

pub fn empty() -> Backup<SimDisk> {
    Backup { files: SimDisk::new(), manifests: SimDisk::new() }
}

pub fn take<S: Disk, B: Disk>(
    disk: &S,
    store: Option<&dyn ColdStore>,
    to: &Backup<B>,
) -> Result<Outcome, BackupError> {
    let source = Source { disk, cluster_id: "cluster", format: 2, cold: store, without_lost: false };
    back_up(&source, to, CREATED, &|| None, &mut |_| {})
}

pub fn restored<B: Disk>(from: &Backup<B>, manifest: &Manifest) -> Log<SimDisk> {
    let disk = Arc::new(SimDisk::new());
    let checked = copy_back(from, manifest, &*disk, None, &mut |_| {}).expect("restored");
    let found = open_restored(Arc::clone(&disk), manifest, checked).expect("it opens");
    assert_eq!(found.damage, manifest.damage);
    assert_eq!(found.partitions, manifest.totals.partitions);
    assert_eq!(found.bytes, manifest.totals.bytes);
    Log::open(disk, SETTINGS).expect("it opens again")
}

pub fn settled(seed: u64) -> (World, Backup<SimDisk>) {
    let mut world = World::new(seed, false);
    world.run(300);
    world.settle();
    world.log.roll();
    world.settle();
    (world, empty())
}
