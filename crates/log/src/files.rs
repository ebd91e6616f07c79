//! Open files within a bound: history may have more files than a process may open.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};

use crate::disk::Disk;
use crate::log::lock;
use crate::place::FileId;

const OPEN: usize = 256;

pub struct Files<D: Disk> {
    open: Mutex<Open<D::File>>,
}

struct Open<F> {
    files: HashMap<FileId, Arc<F>>,
    /// In the order in which they were opened.
    order: VecDeque<FileId>,
}

impl<D: Disk> Default for Files<D> {
    fn default() -> Self {
        Self { open: Mutex::new(Open { files: HashMap::new(), order: VecDeque::new() }) }
    }
}

impl<D: Disk> Files<D> {
    pub fn get(&self, disk: &D, file: FileId) -> io::Result<Arc<D::File>> {
        if let Some(open) = lock(&self.open).files.get(&file) {
            return Ok(Arc::clone(open));
        }
        let opened = Arc::new(disk.open(&file.name())?);
        self.put(file, Arc::clone(&opened));
        Ok(opened)
    }

    pub fn put(&self, file: FileId, handle: Arc<D::File>) {
        let mut open = lock(&self.open);
        if open.files.len() >= OPEN
            && let Some(oldest) = open.order.pop_front()
        {
            open.files.remove(&oldest);
        }
        if open.files.insert(file, handle).is_none() {
            open.order.push_back(file);
        }
    }

    pub fn forget(&self, file: FileId) {
        let mut open = lock(&self.open);
        open.files.remove(&file);
        open.order.retain(|other| *other != file);
    }
}
