//! Taking a backup of a log that somebody may be writing.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;

use super::check::{self, Extents};
use super::cut::{self, Cut, Needed};
use super::error::doing;
use super::manifest::{Manifest, NamedDamage};
use super::store::{self, Counter};
use super::{Backup, BackupError, Entry, Totals, Watch};
use crate::cold::{ColdFile, ColdStore};
use crate::recovery::{self, read_file};
use crate::{Disk, DiskFile, FileId};

/// How often a log may run away while it is copied. What was copied is not copied again.
const ATTEMPTS: u32 = 20;
/// How often a file that is needed is looked for before it counts as lost.
const LOOKS: u32 = 3;

/// The log that is copied.
pub struct Source<'a, D: Disk> {
    pub disk: &'a D,
    pub cluster_id: &'a str,
    /// Of the data directory.
    pub format: u32,
    pub cold: Option<&'a dyn ColdStore>,
    /// Goes on without what the cold store has lost, and names it as damage, instead of being refused.
    pub without_lost: bool,
}

/// What a backup took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub manifest: Manifest,
    pub copied_files: u64,
    pub copied_bytes: u64,
}

/// Takes a backup. `created` is the time as RFC 3339; `free` says how much space is left, if that is known.
///
/// # Errors
/// Of the disks, `Moving`, `NoSpace`, `OtherCluster`, `Cold`, `ColdLost`, and `Log` when no file says what the log
/// holds. None of them changes a backup that was there.
pub fn back_up<S: Disk, B: Disk>(
    source: &Source<'_, S>,
    backup: &Backup<B>,
    created: &str,
    free: &dyn Fn() -> Option<u64>,
    watch: Watch<'_>,
) -> Result<Outcome, BackupError> {
    let previous = backup.latest()?;
    if let Some(previous) = previous.as_ref().filter(|previous| previous.cluster_id != source.cluster_id) {
        let (theirs, ours) = (previous.cluster_id.clone(), source.cluster_id.to_owned());
        return Err(BackupError::OtherCluster { theirs, ours });
    }
    store::remove_unfinished(&backup.files).map_err(doing("removing what is unfinished"))?;
    store::remove_unfinished(&backup.manifests).map_err(doing("removing what is unfinished"))?;
    let mut manifest = Manifest::new(backup.next_number()?, previous.as_ref(), created);
    manifest.cluster_id = source.cluster_id.to_owned();
    manifest.log_format = source.format;
    let counter = Counter::new(watch);
    let mut take = Take { source, backup, previous, free, counter, lost: None, looks: HashMap::new() };
    let mut looks: HashMap<FileId, u32> = HashMap::new();
    for attempt in 1..=ATTEMPTS {
        let cut = match cut::cut(source.disk) {
            Ok(Some(cut)) => cut,
            Ok(None) => continue,
            // It may have changed while it was read.
            Err(_) if attempt < ATTEMPTS => continue,
            Err(error) => return Err(error.into()),
        };
        let lost = cut.missing.iter().filter(|file| {
            let looks = looks.entry(**file).or_default();
            *looks += 1;
            *looks >= LOOKS
        });
        if lost.count() < cut.missing.len() {
            continue;
        }
        if take.copy(&cut, &mut manifest)? {
            backup.files.sync_directory().map_err(doing("syncing the backup's directory"))?;
            manifest.write(&backup.manifests)?;
            let Counter { files: copied_files, bytes: copied_bytes, .. } = take.counter;
            return Ok(Outcome { manifest, copied_files, copied_bytes });
        }
    }
    Err(take.lost.unwrap_or(BackupError::Moving(ATTEMPTS)))
}

struct Take<'a, S: Disk, B: Disk> {
    source: &'a Source<'a, S>,
    backup: &'a Backup<B>,
    previous: Option<Manifest>,
    free: &'a dyn Fn() -> Option<u64>,
    counter: Counter<'a>,
    /// What the last attempt did not find in the cold store, and how often each object was looked for.
    lost: Option<BackupError>,
    looks: HashMap<FileId, u32>,
}

impl<S: Disk, B: Disk> Take<'_, S, B> {
    /// Copies what is not there yet. False when the log went away under it.
    fn copy(&mut self, cut: &Cut<S::File>, manifest: &mut Manifest) -> Result<bool, BackupError> {
        self.lost = None;
        let Plan { mut files, local, cold } = self.plan(cut)?;
        let mut damage = self.known_damage(cut, &files);
        let extents = Extents::of(&cut.seen);
        let mut keep = |take: &mut Self, id, bytes: &[u8]| -> Result<(), BackupError> {
            damage.extend(extents.damage_in(id, &recovery::survey(bytes, id)));
            files.push(store::keep(take.backup, id, bytes, &mut take.counter)?);
            Ok(())
        };
        let mut lost = Vec::new();
        for needed in local {
            let Some(bytes) = self.read(needed)? else { return Ok(false) };
            keep(self, needed.id, &bytes)?;
        }
        for cold in cold {
            match self.fetch(cold)? {
                Fetched::Bytes(bytes) => keep(self, cold.file, &bytes)?,
                Fetched::Again => return Ok(false),
                Fetched::Lost => lost.push(cold.file),
            }
        }
        let nothing = check::Survey::default();
        damage.extend(lost.into_iter().flat_map(|file| extents.damage_in(file, &nothing)));
        files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        check::tidy(&mut damage);
        manifest.last_commit = cut.seen.next_commit - 1;
        manifest.totals = Totals::of(&cut.seen, &files);
        manifest.files = files;
        manifest.damage = damage;
        Ok(true)
    }

    /// Refuses to begin without the space for it.
    fn plan<'c>(&mut self, cut: &'c Cut<S::File>) -> Result<Plan<'c, S::File>, BackupError> {
        let mut plan = Plan { files: Vec::new(), local: Vec::new(), cold: Vec::new() };
        let extents = Extents::of(&cut.seen);
        let own = check::damage_of(&cut.seen);
        let mut bytes = 0;
        for needed in &cut.needed {
            let doing = || doing(format!("comparing {} with the backup", needed.id.name()));
            let length = needed.end.map_or_else(|| needed.file.len(), Ok).map_err(doing())?;
            let entry = self.known(needed.id).filter(|entry| entry.length == length);
            match entry {
                Some(entry)
                    if store::same_as(self.backup, entry, &*needed.file).map_err(doing())?
                        && !self.is_mended(needed, entry, &extents, &own) =>
                {
                    plan.files.push(entry.clone());
                }
                _ => {
                    bytes += length;
                    plan.local.push(needed);
                }
            }
        }
        for cold in &cut.cold {
            let same = |entry: &&Entry| (entry.length, entry.crc32c) == (cold.length, cold.crc);
            match self.known(cold.file).filter(same) {
                Some(entry) if store::is_there(self.backup, entry) => plan.files.push(entry.clone()),
                _ => {
                    bytes += cold.length;
                    plan.cold.push(cold);
                }
            }
        }
        if let Some(free) = (self.free)().filter(|free| *free < bytes) {
            return Err(BackupError::NoSpace { needed: bytes, free: Some(free) });
        }
        self.counter.begin(bytes);
        Ok(plan)
    }

    /// The file in the backup before. Its entries are sorted by name.
    fn known(&self, id: FileId) -> Option<&Entry> {
        let files = &self.previous.as_ref()?.files;
        let at = files.binary_search_by(|entry| entry.name.as_str().cmp(&id.name())).ok()?;
        files.get(at)
    }

    /// Whether less of a file is damaged than when it was copied: a mirror has repaired it, say. One that cannot be read now is
    /// not better than its copy. What the log itself names (`own`) says nothing of the file.
    fn is_mended(
        &self,
        needed: &Needed<S::File>,
        entry: &Entry,
        extents: &Extents,
        own: &[NamedDamage],
    ) -> bool {
        let before = self.previous.iter().flat_map(|previous| &previous.damage);
        let of_copy = |damage: &&NamedDamage| {
            damage.file == entry.name && extents.hold(damage) && !own.contains(*damage)
        };
        let known = before.filter(of_copy).count();
        if known == 0 {
            return false;
        }
        let Ok(Some(bytes)) = self.read(needed) else { return false };
        let found = extents.damage_in(needed.id, &recovery::survey(&bytes, needed.id));
        found.iter().filter(|damage| !own.contains(*damage)).count() < known
    }

    /// What the log knows of, and what was found in files when they were copied.
    fn known_damage(&self, cut: &Cut<S::File>, reused: &[Entry]) -> Vec<NamedDamage> {
        let mut damage = check::damage_of(&cut.seen);
        let reused: HashSet<&str> = reused.iter().map(|file| file.name.as_str()).collect();
        let extents = Extents::of(&cut.seen);
        let before = self.previous.iter().flat_map(|previous| &previous.damage);
        let still = before.filter(|damage| reused.contains(damage.file.as_str()) && extents.hold(damage));
        damage.extend(still.cloned());
        damage
    }

    /// `None` when the file is not what it was any more.
    fn read(&self, needed: &Needed<S::File>) -> Result<Option<Vec<u8>>, BackupError> {
        let read = match needed.end {
            Some(end) => {
                let mut bytes = vec![0; end as usize];
                needed.file.read_exact_at(&mut bytes, 0).map(|()| bytes)
            }
            None => read_file(&*needed.file),
        };
        let mut bytes = match read {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(doing(format!("reading {}", needed.id.name()))(error)),
        };
        if needed.id.is_run() {
            return Ok(Some(bytes));
        }
        let there = cut::is_there(self.source.disk, needed.id);
        if !there.map_err(doing(format!("opening {}", needed.id.name())))? {
            return Ok(None);
        }
        // What is behind the end was allocated, or is left of another journal.
        bytes.truncate(recovery::end_of_frames(&bytes, needed.id));
        Ok(Some(bytes))
    }

    /// What is not there may be what the log has let go meanwhile, which the next cut shows.
    fn fetch(&mut self, cold: &ColdFile) -> Result<Fetched, BackupError> {
        let name = cold.file.name();
        let Some(store) = self.source.cold else {
            return Err(BackupError::Cold { file: name, bytes: cold.length });
        };
        let reason = match store.get(&name) {
            Ok(bytes) if bytes.len() as u64 == cold.length && crc32c::crc32c(&bytes) == cold.crc => {
                return Ok(Fetched::Bytes(bytes));
            }
            Ok(bytes) => {
                format!("its {} bytes are not the {} that were put there", bytes.len(), cold.length)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => "it is not there".to_owned(),
            Err(error) => return Err(doing(format!("fetching {name} from the cold store"))(error)),
        };
        let looks = self.looks.entry(cold.file).or_default();
        *looks += 1;
        match (*looks < LOOKS, self.source.without_lost) {
            (true, _) => {
                self.lost = Some(BackupError::ColdLost { file: name, reason });
                Ok(Fetched::Again)
            }
            (false, true) => Ok(Fetched::Lost),
            (false, false) => Err(BackupError::ColdLost { file: name, reason }),
        }
    }
}

/// What came of asking the cold store for a file.
enum Fetched {
    Bytes(Vec<u8>),
    /// The log is to be looked at again.
    Again,
    /// It is needed, and not what it was, or nowhere.
    Lost,
}

/// What is in the backup already, and what must be copied.
struct Plan<'c, F> {
    files: Vec<Entry>,
    local: Vec<&'c Needed<F>>,
    cold: Vec<&'c ColdFile>,
}
