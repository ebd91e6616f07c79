//! The last bid of each bidder on each auction, by the time of bids: one that comes out of order replaces no later one.

use headwater::streams::serdes::{json, string};
use headwater::streams::{Grouped, Materialized};

use super::sources::Sources;
use super::{Results, row};

pub fn build(sources: &Sources<'_>) -> Results {
    sources
        .bids()
        .group_by(
            |_, bid| format!("{}/{}", bid.bidder, bid.auction),
            Grouped::with(string(), json()).named("by-both"),
        )
        .reduce(
            |one, other| if (other.at, other.price) > (one.at, one.price) { other } else { one },
            Materialized::named("last-bids"),
        )
        .map_values(|bid| vec![row![bid.auction, bid.bidder, bid.price, bid.at]])
        .to_stream()
}
