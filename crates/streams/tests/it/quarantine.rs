//! Poisoned keys that wait while others flow: in order, without effect, over crashes and lost stores, and released.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use headwater_streams::serdes::{i64, nullable, string};
use headwater_streams::{
    Bytes, Consumed, DeserializationHandler, Grouped, Materialized, ProcessingHandler, ProcessingResponse,
    Produced, Quarantine, Serde, SerdeError, SerdeRef, StreamsBuilder, TaskError, Topology, TopologyError,
    TopologyTestDriver, WhenFull,
};
use proptest::prelude::*;

use crate::support::*;

const EARLY: u8 = 1;
const LATE: u8 = 2;

/// Glues the values of each key together. While it is broken, a value with `p` fails before the store was written to, and one
/// with `q` after that.
fn gluing(broken: &Arc<AtomicU8>, quarantine: Quarantine) -> Topology {
    let (early, late) = (broken.clone(), broken.clone());
    let mut builder = StreamsBuilder::new("app");
    builder.quarantine(quarantine).processing_handler(ProcessingHandler::Quarantine);
    builder
        .stream("in", Consumed::with(string(), string()))
        .try_filter(move |_, value: &String| {
            if value.contains('p') && early.load(Ordering::Relaxed) & EARLY > 0 { Err("p") } else { Ok(true) }
        })
        .named("early")
        .group_by_key(Grouped::new())
        .aggregate(
            String::new,
            |_, value, glued| glued + &value,
            Materialized::named("glued").value_serde(string()),
        )
        .to_stream()
        .try_map_values(move |glued: Option<String>| {
            let last = glued.as_ref().and_then(|glued| glued.split(';').nth_back(1)).unwrap_or_default();
            if last.contains('q') && late.load(Ordering::Relaxed) & LATE > 0 { Err("q") } else { Ok(glued) }
        })
        .named("late")
        .to("out", Produced::with(string(), nullable(string())));
    builder.build().unwrap()
}

fn started(broken: u8, quarantine: Quarantine) -> (TopologyTestDriver, Arc<AtomicU8>) {
    let broken = Arc::new(AtomicU8::new(broken));
    let topology = gluing(&broken, quarantine);
    (TopologyTestDriver::with_partitions(topology, &|_| 2).unwrap(), broken)
}

#[test]
fn a_poisoned_key_waits_in_order_and_without_effect_while_others_flow() {
    for (poison, node) in [("p", "early"), ("q", "late")] {
        let (mut driver, broken) = started(EARLY | LATE, Quarantine::new());
        for (key, value) in [("a", "1;"), ("a", poison), ("b", "1;"), ("a", "3;"), ("b", "2;")] {
            text(&mut driver, "in", key, &value.replace(poison, &format!("{poison};")), 5);
        }
        assert_eq!(texts(&mut driver, "out"), ["a=1;@5", "b=1;@5", "b=1;2;@5"]);
        let [held] = &driver.quarantined()[..] else { panic!("{:?}", driver.quarantined()) };
        assert_eq!((held.key.as_deref(), held.records), (Some(&b"a"[..]), 2));
        assert_eq!((held.node.as_str(), held.message.as_str(), held.since), (node, poison, 5));

        // Still broken: it stays where it is.
        assert_eq!(driver.release(None).unwrap(), 0);
        text(&mut driver, "in", "a", "4;", 5);
        driver.crash_and_wipe().unwrap();
        assert_eq!(texts(&mut driver, "out"), Vec::<String>::new());
        text(&mut driver, "in", "b", "3;", 5);
        assert_eq!(driver.quarantined()[0].records, 3, "it outlives a lost store");

        broken.store(0, Ordering::Relaxed);
        assert_eq!(driver.release(Some(&Bytes::from_static(b"b"))).unwrap(), 0);
        assert_eq!(driver.release(Some(&Bytes::from_static(b"a"))).unwrap(), 3);
        text(&mut driver, "in", "a", "5;", 6);
        let first = format!("a=1;{poison};@5");
        let second = format!("a=1;{poison};3;@5");
        let third = format!("a=1;{poison};3;4;@5");
        let last = format!("a=1;{poison};3;4;5;@6");
        assert_eq!(texts(&mut driver, "out"), ["b=1;2;3;@5", &first, &second, &third, &last]);
        assert!(driver.quarantined().is_empty());
        assert_eq!(driver.metrics().released, 3);
    }
}

#[test]
fn another_version_releases_everything_at_its_start() {
    let (mut driver, broken) = started(EARLY, Quarantine::new().version("1"));
    for value in ["1;", "p;", "3;"] {
        text(&mut driver, "in", "a", value, 0);
    }
    driver.upgrade(gluing(&broken, Quarantine::new().version("1"))).unwrap();
    text(&mut driver, "in", "b", "x;", 0);
    assert_eq!(driver.quarantined().len(), 1, "the same version");
    broken.store(0, Ordering::Relaxed);
    driver.upgrade(gluing(&broken, Quarantine::new().version("2"))).unwrap();
    text(&mut driver, "in", "a", "4;", 0);
    assert_eq!(texts(&mut driver, "out"), ["a=1;@0", "b=x;@0", "a=1;p;@0", "a=1;p;3;@0", "a=1;p;3;4;@0"]);
    // From then on it is an old version, too.
    broken.store(EARLY, Ordering::Relaxed);
    text(&mut driver, "in", "a", "p;", 0);
    driver.crash_and_wipe().unwrap();
    text(&mut driver, "in", "b", "y;", 0);
    assert_eq!(driver.quarantined().len(), 1);
}

#[test]
fn what_there_is_no_room_for_fails_or_becomes_a_dead_letter() {
    let pipe = |driver: &mut TopologyTestDriver, key: &str| {
        driver.pipe("in", (&string(), &string()), (&key.to_owned(), &"p;".to_owned()), 0)
    };
    let (mut driver, _) = started(EARLY, Quarantine::new().max_keys(1));
    // Both are in one partition.
    pipe(&mut driver, "a").unwrap();
    let keys: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
    let full = keys.iter().find_map(|key| pipe(&mut driver, key).err()).expect("a partition has two of them");
    assert!(matches!(full, TaskError::QuarantineFull { max_keys: 1, .. }), "{full}");
    assert!(full.to_string().contains("WhenFull::DeadLetter"), "{full}");

    let small = Quarantine::new().max_bytes(200).when_full(WhenFull::DeadLetter("overflow".to_owned()));
    let (mut driver, _) = started(EARLY, small);
    for value in ["p;", "2;", "3;", "4;"] {
        text(&mut driver, "in", "a", value, 0);
    }
    assert_eq!(driver.quarantined()[0].records, 2);
    let letters = driver.read_output("overflow");
    assert_eq!(letters.len(), 2);
    let message = letters[0].headers.iter().find(|h| h.key == "__streams.errors.message").unwrap();
    assert!(String::from_utf8_lossy(message.value.as_ref().unwrap()).contains("full"));
    assert!(texts(&mut driver, "out").is_empty(), "none of the key went on");
}

#[test]
fn a_handler_may_choose_and_a_table_is_refused_that_could_not_be_restored() {
    let mut builder = StreamsBuilder::new("app");
    builder.quarantine(Quarantine::new()).processing_handler(ProcessingHandler::choose(
        |failure| match failure.key.map(|key| &key[..]) {
            Some(b"held") => ProcessingResponse::Quarantine,
            _ => ProcessingResponse::Continue,
        },
    ));
    builder
        .stream("in", Consumed::with(string(), string()))
        .try_map_values(|text: String| text.parse::<i64>())
        .to("out", Produced::with(string(), i64()));
    let mut driver = driver(builder);
    for (key, value) in [("held", "x"), ("free", "x"), ("held", "1"), ("free", "1")] {
        text(&mut driver, "in", key, value, 0);
    }
    assert_eq!(numbers(&mut driver, "out"), ["free=1@0"]);
    assert_eq!(driver.metrics().processing_errors, 1);

    let refused = |first: bool| {
        let mut builder = StreamsBuilder::new("app");
        if first {
            builder.quarantine(Quarantine::new());
        }
        builder.table("rows", Consumed::with(string(), i64()), Materialized::new());
        builder.quarantine(Quarantine::new());
        builder.build().err()
    };
    assert!(refused(true).is_none());
    let error = refused(false).unwrap();
    assert!(
        matches!(&error, TopologyError::InvalidWindow { .. }) && error.to_string().contains("before table()")
    );
}

#[test]
fn what_does_not_decode_waits_with_its_key_until_a_version_can_read_it() {
    let reading = |lenient: bool| {
        let mut builder = StreamsBuilder::new("app");
        builder.quarantine(Quarantine::new().version(if lenient { "2" } else { "1" }));
        builder.deserialization_handler(DeserializationHandler::Quarantine);
        let number = if lenient { lenient_number() } else { i64() };
        builder.stream("in", Consumed::with(string(), number)).to("out", Produced::with(string(), i64()));
        builder.build().unwrap()
    };
    let mut driver = TopologyTestDriver::new(reading(false)).unwrap();
    number(&mut driver, "in", "a", 1, 0);
    text(&mut driver, "in", "a", "x", 1);
    number(&mut driver, "in", "a", 2, 2);
    number(&mut driver, "in", "b", 3, 3);
    assert_eq!(numbers(&mut driver, "out"), ["a=1@0", "b=3@3"]);
    assert!(driver.quarantined()[0].message.contains("does not decode"), "{:?}", driver.quarantined());
    driver.upgrade(reading(true)).unwrap();
    number(&mut driver, "in", "a", 4, 4);
    assert_eq!(numbers(&mut driver, "out"), ["a=-1@1", "a=2@2", "a=4@4"]);
}

/// Reads -1 where there is no number.
fn lenient_number() -> SerdeRef<i64> {
    struct Lenient;
    impl Serde<i64> for Lenient {
        fn serialize(&self, topic: &str, value: &i64) -> Result<Bytes, SerdeError> {
            i64().serialize(topic, value)
        }
        fn deserialize(&self, topic: &str, bytes: &Bytes) -> Result<i64, SerdeError> {
            i64().deserialize(topic, bytes).or(Ok(-1))
        }
    }
    Arc::new(Lenient)
}

#[derive(Debug, Clone)]
enum Step {
    Record { key: u8, kind: u8 },
    Commit,
    Crash,
    Wipe,
    Release(Option<u8>),
    Broken(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..4_u8, 0..8_u8).prop_map(|(key, kind)| Step::Record { key, kind }),
        2 => Just(Step::Commit),
        1 => Just(Step::Crash),
        1 => Just(Step::Wipe),
        1 => prop::option::of(0..4_u8).prop_map(Step::Release),
        1 => (0..4_u8).prop_map(Step::Broken),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever is broken when, and whatever is lost: in the end every record was glued once, in the order of its key.
    #[test]
    fn every_record_counts_once_and_in_order(steps in prop::collection::vec(step(), 1..60), manual: bool) {
        let (mut driver, broken) = started(EARLY | LATE, Quarantine::new());
        if manual {
            driver.manual_commit();
        }
        let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (place, step) in steps.iter().enumerate() {
            match step {
                Step::Record { key, kind } => {
                    let key = format!("k{key}");
                    let kind = match kind { 0 => "p", 1 => "q", _ => "n" };
                    let value = format!("{kind}{place};");
                    text(&mut driver, "in", &key, &value, place as i64);
                    let glued = expected.entry(key).or_default();
                    let before = glued.last().cloned().unwrap_or_default();
                    glued.push(before + &value);
                }
                Step::Commit => driver.commit().unwrap(),
                Step::Crash => driver.crash().unwrap(),
                Step::Wipe => driver.crash_and_wipe().unwrap(),
                Step::Release(key) => {
                    let key = key.map(|key| Bytes::from(format!("k{key}")));
                    driver.release(key.as_ref()).unwrap();
                }
                Step::Broken(how) => broken.store(*how, Ordering::Relaxed),
            }
        }
        broken.store(0, Ordering::Relaxed);
        // What failed since the last commit is tried again after the next.
        for _ in 0..2 {
            driver.commit().unwrap();
            driver.release(None).unwrap();
        }
        driver.commit().unwrap();
        let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, glued, _) in driver.read("out", (&string(), &string())) {
            seen.entry(key).or_default().push(glued.unwrap());
        }
        prop_assert_eq!(seen, expected);
        prop_assert!(driver.quarantined().is_empty());
    }
}
