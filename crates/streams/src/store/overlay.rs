//! Rows of a store in memory: what was written since the last commit as it is, and what was read or written before that encoded.
//!
//! Owns what may be kept. No order of rows can be observed but that of their keys, and of the first writes since a commit.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use headwater_model::{Bytes, TimestampMs};

use super::rows::{Handed, Limits, Place, Rows};

/// A row that was written since the last flush.
pub(super) struct Written<V> {
    pub key: Bytes,
    /// `None`: it was deleted.
    pub value: Option<(TimestampMs, V)>,
}

pub(super) struct Overlay<V> {
    /// In the order of their first write.
    written: Vec<Written<V>>,
    /// Where a key is in `written`.
    places: HashTable<usize>,
    rows: Rows,
}

impl<V> Default for Overlay<V> {
    fn default() -> Self {
        Self { written: Vec::new(), places: HashTable::new(), rows: Rows::default() }
    }
}

/// What is known of a row without asking the backend.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known<'a, V> {
    Written(Option<&'a (TimestampMs, V)>),
    /// `timestamp | value`, with `None` for one that is not there.
    Kept(Option<&'a [u8]>),
}

impl<V> Overlay<V> {
    fn place(&self, hash: u64, key: &[u8]) -> Option<usize> {
        self.places.find(hash, |at| self.written[*at].key == key).copied()
    }

    pub fn peek(&self, key: &[u8]) -> Option<Known<'_, V>> {
        let hash = self.rows.hash(key);
        match self.place(hash, key) {
            Some(at) => Some(Known::Written(self.written[at].value.as_ref())),
            None => self.rows.peek(hash, key).map(Known::Kept),
        }
    }

    /// As [`Overlay::peek`], for who uses the row.
    pub fn get(&mut self, key: &[u8]) -> Option<Known<'_, V>> {
        let hash = self.rows.hash(key);
        match self.place(hash, key) {
            Some(at) => Some(Known::Written(self.written[at].value.as_ref())),
            None => self.rows.get(hash, key).map(Known::Kept),
        }
    }

    /// Keeps what the backend has, or has not.
    pub fn keep(&mut self, key: &[u8], stored: Option<&[u8]>) {
        self.rows.put((key, None), stored, false, |_| {});
    }

    /// Where rows are that were taken. Looking for several at once, with nothing else in between, has the processor wait for their
    /// memory once.
    pub fn find(&self, taken: &[Written<V>], found: &mut Vec<Option<Place>>) {
        found.extend(taken.iter().map(|row| self.rows.find(self.rows.hash(&row.key), &row.key)));
    }

    /// Keeps what was written as it is encoded: see [`Rows::put`].
    pub fn encoded(
        &mut self,
        row: (&[u8], Option<Place>),
        stored: Option<&[u8]>,
        hand: impl FnOnce(&mut Handed),
    ) {
        self.rows.put(row, stored, true, hand);
    }

    /// Writes a row; tells its key if this is its first change since the last flush.
    pub fn put(&mut self, key: Bytes, value: Option<(TimestampMs, V)>) -> Option<&Bytes> {
        let Self { written, places, rows } = self;
        let hash = rows.hash(&key);
        match places.entry(hash, |at| written[*at].key == key, |at| rows.hash(&written[*at].key)) {
            Entry::Occupied(known) => {
                written[*known.get()].value = value;
                None
            }
            Entry::Vacant(free) => {
                free.insert(written.len());
                written.push(Written { key, value });
                written.last().map(|row| &row.key)
            }
        }
    }

    /// What was written since the last flush, to be kept encoded.
    pub fn take_written(&mut self) -> Vec<Written<V>> {
        self.places.clear();
        std::mem::take(&mut self.written)
    }

    /// The memory of what was taken, for what comes.
    pub fn reuse(&mut self, taken: Vec<Written<V>>) {
        if self.written.is_empty() {
            self.written = taken;
        }
    }

    /// How many rows were written since the last flush.
    pub fn written(&self) -> usize {
        self.written.len()
    }

    /// Keys that were written since the last flush, from the `from`th on.
    pub fn written_from(&self, from: usize) -> impl Iterator<Item = &Bytes> {
        self.written.get(from..).unwrap_or_default().iter().map(|row| &row.key)
    }

    pub fn remove(&mut self, key: &[u8]) {
        if self.place(self.rows.hash(key), key).is_some() {
            self.retain(|row| row.key != key);
        }
        self.rows.remove(key);
    }

    /// Forgets what lies before `end`, written or not; whether something written did.
    pub fn remove_before(&mut self, end: &[u8]) -> bool {
        self.rows.remove_before(end);
        let goes = self.written.iter().any(|row| row.key[..] < *end);
        if goes {
            self.retain(|row| row.key[..] >= *end);
        }
        goes
    }

    fn retain(&mut self, stays: impl FnMut(&Written<V>) -> bool) {
        let Self { written, places, rows } = self;
        written.retain(stays);
        places.clear();
        for (at, row) in written.iter().enumerate() {
            places.insert_unique(rows.hash(&row.key), at, |at| rows.hash(&written[*at].key));
        }
    }

    /// As [`Rows::evict`]: what was written since the last flush stays.
    pub fn evict(&mut self, limits: Limits, settled: u32, gone: impl FnMut(&[u8])) {
        self.rows.evict(limits, settled, gone);
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.written.len() + self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> Bytes {
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    #[test]
    fn what_is_written_is_in_the_order_of_its_first_write_also_where_some_of_it_was_forgotten() {
        let mut overlay = Overlay::default();
        let first = [5, 3, 9, 1, 3].map(|number| overlay.put(key(number), Some((0, number))).is_some());
        assert_eq!(first, [true, true, true, true, false]);
        assert!(overlay.remove_before(&key(3)));
        overlay.remove(&key(9));
        assert_eq!(overlay.put(key(3), None), None);
        assert_eq!(overlay.peek(&key(1)), None);
        assert_eq!(overlay.get(&key(3)), Some(Known::Written(None)));
        assert_eq!(overlay.get(&key(5)), Some(Known::Written(Some(&(0, 5)))));
        assert_eq!(overlay.written_from(1).collect::<Vec<_>>(), [&key(3)]);
        let written = overlay.take_written();
        assert_eq!(written.iter().map(|row| &row.key).collect::<Vec<_>>(), [&key(5), &key(3)]);
        assert_eq!((overlay.len(), overlay.peek(&key(5))), (0, None));
    }
}
