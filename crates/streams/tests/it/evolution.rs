//! What a new version of a topology is said to ask for, and whether that is so.

use std::time::Duration;

use headwater_streams::serdes::{i64, nullable, string};
use headwater_streams::{
    ChangeSafety, Consumed, Grouped, KStream, Materialized, Produced, StreamsBuilder, TimeWindows, Topology,
    TopologyDescription, TopologyDiff, TopologyTestDriver, time_windowed,
};

fn topology(build: impl Fn(&StreamsBuilder)) -> Topology {
    let builder = StreamsBuilder::new("shop");
    build(&builder);
    builder.build().unwrap()
}

fn described(build: impl Fn(&StreamsBuilder)) -> TopologyDescription {
    let description = topology(build).describe();
    // What a running instance tells goes through JSON.
    serde_json::from_value(serde_json::to_value(&description).unwrap()).unwrap()
}

fn orders(builder: &StreamsBuilder) -> KStream<String, String> {
    builder.stream("orders", Consumed::with(string(), string()))
}

fn count(stream: &KStream<String, String>, store: Option<&str>, to: &str) {
    let materialized = store.map_or_else(Materialized::new, Materialized::named);
    let grouped = stream.group_by_key(Grouped::with(string(), string()));
    grouped.count(materialized).to_stream().to(to, Produced::with(string(), nullable(i64())));
}

fn counts_by_value(stream: &KStream<String, String>, name: Option<&str>) {
    let plain = Grouped::with(string(), string());
    let grouped = match name {
        Some(name) => plain.named(name),
        None => plain,
    };
    let by = stream.group_by(|_, value| value.clone(), grouped);
    by.count(Materialized::named("by-value"))
        .to_stream()
        .to("counts", Produced::with(string(), nullable(i64())));
}

/// The one change that asks for most, and how many there are.
fn most(diff: &TopologyDiff) -> (ChangeSafety, &str) {
    let change = &diff.changes[0];
    assert_eq!(change.safety, diff.safety());
    (change.safety, &change.change)
}

#[test]
fn what_no_topic_and_no_store_sees_is_no_difference() {
    let old = described(|builder| count(&orders(builder), Some("counts"), "counts"));
    let new = described(|builder| {
        let calm = orders(builder).filter(|_, value| value != "x").peek(|_, _| {});
        count(&calm, Some("counts"), "counts");
    });
    assert_eq!(old.diff(&old).changes, []);
    assert_eq!(old.diff(&new).changes, []);
    assert_eq!(old.diff(&new).safety(), ChangeSafety::Safe);
}

#[test]
fn a_store_without_a_name_is_lost_when_an_operator_comes_before_it() {
    let old = described(|builder| count(&orders(builder), None, "counts"));
    let new = |store: Option<String>| {
        described(move |builder| {
            count(&orders(builder).filter(|_, value| value != "x"), store.as_deref(), "counts");
        })
    };
    let diff = old.diff(&new(None));
    let before = &old.subtopologies[0].stores[0].name;
    let (safety, change) = most(&diff);
    assert_eq!(safety, ChangeSafety::Rebuild);
    assert!(change.contains(before.as_str()), "{change}");
    // What it advises works.
    assert!(diff.changes[0].advice.contains(&format!("Materialized::named(\"{before}\")")), "{diff}");
    assert_eq!(old.diff(&new(Some(before.clone()))).changes, []);
}

#[test]
fn a_repartition_topic_that_is_not_read_any_more_keeps_what_is_under_way() {
    let old = described(|builder| counts_by_value(&orders(builder), None));
    let calmer = |name: Option<String>| {
        described(move |builder| {
            counts_by_value(&orders(builder).filter(|_, value| value != "x"), name.as_deref());
        })
    };
    let topic = &old.repartitions[0].topic;
    assert_eq!(
        old.diff(&calmer(None)).safety(),
        ChangeSafety::Safe,
        "its store has a name, and so has the topic"
    );
    let named = calmer(Some("by-value-2".to_owned()));
    let diff = old.diff(&named);
    let (safety, change) = most(&diff);
    assert_eq!(safety, ChangeSafety::Repartition);
    assert!(change.contains(topic.as_str()) && change.ends_with("is gone"), "{change}");
    let back = named.diff(&old);
    assert_eq!(back.safety(), ChangeSafety::Repartition, "and so is the way back");
}

#[test]
fn a_store_of_another_kind_or_operator_is_of_no_use() {
    let counted = described(|builder| count(&orders(builder), Some("s"), "out"));
    let windowed = described(|builder| {
        let grouped = orders(builder).group_by_key(Grouped::with(string(), string()));
        grouped
            .windowed_by(TimeWindows::of(Duration::from_secs(1)).grace(Duration::ZERO))
            .count(Materialized::named("s"));
    });
    let reduced = described(|builder| {
        let grouped = orders(builder).group_by_key(Grouped::with(string(), string()));
        let reduced = grouped.reduce(|a, b| format!("{a}{b}"), Materialized::named("s"));
        reduced.to_stream().to("out", Produced::with(string(), nullable(string())));
    });
    let diff = counted.diff(&windowed);
    assert_eq!(most(&diff), (ChangeSafety::Rebuild, "store s is of kind Window, before KeyValue"));
    let diff = counted.diff(&reduced);
    assert_eq!(most(&diff).0, ChangeSafety::Rebuild, "{diff}");
}

#[test]
fn open_windows_go_on_where_their_grace_changes_or_when_they_are_told() {
    let minutes = |count: u64| Duration::from_secs(60 * count);
    let windows = |grace: u64, on_close: bool| {
        topology(move |builder| {
            let windows = TimeWindows::of(minutes(10)).grace(minutes(grace));
            let grouped = orders(builder).group_by_key(Grouped::with(string(), string()));
            let windowed = grouped.windowed_by(windows);
            let windowed = if on_close { windowed.emit_on_close() } else { windowed };
            let counts = windowed.count(Materialized::named("counts"));
            let key = time_windowed(string(), minutes(10));
            counts.to_stream().to("counts", Produced::with(key, nullable(i64())));
        })
    };
    let order = |driver: &mut TopologyTestDriver, minute: i64| {
        let (key, value) = ("ann".to_owned(), "tea".to_owned());
        driver.pipe("orders", (&string(), &string()), (&key, &value), minute * 60_000).unwrap();
    };
    let told = |driver: &mut TopologyTestDriver| -> Vec<i64> {
        let rows = driver.read("counts", (&time_windowed(string(), minutes(10)), &i64()));
        rows.into_iter().map(|(_, count, _)| count.unwrap()).collect()
    };
    let mut driver = TopologyTestDriver::new(windows(0, false)).unwrap();
    order(&mut driver, 11);
    order(&mut driver, 12);
    assert_eq!(told(&mut driver), [1, 2]);
    // Segments are as long as the retention asks for, which has the grace.
    driver.upgrade(windows(10, false)).unwrap();
    order(&mut driver, 13);
    assert_eq!(told(&mut driver), [3]);
    // What is told on close is found by an index.
    driver.upgrade(windows(10, true)).unwrap();
    order(&mut driver, 30);
    assert_eq!(told(&mut driver), [3]);
}

#[test]
fn tasks_with_other_numbers_and_other_sources_need_all_instances_to_stop() {
    let old = described(|builder| {
        count(&orders(builder), Some("counts"), "counts");
    });
    let new = described(|builder| {
        let payments = builder.stream("payments", Consumed::with(string(), string()));
        count(&payments, Some("payments"), "paid");
        count(&orders(builder), Some("counts"), "counts");
    });
    let diff = old.diff(&new);
    assert_eq!(diff.safety(), ChangeSafety::Restart, "{diff}");
    let text = diff.to_string();
    for expected in [
        "sub-topology 0 becomes 1",
        "topic payments is read, too",
        "safe: store payments is new",
        "safe: topic paid is written, too",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

#[test]
fn another_application_shares_nothing() {
    let old = described(|builder| count(&orders(builder), Some("counts"), "counts"));
    let mut new = old.clone();
    new.application_id = "shop-2".to_owned();
    let diff = old.diff(&new);
    assert_eq!(most(&diff), (ChangeSafety::Rebuild, "application shop becomes shop-2"));
    assert_eq!(diff.changes.len(), 1);
}
