//! What partitions and files take, for the cleaner and for whoever watches.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use headwater_model::Offset;

use super::{Reader, offsets};
use crate::cold::ColdFile;
use crate::disk::{Disk, DiskFile};
use crate::log::{lock, read};
use crate::partition::{Aborted, ActiveProducer, Partition};
use crate::place::{Damage, Extent, FileId};
use crate::recovery::SPARE;
use crate::{LogError, Offsets, PartitionId};

/// How much of a file is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileUse {
    pub file: FileId,
    pub length: u64,
    pub live: u64,
    pub local: bool,
    pub cold: bool,
}

/// What a partition takes, and up to where it is clean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionUse {
    pub offsets: Offsets,
    pub extents: Vec<Extent>,
    pub cleaned: crate::Cleaned,
    pub damage: Vec<Damage>,
    pub open: Vec<(i64, Offset)>,
    /// The last extent is in the journal that is being written, so it cannot be moved yet.
    pub growing: bool,
}

/// What a partition is in a few numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionSummary {
    pub id: PartitionId,
    pub offsets: Offsets,
    pub bytes: u64,
    pub clean_bytes: u64,
    pub damaged: usize,
    /// Producers with a transaction open here.
    pub open: Vec<i64>,
}

impl<D: Disk> Reader<D> {
    /// What is known to be damaged.
    pub fn damage(&self) -> Vec<(PartitionId, Damage)> {
        let mut all = Vec::new();
        for (id, partition) in read(&self.shared.partitions).iter() {
            all.extend(lock(partition).damage.iter().map(|damage| (*id, *damage)));
        }
        all.sort_unstable_by_key(|(id, damage)| (*id, damage.first));
        all
    }

    pub fn usage(&self, id: PartitionId) -> Result<PartitionUse, LogError> {
        let partition = self.find(id)?;
        let partition = lock(&partition);
        Ok(PartitionUse {
            offsets: offsets(&partition),
            extents: partition.extents.iter().copied().collect(),
            cleaned: partition.clean(),
            damage: partition.damage.clone(),
            open: partition.open_transactions().collect(),
            growing: !partition.recent.is_empty(),
        })
    }

    /// The producers that a partition remembers, by id.
    pub fn producers(&self, id: PartitionId) -> Result<Vec<ActiveProducer>, LogError> {
        let partition = self.find(id)?;
        let mut producers: Vec<_> = lock(&partition).producers().collect();
        producers.sort_unstable_by_key(|producer| producer.id);
        Ok(producers)
    }

    /// All partitions, in no order.
    pub fn summaries(&self) -> Vec<PartitionSummary> {
        let summary = |(id, partition): (&PartitionId, &Arc<Mutex<Partition>>)| {
            let partition = lock(partition);
            PartitionSummary {
                id: *id,
                offsets: offsets(&partition),
                bytes: partition.bytes(),
                clean_bytes: partition.clean().bytes,
                damaged: partition.damage.len(),
                open: partition.open_transactions().map(|(producer, _)| producer).collect(),
            }
        };
        read(&self.shared.partitions).iter().map(summary).collect()
    }

    /// Aborted transactions with records in `[from, to)`.
    pub fn aborted(&self, id: PartitionId, from: Offset, to: Offset) -> Result<Vec<Aborted>, LogError> {
        let partition = self.find(id)?;
        let aborted = lock(&partition).aborted_between(from, to);
        Ok(aborted)
    }

    /// Lets go of every file: the disk that one lies on may be taken away. Who reads one keeps it.
    pub fn close_files(&self) {
        self.shared.files.close();
    }

    /// How many bytes of each file partitions need.
    pub fn files(&self) -> Result<Vec<FileUse>, LogError> {
        let mut live: HashMap<FileId, u64> = HashMap::new();
        for partition in read(&self.shared.partitions).values() {
            for extent in &lock(partition).extents {
                *live.entry(extent.file).or_default() += extent.bytes;
            }
        }
        let live = |file: FileId| live.get(&file).copied().unwrap_or(0);
        let mut files = Vec::new();
        for file in self.shared.disk.list()?.iter().filter_map(|name| FileId::parse(name)) {
            let length = match self.shared.disk.open(&file.name()) {
                Ok(open) => open.len()?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            let cold = self.shared.cold.knows(file);
            files.push(FileUse { file, length, live: live(file), local: true, cold });
        }
        for ColdFile { file, length, .. } in self.shared.cold.all() {
            if !files.iter().any(|local| local.file == file) {
                files.push(FileUse { file, length, live: live(file), local: false, cold: true });
            }
        }
        files.sort_unstable_by_key(|file| file.file);
        Ok(files)
    }

    /// What spare journals take of the disk.
    pub fn spare_bytes(&self) -> Result<u64, LogError> {
        let disk = &*self.shared.disk;
        let names = disk.list()?;
        // One that became a journal meanwhile is no spare.
        let lengths =
            names.iter().filter(|name| name.starts_with(SPARE)).filter_map(|name| disk.open(name).ok());
        Ok(lengths.filter_map(|spare| spare.len().ok()).sum())
    }

    /// The partitions that have batches in a file, with their extents there.
    pub fn extents_in(&self, file: FileId) -> Vec<(PartitionId, Extent)> {
        let mut found = Vec::new();
        for (id, partition) in read(&self.shared.partitions).iter() {
            found.extend(lock(partition).extents.iter().filter(|e| e.file == file).map(|e| (*id, *e)));
        }
        found.sort_unstable_by_key(|(id, extent)| (*id, extent.first));
        found
    }
}
