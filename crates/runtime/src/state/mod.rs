//! The state of one process: a locked directory, and stores that change together with their changelog positions.
//!
//! Invariant: a store holds its changelog up to its position, entries and position changing in one atomic write, and what it
//! may hold beyond, after a kill within a large write, is what its changelog has next. A store without a position is empty, or
//! emptied before it is used.

mod directory;
mod disk;
mod memory;
mod view;

use std::path::PathBuf;
use std::sync::Arc;

use headwater_model::{Bytes, Offset, TimestampMs};
use headwater_streams::{StoreBackend, StoreError, TaskId};

pub use directory::StateDir;
use disk::DiskStores;
use memory::MemoryStores;

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(
        "lock state directory {}: another process uses it; stop that one, or give this one its own with HEADWATER_STATE_DIR",
        path.display()
    )]
    InUse { path: PathBuf },
    #[error("use state directory {}: {source}; check its owner, its permissions and the space left", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error(
        "open the stores in {}: {message}; if the directory is damaged, remove it: it is rebuilt from the changelogs",
        path.display()
    )]
    Open { path: PathBuf, message: String },
}

/// One store of one task.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreId {
    pub task: TaskId,
    pub store: String,
}

impl StoreId {
    pub fn new(task: TaskId, store: impl Into<String>) -> Self {
        Self { task, store: store.into() }
    }

    /// The name under which its entries and its position are kept.
    fn name(&self) -> String {
        format!("{}/{}", self.task, self.store)
    }
}

impl std::fmt::Display for StoreId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

/// A key and its value as a store keeps them; `None` deletes.
pub(crate) type Entry = (Bytes, Option<Bytes>);

/// Keys and values, in the order of keys.
type Rows = Vec<(Bytes, Bytes)>;
type EachRow<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError> + 'a;

/// What a store held at one moment, whatever is written meanwhile.
pub(crate) enum Captured {
    Disk(view::DiskView),
    Memory(Rows),
}

impl Captured {
    /// Calls `with` for each entry, in the order of their keys.
    pub fn each(&self, with: &mut EachRow<'_>) -> Result<(), StoreError> {
        match self {
            Self::Disk(view) => view.each(with),
            Self::Memory(entries) => entries.iter().try_for_each(|(key, value)| with(key, value)),
        }
    }
}

/// Changes of one store and the changelog position they lead to.
#[derive(Clone)]
pub struct StoreWrite {
    pub id: StoreId,
    /// In the order of their coming; `None` deletes.
    pub entries: Arc<Vec<Entry>>,
    /// `None` leaves the position as it is.
    pub position: Option<Offset>,
}

/// What was removed of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Removed {
    pub stores: usize,
    /// Of their files.
    pub bytes: u64,
}

/// All stores of a process; clones share them.
#[derive(Clone)]
pub enum Stores {
    Disk(Arc<DiskStores>),
    Memory(Arc<MemoryStores>),
}

/// How much memory the stores of a process may take.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    pub cache_bytes: u64,
    pub write_buffer_bytes: u64,
    /// How many stores share it.
    pub stores: usize,
    /// From so many entries on, what is written at once becomes a table of its own.
    pub table_from: usize,
}

impl Stores {
    pub fn in_memory() -> Self {
        Self::Memory(Arc::new(MemoryStores::default()))
    }

    pub fn on_disk(directory: &StateDir, budget: Budget) -> Result<Self, StateError> {
        let open = || DiskStores::open(&directory.stores(), &directory.damage(), budget);
        let damaged = match directory.damage().exists() {
            true => "a store was found damaged when it was read".to_owned(),
            false => match open() {
                Ok(stores) => return Ok(Self::Disk(Arc::new(stores))),
                Err(disk::OpenError::Damaged(error)) => error.to_string(),
                Err(disk::OpenError::Other(error)) => return Err(error),
            },
        };
        tracing::warn!(
            stores = %directory.stores().display(), %damaged,
            "the stores are damaged: they are set aside as stores.damaged and rebuilt from their changelogs"
        );
        directory.set_stores_aside()?;
        Ok(Self::Disk(Arc::new(open().map_err(disk::OpenError::into_state)?)))
    }

    /// The committed entries of a store, created empty if it is new.
    pub fn open(&self, id: &StoreId) -> Result<Box<dyn StoreBackend>, StoreError> {
        match self {
            Self::Disk(stores) => Ok(Box::new(stores.keyspace(&id.name())?)),
            Self::Memory(stores) => Ok(Box::new(stores.entries(&id.name()))),
        }
    }

    /// The committed entries of a store as they are now; in memory they go on changing.
    pub fn view(&self, id: &StoreId) -> Result<Box<dyn StoreBackend>, StoreError> {
        match self {
            Self::Disk(stores) => Ok(Box::new(stores.view(&id.name())?)),
            Self::Memory(stores) => Ok(Box::new(stores.entries(&id.name()))),
        }
    }

    /// The changelog offset up to which a store is complete.
    pub fn position(&self, id: &StoreId) -> Result<Option<Offset>, StoreError> {
        match self {
            Self::Disk(stores) => stores.position(&id.name()),
            Self::Memory(stores) => Ok(stores.position(&id.name())),
        }
    }

    /// When the position was written last, or some minutes before that; `None` where nobody knows.
    pub fn written_at(&self, id: &StoreId) -> Result<Option<TimestampMs>, StoreError> {
        match self {
            Self::Disk(stores) => stores.written_at(&id.name()),
            Self::Memory(stores) => Ok(stores.written_at(&id.name())),
        }
    }

    /// A store as it is, and its position; `None` if it has none.
    pub(crate) fn capture(&self, id: &StoreId) -> Result<Option<(Offset, Captured)>, StoreError> {
        match self {
            Self::Disk(stores) => {
                Ok(stores.capture(&id.name())?.map(|(at, view)| (at, Captured::Disk(view))))
            }
            Self::Memory(stores) => {
                Ok(stores.capture(&id.name())?.map(|(at, entries)| (at, Captured::Memory(entries))))
            }
        }
    }

    /// Applies all changes and positions, or none.
    pub fn write(&self, writes: Vec<StoreWrite>) -> Result<(), StoreError> {
        match self {
            Self::Disk(stores) => stores.write(writes),
            Self::Memory(stores) => stores.write(writes),
        }
    }

    /// As [`Stores::write`], store by store: of many entries a sorted table is made, which is quicker. A process that is killed
    /// within may leave entries behind that are ahead of their position; the same entries come again from there.
    pub(crate) fn load(&self, writes: Vec<StoreWrite>) -> Result<(), StoreError> {
        match self {
            Self::Disk(stores) => stores.load(writes),
            Self::Memory(stores) => stores.write(writes),
        }
    }

    /// Empties a store and forgets its position.
    pub fn wipe(&self, id: &StoreId) -> Result<(), StoreError> {
        match self {
            Self::Disk(stores) => stores.wipe(&id.name()),
            Self::Memory(stores) => stores.wipe(&id.name()),
        }
    }

    /// Tasks that have a store with a position here, for the assignor.
    pub fn held(&self) -> Result<Vec<TaskId>, StoreError> {
        let names = match self {
            Self::Disk(stores) => stores.positioned()?,
            Self::Memory(stores) => stores.positioned(),
        };
        Ok(tasks_of(&names))
    }

    /// Tasks that have a store here, whatever is in it.
    pub(crate) fn tasks(&self) -> Vec<TaskId> {
        tasks_of(&self.names())
    }

    /// Removes the stores of a task, and their positions. Nobody has one open, nor opens one meanwhile.
    pub(crate) fn remove(&self, task: TaskId) -> Result<Removed, StoreError> {
        let prefix = format!("{task}/");
        let mut names = self.names();
        names.retain(|name| name.starts_with(&prefix));
        let bytes = match self {
            Self::Disk(stores) => stores.remove(&names)?,
            Self::Memory(stores) => {
                stores.remove(&names);
                0
            }
        };
        Ok(Removed { stores: names.len(), bytes })
    }

    /// When any store of the task was written last, or some minutes before that; `None` where nobody knows.
    pub(crate) fn task_written_at(&self, task: TaskId) -> Result<Option<TimestampMs>, StoreError> {
        let prefix = format!("{task}/");
        let mut latest = None;
        for store in self.names().iter().filter_map(|name| name.strip_prefix(prefix.as_str())) {
            latest = self.written_at(&StoreId::new(task, store))?.max(latest);
        }
        Ok(latest)
    }

    fn names(&self) -> Vec<String> {
        match self {
            Self::Disk(stores) => stores.names(),
            Self::Memory(stores) => stores.names(),
        }
    }

    /// Bytes on disk.
    pub fn disk_bytes(&self) -> u64 {
        match self {
            Self::Disk(stores) => stores.disk_bytes(),
            Self::Memory(_) => 0,
        }
    }
}

/// The tasks that these stores are of.
fn tasks_of(names: &[String]) -> Vec<TaskId> {
    let mut tasks: Vec<TaskId> =
        names.iter().filter_map(|name| parse_task(name.split_once('/')?.0)).collect();
    tasks.sort();
    tasks.dedup();
    tasks
}

/// Reads `0_1` back.
pub(crate) fn parse_task(text: &str) -> Option<TaskId> {
    let (subtopology, partition) = text.split_once('_')?;
    Some(TaskId { subtopology: subtopology.parse().ok()?, partition: partition.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thread::wall_clock;

    const BUDGET: Budget =
        Budget { cache_bytes: 1 << 20, write_buffer_bytes: 4 << 20, stores: 4, table_from: 100 };

    fn entry(key: &str, value: &str) -> (Bytes, Option<Bytes>) {
        (Bytes::from(key.to_owned()), Some(Bytes::from(value.to_owned())))
    }

    fn check(stores: &Stores) {
        let id = StoreId::new(TaskId { subtopology: 1, partition: 2 }, "counts");
        let other = StoreId::new(TaskId { subtopology: 0, partition: 0 }, "counts");
        assert_eq!(stores.position(&id).unwrap(), None);
        let write = |id: &StoreId, entries: Vec<Entry>, position| {
            let entries = entries.into();
            StoreWrite { id: id.clone(), entries, position }
        };
        stores
            .write(vec![
                write(&id, vec![entry("a", "1"), entry("b", "2")], Some(7)),
                write(&other, vec![entry("a", "9")], None),
            ])
            .unwrap();
        stores.write(vec![write(&id, vec![(Bytes::from("b"), None)], Some(8))]).unwrap();
        let backend = stores.open(&id).unwrap();
        assert_eq!(backend.get(b"a").unwrap(), Some(Bytes::from("1")));
        assert_eq!(backend.get(b"b").unwrap(), None);
        assert_eq!(stores.open(&other).unwrap().get(b"a").unwrap(), Some(Bytes::from("9")));
        assert_eq!(stores.position(&id).unwrap(), Some(8));
        assert!(stores.written_at(&id).unwrap().is_some_and(|at| at <= wall_clock()));
        assert_eq!(stores.written_at(&other).unwrap(), None, "it has no position");
        assert_eq!(stores.held().unwrap(), [id.task]);
        stores.wipe(&id).unwrap();
        assert_eq!((stores.position(&id).unwrap(), stores.written_at(&id).unwrap()), (None, None));
        assert_eq!(stores.open(&id).unwrap().get(b"a").unwrap(), None);
    }

    #[test]
    fn a_view_of_a_store_on_disk_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let directory = StateDir::open(folder.path(), "app").unwrap();
        let stores = Stores::on_disk(&directory, BUDGET).unwrap();
        let id = StoreId::new(TaskId { subtopology: 0, partition: 0 }, "s");
        let write = |entries: Vec<Entry>| {
            stores
                .write(vec![StoreWrite { id: id.clone(), entries: entries.into(), position: None }])
                .unwrap();
        };
        write(vec![entry("a", "1"), entry("b", "2")]);
        let mut view = stores.view(&id).unwrap();
        write(vec![entry("a", "3"), (Bytes::from("b"), None), entry("c", "4")]);
        let all = |backend: &dyn StoreBackend| {
            let rows = backend.range(std::ops::Bound::Unbounded, std::ops::Bound::Unbounded).unwrap();
            rows.into_iter().map(|(key, value)| [key, value].concat()).collect::<Vec<_>>()
        };
        assert_eq!(all(view.as_ref()), [b"a1", b"b2"]);
        assert_eq!(view.get(b"b").unwrap(), Some(Bytes::from("2")));
        assert_eq!(
            view.first(std::ops::Bound::Included(b"b"), std::ops::Bound::Unbounded).unwrap().unwrap().0,
            "b"
        );
        assert!(view.apply(vec![entry("d", "5")]).is_err());
        assert_eq!(all(stores.view(&id).unwrap().as_ref()), [b"a3", b"c4"]);
    }

    #[test]
    fn memory_and_disk_behave_alike() {
        check(&Stores::in_memory());
        let folder = tempfile::tempdir().unwrap();
        let directory = StateDir::open(folder.path(), "app").unwrap();
        check(&Stores::on_disk(&directory, BUDGET).unwrap());
    }

    /// What is read of `0..count`, where a third was written last, and every seventh deleted.
    fn check_loaded(stores: &Stores, id: &StoreId, count: usize) {
        let backend = stores.open(id).unwrap();
        for number in 0..count {
            let expected = match number {
                _ if number % 7 == 0 => None,
                _ if number % 3 == 0 => Some(Bytes::from("new")),
                _ => Some(Bytes::from(format!("{number}"))),
            };
            assert_eq!(backend.get(format!("key-{number}").as_bytes()).unwrap(), expected, "key-{number}");
        }
        let all = backend.range(std::ops::Bound::Unbounded, std::ops::Bound::Unbounded).unwrap();
        assert_eq!(all.len(), (0..count).filter(|number| number % 7 != 0).count());
        assert_eq!(stores.position(id).unwrap(), Some(3));
    }

    #[test]
    fn what_is_loaded_is_read_beside_what_was_written_before_and_after_and_when_it_is_opened_again() {
        for (table_from, count) in [(1, 1), (1, 40), (100, 5_000), (usize::MAX, 500)] {
            let folder = tempfile::tempdir().unwrap();
            let id = StoreId::new(TaskId { subtopology: 0, partition: 1 }, "s");
            let budget = Budget { table_from, ..BUDGET };
            let load =
                |numbers: &dyn Fn(usize) -> bool, value: &dyn Fn(usize) -> Option<String>, position| {
                    let entries = (0..count)
                        .filter(|number| numbers(*number))
                        .map(|number| (Bytes::from(format!("key-{number}")), value(number).map(Bytes::from)));
                    let entries = Arc::new(entries.collect());
                    StoreWrite { id: id.clone(), entries, position: Some(position) }
                };
            let all = load(&|_| true, &|number| Some(number.to_string()), 1);
            let mut twice = all.clone();
            let old = all.entries.iter().map(|(key, _)| (key.clone(), Some(Bytes::from("old"))));
            twice.entries = Arc::new(old.chain(all.entries.iter().cloned()).collect());
            let third = load(&|number| number % 3 == 0, &|_| Some("new".to_owned()), 2);
            let deleted = load(&|number| number % 7 == 0, &|_| None, 3);
            {
                let directory = StateDir::open(folder.path(), "app").unwrap();
                let stores = Stores::on_disk(&directory, budget).unwrap();
                // Neither what is empty nor what is not comes back to empty what is written after.
                stores.wipe(&id).unwrap();
                stores.load(vec![load(&|_| true, &|_| Some("gone".to_owned()), 9)]).unwrap();
                stores.wipe(&id).unwrap();
                let left =
                    stores.open(&id).unwrap().range(std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
                assert_eq!((left.unwrap().len(), stores.position(&id).unwrap()), (0, None));
                stores.load(vec![twice]).unwrap();
                stores.write(vec![third]).unwrap();
                stores.load(vec![deleted]).unwrap();
                check_loaded(&stores, &id, count);
            }
            let directory = StateDir::open(folder.path(), "app").unwrap();
            check_loaded(&Stores::on_disk(&directory, budget).unwrap(), &id, count);
        }
    }

    #[test]
    fn disk_stores_come_back_with_their_positions() {
        let folder = tempfile::tempdir().unwrap();
        let id = StoreId::new(TaskId { subtopology: 0, partition: 1 }, "s");
        let instance = {
            let directory = StateDir::open(folder.path(), "app").unwrap();
            let stores = Stores::on_disk(&directory, BUDGET).unwrap();
            let writes =
                vec![StoreWrite { id: id.clone(), entries: vec![entry("k", "v")].into(), position: Some(3) }];
            stores.write(writes).unwrap();
            directory.instance().to_owned()
        };
        let directory = StateDir::open(folder.path(), "app").unwrap();
        assert_eq!(directory.instance(), instance);
        let stores = Stores::on_disk(&directory, BUDGET).unwrap();
        assert_eq!(stores.position(&id).unwrap(), Some(3));
        assert!(stores.written_at(&id).unwrap().is_some());
        assert_eq!(stores.open(&id).unwrap().get(b"k").unwrap(), Some(Bytes::from("v")));
    }

    /// A bit that is flipped in any file: the stores are what they were, or empty and without a position.
    #[test]
    fn damaged_stores_are_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let id = StoreId::new(TaskId { subtopology: 0, partition: 1 }, "s");
        let write = |stores: &Stores, n: i64| {
            let entries = vec![entry("k", &n.to_string())];
            stores
                .write(vec![StoreWrite { id: id.clone(), entries: entries.into(), position: Some(n) }])
                .unwrap();
        };
        let (mut rebuilt, mut place) = (0, 0);
        for round in 0..24 {
            let directory = StateDir::open(folder.path(), "app").unwrap();
            let stores = Stores::on_disk(&directory, BUDGET).unwrap();
            let position = stores.position(&id).unwrap();
            let value = stores.open(&id).unwrap().get(b"k").unwrap();
            assert_eq!(value, position.map(|n| Bytes::from(n.to_string())), "round {round}");
            rebuilt += u32::from(round > 0 && position.is_none());
            write(&stores, round);
            drop(stores);
            drop(directory);
            let mut files = Vec::new();
            list(&folder.path().join("app/stores"), &mut files);
            files.sort();
            let file = &files[(round as usize * 7) % files.len()];
            let mut bytes = std::fs::read(file).unwrap();
            let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            if written > 0 {
                place += 13;
                bytes[place % written] ^= 1 << (round % 8);
                std::fs::write(file, bytes).unwrap();
            }
        }
        assert!(rebuilt > 0, "no flip was noticed");
    }

    fn list(directory: &std::path::Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { list(&path, files) } else { files.push(path) }
        }
    }

    #[test]
    fn a_store_found_damaged_is_rebuilt_by_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let id = StoreId::new(TaskId { subtopology: 0, partition: 1 }, "s");
        let directory = StateDir::open(folder.path(), "app").unwrap();
        let stores = Stores::on_disk(&directory, BUDGET).unwrap();
        let write = StoreWrite { id: id.clone(), entries: vec![entry("k", "v")].into(), position: Some(3) };
        stores.write(vec![write]).unwrap();
        drop(stores);
        std::fs::write(directory.damage(), "read store s: a checksum does not fit").unwrap();
        for _ in 0..2 {
            let stores = Stores::on_disk(&directory, BUDGET).unwrap();
            assert_eq!(stores.position(&id).unwrap(), None);
            assert_eq!(stores.open(&id).unwrap().get(b"k").unwrap(), None);
        }
        assert!(folder.path().join("app/stores.damaged").exists());
    }

    #[test]
    fn a_second_process_is_kept_out() {
        let folder = tempfile::tempdir().unwrap();
        let held = StateDir::open(folder.path(), "app").unwrap();
        let error = StateDir::open(folder.path(), "app").unwrap_err();
        assert!(
            matches!(error, StateError::InUse { .. }) && error.to_string().contains("HEADWATER_STATE_DIR")
        );
        assert!(StateDir::open(folder.path(), "other-app").is_ok());
        drop(held);
        assert!(StateDir::open(folder.path(), "app").is_ok());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let error = StateDir::open(&file, "app").unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
    }
}
