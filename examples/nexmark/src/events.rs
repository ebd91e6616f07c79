//! Persons, auctions and bids, from the crate `nexmark`.
//!
//! Ten milliseconds lie between two events, and within every second events come in any order.

use headwater_stage::{Event, ends, topic};
use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

/// Events per second of their own time.
const RATE: usize = 100;
/// An event comes at most this much behind a later one, in milliseconds.
pub const DISORDER: i64 = 1_000;
/// After so long every window and session is over.
const OVER: i64 = 60_000;
/// Persons and auctions are numbered from here on.
const FIRST: i64 = 1_000;
/// Of four auctions three are of a seller of whom there are few.
const HOT_SELLERS: i64 = 4;
/// Sellers are among so many of the last persons, or of the next ones.
const ACTIVE: i64 = 1_000;
const LEAD: i64 = 10;
const EVENTS_PER_PERSON: usize = 50;

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
    // An event's number decides what is in it. Persons are one in fifty, so this many were before.
    let before = (seed % 1_000_000) as usize * 1_000;
    let config = NexmarkConfig {
        base_time: begin.unsigned_abs(),
        first_rate: RATE,
        next_rate: RATE,
        out_of_order_group_size: RATE * DISORDER as usize / 1_000,
        first_event_id: before * EVENTS_PER_PERSON,
        ..NexmarkConfig::default()
    };
    let mut sellers =
        Sellers { first: FIRST + signed(before), persons: 1, random: SmallRng::seed_from_u64(seed) };
    EventGenerator::new(config).take(count).map(|event| happened(event, &mut sellers)).collect()
}

fn happened(event: event::Event, sellers: &mut Sellers) -> Happened {
    match event {
        event::Event::Person(person) => {
            sellers.came(signed(person.id));
            Happened::Person(Person {
                id: signed(person.id),
                name: person.name,
                city: person.city,
                state: person.state,
                at: person.date_time.cast_signed(),
                extra: person.extra,
            })
        }
        event::Event::Auction(auction) => Happened::Auction(Auction {
            id: signed(auction.id),
            item: auction.item_name,
            seller: sellers.draw(),
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

/// Sellers as NEXMark draws them. The crate draws them by the auction's number in place of the event's, so that all would be
/// among the very first persons, and q8 would be empty.
struct Sellers {
    first: i64,
    /// How many have come.
    persons: i64,
    random: SmallRng,
}

impl Sellers {
    fn came(&mut self, person: i64) {
        self.persons = self.persons.max(person - self.first + 1);
    }

    fn draw(&mut self) -> i64 {
        let persons = self.persons;
        let place = if self.random.random_range(0..HOT_SELLERS) > 0 {
            (persons - 1) / HOT_SELLERS * HOT_SELLERS
        } else {
            let active = persons.min(ACTIVE);
            persons - active + self.random.random_range(0..active + LEAD)
        };
        self.first + place
    }
}

/// Tells every partition that everything is over. These events are of persons, auctions and bids that no query finds.
pub fn over(application_id: &str, happened: &[Happened], partitions: i32) -> Vec<Event> {
    let at = happened.iter().map(Happened::at).max().unwrap_or_default() + OVER;
    let (text, nobody) = (String::new, -1);
    let person = Person { id: nobody, name: text(), city: text(), state: text(), at, extra: text() };
    let auction = Auction {
        id: nobody,
        item: text(),
        seller: nobody,
        category: nobody,
        at,
        expires: at,
        extra: text(),
    };
    let bid = Bid { auction: nobody, bidder: nobody, price: 0, channel: text(), at, extra: text() };
    let topic = |name| topic(application_id, name);
    let mut all = ends(&topic("person"), partitions, &person, at);
    all.extend(ends(&topic("auction"), partitions, &auction, at));
    all.extend(ends(&topic("bid"), partitions, &bid, at));
    all
}
