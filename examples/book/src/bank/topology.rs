//! From postings to accounts and the charges for overdrafts.

use std::time::Duration;

use headwater::streams::serdes::{json, string};
use headwater::streams::{
    Consumed, Grouped, KStream, Materialized, Produced, StreamsBuilder, TimeWindows, Topology, TopologyError,
    Windowed,
};
use headwater_stage::topic;
use serde::{Deserialize, Serialize};

/// What an overdraft costs, in cents.
pub const FEE: i64 = 2_500;
/// Postings are put in order within stretches of this length …
pub const STRETCH: Duration = Duration::from_secs(10);
/// … and may be this much behind others.
pub const GRACE: Duration = Duration::from_secs(30);
/// How long a task waits for the topic that has nothing, before it goes on with the other one.
const IDLE: Duration = Duration::from_secs(60);

/// In which order an account sees its postings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As they come from one topic.
    Arrival,
    /// From one topic, put in order within a grace period.
    Grace,
    /// From two topics, lowest timestamp first.
    Timestamp,
}

/// An event on an account: a deposit, or a withdrawal if it is negative.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posting {
    pub id: u64,
    /// When it happened, in milliseconds since 1970.
    pub at: i64,
    pub cents: i64,
}

/// An entity: the newest is all there is to know about the account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub cents: i64,
    pub postings: u64,
    pub charges: u64,
    /// What the last posting cost.
    charged: Option<Charge>,
}

/// An event: this posting overdrew the account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Charge {
    pub posting: u64,
    pub cents: i64,
}

impl Account {
    /// The account after one more posting. A withdrawal that leaves less than nothing is charged.
    #[must_use]
    pub fn post(mut self, posting: &Posting) -> Self {
        self.cents += posting.cents;
        self.postings += 1;
        self.charged = None;
        if posting.cents < 0 && self.cents < 0 {
            self.cents -= FEE;
            self.charges += 1;
            self.charged = Some(Charge { posting: posting.id, cents: FEE });
        }
        self
    }

    /// What the last posting cost.
    pub fn charged(&self) -> Option<&Charge> {
        self.charged.as_ref()
    }

    /// The account without what its last posting cost, which depends on which one was the last.
    #[must_use]
    pub fn at_rest(self) -> Self {
        Self { charged: None, ..self }
    }
}

pub fn topology(application_id: &str, order: Order) -> Result<Topology, TopologyError> {
    let mut builder = StreamsBuilder::new(application_id);
    let postings = match order {
        Order::Arrival => stream(&builder, application_id, "postings"),
        Order::Grace => in_order(&stream(&builder, application_id, "postings"), application_id),
        Order::Timestamp => {
            builder.max_task_idle(IDLE);
            let deposits = stream(&builder, application_id, "deposits");
            deposits.merge(&stream(&builder, application_id, "withdrawals"))
        }
    };
    let accounts = postings.group_by_key(Grouped::with(string(), json()).named("in-order")).aggregate(
        Account::default,
        |_, posting, account| account.post(&posting),
        Materialized::named("accounts").value_serde(json()).json(),
    );
    accounts.to(&topic(application_id, "accounts"), Produced::with(string(), json()));
    accounts
        .to_stream()
        .without_tombstones()
        .flat_map_values(|account| account.charged)
        .to(&topic(application_id, "charges"), Produced::with(string(), json()));
    builder.build()
}

fn stream(builder: &StreamsBuilder, application_id: &str, name: &str) -> KStream<String, Posting> {
    builder.stream(&topic(application_id, name), Consumed::with(string(), json()))
}

/// Holds postings back until no earlier one can come, and lets them go in the order in which they happened. What comes later
/// than that is for people to look at.
fn in_order(postings: &KStream<String, Posting>, application_id: &str) -> KStream<String, Posting> {
    postings
        .group_by_key(Grouped::with(string(), json()))
        .windowed_by(TimeWindows::of(STRETCH).grace(GRACE))
        .late_to(&topic(application_id, "late"), Produced::with(string(), json()))
        .emit_on_close()
        .aggregate(
            Vec::new,
            |_, posting, mut stretch: Vec<Posting>| {
                stretch.push(posting);
                stretch
            },
            Materialized::named("stretches").value_serde(json()),
        )
        .to_stream()
        .without_tombstones()
        .flat_map(|stretch: Windowed<String>, mut postings| {
            postings.sort_by_key(|posting| (posting.at, posting.id));
            postings.into_iter().map(move |posting| (stretch.key.clone(), posting))
        })
}
