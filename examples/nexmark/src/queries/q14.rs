//! Bids of some prices in euros, with the time of day and the number of times that the letter c is in what else they say.

use super::q1::euros;
use super::sources::Sources;
use super::{Results, row};

const HOUR: i64 = 3_600_000;

pub fn build(sources: &Sources<'_>) -> Results {
    sources
        .bids()
        // In euros, more than a million and less than fifty.
        .filter(|_, bid| (1_000_000_001..50_000_000_000).contains(&(bid.price * 908)))
        .map_values(|bid| {
            let letters = bid.extra.matches('c').count();
            Some(vec![row![bid.auction, bid.bidder, euros(bid.price), time_of_day(bid.at), bid.at, letters]])
        })
}

fn time_of_day(at: i64) -> &'static str {
    match at / HOUR % 24 {
        8..=18 => "dayTime",
        0..=6 | 20.. => "nightTime",
        _ => "otherTime",
    }
}
