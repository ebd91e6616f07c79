//! Every bid in euros, at 0.908 to the dollar.

use super::sources::Sources;
use super::{Results, row};

pub fn build(sources: &Sources<'_>) -> Results {
    sources.bids().map_values(|bid| Some(vec![row![bid.auction, bid.bidder, euros(bid.price), bid.at]]))
}

/// A price to three places.
pub fn euros(price: i64) -> String {
    let thousandths = price * 908;
    format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000)
}
