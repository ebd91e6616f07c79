//! Files going into a backup, each once.

use std::io::{self, ErrorKind};

use super::error::doing;
use super::manifest::UNFINISHED;
use super::{Backup, BackupError, Entry, Progress, Stage, Watch};
use crate::recovery::read_file;
use crate::{Disk, DiskFile, FileId};

const STEP: usize = 4 << 20;
/// How much of both ends of two files of one length must be equal for them to be taken for the same.
const SAMPLE: u64 = 64 << 10;

/// Counts what was done, over all attempts at one backup.
pub struct Counter<'a> {
    watch: Watch<'a>,
    pub files: u64,
    pub bytes: u64,
    /// Of this attempt.
    pub done: u64,
    pub total: u64,
}

impl<'a> Counter<'a> {
    pub fn new(watch: Watch<'a>) -> Self {
        Self { watch, files: 0, bytes: 0, done: 0, total: 0 }
    }

    pub fn step(&mut self, stage: Stage, bytes: u64) {
        self.done += bytes;
        (self.watch)(Progress { stage, done: self.done.min(self.total), total: self.total });
    }

    pub fn begin(&mut self, total: u64) {
        (self.done, self.total) = (0, total);
    }
}

/// Whether all of a file is in the backup, to be read.
pub fn is_there<B: Disk>(backup: &Backup<B>, entry: &Entry) -> bool {
    let length = backup.files.open(&entry.stored).and_then(|stored| stored.len());
    length.is_ok_and(|length| length >= entry.length)
}

/// Whether a file of the entry's length is the one that was copied. Logs part at the begin of a file, so
/// both ends tell.
pub fn same_as<B: Disk>(backup: &Backup<B>, entry: &Entry, file: &impl DiskFile) -> io::Result<bool> {
    if !is_there(backup, entry) {
        return Ok(false);
    }
    let stored = backup.files.open(&entry.stored)?;
    let length = entry.length;
    let size = SAMPLE.min(length);
    let (mut ours, mut theirs) = (vec![0; size as usize], vec![0; size as usize]);
    for at in [0, length - size] {
        let read = file.read_exact_at(&mut ours, at).and_then(|()| stored.read_exact_at(&mut theirs, at));
        if read.is_err() || ours != theirs {
            return Ok(false);
        }
    }
    Ok(true)
}

enum Place {
    There(String),
    Write(String),
}

/// Where the contents are, or can be put without changing what an older backup names: the file that they
/// continue, or a name of their own.
fn place_for<B: Disk>(backup: &Backup<B>, id: FileId, bytes: &[u8]) -> Result<Place, BackupError> {
    let mut copy = 1;
    loop {
        let name = if copy == 1 { id.name() } else { format!("{}~{copy}", id.name()) };
        let there = match backup.files.open(&name) {
            Ok(file) => read_file(&file),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Place::Write(name)),
            Err(error) => return Err(doing(format!("opening {name} in the backup"))(error)),
        };
        if let Ok(there) = there {
            let common = there.len().min(bytes.len());
            if there[..common] == bytes[..common] {
                let whole = there.len() >= bytes.len();
                return Ok(if whole { Place::There(name) } else { Place::Write(name) });
            }
        }
        copy += 1;
    }
}

/// Puts the contents of a file where a manifest can name them.
pub fn keep<B: Disk>(
    backup: &Backup<B>,
    id: FileId,
    bytes: &[u8],
    counter: &mut Counter<'_>,
) -> Result<Entry, BackupError> {
    let crc32c = crc32c::crc32c(bytes);
    let stored = match place_for(backup, id, bytes)? {
        Place::There(stored) => {
            counter.step(Stage::Copying, bytes.len() as u64);
            stored
        }
        Place::Write(stored) => {
            let unfinished = format!("{stored}{UNFINISHED}");
            write_checked(&backup.files, &unfinished, bytes, crc32c, counter)?;
            backup.files.rename(&unfinished, &stored).map_err(doing(format!("naming {stored}")))?;
            counter.files += 1;
            counter.bytes += bytes.len() as u64;
            stored
        }
    };
    Ok(Entry { name: id.name(), stored, length: bytes.len() as u64, crc32c })
}

/// Writes a file, makes it durable, and reads it back from the medium where the disk can be asked to.
pub fn write_checked<D: Disk>(
    disk: &D,
    name: &str,
    bytes: &[u8],
    crc32c: u32,
    counter: &mut Counter<'_>,
) -> Result<(), BackupError> {
    let failed = |counter: &Counter<'_>, error: io::Error| match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            BackupError::NoSpace { needed: counter.total.saturating_sub(counter.done), free: None }
        }
        _ => doing(format!("writing {name}"))(error),
    };
    let file = disk.create(name).map_err(|error| failed(counter, error))?;
    for (place, step) in bytes.chunks(STEP).enumerate() {
        file.write_all_at(step, (place * STEP) as u64).map_err(|error| failed(counter, error))?;
        counter.step(Stage::Copying, step.len() as u64);
    }
    file.sync().map_err(|error| failed(counter, error))?;
    file.forget(0, bytes.len().max(1));
    let read = checksum(&file).map_err(doing(format!("reading {name} back")))?;
    if read != (bytes.len() as u64, crc32c) {
        let error = io::Error::new(ErrorKind::InvalidData, "the disk returns other bytes than were written");
        return Err(doing(format!("reading {name} back"))(error));
    }
    Ok(())
}

fn checksum(file: &impl DiskFile) -> io::Result<(u64, u32)> {
    let length = file.len()?;
    let (mut at, mut crc) = (0, 0);
    let mut buffer = vec![0; STEP.min(length as usize)];
    while at < length {
        let step = (length - at).min(STEP as u64) as usize;
        file.read_exact_at(&mut buffer[..step], at)?;
        crc = crc32c::crc32c_append(crc, &buffer[..step]);
        at += step as u64;
    }
    Ok((length, crc))
}

/// What a backup that was cut short left goes.
pub fn remove_unfinished<D: Disk>(disk: &D) -> io::Result<()> {
    for name in disk.list()?.iter().filter(|name| name.ends_with(UNFINISHED)) {
        disk.remove(name)?;
    }
    Ok(())
}
