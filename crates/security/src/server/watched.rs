//! Files that are read again when they have changed.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Files and what they looked like when they were last read.
#[derive(Debug, Default, PartialEq, Eq)]
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
    ///
    /// # Errors
    /// As the file system says.
    pub fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.push((path.to_owned(), stamp(path)));
        std::fs::read(path)
    }

    /// What the files look like now, if that is not as before. Whoever then cannot use what they hold keeps it, and does not try
    /// the same again; a file that is still being written changes once more.
    pub fn changed(&self) -> Option<Self> {
        let now = Self { files: self.files.iter().map(|(path, _)| (path.clone(), stamp(path))).collect() };
        (now != *self).then_some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_written_while_it_is_read_has_changed_once_more() {
        let file = std::env::temp_dir().join(format!("headwater-watched-{}", std::process::id()));
        std::fs::write(&file, "first").unwrap();
        let mut watched = Watched::default();
        watched.read(&file).unwrap();
        assert_eq!(watched.changed(), None);
        std::fs::write(&file, "hal").unwrap();
        let half = watched.changed().expect("it has changed");
        std::fs::write(&file, "whole, and longer").unwrap();
        watched = half;
        let whole = watched.changed().expect("what was half written has changed again");
        assert_eq!(whole.changed(), None);
        std::fs::remove_file(&file).unwrap();
        assert!(whole.changed().is_some());
    }
}
