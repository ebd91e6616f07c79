//! Rows of a store in memory: what was read from the backend, and what was written since the last commit.
//!
//! Owns what may be kept. No order of rows can be observed but that of their keys. Rows lie in many small tables, so that
//! growing and letting go never hold up processing for longer than one of them takes.

use std::hash::BuildHasher;
use std::ops::Deref;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use headwater_model::{Bytes, TimestampMs};

/// What a piece of memory costs beside itself, in bytes.
const PIECE: usize = 32;
const TABLES: usize = 64;

/// The longest key that lies in its row.
const SHORT: usize = 23;

/// A key is compared on every lookup: where it is short, that reads no memory but the row's.
enum RowKey {
    Short { length: u8, bytes: [u8; SHORT] },
    Long(Bytes),
}

impl From<&Bytes> for RowKey {
    fn from(key: &Bytes) -> Self {
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..key.len()), u8::try_from(key.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(key);
                Self::Short { length, bytes }
            }
            _ => Self::Long(key.clone()),
        }
    }
}

impl Deref for RowKey {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => &bytes[..usize::from(*length)],
            Self::Long(key) => key,
        }
    }
}

pub(super) struct Row<V> {
    key: RowKey,
    pub value: Option<(TimestampMs, V)>,
    bytes: u32,
    /// It was written since the last flush.
    dirty: bool,
    /// It was read or written again since it was last looked over.
    used: bool,
    handed: Handed,
}

/// Where the row's last encoding lies among what is handed to the backend, and in which handing over that is: of one before,
/// it has gone.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Handed {
    pub over: u32,
    pub at: u32,
}

pub(super) struct Overlay<V> {
    tables: Vec<HashTable<Row<V>>>,
    hasher: RandomState,
    /// The table that is looked over next.
    hand: usize,
    rows: usize,
    /// Of all rows, as far as their values have been encoded or decoded.
    bytes: usize,
}

impl<V> Default for Overlay<V> {
    fn default() -> Self {
        let tables = std::iter::repeat_with(HashTable::new).take(TABLES).collect();
        Self { tables, hasher: RandomState::default(), hand: 0, rows: 0, bytes: 0 }
    }
}

/// How much is kept between commits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub rows: usize,
    pub bytes: usize,
}

/// Not the bits by which a table places a row.
fn table_of(hash: u64) -> usize {
    (hash >> 40) as usize % TABLES
}

/// What a row takes, in bytes: its place in a table, of which a third is free on the average, what its key has elsewhere, and
/// about as much as its value is long when it is encoded.
fn charged<V>(key: &[u8], encoded: usize) -> u32 {
    let place = size_of::<Row<V>>() * 3 / 2;
    let elsewhere = if key.len() > SHORT { key.len() + PIECE } else { 0 };
    u32::try_from(place + elsewhere + encoded).unwrap_or(u32::MAX)
}

impl<V> Overlay<V> {
    fn find(&mut self, key: &[u8]) -> Option<&mut Row<V>> {
        let hash = self.hasher.hash_one(key);
        self.tables[table_of(hash)].find_mut(hash, |row| row.key[..] == *key)
    }

    /// What is here without its having been asked for; also a row that is known not to be there.
    pub fn peek(&self, key: &[u8]) -> Option<&Row<V>> {
        let hash = self.hasher.hash_one(key);
        self.tables[table_of(hash)].find(hash, |row| row.key[..] == *key)
    }

    /// The row, which `load` reads with the length of its value where the backend has it; `None` from there is kept, too.
    pub fn get<E>(
        &mut self,
        key: &Bytes,
        load: impl FnOnce() -> Result<(Option<(TimestampMs, V)>, usize), E>,
    ) -> Result<&Row<V>, E> {
        let Self { tables, hasher, rows, bytes, .. } = self;
        let hash = hasher.hash_one(&key[..]);
        let again = |row: &Row<V>| hasher.hash_one(&row.key[..]);
        match tables[table_of(hash)].entry(hash, |row| row.key[..] == key[..], again) {
            Entry::Occupied(known) => {
                let row = known.into_mut();
                row.used = true;
                Ok(row)
            }
            Entry::Vacant(free) => {
                let (value, encoded) = load()?;
                let charged = charged::<V>(key, encoded);
                *rows += 1;
                *bytes += charged as usize;
                let row = Row {
                    key: key.into(),
                    value,
                    bytes: charged,
                    dirty: false,
                    used: false,
                    handed: Handed::default(),
                };
                Ok(free.insert(row).into_mut())
            }
        }
    }

    /// Whether this is the first change of the row since the last flush.
    pub fn put(&mut self, key: &Bytes, value: Option<(TimestampMs, V)>) -> bool {
        let Self { tables, hasher, rows, .. } = self;
        let hash = hasher.hash_one(&key[..]);
        let again = |row: &Row<V>| hasher.hash_one(&row.key[..]);
        match tables[table_of(hash)].entry(hash, |row| row.key[..] == key[..], again) {
            Entry::Occupied(known) => {
                let row = known.into_mut();
                (row.value, row.used) = (value, true);
                !std::mem::replace(&mut row.dirty, true)
            }
            Entry::Vacant(free) => {
                *rows += 1;
                let handed = Handed::default();
                free.insert(Row { key: key.into(), value, bytes: 0, dirty: true, used: true, handed });
                true
            }
        }
    }

    /// Encodes a row if it was written since the last flush: `encode` says in how many bytes, and where it has handed them.
    pub fn encode<T, E>(
        &mut self,
        key: &Bytes,
        encode: impl FnOnce(Option<&(TimestampMs, V)>, &mut Handed) -> Result<(T, usize), E>,
    ) -> Result<Option<T>, E> {
        let Some(row) = self.find(key).filter(|row| row.dirty) else { return Ok(None) };
        let (done, encoded) = encode(row.value.as_ref(), &mut row.handed)?;
        row.dirty = false;
        let charged = charged::<V>(key, encoded);
        let before = std::mem::replace(&mut row.bytes, charged);
        self.bytes = self.bytes + charged as usize - before as usize;
        Ok(Some(done))
    }

    pub fn remove(&mut self, key: &[u8]) {
        let hash = self.hasher.hash_one(key);
        if let Ok(known) = self.tables[table_of(hash)].find_entry(hash, |row| row.key[..] == *key) {
            let (row, _) = known.remove();
            self.rows -= 1;
            self.bytes -= row.bytes as usize;
        }
    }

    /// Forgets what lies before `end`, written or not.
    pub fn remove_before(&mut self, end: &[u8]) {
        (0..TABLES).for_each(|table| self.retain(table, |row| &row.key[..] >= end));
    }

    /// Lets rows go that the backend has, as it has what was `settled`, until no more than the limits are kept: those that
    /// were not used for longest, or about that.
    pub fn evict(&mut self, limits: Limits, settled: u32) {
        // The first time around spares what was used.
        for _ in 0..2 * TABLES {
            if self.rows <= limits.rows && self.bytes <= limits.bytes {
                return;
            }
            self.retain(self.hand, |row| {
                row.dirty || row.handed.over > settled || std::mem::take(&mut row.used)
            });
            self.hand = (self.hand + 1) % TABLES;
        }
    }

    fn retain(&mut self, table: usize, mut stays: impl FnMut(&mut Row<V>) -> bool) {
        let (mut gone, mut bytes) = (0, 0);
        self.tables[table].retain(|row| {
            let kept = stays(row);
            if !kept {
                gone += 1;
                bytes += row.bytes as usize;
            }
            kept
        });
        self.rows -= gone;
        self.bytes -= bytes;
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> Bytes {
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    fn read(overlay: &mut Overlay<u32>, number: u32, encoded: usize) {
        let row = overlay.get(&key(number), || Ok::<_, ()>((Some((0, number)), encoded)));
        assert_eq!(row.map(|row| row.value), Ok(Some((0, number))));
    }

    #[test]
    fn rows_that_are_not_used_go_first_and_those_not_written_yet_never() {
        let mut overlay = Overlay::default();
        for number in 0..10 {
            read(&mut overlay, number, 20);
        }
        assert!(overlay.put(&key(100), Some((0, 100))));
        overlay.get(&key(3), || Err("it was kept")).unwrap();
        overlay.evict(Limits { rows: 2, bytes: usize::MAX }, 0);
        let kept = (0..=100).filter(|number| overlay.peek(&key(*number)).is_some()).collect::<Vec<_>>();
        assert_eq!(kept, [3, 100]);
        assert_eq!(
            overlay.bytes,
            charged::<u32>(&key(3), 20) as usize,
            "what is not encoded yet is not counted"
        );
        overlay.evict(Limits { rows: 0, bytes: 0 }, 0);
        assert_eq!((overlay.rows, overlay.bytes), (1, 0));
        assert!(!overlay.put(&key(100), Some((0, 101))));
        assert_eq!(
            overlay.encode(&key(100), |row, _| Ok::<_, ()>((row.copied(), 7))),
            Ok(Some(Some((0, 101))))
        );
        assert_eq!(overlay.encode(&key(100), |_, _| Err("it is encoded")), Ok::<Option<()>, _>(None));
        assert_eq!(overlay.bytes, charged::<u32>(&key(100), 7) as usize);
        overlay.remove(&key(100));
        assert_eq!((overlay.rows, overlay.bytes), (0, 0));
    }

    #[test]
    fn keys_are_what_they_were_whether_they_lie_in_their_row_or_not() {
        assert_eq!(size_of::<RowKey>(), size_of::<Bytes>());
        let mut overlay = Overlay::default();
        let key = |length: usize| Bytes::from(vec![7; length]);
        for length in 0..60 {
            assert!(overlay.put(&key(length), Some((0, length))));
        }
        for length in 0..60 {
            let row = overlay.peek(&key(length)).expect("it was put");
            assert_eq!((&row.key[..], &row.value), (&key(length)[..], &Some((0, length))));
            assert!(!overlay.put(&key(length), None));
        }
        overlay.remove_before(&key(30));
        assert_eq!(overlay.rows, 30);
    }

    #[test]
    fn of_rows_that_were_all_used_no_more_go_than_have_to() {
        let mut overlay = Overlay::default();
        for number in 0..10_000 {
            read(&mut overlay, number, 1_000);
            read(&mut overlay, number, 1_000);
        }
        let each = charged::<u32>(&key(0), 1_000) as usize;
        let limits = Limits { rows: usize::MAX, bytes: 9_000 * each };
        overlay.evict(limits, 0);
        assert!((8_000..=9_000).contains(&overlay.rows), "{} rows", overlay.rows);
        assert_eq!(overlay.bytes, overlay.rows * each);
        let kept: usize = overlay.tables.iter().map(HashTable::len).sum();
        assert_eq!(kept, overlay.rows);
    }
}
