//! Files of which each side has lost a part, before they are replayed.

use std::io::{self, ErrorKind};
use std::sync::atomic::Ordering;

use super::heal;
use super::pair::Pair;
use crate::disk::{Disk, DiskFile};
use crate::place::FileId;

impl<D: Disk> Pair<D> {
    /// What one side has of a file and the other lacks is copied, when it is what was written.
    pub fn heal(&self, file: FileId) -> io::Result<()> {
        let [Some(first), Some(second)] = [0, 1].map(|side| self.disk(side).filter(|_| self.is_whole(side)))
        else {
            return Ok(());
        };
        let mut copies = [Vec::new(), Vec::new()];
        for (side, disk) in [first, second].into_iter().enumerate() {
            match lenient(&*disk, file) {
                Ok(bytes) => copies[side] = bytes,
                Err(error) => return self.lose(side, error),
            }
        }
        for patch in heal::patches([&copies[0], &copies[1]], file) {
            let bytes = &copies[1 - patch.to][patch.at..patch.at + patch.length];
            let Some(disk) = self.disk(patch.to) else { return Ok(()) };
            let repaired = write_into(&*disk, file, bytes, patch.at as u64);
            tracing::warn!(
                file = %file.name(), side = self.name(patch.to), position = patch.at, length = patch.length,
                "a part of a file that is damaged or was never written is taken from the other side of the mirror"
            );
            self.activity.repaired.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = repaired {
                self.lose(patch.to, error)?;
            }
        }
        Ok(())
    }
}

const CHUNK: usize = 64 << 10;

/// What the medium does not give is left out by so much.
const PIECE: usize = 4 << 10;

/// What can be read of an open file; the rest is zeros.
///
/// # Errors
/// `UnexpectedEof` when the file was cut off meanwhile.
pub(super) fn readable(open: &impl DiskFile) -> io::Result<Vec<u8>> {
    let is_cut =
        |read: &io::Result<()>| matches!(read, Err(error) if error.kind() == ErrorKind::UnexpectedEof);
    let mut bytes = vec![0; open.len()? as usize];
    for (at, chunk) in bytes.chunks_mut(CHUNK).enumerate() {
        let begins = (at * CHUNK) as u64;
        let read = open.read_exact_at(chunk, begins);
        if is_cut(&read) {
            return read.map(|()| Vec::new());
        }
        if read.is_ok() {
            continue;
        }
        for (at, piece) in chunk.chunks_mut(PIECE).enumerate() {
            let read = open.read_exact_at(piece, begins + (at * PIECE) as u64);
            if is_cut(&read) {
                return read.map(|()| Vec::new());
            }
            if read.is_err() {
                piece.fill(0);
            }
        }
    }
    Ok(bytes)
}

/// What can be read of a file; the rest is zeros. A file that is not there is empty.
fn lenient<D: Disk>(disk: &D, file: FileId) -> io::Result<Vec<u8>> {
    let open = match disk.open(&file.name()) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    let mut bytes = vec![0; open.len()? as usize];
    for (at, chunk) in bytes.chunks_mut(CHUNK).enumerate() {
        if open.read_exact_at(chunk, (at * CHUNK) as u64).is_err() {
            chunk.fill(0);
        }
    }
    Ok(bytes)
}

fn write_into<D: Disk>(disk: &D, file: FileId, bytes: &[u8], at: u64) -> io::Result<()> {
    let name = file.name();
    let open = match disk.open(&name) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let created = disk.create(&name)?;
            disk.sync_directory()?;
            created
        }
        opened => opened?,
    };
    open.write_all_at(bytes, at)?;
    open.sync()
}
