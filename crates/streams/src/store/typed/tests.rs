//! What is read before a commit and after it, what stays in memory, and what a backend is asked for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::*;
use crate::serdes;
use crate::store::{MemoryStore, StoreKind};

const AT: FlushedAt = FlushedAt { partition: 0, stream_time: 7 };

const SEGMENT: i64 = 60_000;

type Asked = Arc<Mutex<Vec<Bound<Bytes>>>>;

/// Takes note of where each range began, and of how many rows were asked for.
struct Watched {
    inner: MemoryStore,
    asked: Asked,
    gets: Arc<AtomicUsize>,
}

impl StoreBackend for Watched {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        self.inner.get(key)
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), StoreError> {
        let from_bytes = from.map(Bytes::copy_from_slice);
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(from_bytes);
        self.inner.scan(from, to, visit)
    }

    fn apply(&mut self, batch: Vec<(Bytes, Option<Bytes>)>) -> Result<(), StoreError> {
        self.inner.apply(batch)
    }
}

struct Bench {
    store: TypedStore<i64>,
    backend: MemoryStore,
    asked: Asked,
    gets: Arc<AtomicUsize>,
}

impl Bench {
    fn new(layout: Layout) -> Self {
        Self::over(layout, MemoryStore::new())
    }

    fn over(layout: Layout, backend: MemoryStore) -> Self {
        let parts = StoreParts {
            name: Arc::from("s"),
            layout,
            serde: serdes::i64(),
            changelog: None,
            normalize: None,
            cache_entries: 4,
        };
        let (asked, gets) = (Asked::default(), Arc::<AtomicUsize>::default());
        let watched = Watched { inner: backend.clone(), asked: asked.clone(), gets: Arc::clone(&gets) };
        Self { store: TypedStore::new(parts, Box::new(watched)), backend, asked, gets }
    }

    fn windows() -> Self {
        Self::new(Layout { indexed: true, ..Layout::timed(StoreKind::Window, 2 * SEGMENT) })
    }

    fn put(&mut self, key: &str, time: i64, value: i64) {
        let store_key = self.store.layout().store_key(key.as_bytes(), time, 0);
        self.store.put(store_key, Some((time, value)));
    }

    fn get(&mut self, key: &str, time: i64) -> Option<i64> {
        let store_key = self.store.layout().store_key(key.as_bytes(), time, 0);
        self.store.get(&store_key).unwrap().map(|(_, value)| value)
    }

    fn flush(&mut self) {
        self.store.flush(AT, &mut Vec::new()).unwrap();
    }

    fn commit(&mut self) {
        self.flush();
        let batch = self.store.take_pending();
        self.backend.apply(batch).unwrap();
    }

    /// Entries and index keys of the backend.
    fn rows(&self) -> usize {
        self.backend.len() - usize::from(self.backend.get(&keys::LAYOUT).unwrap().is_some())
    }

    fn asked(&self) -> Vec<Bound<Bytes>> {
        std::mem::take(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[test]
fn windows_that_expire_in_every_commit_do_not_keep_rows_in_memory() {
    let mut bench = Bench::windows();
    for round in 0..50 {
        for key in 0..10 {
            bench.put(&format!("k{key}"), round * SEGMENT, round);
        }
        bench.store.expire_before((round - 2) * SEGMENT).unwrap();
        bench.commit();
        assert!(bench.store.overlay.len() <= 20, "{} rows in round {round}", bench.store.overlay.len());
    }
    // Three segments are alive, and each entry has a key in the index.
    assert_eq!(bench.rows(), 3 * 10 * 2);
}

#[test]
fn what_has_expired_is_looked_for_where_the_last_time_ended() {
    let mut bench = Bench::windows();
    for round in 0..4 {
        bench.put("k", round * SEGMENT, round);
        bench.commit();
    }
    bench.asked();
    for segment in [1, 3] {
        bench.store.expire_before(segment * SEGMENT).unwrap();
        bench.commit();
    }
    let segment = |segment| Bound::Included(Bytes::copy_from_slice(&Layout::segment_start(segment)));
    assert_eq!(bench.asked(), [segment(0), segment(1)]);
    assert_eq!(bench.rows(), 2);
    // What is written to an expired segment goes with the next ones.
    bench.put("late", SEGMENT, 7);
    bench.commit();
    assert_eq!((bench.get("late", SEGMENT), bench.rows()), (Some(7), 4));
    bench.store.expire_before(4 * SEGMENT).unwrap();
    bench.commit();
    assert_eq!(bench.asked(), [segment(1)]);
    assert_eq!(bench.get("late", SEGMENT), None);
    assert_eq!(bench.rows(), 0);
}

#[test]
fn what_expires_at_once_is_deleted_some_with_each_commit_and_not_seen_meanwhile() {
    for late in [false, true] {
        let mut bench = Bench::windows();
        let keys: Vec<String> = (0..10).map(|key| format!("k{key}")).collect();
        keys.iter().for_each(|key| bench.put(key, 0, 1));
        bench.commit();
        bench.store.expire_before(SEGMENT).unwrap();
        for left in [7, 4, 1] {
            bench.commit();
            assert_eq!(bench.rows(), 2 * left);
            assert!(keys.iter().all(|key| bench.get(key, 0).is_none()));
        }
        if late {
            bench.put("k9", 0, 2);
        }
        bench.commit();
        assert_eq!(bench.get("k9", 0), late.then_some(2));
        assert_eq!(bench.rows(), if late { 2 } else { 0 });
    }
}

#[test]
fn what_has_expired_is_not_read_again_before_its_deletion_is_written() {
    let mut bench = Bench::windows();
    bench.put("written", 0, 1);
    bench.commit();
    bench.put("encoded", 0, 2);
    bench.flush();
    bench.put("fresh", 0, 3);
    bench.store.expire_before(SEGMENT).unwrap();
    for key in ["written", "encoded", "fresh"] {
        assert_eq!(bench.get(key, 0), None, "{key}");
    }
    assert!(bench.store.range(Bound::Unbounded, Bound::Excluded(&keys::INDEX)).unwrap().is_empty());
    bench.put("written", 0, 9);
    bench.commit();
    assert_eq!((bench.get("written", 0), bench.get("encoded", 0)), (Some(9), None));
    assert_eq!(bench.rows(), 2, "an entry and its key in the index");
}

#[test]
fn the_index_also_has_what_is_encoded_and_not_written() {
    let mut bench = Bench::windows();
    let times = |bench: &Bench| {
        let layout = bench.store.layout();
        let keys = bench.store.by_time(0, i64::MAX).unwrap();
        keys.iter().map(|key| layout.parse(key).unwrap().time).collect::<Vec<_>>()
    };
    bench.put("k", 5, 1);
    bench.flush();
    assert_eq!(times(&bench), [5]);
    bench.put("k", 3, 1);
    assert_eq!(times(&bench), [3, 5]);
    bench.commit();
    assert_eq!(times(&bench), [3, 5]);
}

#[test]
fn of_rows_that_are_new_with_their_segment_the_backend_is_not_asked_until_one_of_them_was_let_go() {
    let mut bench = Bench::windows();
    bench.put("old", SEGMENT, 1);
    bench.commit();
    let mut bench = Bench::over(bench.store.layout(), bench.backend);
    assert_eq!((bench.get("old", SEGMENT), bench.get("new", SEGMENT)), (Some(1), None));
    assert_eq!(bench.gets.load(Ordering::Relaxed), 2, "it had rows of this segment");
    for (number, key) in ["a", "b", "c", "d", "e", "f", "g", "h"].into_iter().enumerate() {
        assert_eq!(bench.get(key, 2 * SEGMENT + number as i64), None);
        bench.put(key, 2 * SEGMENT + number as i64, 1);
    }
    assert_eq!((bench.gets.load(Ordering::Relaxed), bench.asked().len()), (2, 2));
    // More than are kept, and both times around.
    (0..8).for_each(|_| bench.commit());
    assert!(bench.store.overlay.len() <= 4);
    for (number, key) in ["a", "b", "c", "d", "e", "f", "g", "h"].into_iter().enumerate() {
        assert_eq!(bench.get(key, 2 * SEGMENT + number as i64), Some(1), "{key}");
    }
    let asked = bench.gets.load(Ordering::Relaxed);
    assert_eq!(bench.get("later", 2 * SEGMENT + 9), None);
    assert_eq!(bench.gets.load(Ordering::Relaxed), asked, "nothing so late was let go");
}

fn session(bench: &mut Bench, key: &str, start: i64, end: i64) {
    let store_key = bench.store.layout().store_key(key.as_bytes(), end, start);
    bench.store.put(store_key, Some((end, 0)));
}

#[test]
fn sessions_are_looked_for_no_further_than_the_longest_one_reaches() {
    const LATEST: i64 = 1_000_000 * SEGMENT;
    let layout = Layout::timed(StoreKind::Session, 2 * SEGMENT);
    let mut bench = Bench::new(layout);
    session(&mut bench, "a", 0, 3 * SEGMENT);
    session(&mut bench, "b", LATEST, LATEST);
    let found = |bench: &mut Bench| {
        let found = bench.store.sessions(b"a", (10, 30), LATEST).unwrap();
        found.into_iter().map(|(_, at, _)| (at.second, at.time)).collect::<Vec<_>>()
    };
    let checks = |bench: &mut Bench| {
        bench.asked();
        assert_eq!(found(bench), [(0, 3 * SEGMENT)]);
        let asked = bench.asked().len();
        assert!(asked <= 5, "{asked} ranges");
    };
    checks(&mut bench);
    bench.commit();
    checks(&mut bench);
    // A restart, and a store that was written before this was noted.
    checks(&mut Bench::over(layout, bench.backend.clone()));
    bench.backend.apply(vec![(Bytes::from_static(&keys::META), None)]).unwrap();
    let mut old = Bench::over(layout, bench.backend.clone());
    checks(&mut old);
    session(&mut old, "c", 0, 0);
    old.commit();
    assert!(bench.backend.get(&keys::META).unwrap().is_some());
}

#[test]
fn a_restored_store_knows_its_longest_session() {
    let layout = Layout::timed(StoreKind::Session, 2 * SEGMENT);
    let mut bench = Bench::new(layout);
    for (key, start, end) in [(b"a", 0, 9 * SEGMENT), (b"b", SEGMENT, SEGMENT)] {
        let key = layout.changelog_key_of(layout.store_key(key, end, start));
        let value = Some(Bytes::copy_from_slice(&7_i64.to_be_bytes()));
        let batch = bench.store.restore_batch(&[Record { key, value, ..Record::default() }]).unwrap();
        bench.store.apply(batch).unwrap();
    }
    let found = bench.store.sessions(b"a", (0, 5), 1_000_000 * SEGMENT).unwrap();
    assert_eq!(found.len(), 1);
}

#[test]
fn what_is_written_while_a_commit_is_under_way_is_of_the_next_one() {
    let mut bench = Bench::windows();
    bench.put("old", 0, 1);
    bench.commit();
    bench.put("a", SEGMENT, 1);
    bench.flush();
    bench.put("a", SEGMENT, 2);
    bench.put("b", SEGMENT, 3);
    bench.store.expire_before(SEGMENT).unwrap();
    let batch = bench.store.take_pending();
    bench.backend.apply(batch).unwrap();
    let stored = |bench: &Bench, key: &str| {
        let store_key = bench.store.layout().store_key(key.as_bytes(), SEGMENT, 0);
        let stored = bench.backend.get(&store_key).unwrap()?;
        Some(i64::from_be_bytes(*stored.last_chunk().unwrap()))
    };
    assert_eq!((stored(&bench, "a"), stored(&bench, "b")), (Some(1), None));
    assert_eq!(
        (bench.get("a", SEGMENT), bench.get("b", SEGMENT), bench.get("old", 0)),
        (Some(2), Some(3), None)
    );
    let found = bench.store.range(Bound::Unbounded, Bound::Excluded(&keys::INDEX)).unwrap();
    assert_eq!(found.iter().map(|(_, _, value)| *value).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(bench.store.by_time(SEGMENT, SEGMENT).unwrap().len(), 2);
    bench.commit();
    assert_eq!((stored(&bench, "a"), stored(&bench, "b")), (Some(2), Some(3)));
    assert_eq!(bench.rows(), 4);
}

#[test]
fn a_value_that_stands_for_null_is_no_row_before_a_commit_and_after_it() {
    let parts = StoreParts {
        name: Arc::from("s"),
        layout: Layout::key_value(),
        serde: serdes::nullable(serdes::string()),
        changelog: Some(Arc::from("changelog")),
        normalize: None,
        cache_entries: 4,
    };
    let mut store = TypedStore::new(parts, Box::new(MemoryStore::new()));
    let key = Bytes::from_static(b"k");
    for value in [Some("text".to_owned()), None] {
        store.put(key.clone(), Some((5, value.clone())));
        let expected = value.clone().map(|text| (5, Some(text)));
        assert_eq!(store.get(&key).unwrap(), expected);
        let mut out = Vec::new();
        store.flush(AT, &mut out).unwrap();
        assert_eq!(out[0].value, value.map(Bytes::from));
        assert_eq!(store.get(&key).unwrap(), expected);
        let batch = store.take_pending();
        store.apply(batch).unwrap();
        assert_eq!(store.get(&key).unwrap(), expected);
    }
}

/// What is done to a store; times are in segments.
#[derive(Debug, Clone)]
enum Step {
    Put(u8, i64, Option<i64>),
    Get(u8, i64),
    Scan,
    Expire(i64),
    Flush,
    HandOver,
    /// So many entries of what is under way reach the backend.
    Write(usize),
    Settle,
}

fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
    use proptest::prelude::*;
    let step = prop_oneof![
        6 => (0..12_u8, 0..6_i64, proptest::option::weighted(0.8, 0..1_000_i64))
            .prop_map(|(key, time, value)| Step::Put(key, time, value)),
        4 => (0..12_u8, 0..6_i64).prop_map(|(key, time)| Step::Get(key, time)),
        2 => Just(Step::Scan),
        1 => (0..6_i64).prop_map(Step::Expire),
        4 => Just(Step::Flush),
        2 => Just(Step::HandOver),
        3 => (0..20_usize).prop_map(Step::Write),
        2 => Just(Step::Settle),
    ];
    proptest::collection::vec(step, 1..120)
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]

    /// However far a write has come that goes on beside the processing, whatever expires and is let go of meanwhile.
    #[test]
    fn a_store_reads_what_was_put_wherever_it_is_on_its_way_to_the_backend(steps in steps()) {
        let mut bench = Bench::windows();
        let mut known: BTreeMap<Bytes, i64> = BTreeMap::new();
        let mut live_from = 0;
        let mut under_way: Option<(Arc<Batch>, usize)> = None;
        let advance = |bench: &mut Bench, (batch, written): &mut (Arc<Batch>, usize), count: usize| {
            let end = (*written + count).min(batch.len());
            bench.backend.apply(batch[*written..end].to_vec()).unwrap();
            *written = end;
        };
        for step in steps {
            match step {
                Step::Put(key, segment, value) => {
                    let store_key = bench.store.layout().store_key(&[key], segment * SEGMENT, 0);
                    bench.store.put(store_key.clone(), value.map(|value| (segment * SEGMENT, value)));
                    match value {
                        Some(value) => known.insert(store_key, value),
                        None => known.remove(&store_key),
                    };
                }
                Step::Get(key, segment) => {
                    let store_key = bench.store.layout().store_key(&[key], segment * SEGMENT, 0);
                    let found = bench.store.get(&store_key).unwrap().map(|(_, value)| value);
                    proptest::prop_assert_eq!(found, known.get(&store_key).copied());
                }
                Step::Scan => {
                    let found = bench.store.range(Bound::Unbounded, Bound::Excluded(&keys::INDEX)).unwrap();
                    let found: Vec<_> = found.into_iter().map(|(key, _, value)| (key, value)).collect();
                    proptest::prop_assert_eq!(found, known.clone().into_iter().collect::<Vec<_>>());
                    let indexed = bench.store.by_time(0, i64::MAX / 2).unwrap();
                    proptest::prop_assert!(known.keys().all(|key| indexed.contains(key)));
                }
                Step::Expire(segment) => {
                    bench.store.expire_before(segment * SEGMENT).unwrap();
                    if segment > live_from {
                        live_from = segment;
                        let end = Layout::segment_start(segment);
                        known.retain(|key, _| key[..] >= end[..]);
                    }
                }
                Step::Flush => bench.flush(),
                Step::HandOver if under_way.is_none() => {
                    under_way = bench.store.hand_over().map(|batch| (batch, 0));
                }
                Step::HandOver => {}
                Step::Write(count) => {
                    if let Some(under_way) = &mut under_way {
                        advance(&mut bench, under_way, count);
                    }
                }
                Step::Settle => {
                    if let Some(mut all) = under_way.take() {
                        advance(&mut bench, &mut all, usize::MAX / 2);
                        bench.store.settle();
                    }
                }
            }
        }
        if let Some(mut all) = under_way.take() {
            advance(&mut bench, &mut all, usize::MAX / 2);
            bench.store.settle();
        }
        // What has expired goes some with each commit.
        (0..40).for_each(|_| bench.commit());
        let is_entry = |key: &Bytes| !key.starts_with(&keys::INDEX);
        let kept = bench.backend.range(Bound::Unbounded, Bound::Unbounded).unwrap();
        let kept: Vec<_> = kept.into_iter().map(|(key, _)| key).filter(is_entry).collect();
        proptest::prop_assert_eq!(kept, known.into_keys().collect::<Vec<_>>());
    }
}
