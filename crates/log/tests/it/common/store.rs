//! A cold store in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use headwater_log::{COLD_PIECE, ColdStore, FileId, Pieces};

/// A cold store that outlives crashes; it may spoil what is put there.
#[derive(Clone, Default)]
pub struct Store {
    pub objects: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    pub spoils: Arc<AtomicBool>,
    /// It takes its time.
    pub slow: Arc<AtomicBool>,
    /// How often a part of an object was asked for.
    pub ranges: Arc<AtomicUsize>,
}

impl ColdStore for Store {
    fn put(&self, name: &str, pieces: Pieces<'_>) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        while let Some(piece) = pieces()? {
            assert!(piece.len() <= COLD_PIECE);
            bytes.extend(piece);
        }
        if self.spoils.load(Ordering::Relaxed)
            && FileId::parse(name).is_some()
            && let Some(middle) = bytes.len().checked_sub(1).map(|last| last / 2)
        {
            bytes[middle] ^= 1;
        }
        self.objects.lock().expect("unpoisoned").insert(name.to_owned(), bytes);
        Ok(())
    }

    fn put_new(&self, name: &str, bytes: Vec<u8>) -> std::io::Result<bool> {
        let mut objects = self.objects.lock().expect("unpoisoned");
        let is_new = !objects.contains_key(name);
        if is_new {
            objects.insert(name.to_owned(), bytes);
        }
        Ok(is_new)
    }

    fn get(&self, name: &str) -> std::io::Result<Vec<u8>> {
        let found = self.objects.lock().expect("unpoisoned").get(name).cloned();
        found.ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }

    fn get_range(&self, name: &str, from: u64, length: usize) -> std::io::Result<Vec<u8>> {
        self.ranges.fetch_add(1, Ordering::Relaxed);
        if self.slow.load(Ordering::Relaxed) {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let bytes = self.get(name)?;
        let from = (from as usize).min(bytes.len());
        Ok(bytes[from..(from + length).min(bytes.len())].to_vec())
    }

    fn delete(&self, name: &str) -> std::io::Result<()> {
        self.objects.lock().expect("unpoisoned").remove(name);
        Ok(())
    }

    fn size(&self, name: &str) -> std::io::Result<Option<u64>> {
        Ok(self.objects.lock().expect("unpoisoned").get(name).map(|bytes| bytes.len() as u64))
    }

    fn list(&self) -> std::io::Result<Vec<String>> {
        Ok(self.objects.lock().expect("unpoisoned").keys().cloned().collect())
    }
}
