//! Open files within a bound: history may have more files than a process may open.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, Weak};

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
    /// Every handle that was given out, also of files that are not kept open here.
    handed: HashMap<FileId, Vec<Weak<F>>>,
}

impl<D: Disk> Default for Files<D> {
    fn default() -> Self {
        Self {
            open: Mutex::new(Open { files: HashMap::new(), order: VecDeque::new(), handed: HashMap::new() }),
        }
    }
}

impl<D: Disk> Files<D> {
    pub fn get(&self, disk: &D, file: FileId) -> io::Result<Arc<D::File>> {
        let mut open = lock(&self.open);
        if let Some(known) = open.files.get(&file) {
            return Ok(Arc::clone(known));
        }
        // Opened under the lock: nobody gets a file that is being given another name.
        let opened = Arc::new(disk.open(&file.name())?);
        open.keep(file, Arc::clone(&opened));
        Ok(opened)
    }

    pub fn put(&self, file: FileId, handle: Arc<D::File>) {
        lock(&self.open).keep(file, handle);
    }

    pub fn forget(&self, file: FileId) {
        lock(&self.open).drop_handle(file);
    }

    /// Lets go of every file; who reads one keeps it.
    pub fn close(&self) {
        let mut open = lock(&self.open);
        open.files.clear();
        open.order.clear();
    }

    /// Takes a file out of use for good. `end` is told whether somebody still reads it: then it may lose
    /// its name, and must never be written again.
    pub fn retire<T>(&self, file: FileId, end: impl FnOnce(bool) -> T) -> T {
        let mut open = lock(&self.open);
        open.drop_handle(file);
        let handed = open.handed.remove(&file).unwrap_or_default();
        end(handed.iter().any(|handle| handle.strong_count() > 0))
    }
}

impl<F> Open<F> {
    fn keep(&mut self, file: FileId, handle: Arc<F>) {
        let handed = self.handed.entry(file).or_default();
        handed.retain(|handle| handle.strong_count() > 0);
        handed.push(Arc::downgrade(&handle));
        if self.files.len() >= OPEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.files.remove(&oldest);
        }
        if self.files.insert(file, handle).is_none() {
            self.order.push_back(file);
        }
    }

    fn drop_handle(&mut self, file: FileId) {
        self.files.remove(&file);
        self.order.retain(|other| *other != file);
    }
}
