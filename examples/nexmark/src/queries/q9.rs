//! The winning bid of each auction.

use super::lots::won;
use super::sources::Sources;
use super::{Results, row};

pub fn build(sources: &Sources<'_>) -> Results {
    won(sources, |auction, bid| {
        vec![row![
            auction.id,
            auction.item,
            auction.at,
            auction.expires,
            auction.seller,
            auction.category,
            bid.bidder,
            bid.price,
            bid.at,
        ]]
    })
    .to_stream()
}
