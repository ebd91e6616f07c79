//! Short ways to feed and read text and numbers.

use std::time::Duration;

use headwater_streams::serdes::{i64, nullable, string};
use headwater_streams::{StreamsBuilder, TopologyTestDriver, Windowed, session_windowed, time_windowed};

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub fn driver(builder: StreamsBuilder) -> TopologyTestDriver {
    TopologyTestDriver::new(builder.build().unwrap()).unwrap()
}

pub fn text(driver: &mut TopologyTestDriver, topic: &str, key: &str, value: &str, timestamp: i64) {
    driver.pipe(topic, (&string(), &string()), (&key.to_owned(), &value.to_owned()), timestamp).unwrap();
}

pub fn number(driver: &mut TopologyTestDriver, topic: &str, key: &str, value: i64, timestamp: i64) {
    driver.pipe(topic, (&string(), &i64()), (&key.to_owned(), &value), timestamp).unwrap();
}

pub fn tombstone(driver: &mut TopologyTestDriver, topic: &str, key: &str, timestamp: i64) {
    driver.pipe(topic, (&string(), &nullable(string())), (&key.to_owned(), &None), timestamp).unwrap();
}

/// `key=value@timestamp`, `-` for a tombstone.
pub fn texts(driver: &mut TopologyTestDriver, topic: &str) -> Vec<String> {
    let rows = driver.read(topic, (&string(), &string()));
    rows.into_iter().map(|(k, v, t)| format!("{k}={}@{t}", v.unwrap_or_else(|| "-".to_owned()))).collect()
}

pub fn numbers(driver: &mut TopologyTestDriver, topic: &str) -> Vec<String> {
    let rows = driver.read(topic, (&string(), &i64()));
    rows.into_iter().map(|(k, v, t)| format!("{k}={}@{t}", show(v))).collect()
}

fn show(value: Option<i64>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| v.to_string())
}

fn windows(rows: Vec<(Windowed<String>, Option<i64>, i64)>) -> Vec<String> {
    rows.into_iter().map(|(w, v, t)| format!("{}[{},{}]={}@{t}", w.key, w.start, w.end, show(v))).collect()
}

pub fn time_windows(driver: &mut TopologyTestDriver, topic: &str, size: u64) -> Vec<String> {
    windows(driver.read(topic, (&time_windowed(string(), ms(size)), &i64())))
}

pub fn sessions(driver: &mut TopologyTestDriver, topic: &str) -> Vec<String> {
    windows(driver.read(topic, (&session_windowed(string()), &i64())))
}
