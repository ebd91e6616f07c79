//! Tables: updates, tombstones, taking back, joins.

use headwater_model::TopicPartition;
use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    Consumed, DeserializationHandler, GlobalKTable, Grouped, Joined, KTable, KeyQuery, Materialized,
    OffsetReset, Produced, Query, RangeQuery, StreamsBuilder, TopologyError, TopologyTestDriver,
};

use crate::support::*;

fn table(builder: &StreamsBuilder, topic: &str) -> KTable<String, String> {
    builder.table(topic, Consumed::with(string(), string()), Materialized::named(format!("{topic}-store")))
}

fn out() -> Produced<String, String> {
    Produced::with(string(), string())
}

#[test]
fn a_table_follows_updates_and_tombstones_in_offset_order() {
    let builder = StreamsBuilder::new("app");
    let options = Materialized::named("rows").json();
    let rows = builder.table("in", Consumed::with(string(), string()), options);
    rows.to("out", out());
    let mut driver = driver(builder);
    text(&mut driver, "in", "k", "new", 10);
    text(&mut driver, "in", "k", "older", 5);
    assert_eq!(driver.metrics().out_of_order_table_updates, 1);
    let query = Query::Key(KeyQuery { key: "k".to_owned() });
    let rows = driver.query("rows", &query).unwrap().unwrap();
    assert_eq!((rows[0]["value"].as_str(), rows[0]["timestamp"].as_i64()), (Some("older"), Some(5)));
    tombstone(&mut driver, "in", "k", 11);
    assert!(driver.query("rows", &query).unwrap().unwrap().is_empty());
    assert_eq!(texts(&mut driver, "out"), ["k=new@10", "k=older@5", "k=-@11"]);
    // The source topic is the changelog.
    assert!(driver.internal_topics().is_empty());
}

#[test]
fn what_is_skipped_for_its_time_is_not_in_a_restored_table_either() {
    let builder = StreamsBuilder::new("app");
    builder.table("in", Consumed::with(string(), string()), Materialized::named("rows").json());
    let mut driver = driver(builder);
    text(&mut driver, "in", "k", "a", 5);
    text(&mut driver, "in", "k", "b", -1);
    for _ in 0..2 {
        let query = Query::Key(KeyQuery { key: "k".to_owned() });
        let rows = driver.query("rows", &query).unwrap().unwrap();
        assert_eq!(rows[0]["value"], "a");
        driver.crash_and_wipe().unwrap();
    }
}

#[test]
fn a_table_has_a_changelog_beside_its_topic_where_that_is_asked_for_or_the_topic_is_not_all_of_it() {
    let builder = StreamsBuilder::new("app");
    let strings = || Consumed::with(string(), string());
    builder.table("in", strings(), Materialized::named("rows").json().own_changelog());
    builder.table("new", strings().offset_reset(OffsetReset::Latest), Materialized::named("late"));
    builder.table("whole", strings(), Materialized::named("whole"));
    let topology = builder.build().unwrap();
    assert_eq!(topology.offset_resets(), [("new".to_owned(), OffsetReset::Latest)].into());
    let mut driver = TopologyTestDriver::new(topology).unwrap();
    let internal: Vec<&str> = driver.internal_topics().iter().map(|topic| topic.name.as_str()).collect();
    assert_eq!(internal, ["app-rows-changelog", "app-late-changelog"]);
    text(&mut driver, "in", "k", "a", 5);
    driver.crash_and_wipe().unwrap();
    let query = Query::Key(KeyQuery { key: "k".to_owned() });
    let rows = driver.query("rows", &query).unwrap().unwrap();
    assert_eq!((rows[0]["value"].as_str(), rows[0]["timestamp"].as_i64()), (Some("a"), Some(5)));
    assert_eq!(driver.log(&TopicPartition::new("app-rows-changelog", 0)).len(), 1);
}

#[test]
fn a_range_of_keys_is_answered_in_order() {
    let builder = StreamsBuilder::new("app");
    builder.table("in", Consumed::with(string(), string()), Materialized::named("rows").json());
    let mut driver = driver(builder);
    for key in ["c", "a", "d", "b"] {
        text(&mut driver, "in", key, key, 0);
    }
    let bounds = |from: &str, to: &str, limit| {
        Query::Range(RangeQuery { from: Some(from.to_owned()), to: Some(to.to_owned()), limit })
    };
    let keys = |rows: Vec<serde_json::Value>| {
        rows.iter().map(|r| r["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(keys(driver.query("rows", &bounds("b", "d", 9)).unwrap().unwrap()), ["b", "c", "d"]);
    assert_eq!(keys(driver.query("rows", &bounds("b", "d", 1)).unwrap().unwrap()), ["b"]);
    assert!(driver.query("rows", &bounds("d", "b", 9)).unwrap().unwrap().is_empty());
}

#[test]
fn a_row_that_leaves_a_filter_is_deleted() {
    let builder = StreamsBuilder::new("app");
    table(&builder, "in").filter(|_, v| v.len() > 1).map_values(|v| v.to_uppercase()).to("out", out());
    let mut driver = driver(builder);
    text(&mut driver, "in", "k", "a", 0);
    text(&mut driver, "in", "k", "ab", 1);
    text(&mut driver, "in", "k", "b", 2);
    text(&mut driver, "in", "k", "c", 3);
    assert_eq!(texts(&mut driver, "out"), ["k=AB@1", "k=-@2"]);
}

#[test]
fn rows_that_a_filter_does_not_want_are_those_that_its_opposite_keeps() {
    let builder = StreamsBuilder::new("app");
    let rows = table(&builder, "in");
    rows.filter_not(|_, value| value.len() > 1).to("short", out());
    let mut driver = driver(builder);
    for (value, time) in [("a", 0), ("ab", 1), ("abc", 2), ("b", 3)] {
        text(&mut driver, "in", "k", value, time);
    }
    assert_eq!(texts(&mut driver, "short"), ["k=a@0", "k=-@1", "k=b@3"]);
}

fn routes() -> TopologyTestDriver {
    let builder = StreamsBuilder::new("app");
    builder
        .table("flights", Consumed::with(string(), i64()), Materialized::named("flights"))
        .group_by(
            |flight, delay| (flight[..3].to_owned(), *delay),
            Grouped::with(string(), i64()).named("route"),
        )
        .aggregate(
            || 0,
            |_, delay, sum| sum + delay,
            |_, delay, sum| sum - delay,
            Materialized::with("delays", string(), i64()),
        )
        .to("out", Produced::with(string(), i64()));
    driver(builder)
}

#[test]
fn a_corrected_value_is_taken_back_and_a_tombstone_subtracts() {
    let mut driver = routes();
    number(&mut driver, "flights", "JFK1", 10, 0);
    number(&mut driver, "flights", "JFK2", 5, 1);
    number(&mut driver, "flights", "JFK1", 3, 2);
    tombstone(&mut driver, "flights", "JFK2", 3);
    assert_eq!(numbers(&mut driver, "out"), ["JFK=10@0", "JFK=15@1", "JFK=8@2", "JFK=3@3"]);
    tombstone(&mut driver, "flights", "never", 4);
    assert!(numbers(&mut driver, "out").is_empty());
}

#[test]
fn a_row_that_changes_its_group_leaves_the_old_one_first() {
    let builder = StreamsBuilder::new("app");
    table(&builder, "in")
        .group_by(|_, v| (v.clone(), v.clone()), Grouped::with(string(), string()))
        .count(Materialized::named("counts"))
        .to("out", Produced::with(string(), i64()));
    let mut driver = driver(builder);
    text(&mut driver, "in", "a", "red", 0);
    text(&mut driver, "in", "b", "red", 1);
    text(&mut driver, "in", "a", "blue", 2);
    text(&mut driver, "in", "b", "red", 3);
    assert_eq!(numbers(&mut driver, "out"), ["red=1@0", "red=2@1", "red=1@2", "blue=1@2", "red=1@3"]);
}

#[test]
fn changes_tell_what_a_row_was_before() {
    let builder = StreamsBuilder::new("app");
    let show = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let changes = table(&builder, "in").filter(|_, v| v != "hidden").changes();
    changes.map_values(move |change| format!("{}>{}", show(change.old), show(change.new))).to("out", out());
    let mut driver = driver(builder);
    for value in ["a", "b", "hidden", "hidden", "c"] {
        text(&mut driver, "in", "k", value, 0);
    }
    tombstone(&mut driver, "in", "k", 1);
    assert_eq!(texts(&mut driver, "out"), ["k=->a@0", "k=a>b@0", "k=b>-@0", "k=->c@0", "k=c>-@1"]);
}

#[test]
fn reducing_a_table_uses_the_subtractor() {
    let builder = StreamsBuilder::new("app");
    builder
        .table("in", Consumed::with(string(), i64()), Materialized::new())
        .group_by(|_, v| ("all".to_owned(), *v), Grouped::with(string(), i64()))
        .reduce(|sum, v| sum + v, |sum, v| sum - v, Materialized::named("sum"))
        .to("out", Produced::with(string(), i64()));
    let mut driver = driver(builder);
    number(&mut driver, "in", "a", 7, 5);
    number(&mut driver, "in", "b", 2, 1);
    number(&mut driver, "in", "a", 1, 2);
    assert_eq!(numbers(&mut driver, "out"), ["all=7@5", "all=9@5", "all=3@5"]);
}

#[test]
fn inner_table_joins_need_both_rows() {
    let builder = StreamsBuilder::new("app");
    let (left, right) = (table(&builder, "left"), table(&builder, "right"));
    left.join(&right, |l, r| format!("{l}{r}")).to("out", out());
    let mut driver = driver(builder);
    text(&mut driver, "left", "k", "a", 5);
    text(&mut driver, "right", "k", "x", 3);
    text(&mut driver, "right", "k", "y", 6);
    tombstone(&mut driver, "left", "k", 7);
    tombstone(&mut driver, "right", "k", 8);
    assert_eq!(texts(&mut driver, "out"), ["k=ax@5", "k=ay@6", "k=-@7"]);
}

#[test]
fn left_table_joins_keep_left_rows_and_outer_joins_keep_both() {
    let builder = StreamsBuilder::new("app");
    let (left, right) = (table(&builder, "left"), table(&builder, "right"));
    let side = |v: Option<&String>| v.cloned().unwrap_or_else(|| "_".to_owned());
    left.left_join(&right, move |l, r| format!("{l}{}", side(r))).to("kept-left", out());
    left.outer_join(&right, move |l, r| format!("{}{}", side(l), side(r))).to("kept-both", out());
    let mut driver = driver(builder);
    text(&mut driver, "right", "k", "x", 0);
    text(&mut driver, "left", "k", "a", 1);
    tombstone(&mut driver, "right", "k", 2);
    tombstone(&mut driver, "left", "k", 3);
    assert_eq!(texts(&mut driver, "kept-left"), ["k=ax@1", "k=a_@2", "k=-@3"]);
    assert_eq!(texts(&mut driver, "kept-both"), ["k=_x@0", "k=ax@1", "k=a_@2", "k=-@3"]);
}

#[test]
fn an_aggregate_over_a_join_takes_back_what_either_side_changed() {
    let builder = StreamsBuilder::new("app");
    let (left, right) = (table(&builder, "left"), table(&builder, "right"));
    left.join(&right, |l, r| format!("{l}{r}"))
        .group_by(|_, v| ("all".to_owned(), v.len() as i64), Grouped::with(string(), i64()).named("all"))
        .reduce(|sum, v| sum + v, |sum, v| sum - v, Materialized::named("sum"))
        .to("out", Produced::with(string(), i64()));
    let mut driver = driver(builder);
    text(&mut driver, "left", "k", "aa", 0);
    text(&mut driver, "right", "k", "x", 0);
    text(&mut driver, "right", "k", "xxx", 0);
    text(&mut driver, "left", "k", "a", 0);
    tombstone(&mut driver, "left", "k", 0);
    assert_eq!(numbers(&mut driver, "out"), ["all=3@0", "all=5@0", "all=4@0", "all=0@0"]);
}

#[test]
fn a_stream_joins_the_row_of_its_time_of_processing() {
    let builder = StreamsBuilder::new("app");
    let rows = table(&builder, "rows");
    let stream = builder.stream("in", Consumed::with(string(), string()));
    stream.join(&rows, |v, row| format!("{v}{row}"), Joined::new()).to("inner", out());
    let left = stream.left_join(&rows, |v, row| format!("{v}{}", row.map_or("_", |r| r)), Joined::new());
    left.to("left", out());
    let mut driver = driver(builder);
    text(&mut driver, "in", "k", "1", 0);
    text(&mut driver, "rows", "k", "a", 1);
    text(&mut driver, "in", "k", "2", 2);
    tombstone(&mut driver, "rows", "k", 3);
    text(&mut driver, "in", "k", "3", 4);
    assert_eq!(texts(&mut driver, "inner"), ["k=2a@2"]);
    assert_eq!(texts(&mut driver, "left"), ["k=1_@0", "k=2a@2", "k=3_@4"]);
}

#[test]
fn a_stream_with_a_new_key_is_repartitioned_before_it_joins_a_table() {
    let builder = StreamsBuilder::new("app");
    let rows = table(&builder, "rows");
    builder
        .stream("in", Consumed::with(string(), string()))
        .select_key(|_, v| v.clone())
        .join(&rows, |v, row| format!("{v}{row}"), Joined::new().named("enrich"))
        .to("out", out());
    let mut driver =
        TopologyTestDriver::with_partitions(builder.build().unwrap(), &|t| if t == "rows" { 3 } else { 2 });
    let driver = driver.as_mut().unwrap();
    let topic = &driver.internal_topics()[0];
    assert_eq!((topic.name.as_str(), topic.partitions), ("app-enrich-repartition", 3));
    for n in 0..20 {
        text(driver, "rows", &format!("r{n}"), "!", 0);
        text(driver, "in", "any", &format!("r{n}"), 1);
    }
    assert_eq!(texts(driver, "out").len(), 20);
}

#[test]
fn global_rows_are_found_by_any_key_and_cause_no_output() {
    let builder = StreamsBuilder::new("app");
    let planes: GlobalKTable<String, String> = builder.global_table(
        "planes",
        Consumed::with(string(), string()),
        Materialized::named("planes").json(),
    );
    let stream = builder.stream("in", Consumed::with(string(), string()));
    let tail = |_: &String, v: &String| (v != "none").then(|| v.clone());
    stream.join_global(&planes, tail, |v, plane| format!("{v}:{plane}")).to("inner", out());
    stream
        .left_join_global(&planes, tail, |v, plane| format!("{v}:{}", plane.map_or("_", |p| p)))
        .to("left", out());
    let mut driver = TopologyTestDriver::with_partitions(builder.build().unwrap(), &|_| 4).unwrap();
    text(&mut driver, "planes", "N1", "737", 0);
    for value in ["N1", "N2", "none"] {
        text(&mut driver, "in", "k", value, 1);
    }
    tombstone(&mut driver, "planes", "N1", 2);
    text(&mut driver, "in", "k", "N1", 3);
    assert_eq!(texts(&mut driver, "inner"), ["k=N1:737@1"]);
    assert_eq!(texts(&mut driver, "left"), ["k=N1:737@1", "k=N2:_@1", "k=none:_@1", "k=N1:_@3"]);
    assert!(
        driver.query("planes", &Query::Key(KeyQuery { key: "N1".to_owned() })).unwrap().unwrap().is_empty()
    );
}

fn global_with(handler: Option<DeserializationHandler>) -> Result<TopologyTestDriver, TopologyError> {
    let builder = StreamsBuilder::new("app");
    let consumed = Consumed::with(string(), i64());
    let consumed = match handler {
        Some(handler) => consumed.deserialization_handler(handler),
        None => consumed,
    };
    let sizes = builder.global_table("sizes", consumed, Materialized::named("sizes"));
    builder
        .stream("in", Consumed::with(string(), string()))
        .join_global(&sizes, |key, _| Some(key.clone()), |value, size| format!("{value}{size}"))
        .to("out", out());
    TopologyTestDriver::with_partitions(builder.build()?, &|_| 1)
}

#[test]
fn a_global_row_that_does_not_decode_is_an_error_unless_its_handler_leaves_it_out() {
    let bad = |driver: &mut TopologyTestDriver| {
        number(driver, "sizes", "a", 1, 0);
        driver.pipe_input("sizes", Some("a".into()), Some("bad".into()), 1)
    };
    for handler in [None, Some(DeserializationHandler::Fail)] {
        let error = bad(&mut global_with(handler).unwrap()).unwrap_err();
        let told = error.to_string();
        assert!(told.contains("value of sizes/0 offset 1 in \"sizes\""), "{told}");
    }
    let mut driver = global_with(Some(DeserializationHandler::Continue)).unwrap();
    bad(&mut driver).unwrap();
    text(&mut driver, "in", "a", "v", 2);
    assert_eq!(texts(&mut driver, "out"), ["a=v1@2"], "the row before it holds");
}

#[test]
fn a_handler_that_no_global_table_can_heed_is_refused_with_what_to_do() {
    let dead = DeserializationHandler::DeadLetter("dead".to_owned());
    for handler in [dead.clone(), DeserializationHandler::Quarantine] {
        let refused = global_with(Some(handler)).err().unwrap().to_string();
        assert!(refused.contains("\"sizes\"") && refused.contains("or Continue"), "{refused}");
    }
    // The rule of all is one, too, unless the table has its own.
    let under = |own: Option<DeserializationHandler>| {
        let mut builder = StreamsBuilder::new("app");
        builder.deserialization_handler(dead.clone());
        let mut consumed = Consumed::with(string(), i64());
        if let Some(own) = own {
            consumed = consumed.deserialization_handler(own);
        }
        builder.global_table("sizes", consumed, Materialized::named("sizes"));
        builder.build().map(drop)
    };
    assert!(under(None).is_err());
    assert!(under(Some(DeserializationHandler::Continue)).is_ok());
}

#[test]
fn a_stream_becomes_a_table_and_a_derived_table_can_be_kept() {
    let builder = StreamsBuilder::new("app");
    let rows = builder
        .stream("in", Consumed::with(string(), string()))
        .to_table(Materialized::named("latest").json());
    rows.map_values(|v| v.len() as i64)
        .materialized(Materialized::named("lengths").value_serde(i64()).json());
    let mut driver = driver(builder);
    text(&mut driver, "in", "k", "abc", 4);
    let query = Query::Key(KeyQuery { key: "k".to_owned() });
    assert_eq!(driver.query("latest", &query).unwrap().unwrap()[0]["value"], "abc");
    assert_eq!(driver.query("lengths", &query).unwrap().unwrap()[0]["value"], 3);
    assert_eq!(driver.log(&TopicPartition::new("app-latest-changelog", 0))[0].timestamp, 4);
}

#[test]
fn a_store_may_have_another_serde_than_the_topic_that_is_its_log() {
    let builder = StreamsBuilder::new("app");
    let options = Materialized::named("rows").value_serde(headwater_streams::serdes::json()).json();
    builder.table("in", Consumed::with(string(), string()), options);
    let mut driver = driver(builder);
    text(&mut driver, "in", "k", "not \"JSON\"", 0);
    driver.crash_and_wipe().unwrap();
    let query = Query::Key(KeyQuery { key: "k".to_owned() });
    assert_eq!(driver.query("rows", &query).unwrap().unwrap()[0]["value"], "not \"JSON\"");
}
