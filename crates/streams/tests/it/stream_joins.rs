//! Joins of two streams.

use std::sync::atomic::Ordering;

use headwater_streams::serdes::string;
use headwater_streams::{
    Consumed, JoinWindows, KStream, Produced, StreamJoined, StreamsBuilder, TopologyTestDriver,
};

use crate::support::*;

fn joined() -> StreamJoined<String, String, String> {
    StreamJoined::with(string(), string(), string()).named("pair")
}

fn side(value: Option<&String>) -> &str {
    value.map_or("_", |v| v)
}

type Stream = KStream<String, String>;

fn join(make: impl FnOnce(&Stream, &Stream) -> Stream) -> TopologyTestDriver {
    let builder = StreamsBuilder::new("app");
    let left = builder.stream("left", Consumed::with(string(), string()));
    let right = builder.stream("right", Consumed::with(string(), string()));
    make(&left, &right).to("out", Produced::with(string(), string()));
    driver(builder)
}

#[test]
fn records_join_within_the_window_in_either_order_at_the_later_time() {
    let windows = JoinWindows::of(ms(10)).grace(ms(100));
    let mut driver = join(|l, r| l.join_stream(r, |a, b| format!("{a}{b}"), windows, joined()));
    text(&mut driver, "left", "k", "a", 0);
    text(&mut driver, "right", "k", "x", 10);
    text(&mut driver, "right", "k", "y", 11);
    text(&mut driver, "left", "k", "b", 5);
    text(&mut driver, "right", "other", "z", 5);
    assert_eq!(texts(&mut driver, "out"), ["k=ax@10", "k=bx@10", "k=by@11"]);
}

#[test]
fn windows_may_reach_further_one_way() {
    let windows = JoinWindows::of(ms(0)).after(ms(10));
    let mut driver = join(|l, r| l.join_stream(r, |a, b| format!("{a}{b}"), windows, joined()));
    text(&mut driver, "left", "k", "a", 0);
    text(&mut driver, "right", "k", "x", 10);
    text(&mut driver, "left", "k", "b", 11);
    assert_eq!(texts(&mut driver, "out"), ["k=ax@10"]);
}

#[test]
fn equal_times_are_kept_apart_across_a_restart() {
    let windows = JoinWindows::of(ms(10));
    let mut driver = join(|l, r| l.join_stream(r, |a, b| format!("{a}{b}"), windows, joined()));
    text(&mut driver, "left", "k", "a", 5);
    driver.crash_and_wipe().unwrap();
    text(&mut driver, "left", "k", "b", 5);
    text(&mut driver, "right", "k", "x", 5);
    assert_eq!(texts(&mut driver, "out"), ["k=ax@5", "k=bx@5"]);
}

#[test]
fn a_left_record_without_partner_comes_when_its_window_has_closed() {
    let windows = JoinWindows::of(ms(10)).grace(ms(5));
    let mut driver = join(|l, r| l.left_join_stream(r, |a, b| format!("{a}{}", side(b)), windows, joined()));
    text(&mut driver, "left", "k", "a", 0);
    text(&mut driver, "left", "k", "b", 3);
    text(&mut driver, "right", "k", "x", 13);
    assert_eq!(texts(&mut driver, "out"), ["k=bx@13"]);
    text(&mut driver, "left", "other", "c", 15);
    assert!(texts(&mut driver, "out").is_empty());
    driver.crash_and_wipe().unwrap();
    text(&mut driver, "right", "other", "y", 16);
    assert_eq!(texts(&mut driver, "out"), ["other=cy@16"]);
    // The left side is not past it before now.
    text(&mut driver, "left", "any", "d", 16);
    assert_eq!(texts(&mut driver, "out"), ["k=a_@0"]);
}

#[test]
fn an_outer_join_gives_both_sides_alone() {
    let windows = JoinWindows::of(ms(10));
    let mut driver =
        join(|l, r| l.outer_join_stream(r, |a, b| format!("{}{}", side(a), side(b)), windows, joined()));
    text(&mut driver, "left", "k", "a", 0);
    text(&mut driver, "right", "j", "x", 1);
    text(&mut driver, "left", "late", "z", 30);
    // The other side may still bring a partner.
    assert!(texts(&mut driver, "out").is_empty());
    text(&mut driver, "right", "late", "w", 30);
    assert_eq!(texts(&mut driver, "out"), ["k=a_@0", "j=_x@1", "late=zw@30"]);
    // Its window has closed already, so it need not wait.
    text(&mut driver, "right", "k", "y", 5);
    assert_eq!(texts(&mut driver, "out"), ["k=_y@5"]);
}

#[test]
fn what_waits_for_a_partner_is_not_read_again_with_every_record() {
    let windows = JoinWindows::of(ms(0)).after(ms(300));
    for outer in [false, true] {
        let builder = StreamsBuilder::new("app");
        let left = builder.stream("left", Consumed::with(string(), string()));
        let right = builder.stream("right", Consumed::with(string(), string()));
        let pairs = match outer {
            true => {
                left.outer_join_stream(&right, |a, b| format!("{}{}", side(a), side(b)), windows, joined())
            }
            false => left.left_join_stream(&right, |a, b| format!("{a}{}", side(b)), windows, joined()),
        };
        pairs.to("out", Produced::with(string(), string()));
        let mut task = Counting::new(builder);
        let written: usize =
            (0..500_i64).map(|time| task.step(&["left", "right"], &time.to_string(), time)).sum();
        // Of the left side those that are older than 300 ms by now, of the right one all but the last.
        assert_eq!(written, if outer { 199 + 499 } else { 199 });
        let (read, from_the_start) = (&task.asked.read, &task.asked.from_the_start);
        let (read, from_the_start) = (read.load(Ordering::Relaxed), from_the_start.load(Ordering::Relaxed));
        assert!(read < 5_000, "{read} entries were read for 1,000 records");
        assert!(from_the_start < 5, "{from_the_start} times from the start");
    }
}
