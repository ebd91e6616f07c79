//! The three streams that every query begins with.

use headwater::streams::serdes::{json, string};
use headwater::streams::{Consumed, KStream, StreamsBuilder};
use headwater_stage::topic;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::events::{Auction, Bid, Person};

pub struct Sources<'a> {
    pub builder: &'a StreamsBuilder,
    pub application_id: &'a str,
}

impl Sources<'_> {
    /// By the person's id.
    pub fn persons(&self) -> KStream<String, Person> {
        self.stream("person")
    }

    /// By the auction's id.
    pub fn auctions(&self) -> KStream<String, Auction> {
        self.stream("auction")
    }

    /// By the auction's id.
    pub fn bids(&self) -> KStream<String, Bid> {
        self.stream("bid")
    }

    fn stream<T>(&self, name: &str) -> KStream<String, T>
    where
        T: Clone + Send + Serialize + DeserializeOwned + 'static,
    {
        self.builder.stream(&topic(self.application_id, name), Consumed::with(string(), json()))
    }
}
