//! The ten highest bids on each auction.

use headwater::streams::serdes::json;
use headwater::streams::{Grouped, Materialized};

use super::sources::Sources;
use super::{Results, row};
use crate::events::Bid;

const TOP: usize = 10;

fn with(mut top: Vec<Bid>, bid: Bid) -> Vec<Bid> {
    let rank = |bid: &Bid| (-bid.price, bid.at, bid.bidder);
    let place = top.partition_point(|other| rank(other) <= rank(&bid));
    top.insert(place, bid);
    top.truncate(TOP);
    top
}

pub fn build(sources: &Sources<'_>) -> Results {
    sources
        .bids()
        .group_by_key(Grouped::new())
        .aggregate(Vec::new, |_, bid, top| with(top, bid), Materialized::named("top-ten").value_serde(json()))
        .map_values(|top| {
            let ranked = top.iter().zip(1..);
            ranked.map(|(bid, place)| row![bid.auction, bid.bidder, bid.price, bid.at, place]).collect()
        })
        .to_stream()
}
