//! The two steps of a start: the log is read, and then a new journal begins.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, RwLock};

use headwater_model::TimestampMs;

use super::{Log, Shared, Staged};
use crate::change::{Checkpoint, encode};
use crate::chore::Chore;
use crate::cold::{Cold, ColdStore};
use crate::commit::{allocate, checkpoint_frame};
use crate::disk::{Disk, DiskFile};
use crate::files::Files;
use crate::followed::Followed;
use crate::frame::{FrameOf, Previous};
use crate::index::Indexes;
use crate::place::FileId;
use crate::reader::Reader;
use crate::recovery::{self, Found, SPARE};
use crate::{LogError, Settings};

/// A log that was read and can be read. Whoever does not like what it holds lets go of it: the directory is
/// then as it was for the build that wrote it.
pub struct Opening<D: Disk> {
    settings: Settings,
    shared: Arc<Shared<D>>,
    found: Found,
    /// A file that has all that the next journal begins with, under another name.
    prepared: Option<String>,
}

/// The journal that a start writes to.
struct Begun<F> {
    journal: FileId,
    file: Arc<F>,
    position: u64,
}

impl<D: Disk> Opening<D> {
    pub(super) fn find(
        disk: Arc<D>,
        settings: Settings,
        store: Option<Arc<dyn ColdStore>>,
    ) -> Result<Self, LogError> {
        let mut found = recovery::find(&*disk, settings)?;
        let partitions = std::mem::take(&mut found.partitions);
        let partitions = partitions.into_iter().map(|(id, p)| (id, Arc::new(Mutex::new(p)))).collect();
        let shared = Arc::new(Shared {
            disk,
            partitions: RwLock::new(partitions),
            files: Files::default(),
            indexes: Indexes::default(),
            cold: Cold {
                store,
                files: RwLock::new(found.cold.iter().map(|cold| (cold.file, *cold)).collect()),
                ..Cold::default()
            },
            followed: Followed::default(),
            salt: found.salt,
        });
        for (file, index) in &found.unsaved {
            shared.indexes.pin(*file, index);
        }
        Ok(Self { settings, shared, found, prepared: None })
    }

    /// What was committed.
    pub fn reader(&self) -> Reader<D> {
        Reader::new(Arc::clone(&self.shared))
    }

    /// As [`Log::time`].
    pub fn time(&self) -> TimestampMs {
        self.found.time
    }

    /// Takes the space that [`Self::begin`] needs, as a spare journal, which any build has a use for: a start that
    /// finds none has changed nothing.
    ///
    /// # Errors
    /// Of the disk.
    pub fn prepare(&mut self) -> Result<(), LogError> {
        let disk = &*self.shared.disk;
        let (_, highest) = spares(&disk.list()?);
        let name = recovery::spare_name(highest + 1);
        let written = disk.create(&name).and_then(|file| {
            allocate(&file, self.settings.segment_bytes)?;
            write_checkpoint(&self.shared, &self.found, &file).map(drop)
        });
        if let Err(error) = written {
            // An empty spare is no worse than none.
            let _ = disk.remove(&name);
            return Err(error.into());
        }
        self.prepared = Some(name);
        Ok(())
    }

    /// Begins a journal behind what was found: from here on the directory is in this build's format.
    ///
    /// # Errors
    /// Of the disk.
    pub fn begin(self) -> Result<Log<D>, LogError> {
        let Self { settings, shared, found, prepared } = self;
        shared.disk.go_on()?;
        cut_off(&*shared.disk, &found.ends)?;
        let Begun { journal, file, position } = begin_journal(&shared, &found, prepared, settings)?;
        let (spares, next_spare) = keep_spares(&*shared.disk, settings.spares)?;
        shared.files.put(journal, Arc::clone(&file));
        let mut log = Log {
            settings,
            shared,
            staged: Staged::default(),
            nascent: HashMap::new(),
            doomed: HashSet::new(),
            commit: found.next_commit,
            synced: found.next_commit - 1,
            in_flight: false,
            fenced: None,
            journal,
            file,
            position,
            touched: HashSet::new(),
            buffer: Vec::new(),
            next_run: found.next_run,
            time: found.time,
            now: None,
            checkpoint: position,
            roll_wanted: false,
            spares,
            next_spare,
            previous: Previous::default(),
            on_disk: found.on_disk,
            chores: Vec::new(),
            scanned_bytes: found.scanned_bytes,
        };
        for (file, index) in found.unsaved {
            log.chores.push(Chore::save_index(&log.shared, file, index));
        }
        log.remove_unused_files();
        log.chores.push(Chore::note_newest(&log.shared, log.journal));
        Ok(log)
    }
}

/// What is cut off stays cut off.
fn cut_off<D: Disk>(disk: &D, ends: &[(FileId, u64)]) -> io::Result<()> {
    for (file, length) in ends {
        let cut = disk.open(&file.name())?;
        if cut.len()? > *length {
            cut.set_len(*length)?;
        }
        cut.sync()?;
    }
    Ok(())
}

/// Spare journals, and the highest number of one.
fn spares(names: &[String]) -> (Vec<&String>, u64) {
    let number = |name: &&String| name.strip_prefix(SPARE)?.parse().ok();
    let spares: Vec<&String> = names.iter().filter(|name| number(name).is_some()).collect();
    let highest = spares.iter().filter_map(number).max().unwrap_or(0);
    (spares, highest)
}

/// Spare journals that are kept, and the highest number of one; surplus ones go, and files that were going.
fn keep_spares<D: Disk>(disk: &D, wanted: usize) -> io::Result<(Vec<String>, u64)> {
    let names = disk.list()?;
    let (spares, highest) = spares(&names);
    let kept = &spares[..spares.len().min(wanted)];
    let surplus = names.iter().filter(|name| name.starts_with(SPARE) && !kept.contains(name));
    surplus.into_iter().try_for_each(|name| disk.remove(name))?;
    Ok((kept.iter().map(|name| (*name).clone()).collect(), highest))
}

fn write_checkpoint<D: Disk>(shared: &Shared<D>, found: &Found, file: &D::File) -> io::Result<u64> {
    let checkpoint = Checkpoint {
        time: found.time,
        next_run: found.next_run,
        partitions: shared.states(found.next_commit, TimestampMs::MIN),
        cold: found.cold.clone(),
    };
    let of = FrameOf {
        file: next_journal(found),
        salt: found.salt,
        sequence: found.next_commit,
        synced: found.next_commit - 1,
    };
    let mut bytes = Vec::new();
    checkpoint_frame(of, &encode(&checkpoint), &mut bytes);
    file.write_all_at(&bytes, 0)?;
    file.sync()?;
    Ok(bytes.len() as u64)
}

fn next_journal(found: &Found) -> FileId {
    let last = found.on_disk.iter().rfind(|file| !file.is_run()).map_or(0, |journal| journal.number());
    FileId::journal(last + 1)
}

fn begin_journal<D: Disk>(
    shared: &Shared<D>,
    found: &Found,
    prepared: Option<String>,
    settings: Settings,
) -> io::Result<Begun<D::File>> {
    let disk = &*shared.disk;
    let journal = next_journal(found);
    let name = journal.name();
    let file = match prepared {
        Some(prepared) => disk.rename(&prepared, &name).and_then(|()| disk.open(&name))?,
        None => disk.create(&name)?,
    };
    allocate(&file, settings.segment_bytes)?;
    // Once more, where it was prepared: one side of a mirror may have come back since.
    let position = write_checkpoint(shared, found, &file)?;
    disk.sync_directory()?;
    Ok(Begun { journal, file: Arc::new(file), position })
}
