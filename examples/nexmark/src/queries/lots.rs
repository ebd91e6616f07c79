//! What q4, q6 and q9 share: each auction with its winning bid.

use headwater::streams::serdes::json;
use headwater::streams::{Grouped, KTable, Materialized};
use serde::{Deserialize, Serialize};

use super::sources::Sources;
use crate::events::{Auction, Bid};

/// An auction and its best bid so far. A bid may come before its auction; it waits until it is known whether it was in time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Lot {
    auction: Option<Auction>,
    waiting: Vec<Bid>,
    best: Option<Bid>,
}

impl Lot {
    fn open(mut self, auction: Auction) -> Self {
        for bid in std::mem::take(&mut self.waiting) {
            self.offer(&auction, bid);
        }
        self.auction = Some(auction);
        self
    }

    fn bid(mut self, bid: Bid) -> Self {
        match self.auction.take() {
            Some(auction) => {
                self.offer(&auction, bid);
                self.auction = Some(auction);
            }
            None => self.waiting.push(bid),
        }
        self
    }

    /// The higher bid wins, of equal ones the earlier.
    fn offer(&mut self, auction: &Auction, bid: Bid) {
        let rank = |bid: &Bid| (-bid.price, bid.at, bid.bidder);
        let in_time = (auction.at..=auction.expires).contains(&bid.at);
        if in_time && self.best.as_ref().is_none_or(|best| rank(&bid) < rank(best)) {
            self.best = Some(bid);
        }
    }

    fn won(&self) -> Option<(&Auction, &Bid)> {
        self.auction.as_ref().zip(self.best.as_ref())
    }
}

/// Auctions that have a winning bid, by their ids.
pub fn won<T: Clone + Send + 'static>(
    sources: &Sources<'_>,
    tell: impl Fn(&Auction, &Bid) -> T + Send + Sync + 'static,
) -> KTable<String, T> {
    let bids = sources.bids().group_by_key(Grouped::new());
    sources
        .auctions()
        .group_by_key(Grouped::new())
        .cogroup(|_, auction, lot: Lot| lot.open(auction))
        .cogroup(&bids, |_, bid, lot| lot.bid(bid))
        .aggregate(Lot::default, Materialized::named("lots").value_serde(json()))
        .map_values(move |lot| lot.won().map(|(auction, bid)| tell(auction, bid)))
        .filter(|_, won| won.is_some())
        .map_values(|won| won.unwrap_or_else(|| unreachable!("the filter let through what is won")))
}
