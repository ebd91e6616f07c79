//! What is read at a time, what is let go of, and how a history is shortened.
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::serdes;
use crate::store::MemoryStore;

fn store(history_ms: i64) -> (VersionedStore<i64>, MemoryStore) {
    let (name, backend) = (Arc::from("s"), MemoryStore::new());
    let parts =
        VersionedParts { name, serde: serdes::i64(), changelog: None, history_ms, cache_entries: 1_000 };
    (VersionedStore::new(parts, Box::new(backend.clone())), backend)
}

fn commit(store: &mut VersionedStore<i64>, backend: &MemoryStore) {
    store.flush(FlushedAt { partition: 0, stream_time: 0 }, &mut Vec::new()).unwrap();
    backend.clone().apply(store.take_pending()).unwrap();
}

#[test]
fn versions_are_let_go_of_by_bytes() {
    let (mut store, backend) = store(1_000_000);
    store.limit(1_000);
    for time in 0..100 {
        store.put(b"k", Some(time), time, time).unwrap();
        commit(&mut store, &backend);
        assert!(store.entries.len() <= 1_000 / OVERHEAD + 1, "{} at {time}", store.entries.len());
    }
    assert_eq!(store.as_of(b"k", 41).unwrap().map(|version| version.value), Some(Some(41)));
    store.put(b"k", Some(7), 41, 100).unwrap();
    commit(&mut store, &backend);
    let counted: usize = store.entries.values().map(|slot| slot.bytes).sum();
    assert_eq!(store.bytes, counted);
}

/// Such a key's versions were taken for what the store keeps for itself, and the other way round.
#[test]
fn a_key_may_have_any_bytes() {
    let (mut store, backend) = store(1_000);
    let key = [&INDEX[..], &0_i64.to_be_bytes(), b"k"].concat();
    let keys: [&[u8]; 4] = [&INDEX, &META, &key, b"k"];
    for (key, time) in keys.iter().flat_map(|key| [(key, 0), (key, 5_000), (key, 9_000)]) {
        store.observe(time);
        store.put(key, Some(time), time, time).unwrap();
        commit(&mut store, &backend);
    }
    for key in keys {
        assert_eq!(store.latest(key).unwrap().map(|version| version.from), Some(9_000), "{key:?}");
        assert_eq!(store.as_of(key, 8_500).unwrap().map(|version| version.from), Some(5_000), "{key:?}");
    }
}

/// A backend that counts what is read of it.
#[derive(Clone, Default)]
struct Counted(MemoryStore, Arc<AtomicUsize>);

impl Counted {
    fn read(&self) -> usize {
        self.1.swap(0, Ordering::Relaxed)
    }
}

impl StoreBackend for Counted {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.get(key)
    }

    fn range(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let found = self.0.range(from, to)?;
        self.1.fetch_add(found.len() + 1, Ordering::Relaxed);
        Ok(found)
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), StoreError> {
        self.0.scan(from, to, &mut |key, value| {
            self.1.fetch_add(1, Ordering::Relaxed);
            visit(key, value)
        })
    }

    fn apply(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.0.apply(batch)
    }
}

/// As after a restore: all that the changelog held, and nothing is shortened.
fn restored(keys: usize, versions: usize) -> (VersionedStore<i64>, Counted) {
    let backend = Counted::default();
    let parts = VersionedParts {
        name: Arc::from("s"),
        serde: serdes::i64(),
        changelog: None,
        history_ms: 1_000,
        cache_entries: 1_000,
    };
    let mut store = VersionedStore::new(parts, Box::new(backend.clone()));
    let record = |time: usize, key: usize| Record {
        timestamp: time as i64,
        key: Some(Bytes::from(format!("k{key:06}"))),
        value: Some(Bytes::copy_from_slice(&(time as i64).to_be_bytes())),
        ..Record::default()
    };
    let records: Vec<Record> =
        (0..versions).flat_map(|time| (0..keys).map(move |key| record(time, key))).collect();
    let batch = store.restore_batch(&records).unwrap();
    store.apply(batch).unwrap();
    backend.read();
    (store, backend)
}

#[test]
fn a_commit_shortens_so_much_and_no_more_and_those_after_it_the_rest() {
    for (keys, versions) in [(MOST_SHORTENED * 2, 2), (2, MOST_SHORTENED), (MOST_SHORTENED / 4, 1)] {
        let (mut store, mut backend) = restored(keys, versions);
        store.observe(1_000_000);
        let mut commits = 0;
        while commits == 0 || store.shortened_to.is_some() {
            store.flush(FlushedAt { partition: 0, stream_time: 0 }, &mut Vec::new()).unwrap();
            // One key's versions are looked at together, whatever there are of them.
            let read = backend.read();
            assert!(read <= 3 * (MOST_SHORTENED + versions), "{read} at commit {commits}");
            assert!(store.shortened <= store.horizon);
            // What is committed reaches the backend some commits later.
            commits += 1;
            if commits % 2 == 0 {
                backend.apply(store.take_pending()).unwrap();
            }
            assert!(commits < 30, "it gets on");
        }
        backend.apply(store.take_pending()).unwrap();
        let left = backend.0.range(Bound::Unbounded, Bound::Excluded(&INDEX[..])).unwrap();
        assert_eq!(left.len(), keys, "the version that holds when the history begins");
        assert_eq!(store.shortened, store.horizon);
        assert_eq!(commits > 1, keys * versions > MOST_SHORTENED, "{commits} commits");
        let latest = store.latest(b"k000001").unwrap().map(|version| version.from);
        assert_eq!(latest, Some(versions as i64 - 1));
    }
}
