//! What is kept is what was put last, what may not go stays, and what is given back is counted.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn key(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

fn put(rows: &mut Rows, key: &[u8], value: Option<&[u8]>, used: bool, over: u32) {
    let found = rows.find(rows.hash(key), key);
    rows.put((key, found), value, used, |handed| {
        if over > 0 {
            *handed = Handed { over, at: 7 };
        }
    });
}

fn peek(rows: &Rows, key: &[u8]) -> Option<Option<Vec<u8>>> {
    rows.peek(rows.hash(key), key).map(|value| value.map(<[u8]>::to_vec))
}

const UNLIMITED: Limits = Limits { rows: usize::MAX, bytes: usize::MAX };

#[test]
fn rows_that_are_not_used_go_first_and_those_not_written_yet_never() {
    let mut rows = Rows::default();
    for number in 0..10 {
        put(&mut rows, &key(number), Some(b"value"), false, 0);
    }
    put(&mut rows, &key(100), Some(b"value"), true, 1);
    assert!(rows.get(rows.hash(&key(3)), &key(3)).is_some());
    rows.evict(Limits { rows: 2, ..UNLIMITED }, 0, |_| {});
    let kept = (0..=100).filter(|number| peek(&rows, &key(*number)).is_some()).collect::<Vec<_>>();
    assert_eq!(kept, [3, 100]);
    rows.evict(Limits { rows: 0, bytes: 0 }, 0, |_| {});
    assert_eq!(rows.len(), 1);
    put(&mut rows, &key(100), Some(b"other"), true, 2);
    rows.evict(Limits { rows: 0, bytes: 0 }, 1, |_| {});
    assert_eq!(peek(&rows, &key(100)), Some(Some(b"other".to_vec())));
    rows.evict(Limits { rows: 0, bytes: 0 }, 2, |_| {});
    assert_eq!(rows.len(), 0);
}

#[test]
fn where_a_row_was_handed_over_is_remembered_wherever_it_moves() {
    let mut rows = Rows::default();
    put(&mut rows, b"a", Some(b"1"), true, 3);
    put(&mut rows, b"a", Some(b"longer"), true, 0);
    for number in 0..100 {
        put(&mut rows, &key(number), None, false, 0);
    }
    rows.evict(Limits { rows: 1, ..UNLIMITED }, 2, |_| {});
    assert_eq!((rows.len(), peek(&rows, b"a")), (1, Some(Some(b"longer".to_vec()))));
    let mut found = None;
    rows.put((b"a", None), None, true, |handed| found = Some(*handed));
    assert_eq!((found, peek(&rows, b"a")), (Some(Handed { over: 3, at: 7 }), Some(None)));
}

#[test]
fn of_rows_that_were_all_used_no_more_go_than_have_to() {
    let mut rows = Rows::default();
    let value = vec![1; 1_000];
    for number in 0..10_000 {
        put(&mut rows, &key(number), Some(&value), true, 0);
    }
    let limits = Limits { bytes: rows.bytes() / 10 * 9, ..UNLIMITED };
    for _ in 0..10 {
        rows.evict(limits, 0, |_| {});
    }
    assert!(rows.bytes() <= limits.bytes);
    assert!((8_000..=9_000).contains(&rows.len()), "{} rows", rows.len());
}

#[test]
fn memory_of_rows_that_are_gone_is_given_back() {
    let mut rows = Rows::default();
    for number in 0..100_000 {
        put(&mut rows, &key(number), Some(&[1; 40]), false, 0);
    }
    assert!(rows.bytes() > 6_000_000, "{} bytes", rows.bytes());
    let limits = Limits { bytes: 100_000, ..UNLIMITED };
    for _ in 0..50 {
        rows.evict(limits, 0, |_| {});
    }
    assert!(rows.bytes() <= limits.bytes, "{} bytes for {} rows", rows.bytes(), rows.len());
    rows.remove_before(&key(u32::MAX));
    assert_eq!((rows.len(), rows.pieces.allocated), (0, 0));
}

#[test]
fn rows_longer_than_a_piece_are_kept() {
    let mut rows = Rows::default();
    let long = vec![9; 3 * PIECE];
    put(&mut rows, b"before", Some(b"1"), false, 0);
    put(&mut rows, &long, Some(&long), false, 0);
    put(&mut rows, b"behind", Some(b"2"), false, 0);
    put(&mut rows, b"before", Some(&long), false, 0);
    assert_eq!(peek(&rows, &long), Some(Some(long.clone())));
    assert_eq!(peek(&rows, b"before"), Some(Some(long)));
    assert_eq!(peek(&rows, b"behind"), Some(Some(b"2".to_vec())));
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, Option<usize>, bool, bool),
    Get(u8),
    Remove(u8),
    RemoveBefore(u8),
    Evict(Option<usize>, Option<usize>),
    Settle,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = prop_oneof![0..30_usize, 20_000..90_000_usize];
    let step = prop_oneof![
        8 => (any::<u8>(), proptest::option::weighted(0.8, length), any::<bool>(), any::<bool>())
            .prop_map(|(key, length, used, handed)| Step::Put(key, length, used, handed)),
        4 => any::<u8>().prop_map(Step::Get),
        1 => any::<u8>().prop_map(Step::Remove),
        1 => any::<u8>().prop_map(Step::RemoveBefore),
        3 => (proptest::option::of(0..100_usize), proptest::option::of(0..2_000_000_usize))
            .prop_map(|(rows, bytes)| Step::Evict(rows, bytes)),
        1 => Just(Step::Settle),
    ];
    proptest::collection::vec(step, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Against a map; what may go may lack, and what may not must be there.
    #[test]
    fn what_is_there_is_what_was_put_last(steps in steps()) {
        let mut rows = Rows::default();
        let mut known: BTreeMap<u8, (Option<Vec<u8>>, u32)> = BTreeMap::new();
        let (mut settled, mut over, mut fill) = (0, 1, 0_u8);
        for step in steps {
            match step {
                Step::Put(key, length, used, handed) => {
                    fill = fill.wrapping_add(1);
                    let value = length.map(|length| vec![fill; length]);
                    put(&mut rows, &[key], value.as_deref(), used, if handed { over } else { 0 });
                    let before = match peek(&rows, &[key]) {
                        Some(_) if handed => over,
                        _ => known.get(&key).map_or(0, |(_, over)| *over),
                    };
                    known.insert(key, (value, before));
                }
                Step::Get(key) => {
                    let found = rows.get(rows.hash(&[key]), &[key]).map(|value| value.map(<[u8]>::to_vec));
                    let kept = known.get(&key);
                    match (found, kept) {
                        (Some(found), Some((value, _))) => prop_assert_eq!(&found, value),
                        (None, Some((_, over))) => prop_assert!(*over <= settled, "row {key} was let go of"),
                        (found, None) => prop_assert_eq!(found, None),
                    }
                }
                Step::Remove(key) => {
                    rows.remove(&[key]);
                    known.remove(&key);
                }
                Step::RemoveBefore(end) => {
                    rows.remove_before(&[end]);
                    known.retain(|key, _| *key >= end);
                }
                Step::Evict(most, bytes) => {
                    let limits = Limits { rows: most.unwrap_or(usize::MAX), bytes: bytes.unwrap_or(usize::MAX) };
                    rows.evict(limits, settled, |_| {});
                    // What has gone was not to stay, and comes back as a new row.
                    for (key, (_, over)) in &mut known {
                        if peek(&rows, &[*key]).is_none() {
                            prop_assert!(*over <= settled, "row {key} was let go of");
                            *over = 0;
                        }
                    }
                }
                Step::Settle => (settled, over) = (over, over + 1),
            }
            let allocated: usize = rows.pieces.all.iter().map(|piece| piece.bytes.capacity()).sum();
            prop_assert_eq!(rows.pieces.allocated, allocated);
            prop_assert_eq!(rows.len(), rows.tables.iter().map(HashTable::len).sum::<usize>());
            prop_assert!(rows.len() <= known.len());
        }
    }
}
