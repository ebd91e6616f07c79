//! Calls of services: how many at once, in which order, again when they fail, and each result once whatever crashes.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    Called, Consumed, Grouped, Materialized, ProcessingHandler, Produced, StreamsBuilder, TimeWindows,
    TopologyTestDriver,
};
use proptest::prelude::*;

use crate::support::*;

/// A service that answers when the test says so.
#[derive(Default)]
struct State {
    /// Requests in the order they were made, with what they were answered.
    requests: Vec<(String, Option<Result<i64, String>>)>,
}

#[derive(Clone, Default)]
struct Service(Arc<Mutex<State>>);

impl Service {
    fn request(&self, value: String) -> impl Future<Output = Result<i64, String>> + Send + use<> {
        let place = {
            let mut state = self.0.lock().unwrap();
            state.requests.push((value, None));
            state.requests.len() - 1
        };
        let service = self.clone();
        poll_fn(move |_| match service.0.lock().unwrap().requests[place].1.clone() {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        })
    }

    /// The requests that are open, by their place.
    fn open(&self) -> Vec<(usize, String)> {
        let state = self.0.lock().unwrap();
        let requests = state.requests.iter().enumerate();
        requests
            .filter(|(_, (_, answer))| answer.is_none())
            .map(|(at, (value, _))| (at, value.clone()))
            .collect()
    }

    fn names(&self) -> Vec<String> {
        self.open().into_iter().map(|(_, value)| value).collect()
    }

    fn answer(&self, value: &str, answer: Result<i64, &str>) {
        let (place, _) = self.open().into_iter().find(|(_, open)| open == value).expect("it is asked");
        self.0.lock().unwrap().requests[place].1 = Some(answer.map_err(str::to_owned));
    }
}

fn started(
    service: &Service,
    handler: ProcessingHandler,
    called: Called<String, String>,
) -> TopologyTestDriver {
    let service = service.clone();
    let mut builder = StreamsBuilder::new("app");
    builder.processing_handler(handler);
    builder
        .stream("in", Consumed::with(string(), string()))
        .call(move |_, value| service.request(value), called)
        .to("out", Produced::with(string(), i64()));
    driver(builder)
}

fn go_on(driver: &mut TopologyTestDriver, by: u64) {
    driver.advance_time(ms(by)).unwrap();
}

#[test]
fn calls_of_a_key_come_one_after_the_other_and_so_do_results() {
    let service = Service::default();
    let mut driver = started(&service, ProcessingHandler::Fail, Called::named("ask").max_in_flight(2));
    for (key, value) in [("a", "a1"), ("a", "a2"), ("b", "b1"), ("c", "c1")] {
        text(&mut driver, "in", key, value, 7);
    }
    assert_eq!(service.names(), ["a1", "b1"]);
    service.answer("b1", Ok(1));
    go_on(&mut driver, 0);
    assert_eq!(numbers(&mut driver, "out"), ["b=1@7"]);
    assert_eq!((service.names(), driver.calls_under_way()), (vec!["a1".to_owned(), "c1".to_owned()], 3));
    service.answer("c1", Ok(2));
    service.answer("a1", Ok(3));
    go_on(&mut driver, 0);
    service.answer("a2", Ok(4));
    go_on(&mut driver, 0);
    assert_eq!(numbers(&mut driver, "out"), ["a=3@7", "c=2@7", "a=4@7"]);
    assert_eq!(driver.metrics().calls, 4);
}

#[test]
fn unordered_ones_go_on_as_they_come_and_input_waits_when_too_many_wait() {
    let service = Service::default();
    let called = Called::named("ask").unordered().max_in_flight(2).max_waiting(3);
    let mut driver = started(&service, ProcessingHandler::Fail, called);
    for value in ["1", "2", "3", "4", "5"] {
        text(&mut driver, "in", "a", value, 0);
    }
    assert_eq!((service.names().len(), driver.calls_under_way()), (2, 3));
    service.answer("2", Ok(2));
    go_on(&mut driver, 0);
    assert_eq!(numbers(&mut driver, "out"), ["a=2@0"]);
    assert_eq!(driver.calls_under_way(), 3, "another one is taken");
    for value in ["1", "3", "4", "5"] {
        service.answer(value, Ok(0));
        go_on(&mut driver, 0);
    }
    assert_eq!((numbers(&mut driver, "out").len(), driver.calls_under_way()), (4, 0));
}

#[test]
fn what_fails_or_takes_too_long_is_asked_again_later_and_then_given_to_the_handler() {
    let service = Service::default();
    let called = || Called::named("ask").timeout(ms(1_000)).retries(2, ms(100));
    let handler = ProcessingHandler::DeadLetter("dead".to_owned());
    let mut driver = started(&service, handler, called());
    text(&mut driver, "in", "a", "x", 0);
    text(&mut driver, "in", "a", "y", 0);
    service.answer("x", Err("busy"));
    go_on(&mut driver, 0);
    go_on(&mut driver, 99);
    assert_eq!(service.names(), Vec::<String>::new());
    go_on(&mut driver, 1);
    assert_eq!(service.names(), ["x"]);
    // No answer; and the next attempt comes after twice the time.
    go_on(&mut driver, 1_000);
    go_on(&mut driver, 199);
    assert_eq!(driver.metrics().calls, 2);
    go_on(&mut driver, 1);
    assert_eq!(service.names().len(), 2, "the first of them nobody waits for");
    go_on(&mut driver, 1_000);
    let letters = driver.read_output("dead");
    assert_eq!((letters.len(), letters[0].value.as_deref()), (1, Some(&b"x"[..])));
    let message = letters[0].headers.iter().find(|h| h.key == "__streams.errors.message").unwrap();
    let message = String::from_utf8_lossy(message.value.as_ref().unwrap()).into_owned();
    assert!(message.contains("called 3 times") && message.contains("1s"), "{message}");
    service.answer("y", Ok(5));
    go_on(&mut driver, 0);
    assert_eq!(numbers(&mut driver, "out"), ["a=5@0"]);

    let mut driver = started(&service, ProcessingHandler::Fail, called().retries(0, ms(1)));
    text(&mut driver, "in", "a", "z", 0);
    service.answer("z", Err("no"));
    let error = driver.advance_time(ms(0)).unwrap_err();
    assert!(error.to_string().contains("\"ask\""), "{error}");
}

#[test]
fn a_result_that_comes_after_its_window_has_closed_is_late() {
    let service = Service::default();
    let asked = service.clone();
    let builder = StreamsBuilder::new("app");
    builder
        .stream("in", Consumed::with(string(), string()))
        .call(move |_, value| asked.request(value), Called::named("ask").unordered())
        .group_by_key(Grouped::with(string(), i64()))
        .windowed_by(TimeWindows::of(ms(100)))
        .count(Materialized::named("counts"))
        .to_stream()
        .for_each(|_, _| {});
    let mut driver = driver(builder);
    for (value, time) in [("early", 10), ("slow", 20), ("later", 250)] {
        text(&mut driver, "in", "a", value, time);
        if value != "slow" {
            service.answer(value, Ok(0));
        }
    }
    go_on(&mut driver, 0);
    service.answer("slow", Ok(0));
    go_on(&mut driver, 0);
    // "early" was answered, too, when time had passed its window.
    assert!(driver.metrics().dropped_late >= 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Answers in any order, failures, crashes between commits and lost stores: one result for each record, in the order of its key.
    #[test]
    fn each_result_goes_on_once(
        steps in prop::collection::vec((0..10_u8, 0..3_u8, 0..6_usize), 1..80), ordered: bool, manual: bool,
    ) {
        let service = Service::default();
        let called = Called::named("ask").max_in_flight(3).max_waiting(5).retries(1_000, ms(10)).timeout(ms(50));
        let called = if ordered { called } else { called.unordered() };
        let mut driver = started(&service, ProcessingHandler::Fail, called);
        if manual {
            driver.manual_commit();
        }
        let mut expected: BTreeMap<String, VecDeque<i64>> = BTreeMap::new();
        let mut sent = 0;
        for (what, key, which) in steps {
            match what {
                0..=4 => {
                    let key = format!("k{key}");
                    text(&mut driver, "in", &key, &sent.to_string(), 0);
                    expected.entry(key).or_default().push_back(sent);
                    sent += 1;
                }
                5 | 6 => {
                    let open = service.names();
                    if let Some(value) = open.get(which % open.len().max(1)) {
                        service.answer(value, if which == 0 { Err("busy") } else { Ok(value.parse().unwrap()) });
                    }
                    go_on(&mut driver, 5);
                }
                7 => go_on(&mut driver, 60),
                8 => driver.commit().unwrap(),
                _ if which % 2 == 0 => driver.crash().unwrap(),
                _ => driver.crash_and_wipe().unwrap(),
            }
        }
        for _ in 0..500 {
            for value in service.names() {
                service.answer(&value, Ok(value.parse().unwrap()));
            }
            go_on(&mut driver, 20_000);
            driver.commit().unwrap();
            if driver.calls_under_way() == 0 {
                break;
            }
        }
        let mut seen: BTreeMap<String, VecDeque<i64>> = BTreeMap::new();
        for (key, value, _) in driver.read("out", (&string(), &i64())) {
            seen.entry(key).or_default().push_back(value.unwrap());
        }
        if !ordered {
            seen.values_mut().for_each(|values| values.make_contiguous().sort_unstable());
        }
        prop_assert_eq!(seen, expected);
    }
}
