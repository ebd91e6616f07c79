//! A store of one task as its operators see it: rows of a table, those that will be needed read at once beforehand.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwater_model::Bytes;
use headwater_streams::{ExternalTable, StoreBackend, StoreError};

use super::Link;

/// After so many rows that were read beforehand it shows whether that is of use: whether the store's keys are the records'.
const TRIAL: u64 = 1_000;
/// One in so many must have been asked for.
const USED: u64 = 10;
/// Rows that nobody has asked for.
const KEPT: usize = 10_000;

#[derive(Default)]
struct Beforehand {
    /// Read and not asked for yet; `None` is not there.
    rows: HashMap<Bytes, Option<Bytes>>,
    read: u64,
    used: u64,
}

impl Beforehand {
    fn is_of_use(&self) -> bool {
        self.read < TRIAL || self.used * USED >= self.read
    }
}

/// Clones share what was read.
#[derive(Clone)]
pub(crate) struct ExternalBackend {
    link: Link,
    table: Arc<ExternalTable>,
    partition: i32,
    beforehand: Arc<Mutex<Beforehand>>,
}

impl ExternalBackend {
    pub fn new(link: Link, table: ExternalTable, partition: i32) -> Self {
        Self { link, table: Arc::new(table), partition, beforehand: Arc::default() }
    }

    pub fn table(&self) -> &ExternalTable {
        &self.table
    }

    /// Each change is whole, so a panic elsewhere leaves it so.
    fn beforehand(&self) -> MutexGuard<'_, Beforehand> {
        self.beforehand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what `lacking` says of these keys, in one go.
    pub fn read_ahead(&self, lacking: impl FnOnce() -> Vec<Bytes>) -> Result<(), StoreError> {
        let mut beforehand = self.beforehand();
        if !beforehand.is_of_use() {
            return Ok(());
        }
        // Of records that never came to the store.
        if beforehand.rows.len() > KEPT {
            beforehand.rows.clear();
        }
        let mut keys = lacking();
        keys.retain(|key| !beforehand.rows.contains_key(key));
        keys.sort();
        keys.dedup();
        if keys.is_empty() {
            return Ok(());
        }
        let found = self.link.with(|session| session.get(&self.table, self.partition, &keys))?;
        beforehand.read += keys.len() as u64;
        beforehand.rows.extend(keys.into_iter().map(|key| (key, None)));
        beforehand.rows.extend(found.into_iter().map(|(key, value)| (key, Some(value))));
        Ok(())
    }

    /// These are about to be another.
    pub fn forget<'a>(&self, keys: impl Iterator<Item = &'a Bytes>) {
        let rows = &mut self.beforehand().rows;
        keys.for_each(|key| drop(rows.remove(key)));
    }
}

impl StoreBackend for ExternalBackend {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let mut beforehand = self.beforehand();
        if let Some(value) = beforehand.rows.remove(key) {
            beforehand.used += 1;
            return Ok(value);
        }
        let keys = [Bytes::copy_from_slice(key)];
        let found = self.link.with(|session| session.get(&self.table, self.partition, &keys))?;
        Ok(found.into_iter().next().map(|(_, value)| value))
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), StoreError> {
        let mut rows = self.link.with(|session| session.rows(&self.table, self.partition))?;
        // A database has an order of its own.
        rows.retain(|(key, _)| std::ops::RangeBounds::<[u8]>::contains(&(from, to), &key[..]));
        rows.sort();
        for (key, value) in rows {
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    /// Rows and positions are written together, by the thread's commit.
    fn apply(&mut self, _batch: Vec<(Bytes, Option<Bytes>)>) -> Result<(), StoreError> {
        Err(StoreError::new(format!("write table {} beside its positions", self.table.name)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use headwater_streams::TaskId;

    use super::super::{ExternalError, ExternalSession, Rows, Taken, TaskCommit};
    use super::*;

    /// Rows in memory, and how often it was asked.
    #[derive(Clone, Default)]
    struct Fake {
        rows: Arc<Mutex<BTreeMap<Bytes, Bytes>>>,
        asked: Arc<Mutex<Vec<usize>>>,
    }

    impl ExternalSession for Fake {
        fn take(&mut self, _task: TaskId, _owner: &str) -> Result<Taken, ExternalError> {
            Ok(Taken::default())
        }

        fn get(&mut self, _: &ExternalTable, _: i32, keys: &[Bytes]) -> Result<Rows, ExternalError> {
            self.asked.lock().unwrap().push(keys.len());
            let rows = self.rows.lock().unwrap();
            Ok(keys.iter().filter_map(|key| Some((key.clone(), rows.get(key)?.clone()))).collect())
        }

        fn rows(&mut self, _: &ExternalTable, _: i32) -> Result<Rows, ExternalError> {
            // In an order of its own.
            Ok(self.rows.lock().unwrap().clone().into_iter().rev().collect())
        }

        fn prepare(&mut self, _: &[TaskCommit]) -> Result<(), ExternalError> {
            Ok(())
        }

        fn commit(&mut self) -> Result<(), ExternalError> {
            Ok(())
        }
    }

    fn key(number: u64) -> Bytes {
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    fn backend(fake: &Fake) -> ExternalBackend {
        ExternalBackend::new(Link::new(Box::new(fake.clone())), ExternalTable::named("t"), 0)
    }

    #[test]
    fn the_rows_of_a_batch_are_read_at_once_whether_they_are_there_or_not() {
        let fake = Fake::default();
        fake.rows.lock().unwrap().insert(key(1), Bytes::from("one"));
        let backend = backend(&fake);
        backend.read_ahead(|| vec![key(2), key(1), key(2)]).unwrap();
        assert_eq!(backend.get(&key(1)).unwrap(), Some(Bytes::from("one")));
        assert_eq!(backend.get(&key(2)).unwrap(), None);
        assert_eq!(*fake.asked.lock().unwrap(), [2], "one question for all");
        backend.read_ahead(Vec::new).unwrap();
        backend.get(&key(3)).unwrap();
        assert_eq!(*fake.asked.lock().unwrap(), [2, 1]);
    }

    #[test]
    fn what_is_about_to_be_written_is_not_kept() {
        let fake = Fake::default();
        let backend = backend(&fake);
        backend.read_ahead(|| vec![key(1)]).unwrap();
        backend.forget([key(1)].iter());
        fake.rows.lock().unwrap().insert(key(1), Bytes::from("written"));
        assert_eq!(backend.get(&key(1)).unwrap(), Some(Bytes::from("written")));
    }

    #[test]
    fn a_store_that_has_other_keys_than_the_records_is_not_read_ahead_for_long() {
        let fake = Fake::default();
        let backend = backend(&fake);
        for batch in 0..100 {
            backend.read_ahead(|| (0..100).map(|n| key(batch * 100 + n)).collect()).unwrap();
        }
        assert_eq!(fake.asked.lock().unwrap().len() as u64, TRIAL / 100);
    }

    #[test]
    fn rows_that_nobody_asks_for_do_not_gather() {
        let fake = Fake::default();
        let backend = backend(&fake);
        for batch in 0..300 {
            backend.read_ahead(|| (0..100).map(|n| key(batch * 100 + n)).collect()).unwrap();
            for n in 0..20 {
                backend.get(&key(batch * 100 + n)).unwrap();
            }
            assert!(backend.beforehand().rows.len() <= KEPT + 100);
        }
    }

    #[test]
    fn a_range_is_in_the_order_of_its_keys() {
        let fake = Fake::default();
        for number in 0..5 {
            fake.rows.lock().unwrap().insert(key(number), Bytes::new());
        }
        let (from, to) = (key(1), key(3));
        let bounds = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
        let found = backend(&fake).range(bounds.0, bounds.1).unwrap();
        assert_eq!(found.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), [key(1), key(2)]);
    }
}
