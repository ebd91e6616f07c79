//! What a backup consists of: one JSON file, complete and with a checksum of its own.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::error::doing;
use super::{Backup, BackupError};
use crate::recovery::{self, Seen};
use crate::{Cause, Damage, Disk, DiskFile, FileId, PartitionId};

const FORMAT: u32 = 1;
const ENDING: &str = ".json";
/// The ending of what is not complete.
pub const UNFINISHED: &str = ".new";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// The number and when it was taken.
    pub id: String,
    pub number: u64,
    pub previous: Option<String>,
    /// RFC 3339.
    pub created: String,
    pub cluster_id: String,
    /// The format of the data directory.
    pub log_format: u32,
    /// The number of the last commit that is in it; with it are all before.
    pub last_commit: u64,
    pub totals: Totals,
    pub files: Vec<Entry>,
    /// What could not be read of the log when it was copied.
    pub damage: Vec<NamedDamage>,
    /// Of the manifest itself, with 0 here.
    pub crc32c: u32,
}

/// A file of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub name: String,
    /// What it is called in the backup. It may be longer there.
    pub stored: String,
    pub length: u64,
    pub crc32c: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub topics: u64,
    pub partitions: u64,
    /// Of batches.
    pub bytes: u64,
    /// From the first to the last, whether compaction has left them or not.
    pub offsets: u64,
    /// Of files.
    pub file_bytes: u64,
}

impl Entry {
    /// Names come from a file, and become paths.
    fn is_sane(&self) -> bool {
        self.id().is_some_and(|id| id.name() == self.name)
            && self.stored.starts_with(&self.name)
            && !self.stored.contains('/')
    }

    pub fn id(&self) -> Option<FileId> {
        FileId::parse(&self.name)
    }
}

/// Damage with the names that people know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedDamage {
    pub partition: String,
    pub first: i64,
    pub last: i64,
    pub file: String,
    pub reason: String,
    pub cause: Cause,
}

impl NamedDamage {
    pub fn new(id: PartitionId, damage: &Damage) -> Self {
        Self {
            partition: id.to_string(),
            first: damage.first,
            last: damage.last,
            file: damage.file.name(),
            reason: damage.cause.to_string(),
            cause: damage.cause,
        }
    }
}

impl Totals {
    pub fn of(seen: &Seen, files: &[Entry]) -> Self {
        let topics: BTreeSet<_> = seen.partitions.keys().map(|id| id.topic_id).collect();
        Self {
            topics: topics.len() as u64,
            partitions: seen.partitions.len() as u64,
            bytes: seen.partitions.values().map(|partition| partition.bytes()).sum(),
            offsets: seen.partitions.values().map(|p| (p.end - p.log_start).max(0) as u64).sum(),
            file_bytes: files.iter().map(|file| file.length).sum(),
        }
    }
}

impl Manifest {
    pub fn new(number: u64, previous: Option<&Manifest>, created: &str) -> Self {
        let time: String = created.chars().filter(char::is_ascii_alphanumeric).collect();
        Self {
            format: FORMAT,
            id: format!("{number:06}-{time}"),
            number,
            previous: previous.map(|previous| previous.id.clone()),
            created: created.to_owned(),
            cluster_id: String::new(),
            log_format: 0,
            last_commit: 0,
            totals: Totals::default(),
            files: Vec::new(),
            damage: Vec::new(),
            crc32c: 0,
        }
    }

    fn text(&self) -> String {
        // Plain data has no way to fail.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    fn checksum(&self) -> u32 {
        crc32c::crc32c(Self { crc32c: 0, ..self.clone() }.text().as_bytes())
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if format != FORMAT {
            return Err(format!("it has format {format}, and this build reads format {FORMAT}"));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if let Some(file) = manifest.files.iter().find(|file| !file.is_sane()) {
            return Err(format!("{} in {} is not the name of a file of a log", file.name, file.stored));
        }
        match manifest.checksum() == manifest.crc32c {
            true => Ok(manifest),
            false => Err("its checksum is another".to_owned()),
        }
    }

    /// Appears under its name when all of it is on disk.
    pub fn write<D: Disk>(&mut self, manifests: &D) -> Result<(), BackupError> {
        self.crc32c = self.checksum();
        let name = format!("{}{ENDING}", self.id);
        let unfinished = format!("{name}{UNFINISHED}");
        let file = manifests.create(&unfinished).map_err(doing("creating the manifest"))?;
        file.write_all_at(self.text().as_bytes(), 0).map_err(doing(format!("writing {name}")))?;
        file.sync().map_err(doing(format!("syncing {name}")))?;
        manifests.rename(&unfinished, &name).map_err(doing(format!("naming {name}")))?;
        manifests.sync_directory().map_err(doing(format!("syncing the directory of {name}")))
    }
}

impl<D: Disk> Backup<D> {
    /// Ids, oldest first.
    pub fn ids(&self) -> Result<Vec<String>, BackupError> {
        let names = self.manifests.list().map_err(doing("listing the manifests"))?;
        let mut ids: Vec<String> =
            names.iter().filter_map(|name| name.strip_suffix(ENDING)).map(str::to_owned).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    pub fn manifest(&self, id: &str) -> Result<Manifest, BackupError> {
        let name = format!("{id}{ENDING}");
        let bytes = self.manifests.open(&name).and_then(|file| recovery::read_file(&file));
        let manifest = Manifest::parse(&bytes.map_err(doing(format!("reading {name}")))?);
        manifest.map_err(|reason| BackupError::Manifest { file: name, reason })
    }

    /// What only it names goes with [`super::prune`].
    pub(super) fn remove_manifest(&self, id: &str) -> Result<(), BackupError> {
        let name = format!("{id}{ENDING}");
        self.manifests.remove(&name).map_err(doing(format!("removing {name}")))
    }

    /// The backup that `at` names by its id, the beginning of it or its number; without, the latest.
    pub fn find(&self, at: Option<&str>) -> Result<Manifest, BackupError> {
        let ids = self.ids()?;
        let number = at.and_then(|at| at.parse::<u64>().ok()).map(|number| format!("{number:06}-"));
        let named = |id: &&String| match (&number, at) {
            (_, None) => true,
            (Some(number), _) if id.starts_with(number) => true,
            (_, Some(at)) => id.starts_with(at),
        };
        let found: Vec<&String> = ids.iter().filter(named).collect();
        match (at, found.as_slice()) {
            (None, [.., last]) | (Some(_), [last]) => self.manifest(last),
            (at, _) => {
                let there = if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
                Err(BackupError::Unknown { wanted: at.unwrap_or_default().to_owned(), there })
            }
        }
    }

    /// The number of the next backup; each is given once.
    pub fn next_number(&self) -> Result<u64, BackupError> {
        let ids = self.ids()?;
        let numbers = ids.iter().filter_map(|id| id.split_once('-')?.0.parse::<u64>().ok());
        Ok(numbers.max().unwrap_or(0) + 1)
    }

    /// The latest backup that can be read, if there is one.
    pub fn latest(&self) -> Result<Option<Manifest>, BackupError> {
        for id in self.ids()?.iter().rev() {
            match self.manifest(id) {
                Ok(manifest) => return Ok(Some(manifest)),
                Err(BackupError::Manifest { file, reason }) => {
                    tracing::warn!(%file, %reason, "a manifest is damaged and left out");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}
