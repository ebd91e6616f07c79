//! Windows that are emitted when they close: once, in order, and neither again nor never after a crash.

use headwater_model::{Header, Record, partition};
use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    Consumed, Grouped, KTable, Materialized, MemoryStore, Produced, SessionWindows, SlidingWindows,
    StoreBackend, StreamsBuilder, Task, TaskId, TimeWindows, TopologyTestDriver, Windowed, session_windowed,
    time_windowed,
};
use proptest::prelude::*;

use crate::support::*;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Tumbling,
    Hopping,
    Sliding,
}

const SIZE: u64 = 30;
const GRACE: u64 = 15;

/// Results on close, and those of a suppression to compare with.
fn both(kind: Kind) -> StreamsBuilder {
    let builder = StreamsBuilder::new("app");
    let out = || Produced::with(time_windowed(string(), ms(SIZE)), i64());
    let grouped = builder.stream("in", Consumed::with(string(), i64())).group_by_key(Grouped::new());
    let sum = |a: i64, b: i64| a + b;
    let (closed, updated): (KTable<Windowed<String>, i64>, KTable<_, i64>) = match kind {
        Kind::Tumbling | Kind::Hopping => {
            let advance = if kind == Kind::Hopping { 10 } else { SIZE };
            let windows = TimeWindows::of(ms(SIZE)).advance(ms(advance)).grace(ms(GRACE));
            let closed = grouped.windowed_by(windows).emit_on_close();
            let closed = closed.reduce(sum, Materialized::named("closed"));
            (closed, grouped.windowed_by(windows).reduce(sum, Materialized::named("updated")))
        }
        Kind::Sliding => {
            let windows = SlidingWindows::of_time_difference_and_grace(ms(SIZE), ms(GRACE));
            let closed = grouped.windowed_by_sliding(windows).emit_on_close();
            let closed = closed.reduce(sum, Materialized::named("closed"));
            (closed, grouped.windowed_by_sliding(windows).reduce(sum, Materialized::named("updated")))
        }
    };
    closed.to("closed", out());
    updated.suppress_until_window_closes(Some("final")).to("final", out());
    builder
}

fn on_close(windows: TimeWindows, size: u64) -> TopologyTestDriver {
    let builder = StreamsBuilder::new("app");
    builder
        .stream("in", Consumed::with(string(), i64()))
        .group_by_key(Grouped::new())
        .windowed_by(windows)
        .emit_on_close()
        .count(Materialized::named("counts"))
        .to("out", Produced::with(time_windowed(string(), ms(size)), i64()));
    driver(builder)
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Event(u8, i64, i64),
    Commit,
    Crash,
    Wipe,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..4_u8, 1..100_i64, 0..60_i64).prop_map(|(key, value, jitter)| Step::Event(key, value, jitter)),
        2 => Just(Step::Commit),
        1 => Just(Step::Crash),
        1 => Just(Step::Wipe),
    ];
    prop::collection::vec(step, 0..80)
}

fn run(driver: &mut TopologyTestDriver, steps: &[Step], jitters: bool) {
    driver.manual_commit();
    for (place, step) in steps.iter().enumerate() {
        match *step {
            Step::Event(key, value, jitter) => {
                let time = place as i64 * 8 + if jitters { jitter } else { 0 };
                number(driver, "in", &format!("k{key}"), value, time);
            }
            Step::Commit => driver.commit().unwrap(),
            Step::Crash => driver.crash().unwrap(),
            Step::Wipe => driver.crash_and_wipe().unwrap(),
        }
    }
    for _ in 0..3 {
        driver.commit().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn what_is_emitted_on_close_is_what_a_suppression_lets_through(
        steps in steps(),
        kind in prop_oneof![Just(Kind::Tumbling), Just(Kind::Hopping), Just(Kind::Sliding)],
    ) {
        let mut driver = driver(both(kind));
        run(&mut driver, &steps, true);
        let closed = time_windows(&mut driver, "closed", SIZE);
        prop_assert_eq!(closed, time_windows(&mut driver, "final", SIZE));
    }

    #[test]
    fn sessions_are_emitted_once_when_no_record_can_extend_them(steps in steps()) {
        let builder = StreamsBuilder::new("app");
        builder
            .stream("in", Consumed::with(string(), i64()))
            .group_by_key(Grouped::new())
            .windowed_by_session(SessionWindows::with_gap(ms(20)).grace(ms(GRACE)))
            .emit_on_close()
            .reduce(|a, b| a + b, Materialized::named("sessions"))
            .to("out", Produced::with(session_windowed(string()), i64()));
        let mut driver = driver(builder);
        run(&mut driver, &steps, false);
        // In order, a key's session ends with the record before a pause of more than the gap.
        let mut expected: Vec<(i64, i64, String, i64)> = Vec::new();
        let mut now = 0;
        for (place, step) in steps.iter().enumerate() {
            let Step::Event(key, value, _) = step else { continue };
            let (key, time) = (format!("k{key}"), place as i64 * 8);
            now = now.max(time);
            match expected.iter_mut().rev().find(|session| session.2 == key && time - session.0 <= 20) {
                Some(session) => (session.0, session.3) = (time, session.3 + value),
                None => expected.push((time, time, key, *value)),
            }
        }
        expected.retain(|session| session.0 + 20 + (GRACE as i64) < now);
        expected.sort();
        let shown = |(end, start, key, sum): &(i64, i64, String, i64)| format!("{key}[{start},{end}]={sum}@{end}");
        prop_assert_eq!(sessions(&mut driver, "out"), expected.iter().map(shown).collect::<Vec<_>>());
    }
}

#[test]
fn a_window_comes_once_with_the_time_of_its_latest_record_when_its_grace_is_over() {
    let mut driver = on_close(TimeWindows::of(ms(10)).grace(ms(5)), 10);
    for (key, time) in [("b", 2), ("a", 9), ("a", 1), ("a", 12), ("b", 14)] {
        number(&mut driver, "in", key, 0, time);
    }
    assert!(time_windows(&mut driver, "out", 10).is_empty());
    // This one closes [0,10] and is late for it.
    number(&mut driver, "in", "a", 0, 15);
    assert_eq!(time_windows(&mut driver, "out", 10), ["a[0,10]=2@9", "b[0,10]=1@2"]);
    number(&mut driver, "in", "a", 0, 3);
    assert_eq!(driver.metrics().dropped_late, 1);
    number(&mut driver, "in", "c", 0, 100);
    assert_eq!(time_windows(&mut driver, "out", 10), ["a[10,20]=2@15", "b[10,20]=1@14"]);
}

/// Sessions of `k` that were told after a record that could have extended one which was told before.
fn told_again(sessions_kept: Materialized<String, i64>) -> Vec<String> {
    let builder = StreamsBuilder::new("app");
    builder
        .stream("in", Consumed::with(string(), i64()))
        .group_by_key(Grouped::new())
        .windowed_by_session(SessionWindows::with_gap(ms(10)))
        .emit_on_close()
        .count(sessions_kept)
        .to("out", Produced::with(session_windowed(string()), i64()));
    let mut driver = driver(builder);
    number(&mut driver, "in", "k", 0, 0);
    number(&mut driver, "in", "other", 0, 15);
    assert_eq!(sessions(&mut driver, "out"), ["k[0,0]=1@0"]);
    number(&mut driver, "in", "k", 0, 8);
    assert!(sessions(&mut driver, "out").is_empty());
    number(&mut driver, "in", "other", 0, 19);
    sessions(&mut driver, "out")
}

#[test]
fn a_session_that_was_emitted_takes_late_records_for_as_long_as_it_is_kept() {
    let kept = Materialized::named("sessions").retention(ms(1_000));
    assert_eq!(told_again(kept), ["k[0,8]=2@8"]);
    assert_eq!(told_again(Materialized::named("sessions")), ["k[8,8]=1@8"]);
}

const LANES: i32 = 3;

/// A key that Kafka's partitioner sends to `lane`.
fn key_of(lane: usize) -> String {
    let goes_there = |key: &String| partition::for_key(key.as_bytes(), LANES) == lane as i32;
    (0..).map(|n| format!("k{n}")).find(goes_there).unwrap()
}

/// Windows behind a repartition topic, each lane fed in its own order, whichever lane comes first.
fn through_lanes(lanes: &[Vec<(i64, i64)>], order: &[usize]) -> Vec<String> {
    let builder = StreamsBuilder::new("app");
    builder
        .stream("in", Consumed::with(string(), i64()))
        .group_by(|_, group| format!("g{group}"), Grouped::with(string(), i64()).named("by-group"))
        .windowed_by(TimeWindows::of(ms(SIZE)).advance(ms(10)).grace(ms(GRACE)))
        .emit_on_close()
        .count(Materialized::named("counts"))
        .to("out", Produced::with(time_windowed(string(), ms(SIZE)), i64()));
    let topology = builder.build().unwrap();
    let partitions = |topic: &str| if topic == "in" { LANES } else { 2 };
    let mut driver = TopologyTestDriver::with_partitions(topology, &partitions).unwrap();
    let mut queues: Vec<_> = lanes.iter().map(|events| events.iter()).collect();
    let in_turn = (0..lanes.len()).flat_map(|lane| std::iter::repeat_n(lane, lanes[lane].len()));
    for lane in order.iter().copied().chain(in_turn) {
        if let Some((group, time)) = queues[lane].next() {
            number(&mut driver, "in", &key_of(lane), *group, *time);
        }
    }
    // The end of time, heard of in every lane and by both partitions.
    for _ in 0..2 {
        for (lane, group) in (0..LANES as usize).flat_map(|lane| (0..8).map(move |group| (lane, group))) {
            number(&mut driver, "in", &key_of(lane), group, 1_000_000);
        }
    }
    let mut told = time_windows(&mut driver, "out", SIZE);
    told.sort();
    told
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_interleaving_of_source_partitions_closes_the_same_windows(
        lanes in prop::collection::vec(prop::collection::vec((0..4_i64, 0..300_i64), 0..20), LANES as usize),
        order in prop::collection::vec(0..LANES as usize, 0..60),
    ) {
        let told = through_lanes(&lanes, &order);
        prop_assert_eq!(&told, &through_lanes(&lanes, &[]));
        let once: std::collections::BTreeSet<_> = told.iter().map(|line| line.split('=').next()).collect();
        prop_assert_eq!(once.len(), told.len(), "a window came twice");
    }
}

/// A record of the repartition topic from a lane whose time is its own.
fn carried(offset: i64, lane: i32, time: i64) -> Record {
    let topic = partition::murmur2(b"in").to_be_bytes();
    let stamp = [&topic[..], &lane.to_be_bytes(), &time.to_be_bytes()].concat();
    Record {
        offset,
        timestamp: time,
        key: Some("g".into()),
        value: Some(1_i64.to_be_bytes().to_vec().into()),
        headers: vec![Header { key: "__headwater.time".into(), value: Some(stamp.into()) }],
    }
}

#[test]
fn a_source_partition_that_is_added_does_not_make_windows_come_again() {
    let builder = StreamsBuilder::new("app");
    builder
        .stream("in", Consumed::with(string(), i64()))
        .group_by(|key, _| key.clone(), Grouped::with(string(), i64()).named("again"))
        .windowed_by(TimeWindows::of(ms(10)).grace(ms(1_000)))
        .emit_on_close()
        .count(Materialized::named("counts"))
        .to("out", Produced::with(time_windowed(string(), ms(10)), i64()));
    let topology = builder.build().unwrap();
    let id = TaskId { subtopology: 1, partition: 0 };
    let mut kept = MemoryStore::new();
    let start = |lanes: i32| {
        let counts = move |topic: &str| Some(if topic == "in" { lanes } else { 1 });
        let stores = [("counts".to_owned(), Box::new(kept.clone()) as Box<_>)].into();
        topology.task(id, stores, topology.new_globals(), &counts).unwrap()
    };
    let (mut task, mut longer) = (start(1), start(2));
    let input = task.inputs()[0].clone();
    let told = |task: &mut Task| task.take_output().iter().map(|output| output.timestamp).collect::<Vec<_>>();
    task.enqueue(&input, vec![carried(0, 0, 5), carried(1, 0, 15), carried(2, 0, 1_020)]).unwrap();
    task.process(usize::MAX, 0).unwrap();
    assert_eq!(told(&mut task), [5, 15]);
    task.pre_commit().unwrap();
    kept.apply(task.committed(0).remove("counts").unwrap()).unwrap();
    longer.set_stream_time(&input, &task.positions()[0].2);
    longer.enqueue(&input, vec![carried(3, 0, 1_030), carried(4, 1, 1_030), carried(5, 1, 2_035)]).unwrap();
    longer.enqueue(&input, vec![carried(6, 0, 2_035)]).unwrap();
    longer.process(usize::MAX, 0).unwrap();
    assert_eq!(told(&mut longer), [1_020]);
}

#[test]
fn operators_that_come_and_change_places_keep_no_open_window_from_being_told() {
    let topology = |operators: &[(&str, u64)]| {
        let builder = StreamsBuilder::new("app");
        let grouped = builder.stream("in", Consumed::with(string(), i64())).group_by_key(Grouped::new());
        for (name, grace) in operators {
            let windows = TimeWindows::of(ms(10)).grace(ms(*grace));
            let counts = grouped.windowed_by(windows).emit_on_close().count(Materialized::named(*name));
            counts.to(name, Produced::with(time_windowed(string(), ms(10)), i64()));
        }
        builder.build().unwrap()
    };
    let id = TaskId { subtopology: 0, partition: 0 };
    let kept: std::collections::HashMap<_, _> =
        ["more", "short", "long"].map(|name| (name.to_owned(), MemoryStore::new())).into();
    let start = |topology: &headwater_streams::Topology| {
        let stores = kept.iter().map(|(name, store)| (name.clone(), Box::new(store.clone()) as Box<_>));
        topology.task(id, stores.collect(), topology.new_globals(), &|_| Some(1)).unwrap()
    };
    let record = |offset: i64, time: i64| Record {
        offset,
        timestamp: time,
        key: Some("k".into()),
        value: Some(1_i64.to_be_bytes().to_vec().into()),
        headers: Vec::new(),
    };
    let told = |task: &mut Task, topic: &str| {
        let all = task.take_output();
        all.iter().filter(|output| &*output.topic == topic).map(|output| output.timestamp).collect::<Vec<_>>()
    };
    let mut before = start(&topology(&[("short", 0), ("long", 1_000)]));
    let input = before.inputs()[0].clone();
    before.enqueue(&input, vec![record(0, 5), record(1, 500)]).unwrap();
    before.process(usize::MAX, 0).unwrap();
    before.pre_commit().unwrap();
    for (name, batch) in before.committed(0) {
        kept[&name].clone().apply(batch).unwrap();
    }
    let positions = before.positions();
    // By its place, the first clock would now be that of the windows that are still open.
    let mut after = start(&topology(&[("long", 1_000), ("more", 0), ("short", 0)]));
    after.set_stream_time(&input, &positions[0].2);
    after.enqueue(&input, vec![record(2, 2_000)]).unwrap();
    after.process(usize::MAX, 0).unwrap();
    assert_eq!(told(&mut after, "long"), [5, 500]);
}
