//! The highest bids of every ten seconds: first of each auction, in parallel, then of all together.

use std::time::Duration;

use headwater::streams::serdes::{json, string};
use headwater::streams::{Grouped, Materialized, TimeWindows, Windowed};

use super::sources::Sources;
use super::{GRACE, Results, row};
use crate::events::Bid;

const SIZE: Duration = Duration::from_secs(10);

/// The highest of both; all of them, if they are equal.
fn highest(one: Vec<Bid>, other: Vec<Bid>) -> Vec<Bid> {
    let price = |bids: &[Bid]| bids.first().map(|bid| bid.price);
    match price(&one).cmp(&price(&other)) {
        std::cmp::Ordering::Less => other,
        std::cmp::Ordering::Greater => one,
        std::cmp::Ordering::Equal => [one, other].concat(),
    }
}

pub fn build(sources: &Sources<'_>) -> Results {
    sources
        .bids()
        .map_values(|bid| vec![bid])
        .group_by_key(Grouped::with(string(), json()))
        .windowed_by(TimeWindows::of(SIZE).grace(GRACE))
        .emit_on_close()
        .reduce(highest, Materialized::named("highest-by-auction"))
        .to_stream()
        .without_tombstones()
        .map(|window: Windowed<String>, bids| (window.start.to_string(), bids))
        .group_by_key(Grouped::with(string(), json()).named("by-window"))
        .reduce(highest, Materialized::named("highest"))
        .map_values(|bids| bids.iter().map(|bid| row![bid.auction, bid.bidder, bid.price, bid.at]).collect())
        .to_stream()
}
