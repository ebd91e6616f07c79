//! Bids of each auction and day: how many, how many of three classes of price, least, greatest, average and sum.

use std::time::Duration;

use headwater::streams::serdes::json;
use headwater::streams::{Grouped, Materialized, TimeWindows, Windowed};
use serde::{Deserialize, Serialize};

use super::sources::Sources;
use super::{GRACE, Results, row};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Statistics {
    /// Below 10,000, below 1,000,000, and above.
    classes: [i64; 3],
    least: Option<i64>,
    greatest: Option<i64>,
    sum: i64,
}

impl Statistics {
    fn with(mut self, price: i64) -> Self {
        self.classes[usize::from(price >= 10_000) + usize::from(price >= 1_000_000)] += 1;
        self.least = Some(self.least.map_or(price, |least| least.min(price)));
        self.greatest = self.greatest.max(Some(price));
        self.sum += price;
        self
    }
}

pub fn build(sources: &Sources<'_>) -> Results {
    sources
        .bids()
        .group_by_key(Grouped::new())
        .windowed_by(TimeWindows::of(DAY).grace(GRACE))
        .aggregate(
            Statistics::default,
            |_, bid, statistics| statistics.with(bid.price),
            Materialized::named("statistics").value_serde(json()),
        )
        .to_stream()
        .without_tombstones()
        .map(|window: Windowed<String>, all| {
            let [low, middle, high] = all.classes;
            let count = low + middle + high;
            let average = all.sum / count;
            let (key, day) = (&window.key, window.start);
            let row = row![key, day, count, low, middle, high, all.least, all.greatest, average, all.sum];
            (format!("{key}@{day}"), Some(vec![row]))
        })
}
