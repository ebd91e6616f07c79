//! Persons, auctions and bids, from the crate `nexmark`.
//!
//! Ten milliseconds lie between two events, and within every second events come in any order.

use headwater_stage::{Event, ends, topic};
use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event;
use serde::{Deserialize, Serialize};

/// Events per second of their own time.
const RATE: usize = 100;
/// An event comes at most this much behind a later one, in milliseconds.
pub const DISORDER: i64 = 1_000;
/// After so long every window and session is over.
const OVER: i64 = 60_000;
const EVENTS_PER_PERSON: usize = 50;
/// So many keys leave no partition out.
const BIDDERS_PER_PARTITION: i64 = 16;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    pub id: i64,
    pub name: String,
    pub city: String,
    pub state: String,
    pub at: i64,
    pub extra: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Auction {
    pub id: i64,
    pub item: String,
    pub seller: i64,
    pub category: i64,
    pub at: i64,
    /// The last moment at which a bid counts.
    pub expires: i64,
    pub extra: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bid {
    pub auction: i64,
    pub bidder: i64,
    /// In cents.
    pub price: i64,
    pub channel: String,
    pub at: i64,
    pub extra: String,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    Person(Person),
    Auction(Auction),
    Bid(Bid),
}

impl Happened {
    pub fn at(&self) -> i64 {
        match self {
            Self::Person(person) => person.at,
            Self::Auction(auction) => auction.at,
            Self::Bid(bid) => bid.at,
        }
    }

    /// In its topic, under the id by which it is found there.
    pub fn event(&self, application_id: &str) -> Event {
        let topic = |name| topic(application_id, name);
        match self {
            Self::Person(person) => Event::new(topic("person"), person.id.to_string(), person, person.at),
            Self::Auction(auction) => {
                Event::new(topic("auction"), auction.id.to_string(), auction, auction.at)
            }
            Self::Bid(bid) => Event::new(topic("bid"), bid.auction.to_string(), bid, bid.at),
        }
    }
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The first `count` events, in the order in which they arrive.
pub fn draw(seed: u64, begin: i64, count: usize) -> Vec<Happened> {
    // An event's number decides what is in it: every seed has numbers of its own, from where a person is the first.
    let before = (seed % 1_000_000) as usize * 1_000 * EVENTS_PER_PERSON;
    let config = NexmarkConfig {
        base_time: begin.unsigned_abs(),
        first_rate: RATE,
        next_rate: RATE,
        out_of_order_group_size: RATE * DISORDER as usize / 1_000,
        first_event_id: before,
        ..NexmarkConfig::default()
    };
    EventGenerator::new(config).take(count).map(happened).collect()
}

fn happened(event: event::Event) -> Happened {
    match event {
        event::Event::Person(person) => Happened::Person(Person {
            id: signed(person.id),
            name: person.name,
            city: person.city,
            state: person.state,
            at: person.date_time.cast_signed(),
            extra: person.extra,
        }),
        event::Event::Auction(auction) => Happened::Auction(Auction {
            id: signed(auction.id),
            item: auction.item_name,
            seller: signed(auction.seller),
            category: signed(auction.category),
            at: auction.date_time.cast_signed(),
            expires: auction.expires.cast_signed(),
            extra: auction.extra,
        }),
        event::Event::Bid(bid) => Happened::Bid(Bid {
            auction: signed(bid.auction),
            bidder: signed(bid.bidder),
            price: signed(bid.price),
            channel: bid.channel,
            at: bid.date_time.cast_signed(),
            extra: bid.extra,
        }),
    }
}

/// Tells every partition that everything is over, by bids of many bidders, so that topics which are partitioned by the bidder
/// hear of it in all their partitions, too. These events are of persons, auctions and bids that no query finds: all their
/// numbers are negative.
pub fn over(application_id: &str, happened: &[Happened], partitions: i32) -> Vec<Event> {
    let at = happened.iter().map(Happened::at).max().unwrap_or_default() + OVER;
    let text = String::new;
    let person = Person { id: -1, name: text(), city: text(), state: text(), at, extra: text() };
    let auction = Auction { id: -1, item: text(), seller: -1, category: -1, at, expires: at, extra: text() };
    let bid = |bidder| Bid { auction: -1, bidder, price: 0, channel: text(), at, extra: text() };
    let topic = |name| topic(application_id, name);
    let mut all = ends(&topic("person"), partitions, &person, at);
    all.extend(ends(&topic("auction"), partitions, &auction, at));
    let bidders = i64::from(partitions) * BIDDERS_PER_PARTITION;
    all.extend((1..=bidders).flat_map(|bidder| ends(&topic("bid"), partitions, &bid(-bidder), at)));
    all
}
