//! Every bid as it is.

use super::sources::Sources;
use super::{Results, row};

pub fn build(sources: &Sources<'_>) -> Results {
    sources.bids().map_values(|bid| Some(vec![row![bid.auction, bid.bidder, bid.price, bid.at]]))
}
