//! The bids on some auctions.

use super::sources::Sources;
use super::{Results, row};

pub fn build(sources: &Sources<'_>) -> Results {
    sources
        .bids()
        .filter(|_, bid| bid.auction % 123 == 0)
        .map_values(|bid| Some(vec![row![bid.auction, bid.price]]))
}
