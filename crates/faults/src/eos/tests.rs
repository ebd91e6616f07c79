//! The judge judged: a right output passes, each kind of lie is found; and the oracle against the test driver.

use std::collections::{BTreeMap, BTreeSet};

use headwater::streams::TopologyTestDriver;
use headwater_model::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::events::Event;
use super::judge::{Found, Verdict};
use super::oracle::{Expected, Input, Inputs, Oracle};
use super::plan::{KEYS, Plan};
use super::topology;

fn found(records: &[(&str, &str)]) -> Vec<Found> {
    let text = |value: &str| (value != "null").then(|| value.to_owned());
    records.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect()
}

fn judged(records: &[(&str, &str)], expected: &Expected) -> (i64, i64, usize) {
    let mut verdict = Verdict::default();
    verdict.judge("t", &found(records), expected);
    (verdict.lost, verdict.duplicated, verdict.wrong.len())
}

#[test]
fn records_that_are_lost_or_come_twice_are_counted() {
    let values = |values: &[&str]| values.iter().map(|value| ((*value).to_owned(), 1)).collect();
    let expected = Expected::Records(BTreeMap::from([("k".to_owned(), values(&["1", "2", "3"]))]));
    assert_eq!(judged(&[("k", "2"), ("k", "1"), ("k", "3")], &expected), (0, 0, 0));
    assert_eq!(judged(&[("k", "2"), ("k", "2"), ("k", "2")], &expected), (2, 2, 3));
    assert_eq!(judged(&[("k", "1"), ("k", "2"), ("k", "3"), ("j", "4")], &expected), (0, 1, 1));
}

#[test]
fn updates_go_up_one_by_one_to_their_number() {
    let expected = Expected::Updates(BTreeMap::from([("k".to_owned(), (3, "3,x".to_owned()))]));
    assert_eq!(judged(&[("k", "1,a"), ("k", "2,b"), ("k", "3,x")], &expected), (0, 0, 0));
    assert_eq!(judged(&[("k", "1,a"), ("k", "3,x")], &expected), (1, 0, 1));
    assert_eq!(judged(&[("k", "1,a"), ("k", "2,b"), ("k", "2,b"), ("k", "3,x")], &expected), (0, 1, 1));
    assert_eq!(judged(&[("k", "1,a"), ("k", "2,b"), ("k", "3,y")], &expected), (0, 0, 1));
    assert_eq!(judged(&[("k", "1,a"), ("k", "2,b")], &expected), (1, 0, 1));
    assert_eq!(judged(&[], &expected), (3, 0, 1));
}

#[test]
fn last_rows_and_joined_rows_are_the_tables() {
    let rows = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
    let expected = Expected::Last { rows, updates: Some(BTreeMap::from([("k".to_owned(), 2)])) };
    assert_eq!(judged(&[("k", "u"), ("k", "v"), ("j", "null")], &expected), (0, 0, 0));
    assert_eq!(judged(&[("k", "v")], &expected), (1, 0, 1));
    assert_eq!(judged(&[("k", "v"), ("k", "u")], &expected), (0, 0, 1));

    let events =
        BTreeMap::from([("k".to_owned(), BTreeMap::from([("1:1".to_owned(), 1), ("2:1".to_owned(), 1)]))]);
    let rows = BTreeMap::from([("k".to_owned(), vec![None, Some("a".to_owned()), Some("b".to_owned())])]);
    let expected = Expected::Joined { events, rows };
    assert_eq!(judged(&[("k", "1:1/-"), ("k", "2:1/b")], &expected), (0, 0, 0));
    assert_eq!(judged(&[("k", "1:1/b"), ("k", "2:1/a")], &expected), (0, 0, 1));
    assert_eq!(judged(&[("k", "1:1/a"), ("k", "2:1/c")], &expected), (0, 0, 1));
}

#[test]
fn events_are_joined_once_with_a_row_that_they_may_see() {
    let events = BTreeMap::from([("k".to_owned(), BTreeMap::from([("1:1".to_owned(), 1)]))]);
    let may_see = BTreeSet::from(["-".to_owned(), "a".to_owned()]);
    let expected =
        Expected::Seen { events, rows: BTreeMap::from([(("k".to_owned(), "1:1".to_owned()), may_see)]) };
    assert_eq!(judged(&[("k", "1:1/a")], &expected), (0, 0, 0));
    assert_eq!(judged(&[("k", "1:1/-")], &expected), (0, 0, 0));
    assert_eq!(judged(&[("k", "1:1/b")], &expected), (0, 0, 1));
    assert_eq!(judged(&[("k", "1:1/a"), ("k", "1:1/-")], &expected), (0, 1, 1));
    assert_eq!(judged(&[], &expected), (1, 0, 1));
}

#[test]
fn plans_draw_ends_of_every_kind() {
    let mut kinds = BTreeSet::new();
    for seed in 0..200 {
        let plan = Plan::random("app", &mut StdRng::seed_from_u64(seed));
        kinds.extend(plan.ends.iter().map(|end| format!("{:?}", end.shape)));
    }
    let names: BTreeSet<&str> = kinds.iter().filter_map(|kind| kind.split(' ').next()).collect();
    assert_eq!(names.len(), 20, "{names:?}");
    assert!(kinds.iter().any(|kind| kind.starts_with("StreamStream") && kind.contains("Outer")));
}

/// As the harness writes it, without a broker.
fn inputs(plan: &Plan, driver: &mut TopologyTestDriver, random: &mut StdRng) -> Inputs {
    let empty = |partitions: i32| vec![Vec::new(); partitions as usize];
    let mut inputs = Inputs {
        streams: plan.streams.iter().map(|source| empty(source.partitions)).collect(),
        tables: plan.tables.iter().map(|source| empty(source.partitions)).collect(),
        globals: plan.globals.iter().map(|source| empty(source.partitions)).collect(),
    };
    let (streams, tables) = (plan.streams.len(), plan.streams.len() + plan.tables.len());
    let mut times = [1_700_000_000_000_i64; 8];
    for id in 0..1500 {
        let which = random.random_range(0..tables + plan.globals.len());
        let (source, partitions) = match which {
            stream if stream < streams => (&plan.streams[stream], &mut inputs.streams[stream]),
            table if table < tables => (&plan.tables[table - streams], &mut inputs.tables[table - streams]),
            global => (&plan.globals[global - tables], &mut inputs.globals[global - tables]),
        };
        times[which] += random.random_range(0..40);
        let back = if random.random_bool(0.3) { random.random_range(0..2000) } else { 0 };
        let tombstone = which >= streams && random.random_bool(0.15);
        let event = (!tombstone).then(|| Event { id, n: random.random_range(-9..99) });
        let input = Input {
            key: format!("k{}", random.random_range(0..KEYS)),
            event,
            timestamp: times[which] - back,
        };
        let value = event.map(|event| Bytes::from(event.text()));
        driver
            .pipe_input(&source.topic, Some(Bytes::from(input.key.clone())), value, input.timestamp)
            .unwrap();
        let place = headwater_model::partition::for_key(input.key.as_bytes(), source.partitions);
        partitions[place as usize].push(input);
        if random.random_bool(0.01) {
            driver.crash_and_wipe().unwrap();
        }
    }
    inputs
}

/// Two ways to the same answer: what a plan's topology writes in the test driver, and what the oracle computes.
#[test]
fn oracle_and_test_driver_agree() {
    let seeds = std::env::var("HEADWATER_SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(40);
    let mut failed = Vec::new();
    for seed in 0..seeds {
        let mut random = StdRng::seed_from_u64(seed);
        let plan = Plan::random("app", &mut random);
        let topology =
            topology::build(&plan).unwrap_or_else(|error| panic!("seed {seed}: {error}: {plan:#?}"));
        let internal = topology.internal_topics(&|topic| plan.partitions(topic)).unwrap();
        let counts: BTreeMap<String, i32> =
            internal.into_iter().map(|topic| (topic.name, topic.partitions)).collect();
        let partitions = |topic: &str| plan.partitions(topic).unwrap_or(3);
        let mut driver = TopologyTestDriver::with_partitions(topology, &partitions).unwrap();
        let inputs = inputs(&plan, &mut driver, &mut random);
        let count = |topic: &str| counts.get(topic).copied().unwrap_or(1);
        let oracle = Oracle::new(&plan, &inputs, &count);
        let mut verdict = Verdict::default();
        for end in 0..plan.ends.len() {
            let records = driver.read_output(&plan.output(end));
            let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
            let records: Vec<Found> = records
                .iter()
                .map(|record| {
                    (record.key.as_ref().map(text).unwrap_or_default(), record.value.as_ref().map(text))
                })
                .collect();
            verdict.judge(&format!("end {end} {:?}", plan.ends[end].shape), &records, &oracle.expected(end));
        }
        if !verdict.passed() {
            let first: Vec<_> = verdict.wrong.iter().take(3).collect();
            failed.push(format!(
                "seed {seed}: {first:#?}\n{:?}\n{:?}\n{:?}",
                plan.streams, plan.steps, plan.ends
            ));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
