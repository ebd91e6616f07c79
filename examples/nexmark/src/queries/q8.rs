//! Who came and opened an auction within the same ten seconds.

use std::time::Duration;

use headwater::streams::serdes::{json, string};
use headwater::streams::{Grouped, Materialized, TimeWindows, Windowed};
use serde::{Deserialize, Serialize};

use super::sources::Sources;
use super::{GRACE, Results, Rows, row};

const SIZE: Duration = Duration::from_secs(10);

/// What is known of a person within one window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Newcomer {
    name: Option<String>,
    sells: bool,
}

pub fn build(sources: &Sources<'_>) -> Results {
    let sellers = sources.auctions().group_by(
        |_, auction| auction.seller.to_string(),
        Grouped::with(string(), json()).named("by-seller"),
    );
    sources
        .persons()
        .group_by_key(Grouped::new())
        .cogroup(|_, person, newcomer: Newcomer| Newcomer { name: Some(person.name), ..newcomer })
        .cogroup(&sellers, |_, _, newcomer| Newcomer { sells: true, ..newcomer })
        .windowed_by(TimeWindows::of(SIZE).grace(GRACE))
        .aggregate(Newcomer::default, Materialized::named("newcomers").value_serde(json()))
        .filter(|_, newcomer| newcomer.sells && newcomer.name.is_some())
        .to_stream()
        .map(|window: Windowed<String>, newcomer| {
            let rows =
                newcomer.map(|newcomer| -> Rows { vec![row![window.key, newcomer.name, window.start]] });
            (format!("{}@{}", window.key, window.start), rows)
        })
}
