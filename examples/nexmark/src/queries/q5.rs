//! Which auctions had the most bids in the last ten seconds, every two seconds: hopping windows, then the best of each.

use std::time::Duration;

use headwater::streams::serdes::{json, string};
use headwater::streams::{Grouped, Materialized, TimeWindows, Windowed};
use serde::{Deserialize, Serialize};

use super::sources::Sources;
use super::{GRACE, Results, row};

const SIZE: Duration = Duration::from_secs(10);
const ADVANCE: Duration = Duration::from_secs(2);

/// The auctions with the most bids of those that have been told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Hottest {
    bids: i64,
    auctions: Vec<String>,
}

impl Hottest {
    fn with(mut self, (auction, bids): (String, i64)) -> Self {
        if bids > self.bids {
            self = Self { bids, auctions: Vec::new() };
        }
        if bids == self.bids {
            self.auctions.push(auction);
        }
        self
    }
}

pub fn build(sources: &Sources<'_>) -> Results {
    sources
        .bids()
        .group_by_key(Grouped::new())
        .windowed_by(TimeWindows::of(SIZE).advance(ADVANCE).grace(GRACE))
        .emit_on_close()
        .count(Materialized::named("bids-by-window"))
        .to_stream()
        .without_tombstones()
        .map(|window: Windowed<String>, bids| (window.start.to_string(), (window.key, bids)))
        .group_by_key(Grouped::with(string(), json()).named("by-window"))
        .aggregate(
            Hottest::default,
            |_, counted, hottest| hottest.with(counted),
            Materialized::named("hottest").value_serde(json()),
        )
        .map_values_with_key(|start, hottest| {
            let bids = hottest.bids;
            hottest.auctions.iter().map(|auction| row![start, auction, bids]).collect()
        })
        .to_stream()
}
