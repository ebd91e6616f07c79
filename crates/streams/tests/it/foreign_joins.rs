//! Foreign-key joins: single steps, and random histories against a naive model.

use std::collections::BTreeMap;

use headwater_streams::serdes::{nullable, string};
use headwater_streams::{
    Consumed, Grouped, KTable, KeyQuery, Materialized, Produced, Query, StreamsBuilder, TableJoined,
    TopologyError, TopologyTestDriver,
};
use proptest::prelude::*;

use crate::support::*;

type Joined = TableJoined<String, String, String, String, String>;

fn table(builder: &StreamsBuilder, topic: &str) -> KTable<String, String> {
    builder.table(topic, Consumed::with(string(), string()), Materialized::named(format!("{topic}-store")))
}

/// A left value is `foreign key:payload`; without a foreign key before the colon it refers to nothing.
#[allow(clippy::ptr_arg)] // It is handed to the join as it is.
fn refers_to(_: &String, value: &String) -> Option<String> {
    value.split_once(':').map(|(key, _)| key.to_owned()).filter(|key| !key.is_empty())
}

fn out() -> Produced<String, String> {
    Produced::with(string(), string())
}

fn both() -> StreamsBuilder {
    let builder = StreamsBuilder::new("app");
    let (left, right) = (table(&builder, "left"), table(&builder, "right"));
    let inner = |l: &String, r: &String| format!("{l}+{r}");
    left.join_foreign(&right, refers_to, inner, Joined::new().named("inner").result_serde(string()))
        .to("inner", out());
    let outer = |l: &String, r: Option<&String>| format!("{l}+{}", r.map_or("-", |r| r));
    let joined =
        left.left_join_foreign(&right, refers_to, outer, Joined::new().named("left").result_serde(string()));
    joined.to("left-joined", out());
    // Needs old values, so the result is kept.
    joined
        .group_by(
            |_, row| (row.split_once('+').unwrap().1.to_owned(), row.clone()),
            Grouped::with(string(), string()),
        )
        .count(Materialized::named("by-right-row").json());
    builder
}

fn start() -> TopologyTestDriver {
    let counts = |topic: &str| if topic.starts_with("right") { 2 } else { 3 };
    TopologyTestDriver::with_partitions(both().build().unwrap(), &counts).unwrap()
}

#[test]
fn rows_are_joined_whichever_comes_first_and_follow_changes_on_both_sides() {
    let mut driver = start();
    text(&mut driver, "left", "k", "a:1", 5);
    assert_eq!(texts(&mut driver, "left-joined"), ["k=a:1+-@5"]);
    text(&mut driver, "right", "a", "x", 7);
    text(&mut driver, "left", "k", "a:2", 6);
    text(&mut driver, "left", "k", "b:3", 8);
    text(&mut driver, "right", "b", "y", 9);
    text(&mut driver, "right", "a", "z", 10);
    tombstone(&mut driver, "right", "b", 11);
    assert_eq!(
        texts(&mut driver, "inner"),
        ["k=-@5", "k=a:1+x@7", "k=a:2+x@7", "k=-@8", "k=b:3+y@9", "k=-@11"]
    );
    assert_eq!(
        texts(&mut driver, "left-joined"),
        ["k=a:1+x@7", "k=a:2+x@7", "k=b:3+-@8", "k=b:3+y@9", "k=b:3+-@11"]
    );
}

#[test]
fn a_row_that_refers_to_nothing_or_is_deleted_is_settled_at_once() {
    let mut driver = start();
    text(&mut driver, "right", "a", "x", 0);
    text(&mut driver, "left", "k", ":1", 1);
    text(&mut driver, "left", "k", "a:1", 2);
    text(&mut driver, "left", "k", ":2", 3);
    tombstone(&mut driver, "left", "k", 4);
    tombstone(&mut driver, "left", "never", 5);
    assert_eq!(texts(&mut driver, "inner"), ["k=a:1+x@2", "k=-@3"]);
    assert_eq!(texts(&mut driver, "left-joined"), ["k=:1+-@1", "k=a:1+x@2", "k=:2+-@3", "k=-@4"]);
    // Nobody is subscribed any more.
    assert_eq!(
        (0..2).map(|p| driver.backend("inner-subscription-store", p).unwrap().len()).sum::<usize>(),
        0
    );
}

#[test]
fn answers_to_a_row_that_has_changed_since_are_dropped() {
    let mut driver = start();
    text(&mut driver, "right", "a", "x", 0);
    driver.manual_commit();
    for n in 1..=5 {
        text(&mut driver, "left", "k", &format!("a:{n}"), n);
    }
    for _ in 0..4 {
        driver.commit().unwrap();
    }
    assert_eq!(texts(&mut driver, "inner"), ["k=a:5+x@5"]);
}

#[test]
fn a_result_is_kept_only_where_old_values_are_needed() {
    let names = |topology: &headwater_streams::Topology| -> Vec<String> {
        let topics = topology.internal_topics(&|topic| Some(if topic == "right" { 2 } else { 3 })).unwrap();
        topics.into_iter().map(|topic| format!("{}/{}", topic.name, topic.partitions)).collect()
    };
    let builder = StreamsBuilder::new("app");
    let (left, right) = (table(&builder, "left"), table(&builder, "right"));
    let joined = left.join_foreign(&right, refers_to, |l, r| format!("{l}{r}"), Joined::new().named("j"));
    joined.to("out", out());
    let topics = names(&builder.build().unwrap());
    let expected = [
        "app-j-subscription-registration-repartition/2",
        "app-j-subscription-response-repartition/3",
        "app-j-subscription-store-changelog/2",
    ];
    assert_eq!(topics, expected);

    let builder = StreamsBuilder::new("app");
    let (left, right) = (table(&builder, "left"), table(&builder, "right"));
    let joined = left.join_foreign(&right, refers_to, |l, r| format!("{l}{r}"), Joined::new().named("j"));
    joined.filter(|_, _| true).to("out", out());
    let error = builder.build().err().unwrap();
    assert!(matches!(error, TopologyError::NoSerde { what: "value", .. }), "{error}");
}

#[test]
fn generated_names_are_those_of_kafka_streams() {
    let builder = StreamsBuilder::new("app");
    let (left, right) = (table(&builder, "left"), table(&builder, "right"));
    left.join_foreign(&right, refers_to, |l, r| format!("{l}{r}"), Joined::new()).to("out", out());
    let description = builder.build().unwrap().describe().to_string();
    assert!(
        description.contains("app-KTABLE-FK-JOIN-SUBSCRIPTION-REGISTRATION-0000000004-repartition"),
        "{description}"
    );
    assert!(description.contains("Sub-topology: 1"), "{description}");
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Key, foreign key (0: none), payload.
    Left(u8, u8, u8),
    DeleteLeft(u8),
    Right(u8, u8),
    DeleteRight(u8),
    Commit,
    Crash,
    Wipe,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..6_u8, 0..4_u8, 0..4_u8).prop_map(|(k, f, v)| Step::Left(k, f, v)),
        2 => (0..6_u8).prop_map(Step::DeleteLeft),
        5 => (1..4_u8, 0..9_u8).prop_map(|(k, v)| Step::Right(k, v)),
        2 => (1..4_u8).prop_map(Step::DeleteRight),
        4 => Just(Step::Commit),
        1 => Just(Step::Crash),
        1 => Just(Step::Wipe),
    ];
    prop::collection::vec(step, 0..100)
}

fn foreign(key: u8) -> String {
    if key == 0 { String::new() } else { format!("f{key}") }
}

fn put(driver: &mut TopologyTestDriver, topic: &str, key: String, value: Option<String>) {
    driver.pipe(topic, (&string(), &nullable(string())), (&key, &value), 0).unwrap();
}

fn table_of(driver: &mut TopologyTestDriver, topic: &str) -> BTreeMap<String, String> {
    let rows: BTreeMap<_, _> =
        driver.read(topic, (&string(), &string())).into_iter().map(|(key, value, _)| (key, value)).collect();
    rows.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn results_equal_a_naive_join_after_any_history(steps in steps()) {
        let mut driver = start();
        driver.manual_commit();
        let (mut left, mut right) = (BTreeMap::new(), BTreeMap::new());
        for step in steps {
            match step {
                Step::Left(key, refers, payload) => {
                    let (key, value) = (format!("k{key}"), format!("{}:{payload}", foreign(refers)));
                    put(&mut driver, "left", key.clone(), Some(value.clone()));
                    left.insert(key, value);
                }
                Step::DeleteLeft(key) => {
                    put(&mut driver, "left", format!("k{key}"), None);
                    left.remove(&format!("k{key}"));
                }
                Step::Right(key, value) => {
                    put(&mut driver, "right", foreign(key), Some(value.to_string()));
                    right.insert(foreign(key), value.to_string());
                }
                Step::DeleteRight(key) => {
                    put(&mut driver, "right", foreign(key), None);
                    right.remove(&foreign(key));
                }
                Step::Commit => driver.commit().unwrap(),
                Step::Crash => driver.crash().unwrap(),
                Step::Wipe => driver.crash_and_wipe().unwrap(),
            }
        }
        for _ in 0..6 {
            driver.commit().unwrap();
        }
        let row = |value: &String| refers_to(value, value).and_then(|key| right.get(&key));
        let inner: BTreeMap<_, _> =
            left.iter().filter_map(|(k, v)| Some((k.clone(), format!("{v}+{}", row(v)?)))).collect();
        let outer: BTreeMap<_, _> =
            left.iter().map(|(k, v)| (k.clone(), format!("{v}+{}", row(v).map_or("-", |r| r)))).collect();
        prop_assert_eq!(table_of(&mut driver, "inner"), inner);
        let mut counts = BTreeMap::<String, i64>::new();
        for value in outer.values() {
            *counts.entry(value.split_once('+').unwrap().1.to_owned()).or_default() += 1;
        }
        prop_assert_eq!(table_of(&mut driver, "left-joined"), outer);
        for (row, count) in counts {
            let query = Query::Key(KeyQuery { key: format!("\"{row}\"") });
            let found = driver.query("by-right-row", &query).unwrap().unwrap();
            prop_assert_eq!(found[0]["value"].as_i64(), Some(count), "{}", row);
        }
    }
}
