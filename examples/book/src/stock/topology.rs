//! From sales and returns to stock levels, in two variants.

use std::collections::BTreeMap;
use std::time::Duration;

use headwater::Guarantee;
use headwater::streams::serdes::{i64, json, string};
use headwater::streams::{
    Consumed, Grouped, KGroupedStream, KTable, Materialized, Produced, StreamsBuilder, Topology,
    TopologyError,
};
use headwater_stage::topic;
use serde::{Deserialize, Serialize};

/// What there is of an item before anything happens.
pub const OPENING: i64 = 1_000;
/// How long an id is remembered. An event that comes again later than that, by the time of events, counts again.
pub const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// How a double count is kept out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Variant {
    /// State, output and offsets are committed in one transaction.
    Transactions,
    /// Nothing is committed together. The row knows the ids of what it has counted, and is written as one.
    Ids,
}

impl Variant {
    pub fn guarantee(self) -> Guarantee {
        match self {
            Self::Transactions => Guarantee::ExactlyOnce,
            Self::Ids => Guarantee::AtLeastOnce,
        }
    }
}

/// An event: pieces of an item that were sold, or came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Movement {
    pub till: u32,
    pub receipt: u64,
    pub line: u32,
    pub at: i64,
    pub pieces: i64,
}

impl Movement {
    /// Made from the event's data, so that the same event has the same id wherever it comes from.
    pub fn id(&self) -> String {
        format!("{}/{}/{}", self.till, self.receipt, self.line)
    }
}

/// A stock level, and what it consists of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    moved: i64,
    /// The time of each event that is in it.
    ids: BTreeMap<String, i64>,
    newest: i64,
}

impl Counted {
    /// Counts a movement, unless it has been counted within the time that ids are remembered.
    #[must_use]
    fn count(mut self, movement: &Movement, pieces: i64) -> Self {
        self.newest = self.newest.max(movement.at);
        let oldest = self.newest.saturating_sub(i64::try_from(REMEMBERED.as_millis()).unwrap_or(i64::MAX));
        self.ids.retain(|_, at| *at >= oldest);
        if self.ids.insert(movement.id(), movement.at).is_none() {
            self.moved += pieces;
        }
        self
    }
}

pub fn topology(application_id: &str, variant: Variant) -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new(application_id);
    let sales = movements(&builder, application_id, "sales");
    let returns = movements(&builder, application_id, "returns");
    let levels = match variant {
        Variant::Transactions => levels(&sales, &returns),
        Variant::Ids => levels_by_id(&sales, &returns),
    };
    levels.to(&topic(application_id, "levels"), Produced::with(string(), json()));
    builder.build()
}

fn movements(builder: &StreamsBuilder, application_id: &str, name: &str) -> KGroupedStream<String, Movement> {
    builder
        .stream(&topic(application_id, name), Consumed::with(string(), json()))
        .group_by_key(Grouped::new())
}

fn levels(
    sales: &KGroupedStream<String, Movement>,
    returns: &KGroupedStream<String, Movement>,
) -> KTable<String, i64> {
    sales
        .cogroup(|_, sale, level: i64| level - sale.pieces)
        .cogroup(returns, |_, back, level| level + back.pieces)
        .aggregate(|| OPENING, Materialized::named("levels").value_serde(i64()).json())
}

/// The ids are in the same row as the level: there is no moment at which a crash could leave one without the other.
fn levels_by_id(
    sales: &KGroupedStream<String, Movement>,
    returns: &KGroupedStream<String, Movement>,
) -> KTable<String, i64> {
    sales
        .cogroup(|_, sale, row: Counted| row.count(&sale, -sale.pieces))
        .cogroup(returns, |_, back, row| row.count(&back, back.pieces))
        .aggregate(Counted::default, Materialized::named("counted").value_serde(json()))
        .map_values(|row| OPENING + row.moved)
}
