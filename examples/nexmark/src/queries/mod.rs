//! The queries. A new one is a file here, its SQL, and a line in [`QUERIES`].

mod lots;
mod q0;
mod q1;
mod q11;
mod q14;
mod q17;
mod q18;
mod q19;
mod q2;
mod q3;
mod q4;
mod q5;
mod q6;
mod q7;
mod q8;
mod q9;
mod sources;

use std::time::Duration;

use headwater::streams::serdes::{json, nullable, string};
use headwater::streams::{KStream, Produced, StreamsBuilder, Topology, TopologyError};
use headwater_stage::topic;
use serde_json::Value;

use sources::Sources;

/// One row of an answer, as SQL would give it.
pub type Row = Vec<Value>;
/// What a record of the topic `results` tells: the rows of its key.
pub type Rows = Vec<Row>;
/// What comes out of a topology: a tombstone takes back the rows of its key.
type Results = KStream<String, Option<Rows>>;

/// How late an event may be: more than [`crate::events::DISORDER`], so that none is.
pub const GRACE: Duration = Duration::from_secs(2);

/// What the records of `results` are, and so what is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Each is a row that stays: all of them are compared, repetitions, too.
    Every,
    /// Each replaces what was told of its key: the last of each key are compared.
    Last,
}

pub struct Query {
    pub name: &'static str,
    pub title: &'static str,
    pub kind: Kind,
    /// What defines it.
    pub sql: &'static str,
    build: fn(&Sources<'_>) -> Results,
}

impl Query {
    pub fn named(name: &str) -> Option<&'static Self> {
        QUERIES.iter().find(|query| query.name == name)
    }

    /// Reads `person`, `auction` and `bid`, writes `results`.
    pub fn topology(&self, application_id: &str) -> Result<Topology, TopologyError> {
        let builder = StreamsBuilder::new(application_id);
        let results = (self.build)(&Sources { builder: &builder, application_id });
        results.to(&topic(application_id, "results"), Produced::with(string(), nullable(json())));
        builder.build()
    }
}

macro_rules! queries {
    ($($name:ident $kind:ident $title:literal),* $(,)?) => {
        /// All queries that are here.
        pub const QUERIES: &[Query] = &[$(Query {
            name: stringify!($name),
            title: $title,
            kind: Kind::$kind,
            sql: include_str!(concat!("sql/", stringify!($name), ".sql")),
            build: $name::build,
        }),*];
    };
}

queries! {
    q0 Every "pass through",
    q1 Every "currency conversion",
    q2 Every "selection",
    q3 Last "local item suggestion",
    q4 Last "average price for a category",
    q5 Last "hot items",
    q6 Last "average selling price by seller",
    q7 Last "highest bid",
    q8 Last "monitor new users",
    q9 Last "winning bids",
    q11 Every "user sessions",
    q14 Every "calculation",
    q17 Last "auction statistics",
    q18 Last "find last bid",
    q19 Last "auction's top ten bids",
}

/// One row of these cells.
macro_rules! row {
    ($($cell:expr),* $(,)?) => { vec![$(::serde_json::json!($cell)),*] };
}
use row;
