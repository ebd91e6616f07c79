//! Some files of a disk up to fixed lengths, to be read as if they were a log's directory.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use crate::{Disk, DiskFile};

/// Cannot be written.
pub struct View<F> {
    files: BTreeMap<String, Part<F>>,
}

/// A file up to a length.
pub struct Part<F> {
    file: Arc<F>,
    length: u64,
}

impl<F> Clone for Part<F> {
    fn clone(&self) -> Self {
        Self { file: Arc::clone(&self.file), length: self.length }
    }
}

impl<F> Default for View<F> {
    fn default() -> Self {
        Self { files: BTreeMap::new() }
    }
}

impl<F> View<F> {
    pub fn put(&mut self, name: String, file: Arc<F>, length: u64) {
        self.files.insert(name, Part { file, length });
    }
}

fn refused<T>() -> io::Result<T> {
    Err(io::Error::new(ErrorKind::PermissionDenied, "it is only read"))
}

impl<F: DiskFile> Disk for View<F> {
    type File = Part<F>;

    fn create(&self, _name: &str) -> io::Result<Part<F>> {
        refused()
    }

    fn open(&self, name: &str) -> io::Result<Part<F>> {
        let found = self.files.get(name).cloned();
        found.ok_or_else(|| io::Error::new(ErrorKind::NotFound, format!("{name}: no such file")))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.keys().cloned().collect())
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        refused()
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        refused()
    }

    fn sync_directory(&self) -> io::Result<()> {
        refused()
    }
}

impl<F: DiskFile> DiskFile for Part<F> {
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        match position.checked_add(buffer.len() as u64) {
            Some(end) if end <= self.length => self.file.read_exact_at(buffer, position),
            _ => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    fn write_all_at(&self, _bytes: &[u8], _position: u64) -> io::Result<()> {
        refused()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.length)
    }

    fn set_len(&self, _length: u64) -> io::Result<()> {
        refused()
    }

    fn sync(&self) -> io::Result<()> {
        refused()
    }
}
