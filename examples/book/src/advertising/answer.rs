//! What is to be billed, from lists and loops.

use std::collections::BTreeMap;

use headwater_stage::Event;

use super::input::Touched;
use super::topology::{Advertisement, Bill, GAP, Seen};

/// Conversions of each advertisement.
pub fn conversions(happened: &[Touched]) -> BTreeMap<String, i64> {
    let mut users: BTreeMap<&str, Vec<&Touched>> = BTreeMap::new();
    for touched in happened {
        users.entry(&touched.user).or_default().push(touched);
    }
    let mut sums = BTreeMap::new();
    for mut all in users.into_values() {
        all.sort_by_key(|touched| touched.at);
        let gap = GAP.as_millis() as i64;
        for session in all.chunk_by(|earlier, later| later.at - earlier.at <= gap) {
            let mut seen: BTreeMap<&str, Seen> = BTreeMap::new();
            for touched in session {
                let seen = seen.entry(&touched.advertisement).or_default();
                *(if touched.click { &mut seen.clicks } else { &mut seen.views }) += 1;
            }
            for (advertisement, seen) in seen {
                *sums.entry(advertisement.to_owned()).or_default() += seen.conversions();
            }
        }
    }
    sums.retain(|_, sum| *sum > 0);
    sums
}

/// Bills by the advertisements as they are in the end.
pub fn answer(happened: &[Touched], entities: &[Event]) -> BTreeMap<String, Bill> {
    let mut last: BTreeMap<&str, Advertisement> = BTreeMap::new();
    for Event { key, value, .. } in entities {
        match value.as_ref().and_then(|value| serde_json::from_slice(value).ok()) {
            Some(entity) => last.insert(key, entity),
            None => last.remove(key.as_str()),
        };
    }
    let bill = |(name, conversions): (String, i64)| {
        let Advertisement { advertiser, cents } = last.get(name.as_str())?.clone();
        Some((name, Bill { advertiser, conversions, cents: conversions * cents }))
    };
    conversions(happened).into_iter().filter_map(bill).collect()
}
