//! Stores on disk: one fjall database per process, a keyspace per store and task, one more for positions, and where stores have
//! been removed one or two that are empty.
//!
//! Writes reach the operating system before they return, so a killed process loses none. A machine that loses power may
//! lose the last ones, entries together with their position, and restores them from the changelog.

mod removal;

use std::collections::HashMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fjall::compaction::Leveled;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use headwater_model::{Bytes, Offset, TimestampMs};
use headwater_streams::{StoreBackend, StoreError};

use super::view::DiskView;
use super::{Budget, Entry, StateError, StoreWrite};
use crate::thread::wall_clock;

/// The smallest limit that fjall accepts. An opening database reads its journal, so it is kept small.
const JOURNAL_BYTES: u64 = 64 << 20;
/// Keys that are deleted at once where a store is emptied.
const WIPED_AT_ONCE: usize = 500_000;
/// So many tables of a store gather before they are merged with the rest of it, all of which that writes anew.
const TABLES_AT_ONCE: u8 = 8;
const SMALLEST_MEMTABLE: u64 = 256 << 10;
const LARGEST_MEMTABLE: u64 = 8 << 20;
/// When a position was written is noted no more often.
const NOTED: Duration = Duration::from_secs(600);
/// Behind a store's name: the key of when its position was written.
const TIME: &str = "\0time";

/// The database of one process.
pub struct DiskStores {
    database: Database,
    positions: Keyspace,
    memtable_bytes: u64,
    table_from: usize,
    damage: Damage,
    /// When it was noted last that a store's position was written.
    noted: Mutex<HashMap<String, Instant>>,
}

/// Why the database did not open.
pub(super) enum OpenError {
    /// Its files are not what was written.
    Damaged(StateError),
    Other(StateError),
}

impl OpenError {
    pub fn into_state(self) -> StateError {
        let (Self::Damaged(error) | Self::Other(error)) = self;
        error
    }
}

/// Leaves word of damage for the next start, which begins with empty stores.
#[derive(Clone)]
pub(super) struct Damage(PathBuf);

impl Damage {
    pub(super) fn failed(&self, what: &str, name: &str) -> impl FnOnce(fjall::Error) -> StoreError {
        let (context, marker) = (format!("{what} store {name}"), self.0.clone());
        move |error| {
            if !is_damage(&error) {
                return StoreError::new(format!("{context}: {error}"));
            }
            let noted = std::fs::write(&marker, format!("{context}: {error}\n"));
            let next = match noted {
                Ok(()) => "the next start rebuilds it from its changelog".to_owned(),
                Err(error) => format!("remove it, as {} could not be written: {error}", marker.display()),
            };
            StoreError::new(format!("{context}: its files are damaged ({error}); {next}"))
        }
    }
}

/// Files that lack, or are not what was written. Not a disk that is full, a missing right, or another process's lock.
fn is_damage(error: &fjall::Error) -> bool {
    let by_file = |error: &std::io::Error| {
        use std::io::ErrorKind::{InvalidData, InvalidInput, NotFound, UnexpectedEof};
        matches!(error.kind(), NotFound | UnexpectedEof | InvalidData | InvalidInput)
    };
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => by_file(error),
        fjall::Error::Locked | fjall::Error::Poisoned | fjall::Error::KeyspaceDeleted => false,
        _ => true,
    }
}

impl DiskStores {
    pub(super) fn open(path: &Path, marker: &Path, budget: Budget) -> Result<Self, OpenError> {
        // A database of an earlier version may have a journal that clears tables, so it gets none.
        let makes_tables = path.with_file_name("tables");
        if !path.exists() {
            std::fs::write(&makes_tables, "The database beside this has never been cleared.\n")
                .map_err(|source| OpenError::Other(StateError::Io { path: makes_tables.clone(), source }))?;
        }
        let table_from = if makes_tables.exists() { budget.table_from.max(1) } else { usize::MAX };
        let opened = std::panic::catch_unwind(|| Self::database(path, budget));
        let state = |message| StateError::Open { path: path.to_owned(), message };
        let (database, positions) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) if is_damage(&error) => return Err(OpenError::Damaged(state(error.to_string()))),
            Ok(Err(error)) => return Err(OpenError::Other(state(error.to_string()))),
            Err(_) => {
                return Err(OpenError::Damaged(state("the database panicked on its files".to_owned())));
            }
        };
        let share = budget.write_buffer_bytes / budget.stores.max(1) as u64;
        let memtable_bytes = share.clamp(SMALLEST_MEMTABLE, LARGEST_MEMTABLE);
        let damage = Damage(marker.to_owned());
        Ok(Self { database, positions, memtable_bytes, table_from, damage, noted: Mutex::default() })
    }

    fn database(path: &Path, budget: Budget) -> Result<(Database, Keyspace), fjall::Error> {
        let database = Database::builder(path)
            .cache_size(budget.cache_bytes)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1)
            .open()?;
        let small = || KeyspaceCreateOptions::default().max_memtable_size(SMALLEST_MEMTABLE);
        let positions = database.keyspace("positions", small)?;
        Ok((database, positions))
    }

    pub(super) fn keyspace(&self, name: &str) -> Result<DiskStore, StoreError> {
        if name.len() > usize::from(u8::MAX) {
            return Err(StoreError::new(format!(
                "open store {name}: use a name of fewer than 230 characters"
            )));
        }
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(self.memtable_bytes)
                .compaction_strategy(Arc::new(Leveled::default().with_l0_threshold(TABLES_AT_ONCE)))
        };
        let keyspace = self.database.keyspace(name, options).map_err(self.damage.failed("open", name))?;
        let (database, damage) = (self.database.clone(), self.damage.clone());
        Ok(DiskStore { database, keyspace, name: name.to_owned(), damage })
    }

    /// The store as it is now, whatever is written to it afterwards.
    pub(super) fn view(&self, name: &str) -> Result<DiskView, StoreError> {
        let DiskStore { database, keyspace, name, damage } = self.keyspace(name)?;
        Ok(DiskView { snapshot: database.snapshot(), keyspace, name, damage })
    }

    pub(super) fn position(&self, name: &str) -> Result<Option<Offset>, StoreError> {
        let Some(stored) =
            self.positions.get(name).map_err(self.damage.failed("read the position of", name))?
        else {
            return Ok(None);
        };
        parse_position(name, &stored).map(Some)
    }

    /// When the position was written last, or up to [`NOTED`] before that; `None` if that was never noted.
    pub(super) fn written_at(&self, name: &str) -> Result<Option<TimestampMs>, StoreError> {
        let key = format!("{name}{TIME}");
        let stored =
            self.positions.get(key.as_str()).map_err(self.damage.failed("read the time of", name))?;
        Ok(stored.and_then(|stored| <[u8; 8]>::try_from(&stored[..]).ok()).map(TimestampMs::from_be_bytes))
    }

    /// Whether it is to be noted that its position is written now.
    fn is_noted_now(&self, name: &str) -> bool {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = noted.get(name).is_none_or(|at| at.elapsed() >= NOTED);
        if is_due {
            noted.insert(name.to_owned(), Instant::now());
        }
        is_due
    }

    pub(super) fn positioned(&self) -> Result<Vec<String>, StoreError> {
        let name = |guard: fjall::Guard| {
            let key = guard.key().map_err(self.damage.failed("list", "positions"))?;
            Ok(String::from_utf8_lossy(&key).into_owned())
        };
        let is_store =
            |name: &Result<String, StoreError>| !name.as_ref().is_ok_and(|name| name.ends_with(TIME));
        self.positions.iter().map(name).filter(is_store).collect()
    }

    pub(super) fn write(&self, writes: Vec<StoreWrite>) -> Result<(), StoreError> {
        let mut batch = self.database.batch().durability(Some(PersistMode::Buffer));
        for write in writes {
            let name = write.id.name();
            let keyspace = self.keyspace(&name)?.keyspace;
            // Neighbours are found where the last one was.
            for (key, value) in in_order(&write.entries) {
                match value {
                    Some(value) => batch.insert(&keyspace, &key[..], &value[..]),
                    None => batch.remove(&keyspace, &key[..]),
                }
            }
            if let Some(position) = write.position {
                batch.insert(&self.positions, name.as_str(), position.to_be_bytes());
                if self.is_noted_now(&name) {
                    let key = format!("{name}{TIME}");
                    batch.insert(&self.positions, key.as_str(), wall_clock().to_be_bytes());
                }
            }
        }
        batch.commit().map_err(self.damage.failed("write", "batch"))
    }

    /// A store as it is, and its position; `None` if it has none.
    pub(super) fn capture(&self, name: &str) -> Result<Option<(Offset, DiskView)>, StoreError> {
        let view = self.view(name)?;
        let stored = view.snapshot.get(&self.positions, name).map_err(self.damage.failed("read", name))?;
        let position = stored.map(|stored| parse_position(name, &stored)).transpose()?;
        Ok(position.map(|position| (position, view)))
    }

    /// Many entries of a store become a sorted table at once, past journal and memtable.
    pub(super) fn load(&self, mut writes: Vec<StoreWrite>) -> Result<(), StoreError> {
        for write in writes.iter_mut().filter(|write| write.entries.len() >= self.table_from) {
            self.make_table(&write.id.name(), &std::mem::take(&mut write.entries))?;
        }
        self.write(writes)
    }

    fn make_table(&self, name: &str, entries: &[Entry]) -> Result<(), StoreError> {
        let failed = || self.damage.failed("load", name);
        let keyspace = self.keyspace(name)?.keyspace;
        let mut table = keyspace.start_ingestion().map_err(failed())?;
        let mut entries = in_order(entries).peekable();
        while let Some((key, value)) = entries.next() {
            if entries.peek().is_some_and(|(next, _)| *next == key) {
                continue;
            }
            match value {
                Some(value) => table.write(&key[..], &value[..]),
                None => table.write_tombstone(&key[..]),
            }
            .map_err(failed())?;
        }
        table.finish().map_err(failed())
    }

    fn forget_position(&self, name: &str) -> Result<(), StoreError> {
        self.positions.remove(name).map_err(self.damage.failed("forget the position of", name))?;
        let time = format!("{name}{TIME}");
        self.positions.remove(time.as_str()).map_err(self.damage.failed("forget the time of", name))?;
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(())
    }

    /// The position goes first: entries without one are wiped again by the next start.
    pub(super) fn wipe(&self, name: &str) -> Result<(), StoreError> {
        self.forget_position(name)?;
        let keyspace = self.keyspace(name)?.keyspace;
        if self.table_from == usize::MAX {
            return keyspace.clear().map_err(self.damage.failed("empty", name));
        }
        // Clearing is journalled, and a journal that is read again clears what was made into tables since.
        let mut from: Bound<Bytes> = Bound::Unbounded;
        loop {
            let bounds = (from.as_ref().map(|key| &key[..]), Bound::Unbounded);
            let keys = keyspace.range::<&[u8], _>(bounds).take(WIPED_AT_ONCE).map(fjall::Guard::key);
            let keys = keys.collect::<Result<Vec<_>, _>>().map_err(self.damage.failed("scan", name))?;
            let Some(last) = keys.last() else { return Ok(()) };
            from = Bound::Excluded(Bytes::copy_from_slice(last));
            let gone: Vec<Entry> = keys.iter().map(|key| (Bytes::copy_from_slice(key), None)).collect();
            self.make_table(name, &gone)?;
        }
    }

    pub(super) fn disk_bytes(&self) -> u64 {
        self.database.disk_space().unwrap_or(0)
    }
}

/// So much of a key is compared at once.
const STEP: usize = 7;
/// From here on keys are compared where they lie.
const STEPS_END: usize = 10 * STEP;

/// By key; of those with the same key the last stays the last.
fn in_order(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    let mut order: Vec<(u64, usize)> = (0..entries.len()).map(|at| (0, at)).collect();
    sort_from(0, &mut order, entries);
    order.into_iter().map(|(_, at)| &entries[at])
}

/// Sorts by what the keys have from `from` on, in which they differ first.
///
/// Keys lie all over memory and many begin alike (a window's time): a step of each is fetched once and compared beside the
/// others', and only those that are alike so far go on to the next.
fn sort_from(from: usize, order: &mut [(u64, usize)], entries: &[Entry]) {
    if from >= STEPS_END {
        return order.sort_unstable_by_key(|(_, at)| (&entries[*at].0, *at));
    }
    for (step, at) in &mut *order {
        *step = step_of(&entries[*at].0[from..]);
    }
    order.sort_unstable();
    let goes_on = |(step, _): (u64, usize)| step.to_be_bytes()[STEP] as usize > STEP;
    for alike in order.chunk_by_mut(|one, next| one.0 == next.0) {
        if alike.len() > 1 && goes_on(alike[0]) {
            sort_from(from + STEP, alike, entries);
        }
    }
}

/// The first bytes, and how many there are: of two that are alike the one that ends comes first.
fn step_of(rest: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let length = rest.len().min(STEP);
    bytes[..length].copy_from_slice(&rest[..length]);
    bytes[STEP] = rest.len().min(STEP + 1) as u8;
    u64::from_be_bytes(bytes)
}

fn parse_position(name: &str, stored: &[u8]) -> Result<Offset, StoreError> {
    <[u8; 8]>::try_from(stored).map(Offset::from_be_bytes).map_err(|_| {
        StoreError::new(format!("read the position of store {name}: it has {} bytes", stored.len()))
    })
}

/// The committed entries of one store.
pub struct DiskStore {
    database: Database,
    keyspace: Keyspace,
    name: String,
    damage: Damage,
}

impl StoreBackend for DiskStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let found = self.keyspace.get(key).map_err(self.damage.failed("read", &self.name))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), StoreError> {
        if is_empty(from, to) {
            return Ok(());
        }
        for guard in self.keyspace.range::<&[u8], _>((from, to)) {
            let (key, value) = guard.into_inner().map_err(self.damage.failed("scan", &self.name))?;
            if !visit(Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)) {
                break;
            }
        }
        Ok(())
    }

    fn apply(&mut self, entries: Vec<(Bytes, Option<Bytes>)>) -> Result<(), StoreError> {
        let mut batch = self.database.batch().durability(Some(PersistMode::Buffer));
        for (key, value) in entries {
            match value {
                Some(value) => batch.insert(&self.keyspace, &key[..], &value[..]),
                None => batch.remove(&self.keyspace, &key[..]),
            }
        }
        batch.commit().map_err(self.damage.failed("write", &self.name))
    }
}

/// Ordered maps panic on inverted bounds; here they contain nothing.
pub(super) fn is_empty(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
            from >= to
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_in_the_order_of_their_keys_and_of_their_coming() {
        let alike = |bytes: usize, end: &str| format!("{}{end}", "k".repeat(bytes));
        let mut keys: Vec<String> =
            ["", "b", "a", "a\0", "a\0\0", "\0", "", "a", "b"].map(str::to_owned).into();
        for length in [6, 7, 8, 13, 14, 15, 69, 70, 71, 500_000] {
            keys.extend(
                ["b", "", "a\0", "a", "\0", "a", "\0b", "12345678", ""].map(|end| alike(length, end)),
            );
        }
        let entry = |(at, key): (usize, String)| (Bytes::from(key), Some(Bytes::from(at.to_string())));
        let entries: Vec<Entry> = keys.into_iter().enumerate().map(entry).collect();
        let mut expected = entries.clone();
        expected.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(in_order(&entries).cloned().collect::<Vec<_>>(), expected);
    }
}
