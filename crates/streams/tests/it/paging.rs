//! Pages of any size, put together, are what is in the store: each row once, in one order over all partitions.

use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    Bytes, Consumed, Grouped, Materialized, MultiVersionedKeyQuery, Query, QueryError, RangeQuery,
    SessionQuery, SessionWindows, StreamsBuilder, TimeWindows, TopologyTestDriver, WindowRangeQuery,
};
use proptest::prelude::*;
use serde_json::Value;

use crate::support::{ms, number};

const PARTITIONS: i32 = 3;
const MINUTE: i64 = 60_000;

fn driver() -> TopologyTestDriver {
    let builder = StreamsBuilder::new("app");
    let records = builder.stream("in", Consumed::with(string(), i64()));
    let grouped = records.group_by_key(Grouped::with(string(), i64()));
    grouped.count(Materialized::named("counts").json());
    let (minute, hour) = (ms(60_000), ms(3_600_000));
    let windows = TimeWindows::of(minute).grace(hour);
    grouped.windowed_by(windows).count(Materialized::named("windows").json());
    let sessions = SessionWindows::with_gap(ms(20_000)).grace(hour);
    grouped.windowed_by_session(sessions).count(Materialized::named("sessions").json());
    let kept = Materialized::named("versions").json().versioned(hour);
    builder.table("rows", Consumed::with(string(), i64()), kept);
    TopologyTestDriver::with_partitions(builder.build().unwrap(), &|_| PARTITIONS).unwrap()
}

type Placed = Vec<(Bytes, Value)>;

/// One page over all partitions, as an instance puts it together.
fn page(
    driver: &TopologyTestDriver,
    store: &str,
    query: &Query,
    limit: usize,
    after: Option<&[u8]>,
) -> Placed {
    let queryable = driver.queryable(store).unwrap();
    let mut rows = Placed::new();
    for partition in 0..PARTITIONS {
        let backend = driver.backend(store, partition).unwrap();
        let page = queryable.page(&backend, query, after).unwrap();
        assert!(page.rows.len() <= limit);
        assert!(!page.more || page.rows.len() == limit, "it says that there is more only where it has cut");
        rows.extend(page.rows);
    }
    rows.sort_by(|(one, _), (other, _)| one.cmp(other));
    rows.truncate(limit);
    rows
}

fn pages(driver: &TopologyTestDriver, store: &str, query: &Query, limit: usize) -> Vec<Value> {
    let mut all = Placed::new();
    loop {
        let after = all.last().map(|(place, _)| place.clone());
        let rows = page(driver, store, query, limit, after.as_deref());
        if rows.is_empty() {
            break;
        }
        all.extend(rows);
    }
    assert!(all.windows(2).all(|two| two[0].0 < two[1].0), "places go up");
    all.into_iter().map(|(_, row)| row).collect()
}

fn json(key: &str) -> String {
    serde_json::to_string(key).unwrap()
}

fn queries(limit: usize, key: &str, (from, to): (i64, i64)) -> Vec<(&'static str, Query)> {
    let range = |from: Option<&str>, to: Option<&str>| {
        let text = |text: Option<&str>| text.map(json);
        Query::Range(RangeQuery { from: text(from), to: text(to), limit })
    };
    let keyed = || Some(json(key));
    let window = |key, from, to| Query::WindowRange(WindowRangeQuery { key, from, to, limit });
    let session = |key, from, to| Query::Session(SessionQuery { key, from, to, limit });
    let versions = MultiVersionedKeyQuery { key: json(key), from, to, limit };
    vec![
        ("counts", range(None, None)),
        ("counts", range(Some("b"), Some(key))),
        ("versions", range(None, None)),
        ("versions", range(Some(key), None)),
        ("versions", Query::MultiVersionedKey(versions)),
        ("windows", window(None, 0, i64::MAX)),
        ("windows", window(keyed(), from, to)),
        ("windows", window(None, from, to)),
        ("sessions", session(None, from, to)),
        ("sessions", session(keyed(), from, to)),
        ("sessions", session(keyed(), 0, i64::MAX)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn pages_put_together_are_the_whole(
        records in prop::collection::vec((0_usize..7, 0_i64..200), 1..120),
        limit in 1_usize..6,
        key in 0_usize..7,
        from in 0_i64..200,
        length in 0_i64..100,
    ) {
        let keys = ["", "a", "b", "b\0", "bc", "k", "\u{ff}"];
        let mut driver = driver();
        for (key, second) in records {
            number(&mut driver, "in", keys[key], second, second * 1000 + 10 * MINUTE);
            number(&mut driver, "rows", keys[key], second, second * 1000 + 10 * MINUTE);
        }
        let from = from * 1000 + 10 * MINUTE;
        let bounds = (from, from + length * 1000);
        for ((store, cut), (_, whole)) in
            queries(limit, keys[key], bounds).into_iter().zip(queries(10_000, keys[key], bounds))
        {
            let expected = page(&driver, store, &whole, 10_000, None);
            let expected: Vec<Value> = expected.into_iter().map(|(_, row)| row).collect();
            prop_assert_eq!(pages(&driver, store, &cut, limit), expected.clone(), "{}", store);
            let mut found = driver.query(store, &whole).unwrap().unwrap();
            let order = |row: &Value| (row["key"].as_str().unwrap().to_owned(), row["start"].as_i64());
            prop_assert_eq!(found.len(), expected.len());
            if store != "versions" {
                found.sort_by_key(order);
                let mut sorted = expected;
                sorted.sort_by_key(order);
                prop_assert_eq!(found, sorted);
            }
        }
    }
}

#[test]
fn windows_are_those_that_a_naive_reader_finds() {
    let mut driver = driver();
    for second in 0..600 {
        number(&mut driver, "in", if second % 3 == 0 { "a" } else { "b" }, 1, second * 1000);
    }
    for (from, to) in [(0, i64::MAX), (MINUTE, 4 * MINUTE), (MINUTE + 1, 4 * MINUTE - 1), (5, 4), (-5, 0)] {
        for key in [None, Some("a"), Some("c")] {
            let key_text = key.map(str::to_owned);
            let query = Query::WindowRange(WindowRangeQuery { key: key_text, from, to, limit: 100 });
            let rows = driver.query("windows", &query).unwrap().unwrap();
            let seen: Vec<(String, i64, i64)> = rows
                .iter()
                .map(|row| {
                    let number = |name: &str| row[name].as_i64().unwrap();
                    (row["key"].as_str().unwrap().to_owned(), number("start"), number("value"))
                })
                .collect();
            let mut expected: Vec<(String, i64, i64)> = ["a", "b"]
                .into_iter()
                .flat_map(|key| (0..10).map(move |minute| (key.to_owned(), minute * MINUTE)))
                .filter(|(own, start)| *start >= from && *start <= to && key.is_none_or(|key| key == own))
                .map(|(key, start)| {
                    let count = if key == "a" { 20 } else { 40 };
                    (key, start, count)
                })
                .collect();
            let mut seen = seen;
            seen.sort();
            expected.sort();
            assert_eq!(seen, expected, "{key:?} {from}..={to}");
        }
    }
}

#[test]
fn a_place_of_nowhere_is_refused() {
    let driver = driver();
    let backend = driver.backend("counts", 0).unwrap();
    for (store, query) in queries(5, "a", (0, MINUTE)) {
        if matches!(query, Query::MultiVersionedKey(_)) {
            continue;
        }
        let told = driver.queryable(store).unwrap().page(&backend, &query, Some(b"\0"));
        assert!(matches!(&told, Err(QueryError::Place { .. })), "{store}: {told:?}");
    }
}
