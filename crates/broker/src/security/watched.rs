//! Files that are read again when they have changed.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Files and what they looked like when they were last read.
#[derive(Debug, Default)]
pub struct Watched {
    files: Vec<(PathBuf, Option<Stamp>)>,
}

/// A file that is put in the place of another has another number.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    number: u64,
}

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).ok()?;
    Some(Stamp { modified: metadata.modified().ok(), length: metadata.len(), number: metadata.ino() })
}

impl Watched {
    /// Reads a file and remembers it.
    pub fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.push((path.to_owned(), stamp(path)));
        std::fs::read(path)
    }

    pub fn has_changed(&self) -> bool {
        self.files.iter().any(|(path, before)| stamp(path) != *before)
    }

    /// What the files look like counts as known, although they could not be used.
    pub fn accept(&mut self) {
        for (path, before) in &mut self.files {
            *before = stamp(path);
        }
    }
}
