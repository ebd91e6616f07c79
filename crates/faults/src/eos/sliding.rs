//! Sliding windows: one ends at each record, and one begins right after each that another one follows.

use std::collections::BTreeMap;

use super::events::window;
use super::oracle::Expected;

/// The windows that are left at the end, with how many records each holds, wherever in their order those came.
pub fn expected<'a>(records: impl Iterator<Item = (&'a str, i64)>, difference: i64) -> Expected {
    let mut times: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    records.for_each(|(key, time)| times.entry(key).or_default().push(time));
    let mut rows = BTreeMap::new();
    for (key, mut times) in times {
        times.sort_unstable();
        let held = |start: i64| {
            let first = times.partition_point(|time| *time < start);
            times.partition_point(|time| *time <= start + difference) - first
        };
        for start in times.iter().flat_map(|time| [time - difference, time + 1]) {
            let count = held(start);
            if count > 0 {
                rows.insert(window(key, start), count.to_string());
            }
        }
    }
    Expected::Last { rows, updates: None }
}
