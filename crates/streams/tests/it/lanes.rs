//! Stream time travels with records: results do not depend on how fast the tasks are that write a repartition topic.

use std::collections::BTreeMap;

use headwater_model::{Record, TopicPartition, partition};
use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    Consumed, Grouped, Materialized, Produced, SessionWindows, StreamsBuilder, TimeWindows,
    TopologyTestDriver, session_windowed, time_windowed,
};
use proptest::prelude::*;

use crate::support::*;

const LANES: i32 = 3;
const SIZE: u64 = 50;

/// Events are keyed by anything; their value is the group.
fn grouped() -> StreamsBuilder {
    let builder = StreamsBuilder::new("app");
    let out = || Produced::with(string(), i64());
    let grouped = builder
        .stream("in", Consumed::with(string(), i64()))
        .group_by(|_, group| format!("g{group}"), Grouped::with(string(), i64()).named("by-group"));
    let windows = grouped.windowed_by(TimeWindows::of(ms(SIZE)).grace(ms(20))).late_to("late", out());
    let counts = windows.count(Materialized::named("counts"));
    counts.to("windows", Produced::with(time_windowed(string(), ms(SIZE)), i64()));
    counts
        .suppress_until_window_closes(Some("final"))
        .to("final", Produced::with(time_windowed(string(), ms(SIZE)), i64()));
    grouped
        .windowed_by_session(SessionWindows::with_gap(ms(10)).grace(ms(15)))
        .late_to("late-for-sessions", out())
        .count(Materialized::named("sessions"))
        .to("sessions", Produced::with(session_windowed(string()), i64()));
    builder
}

fn start(lanes: i32) -> TopologyTestDriver {
    let topology = grouped().build().unwrap();
    TopologyTestDriver::with_partitions(topology, &|topic| if topic == "in" { lanes } else { 2 }).unwrap()
}

/// A key that Kafka's partitioner sends to `lane`.
fn key_of(lane: i32) -> String {
    (0..).map(|n| format!("k{n}")).find(|key| partition::for_key(key.as_bytes(), LANES) == lane).unwrap()
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The next event of this lane.
    Next(usize),
    Commit,
    Crash,
    Wipe,
}

type Event = (i64, i64);

fn events() -> impl Strategy<Value = Vec<Vec<Event>>> {
    let lane = (prop::collection::vec((0..4_i64, 0..600_i64), 0..25), 1..90_i64);
    let ordered = lane.prop_map(|(mut events, jitter)| {
        events.sort_by_key(|(group, time)| (time + (group * 31 + time * 7) % jitter, *time));
        events
    });
    prop::collection::vec(ordered, LANES as usize)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..LANES as usize).prop_map(Step::Next),
        2 => Just(Step::Commit),
        1 => Just(Step::Crash),
        1 => Just(Step::Wipe),
    ];
    prop::collection::vec(step, 0..120)
}

/// What is left in the end, per topic: windows and sessions as tables, the rest as multisets.
fn run(lanes: &[Vec<Event>], steps: &[Step]) -> BTreeMap<&'static str, Vec<String>> {
    let mut driver = start(LANES);
    driver.manual_commit();
    let mut queues: Vec<_> = lanes.iter().map(|events| events.iter()).collect();
    let feed = |driver: &mut TopologyTestDriver, lane: usize, (group, time): &Event| {
        number(driver, "in", &key_of(lane as i32), *group, *time);
    };
    for step in steps {
        match *step {
            Step::Next(lane) => {
                queues[lane].next().into_iter().for_each(|event| feed(&mut driver, lane, event))
            }
            Step::Commit => driver.commit().unwrap(),
            Step::Crash => driver.crash().unwrap(),
            Step::Wipe => driver.crash_and_wipe().unwrap(),
        }
    }
    for (lane, queue) in queues.into_iter().enumerate() {
        queue.for_each(|event| feed(&mut driver, lane, event));
    }
    for _ in 0..4 {
        driver.commit().unwrap();
    }
    let mut seen = BTreeMap::new();
    for topic in ["windows", "sessions", "final", "late", "late-for-sessions"] {
        let records = driver.read_output(topic);
        let table = matches!(topic, "windows" | "sessions");
        seen.insert(topic, if table { latest(records) } else { all(records) });
    }
    seen
}

fn all(records: Vec<Record>) -> Vec<String> {
    let mut lines: Vec<String> = records
        .iter()
        .map(|r| format!("{:?}={:?}@{} {:?}", r.key, r.value, r.timestamp, r.headers))
        .collect();
    lines.sort_unstable();
    lines
}

fn latest(records: Vec<Record>) -> Vec<String> {
    let by_key: BTreeMap<_, _> = records.into_iter().map(|record| (record.key.clone(), record)).collect();
    all(by_key.into_values().filter(|record| record.value.is_some()).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn windows_sessions_and_drops_are_the_same_for_every_interleaving(
        events in events(), one in steps(), other in steps()
    ) {
        let in_turn = run(&events, &[]);
        prop_assert_eq!(&run(&events, &one), &in_turn);
        prop_assert_eq!(&run(&events, &other), &in_turn);
    }
}

#[test]
fn a_lane_that_is_far_behind_loses_nothing_to_one_that_is_far_ahead() {
    let mut driver = start(LANES);
    for time in [0, 1_000, 2_000] {
        number(&mut driver, "in", &key_of(0), 1, time);
    }
    for time in [10, 990] {
        number(&mut driver, "in", &key_of(1), 1, time);
    }
    assert_eq!(driver.metrics().dropped_late, 0);
    // But what is late by its own lane is late, and comes out as it came in.
    number(&mut driver, "in", &key_of(1), 1, 10);
    assert_eq!(numbers(&mut driver, "late"), ["g1=1@10"]);
    assert_eq!(numbers(&mut driver, "late-for-sessions"), ["g1=1@10"]);
    assert_eq!(driver.metrics().dropped_late, 2);
}

#[test]
fn nothing_is_final_before_every_lane_has_been_heard_of() {
    let mut driver = start(LANES);
    let group = 1;
    number(&mut driver, "in", &key_of(0), group, 5);
    number(&mut driver, "in", &key_of(0), group, 500);
    number(&mut driver, "in", &key_of(1), group, 500);
    assert!(time_windows(&mut driver, "final", SIZE).is_empty());
    driver.crash_and_wipe().unwrap();
    number(&mut driver, "in", &key_of(2), group, 60);
    assert!(time_windows(&mut driver, "final", SIZE).is_empty());
    number(&mut driver, "in", &key_of(2), group, 70);
    assert_eq!(time_windows(&mut driver, "final", SIZE), ["g1[0,50]=1@5"]);
}

#[test]
fn the_time_is_carried_between_tasks_only_and_only_where_it_is_needed() {
    let mut driver = start(1);
    number(&mut driver, "in", "k", 1, 5);
    let between = driver.log(&TopicPartition::new("app-by-group-repartition", 0)).to_vec();
    assert_eq!(between[0].headers[0].key, "__headwater.time");
    assert!(driver.read_output("windows")[0].headers.is_empty());

    let builder = StreamsBuilder::new("app");
    let stream = builder.stream("in", Consumed::with(string(), i64()));
    stream
        .group_by(|k, _| k.clone(), Grouped::with(string(), i64()).named("again"))
        .count(Materialized::named("n"));
    let mut driver = self::driver(builder);
    number(&mut driver, "in", "k", 1, 5);
    assert!(driver.log(&TopicPartition::new("app-again-repartition", 0))[0].headers.is_empty());
}

#[test]
fn the_committed_clocks_fit_into_the_metadata_of_an_offset() {
    let topology = grouped().build().unwrap();
    let counts = |topic: &str| Some(if topic == "in" { 64 } else { 2 });
    let id = headwater_streams::TaskId { subtopology: 1, partition: 0 };
    let store = |name: String| (name, Box::new(headwater_streams::MemoryStore::new()) as Box<_>);
    let stores = topology.stores(1).into_iter().map(|info| store(info.name)).collect();
    let mut task = topology.task(id, stores, topology.new_globals(), &counts).unwrap();
    let input = task.inputs()[0].clone();
    let now = 1_384_000_000_000_i64;
    let lane = |n: i32| {
        [&partition::murmur2(b"in").to_be_bytes()[..], &n.to_be_bytes(), &now.to_be_bytes()].concat()
    };
    let record = |n: i32| Record {
        offset: n.into(),
        timestamp: now,
        key: Some("g".into()),
        value: Some(1_i64.to_be_bytes().to_vec().into()),
        headers: vec![headwater_model::Header {
            key: "__headwater.time".into(),
            value: Some(lane(n).into()),
        }],
    };
    task.enqueue(&input, (0..64).map(record).collect()).unwrap();
    task.process(usize::MAX, 0).unwrap();
    let metadata = &task.positions()[0].2;
    assert!(metadata.len() < 1_200 && metadata.contains("1384000000000,1384000000000"), "{metadata}");
}
