//! Records whose value is null by their serde, at the doors of joins and groupings: what came before a commit and what came
//! after it are the same.

use headwater_streams::serdes::{nullable, string};
use headwater_streams::{
    Consumed, Grouped, JoinWindows, Joined, Materialized, Produced, StreamJoined, StreamsBuilder,
    TopologyTestDriver,
};

use crate::support::{driver, ms, text, texts, tombstone};

type Text = Option<String>;

fn shown(value: &Text) -> &str {
    value.as_deref().unwrap_or("null")
}

/// Joined pairs, with `null` where a null was handed to the join, and `none` where there was no partner.
fn of_streams(kind: &str) -> TopologyTestDriver {
    let builder = StreamsBuilder::new("app");
    let stream = |topic| builder.stream(topic, Consumed::with(string(), nullable(string())));
    let (left, right) = (stream("left"), stream("right"));
    let options = StreamJoined::with(string(), nullable(string()), nullable(string()));
    let pair = |left: Option<&Text>, right: Option<&Text>| {
        format!("{}+{}", left.map_or("none", shown), right.map_or("none", shown))
    };
    let windows = JoinWindows::of(ms(10));
    let joined = match kind {
        "inner" => left.join_stream(&right, move |l, r| pair(Some(l), Some(r)), windows, options),
        "left" => left.left_join_stream(&right, move |l, r| pair(Some(l), r), windows, options),
        _ => left.outer_join_stream(&right, pair, windows, options),
    };
    joined.to("out", Produced::with(string(), string()));
    driver(builder)
}

#[test]
fn null_values_join_with_nothing_in_joins_of_streams_before_a_commit_as_after_it() {
    let alone = ["k=l+none@3", "k=none+r@30"];
    for (kind, expected) in [("inner", &[][..]), ("left", &alone[..1]), ("outer", &alone[..])] {
        for commits in [true, false] {
            let mut driver = of_streams(kind);
            driver.manual_commit();
            tombstone(&mut driver, "left", "k", 1);
            if commits {
                driver.commit().unwrap();
            }
            tombstone(&mut driver, "right", "k", 2);
            text(&mut driver, "left", "k", "l", 3);
            if commits {
                driver.commit().unwrap();
            }
            tombstone(&mut driver, "right", "k", 4);
            text(&mut driver, "right", "k", "r", 30);
            // Both sides are past all windows, and neither of these has a key that waits.
            text(&mut driver, "left", "other", "l", 100);
            text(&mut driver, "right", "other", "r", 130);
            driver.commit().unwrap();
            let told: Vec<String> =
                texts(&mut driver, "out").into_iter().filter(|told| told.starts_with("k=")).collect();
            assert_eq!(told, expected, "{kind}, commits: {commits}");
            assert_eq!(driver.metrics().skipped_null_value, 3);
        }
    }
}

fn with_table(grace: bool, left: bool) -> TopologyTestDriver {
    let builder = StreamsBuilder::new("app");
    let options = Materialized::with("rows", string(), string()).versioned(ms(1_000));
    let rows = builder.table("rows", Consumed::with(string(), string()), options);
    let stream = builder.stream("in", Consumed::with(string(), nullable(string())));
    let options = Joined::with(string(), nullable(string()));
    let options = if grace { options.grace(ms(10)) } else { options };
    let joined = if left {
        stream.left_join(
            &rows,
            |value, row| format!("{}+{}", shown(&value), row.map_or("none", String::as_str)),
            options,
        )
    } else {
        stream.join(&rows, |value, row| format!("{}+{row}", shown(&value)), options)
    };
    joined.to("out", Produced::with(string(), string()));
    driver(builder)
}

#[test]
fn null_values_are_skipped_in_joins_with_tables_with_grace_and_without() {
    for (grace, left) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut driver = with_table(grace, left);
        text(&mut driver, "rows", "k", "r", 0);
        tombstone(&mut driver, "in", "k", 1);
        text(&mut driver, "in", "k", "v", 2);
        text(&mut driver, "rows", "k", "r", 100);
        text(&mut driver, "in", "k", "w", 100);
        text(&mut driver, "in", "k", "x", 200);
        let told = texts(&mut driver, "out");
        assert_eq!(told[..2], ["k=v+r@2", "k=w+r@100"], "grace: {grace}, left: {left}");
        assert_eq!(driver.metrics().skipped_null_value, 1);
    }
}

#[test]
fn null_values_are_skipped_in_joins_with_global_tables() {
    let builder = StreamsBuilder::new("app");
    let rows = builder.global_table("rows", Consumed::with(string(), string()), Materialized::new());
    builder
        .stream("in", Consumed::with(string(), nullable(string())))
        .left_join_global(&rows, |key, _| Some(key.clone()), |value, _| shown(&value).to_owned())
        .to("out", Produced::with(string(), string()));
    let mut driver = driver(builder);
    tombstone(&mut driver, "in", "k", 1);
    text(&mut driver, "in", "k", "v", 2);
    assert_eq!(texts(&mut driver, "out"), ["k=v@2"]);
    assert_eq!(driver.metrics().skipped_null_value, 1);
}

#[test]
fn a_row_whose_value_is_null_is_in_no_group() {
    let builder = StreamsBuilder::new("app");
    let rows = builder.table("rows", Consumed::with(string(), string()), Materialized::new());
    // `-` has no value.
    let value = |row: &String| (row != "-").then(|| row.clone());
    rows.group_by(move |_, row| ("g".to_owned(), value(row)), Grouped::with(string(), nullable(string())))
        .count(Materialized::with("counts", string(), headwater_streams::serdes::i64()))
        .map_values(|count| count.to_string())
        .to_stream()
        .to("out", Produced::with(string(), nullable(string())));
    let mut driver = driver(builder);
    let mut told = |key: &str, row: &str| {
        text(&mut driver, "rows", key, row, 0);
        texts(&mut driver, "out")
    };
    assert!(told("a", "-").is_empty(), "from nothing to nothing");
    assert_eq!(told("a", "x"), ["g=1@0"]);
    assert!(told("b", "-").is_empty());
    assert_eq!(told("a", "-"), ["g=0@0"], "it leaves its group");
    assert!(told("a", "-").is_empty(), "it has left");
}
