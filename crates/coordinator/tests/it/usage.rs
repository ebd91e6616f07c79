//! Who uses a topic: what is kept, how much of it, and what is forgotten.

use headwater_coordinator::*;

use crate::support::Bench;

fn sighting(topic: &str, principal: &str, client_id: &str, at: i64) -> UsageRecord {
    let of = Usage {
        topic: topic.into(),
        kind: UsageKind::Reader,
        principal: principal.into(),
        client_id: Some(client_id.into()),
        through: None,
    };
    UsageRecord { of, first_ms: at, last_ms: at }
}

fn see(bench: &mut Bench, seen: Vec<UsageRecord>) {
    assert!(matches!(bench.ask(Request::RecordUsage(seen)), Response::RecordUsage(_)));
}

fn described(bench: &mut Bench, topic: &str) -> DescribedUsage {
    match bench.ask(Request::DescribeUsage(topic.into())) {
        Response::DescribeUsage(usage) => usage,
        other => panic!("{other:?}"),
    }
}

#[test]
fn first_and_last_are_kept_over_a_restart_and_a_snapshot() {
    let mut bench = Bench::new();
    see(&mut bench, vec![sighting("orders", "User:a", "one", 50)]);
    see(&mut bench, vec![sighting("orders", "User:a", "one", 90), sighting("gone", "User:a", "one", 90)]);
    let before = described(&mut bench, "orders");
    assert_eq!(before.rows.iter().map(|row| (row.first_ms, row.last_ms)).collect::<Vec<_>>(), [(50, 90)]);
    assert!(described(&mut bench, "gone").rows.is_empty(), "there is no such topic");
    assert!(described(&mut bench, "order").rows.is_empty(), "a prefix is another topic");
    bench.restart();
    assert_eq!(described(&mut bench, "orders"), before);
    bench.log = bench.coordinator.snapshot();
    bench.restart();
    assert_eq!(described(&mut bench, "orders"), before);
}

#[test]
fn a_client_that_calls_itself_anew_each_time_gets_one_row_in_the_end() {
    let mut bench = Bench::new();
    let storm = |from: usize| (from..from + 500).map(|n| sighting("orders", "User:a", &format!("c{n}"), 7));
    see(&mut bench, storm(0).collect());
    see(&mut bench, vec![sighting("orders", "User:b", "quiet", 8)]);
    let usage = described(&mut bench, "orders");
    let of = |name: &str| usage.rows.iter().filter(|row| row.of.principal == name).collect::<Vec<_>>();
    assert_eq!(of("User:a").len(), MOST_CLIENTS + 1);
    assert_eq!(of("User:a").iter().filter(|row| row.of.client_id.is_none()).count(), 1);
    assert_eq!(of("User:b").len(), 1, "another principal has its own rows");
    assert_eq!(usage.dropped, 0);
}

#[test]
fn what_finds_no_room_is_counted() {
    let mut bench = Bench::new();
    let many = (0..MOST_ROWS + 300).map(|n| sighting("orders", &format!("User:{n}"), "c", 7));
    see(&mut bench, many.collect());
    let usage = described(&mut bench, "orders");
    assert_eq!((usage.rows.len(), usage.dropped), (MOST_ROWS, 300));
    see(&mut bench, vec![sighting("orders", "User:0", "c", 9)]);
    assert_eq!(described(&mut bench, "orders").dropped, 300, "who has a row keeps it");
}

#[test]
fn who_is_not_seen_for_long_is_forgotten_and_so_is_a_deleted_topic() {
    let mut bench = Bench::new();
    bench.now += KEPT_MS;
    let now = bench.now;
    see(&mut bench, vec![sighting("orders", "User:a", "old", now), sighting("orders", "User:a", "new", now)]);
    bench.now += KEPT_MS / 2;
    let later = bench.now;
    see(&mut bench, vec![sighting("orders", "User:a", "new", later)]);
    bench.now += KEPT_MS / 2 + 1;
    see(&mut bench, Vec::new());
    let names =
        |usage: DescribedUsage| usage.rows.into_iter().filter_map(|row| row.of.client_id).collect::<Vec<_>>();
    assert_eq!(names(described(&mut bench, "orders")), ["new"]);
    bench.restart();
    assert_eq!(names(described(&mut bench, "orders")), ["new"]);
    bench.ask(Request::DeleteTopics(vec![TopicRef::Name("orders".into())]));
    assert!(described(&mut bench, "orders").rows.is_empty());
    bench.restart();
    assert!(described(&mut bench, "orders").rows.is_empty());
}
