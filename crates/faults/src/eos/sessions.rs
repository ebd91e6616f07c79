//! Sessions of records of one key that follow each other within a gap.

use std::collections::BTreeMap;

use super::events::session;
use super::oracle::Expected;

/// The sessions that are left at the end. Each record writes one new state of its session, whichever that is by then.
pub fn expected<'a>(records: impl Iterator<Item = (&'a str, i64)>, gap: i64) -> Expected {
    let mut times: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    records.for_each(|(key, time)| times.entry(key).or_default().push(time));
    let mut rows = BTreeMap::new();
    for (key, mut times) in times {
        times.sort_unstable();
        for run in times.chunk_by(|one, next| next - one <= gap) {
            if let (Some(start), Some(end)) = (run.first(), run.last()) {
                rows.insert(session(key, *start, *end), run.len().to_string());
            }
        }
    }
    Expected::Last { rows, updates: None }
}
