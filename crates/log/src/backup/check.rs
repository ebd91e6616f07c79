//! Looking at copies: every byte by its checksum, and the log that they make by replaying it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::manifest::{Manifest, NamedDamage};
use super::store::Counter;
use super::view::View;
use super::{Backup, BackupError, Entry, Stage, Watch};
use crate::index::FileIndex;
use crate::recovery::{self, Seen, read_file};
use crate::{Cause, Damage, Disk, DiskFile, Extent, FileId, PartitionId};

/// What an examination found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// A file, and why it is not what the manifest says.
    pub problems: Vec<(String, String)>,
    /// Of the log: known when the backup was taken, or found since.
    pub damage: Vec<NamedDamage>,
    pub bytes: u64,
}

/// What partitions have in each file.
pub struct Extents {
    of_file: HashMap<FileId, Vec<(PartitionId, Extent)>>,
}

/// What [`recovery::survey`] says of a file.
pub type Survey = (FileIndex, Vec<(PartitionId, Damage)>);

impl Extents {
    pub fn of(seen: &Seen) -> Self {
        let mut of_file: HashMap<FileId, Vec<(PartitionId, Extent)>> = HashMap::new();
        for (id, partition) in &seen.partitions {
            for extent in &partition.extents {
                of_file.entry(extent.file).or_default().push((*id, *extent));
            }
        }
        Self { of_file }
    }

    /// Whether a partition still has what was damaged.
    pub fn hold(&self, damage: &NamedDamage) -> bool {
        let file = FileId::parse(&damage.file).and_then(|file| self.of_file.get(&file));
        file.into_iter().flatten().any(|(id, extent)| {
            extent.first <= damage.last && damage.first <= extent.last && id.to_string() == damage.partition
        })
    }

    /// What partitions need of a file and is not there as it was written.
    pub fn damage_in(&self, file: FileId, (index, bad): &Survey) -> Vec<NamedDamage> {
        let mut named = Vec::new();
        for (id, extent) in self.of_file.get(&file).into_iter().flatten() {
            let inside = |first: i64, last: i64| extent.first <= first && last <= extent.last;
            let bad = bad.iter().filter(|(of, damage)| of == id && inside(damage.first, damage.last));
            let bad: Vec<&Damage> = bad.map(|(_, damage)| damage).collect();
            named.extend(bad.iter().map(|damage| NamedDamage::new(*id, damage)));
            let places = index.get(id).into_iter().flatten();
            let mut known: Vec<(i64, i64)> = places
                .map(|place| (place.base_offset, place.last_offset))
                .filter(|(first, last)| inside(*first, *last))
                .chain(bad.iter().map(|damage| (damage.first, damage.last)))
                .collect();
            if known.len() < extent.batches as usize {
                known.sort_unstable();
                named.extend(holes(extent, &known).map(|damage| NamedDamage::new(*id, &damage)));
            }
        }
        named
    }
}

/// The offsets of an extent that nothing is known of.
fn holes(extent: &Extent, known: &[(i64, i64)]) -> impl Iterator<Item = Damage> {
    let starts = std::iter::once(extent.first).chain(known.iter().map(|(_, last)| last + 1));
    let ends = known.iter().map(|(first, _)| first - 1).chain([extent.last]);
    let file = extent.file;
    let holes: Vec<(i64, i64)> = starts.zip(ends).filter(|(first, last)| first <= last).collect();
    holes.into_iter().map(move |(first, last)| Damage { first, last, file, cause: Cause::LostCommit })
}

/// In order, each once.
pub fn tidy(damage: &mut Vec<NamedDamage>) {
    damage.sort_unstable_by(|a, b| (&a.partition, a.first, &a.file).cmp(&(&b.partition, b.first, &b.file)));
    damage.dedup_by(|a, b| (&a.partition, a.first, &a.file) == (&b.partition, b.first, &b.file));
}

/// What the log itself knows of.
pub fn damage_of(seen: &Seen) -> Vec<NamedDamage> {
    let mut damage: Vec<NamedDamage> = Vec::new();
    for (id, partition) in &seen.partitions {
        damage.extend(partition.damage.iter().map(|damage| NamedDamage::new(*id, damage)));
    }
    damage
}

/// Reads a whole backup, every file by its checksum and every batch by its own, and replays the log.
///
/// # Errors
/// Of the disk. What is found is no error.
pub fn verify<B: Disk>(
    backup: &Backup<B>,
    manifest: &Manifest,
    watch: Watch<'_>,
) -> Result<Checked, BackupError> {
    let mut view = View::default();
    let mut checked = Checked { problems: Vec::new(), damage: Vec::new(), bytes: 0 };
    for entry in &manifest.files {
        match backup.files.open(&entry.stored).and_then(|file| Ok((file.len()?, file))) {
            Ok((length, file)) if length >= entry.length => {
                view.put(entry.name.clone(), Arc::new(file), entry.length);
            }
            Ok((length, _)) => checked.problem(entry, format!("it has {length} of {} bytes", entry.length)),
            Err(error) => checked.problem(entry, error.to_string()),
        }
    }
    checked.examine(&view, manifest, watch, |_, _| {});
    Ok(checked)
}

impl Checked {
    fn problem(&mut self, entry: &Entry, reason: String) {
        self.problems.push((entry.stored.clone(), reason));
    }

    /// Compares a log that nobody writes with a manifest. `each` gets the places in files without damage.
    pub fn examine<D: Disk>(
        &mut self,
        disk: &D,
        manifest: &Manifest,
        watch: Watch<'_>,
        mut each: impl FnMut(FileId, &FileIndex),
    ) {
        let mut far = Vec::new();
        let extents = match recovery::look(disk) {
            Ok(seen) => {
                self.damage = damage_of(&seen);
                if seen.next_commit - 1 != manifest.last_commit {
                    let reason = format!(
                        "its last commit is {}, and not {}",
                        seen.next_commit - 1,
                        manifest.last_commit
                    );
                    self.problems.push(("the log".to_owned(), reason));
                }
                far.extend(seen.cold.keys().copied());
                Extents::of(&seen)
            }
            Err(error) => {
                self.problems.push(("the log".to_owned(), error.to_string()));
                Extents { of_file: HashMap::new() }
            }
        };
        let mut counter = Counter::new(watch);
        counter.begin(manifest.totals.file_bytes);
        for entry in &manifest.files {
            // A file that is not there has been named.
            let (Some(id), Ok(file)) = (entry.id(), disk.open(&entry.name)) else { continue };
            let found = match read_file(&file) {
                Ok(bytes) => {
                    if crc32c::crc32c(&bytes) != entry.crc32c {
                        self.problem(entry, "its checksum is another".to_owned());
                    }
                    recovery::survey(&bytes, id)
                }
                Err(error) => {
                    self.problem(entry, error.to_string());
                    continue;
                }
            };
            self.bytes += entry.length;
            counter.step(Stage::Checking, entry.length);
            let damage = extents.damage_in(id, &found);
            // A reader that makes the index itself learns what is missing from it.
            if damage.is_empty() {
                each(id, &found.0);
            }
            self.damage.extend(damage);
        }
        // What only a cold store had, and had lost, when the backup was taken.
        let named: HashSet<&str> = manifest.files.iter().map(|entry| entry.name.as_str()).collect();
        let lost = far.iter().filter(|file| !named.contains(file.name().as_str()));
        self.damage.extend(lost.flat_map(|file| extents.damage_in(*file, &Survey::default())));
        tidy(&mut self.damage);
    }
}
