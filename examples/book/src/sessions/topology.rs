//! From interactions to sessions.

use std::time::Duration;

use headwater::streams::serdes::{json, string};
use headwater::streams::{
    Consumed, Grouped, Materialized, Produced, SessionWindows, StreamsBuilder, Topology, TopologyError,
    Windowed,
};
use headwater_stage::topic;
use serde::{Deserialize, Serialize};

/// Whoever does nothing for this long has gone.
pub const GAP: Duration = Duration::from_secs(30 * 60);
/// How much later than others an interaction may come.
pub const GRACE: Duration = Duration::from_secs(10 * 60);

/// An event: a user did something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interaction {
    pub page: String,
}

/// What a user did without pausing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Session {
    /// Of the first and of the last interaction, in milliseconds since 1970.
    pub start: i64,
    pub end: i64,
    pub interactions: u64,
    /// How many of them were on which page, by the page's name.
    pub pages: Vec<(String, u64)>,
}

/// Interactions by page.
type Pages = std::collections::BTreeMap<String, u64>;

pub fn topology(application_id: &str) -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new(application_id);
    builder
        .stream(&topic(application_id, "interactions"), Consumed::with(string(), json::<Interaction>()))
        .group_by_key(Grouped::new())
        .windowed_by_session(SessionWindows::with_gap(GAP).grace(GRACE))
        .late_to(&topic(application_id, "late"), Produced::with(string(), json()))
        .emit_on_close()
        .aggregate(
            Pages::new,
            |_, interaction, pages| add(pages, [(interaction.page, 1)]),
            |_, earlier, later| add(earlier, later),
            Materialized::named("sessions").value_serde(json()),
        )
        .to_stream()
        .without_tombstones()
        .map(|window: Windowed<String>, pages| {
            let interactions = pages.values().sum();
            let pages = pages.into_iter().collect();
            (window.key, Session { start: window.start, end: window.end, interactions, pages })
        })
        .to(&topic(application_id, "sessions"), Produced::with(string(), json()));
    builder.build()
}

fn add(mut pages: Pages, more: impl IntoIterator<Item = (String, u64)>) -> Pages {
    for (page, count) in more {
        *pages.entry(page).or_default() += count;
    }
    pages
}
