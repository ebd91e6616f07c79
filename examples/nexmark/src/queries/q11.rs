//! How many bids a user made without pausing for more than ten seconds.

use std::time::Duration;

use headwater::streams::serdes::{json, string};
use headwater::streams::{Grouped, Materialized, SessionWindows, Windowed};

use super::sources::Sources;
use super::{GRACE, Results, row};

const GAP: Duration = Duration::from_secs(10);

pub fn build(sources: &Sources<'_>) -> Results {
    sources
        .bids()
        .group_by(|_, bid| bid.bidder.to_string(), Grouped::with(string(), json()).named("by-bidder"))
        .windowed_by_session(SessionWindows::with_gap(GAP).grace(GRACE))
        .emit_on_close()
        .count(Materialized::named("sessions"))
        .to_stream()
        .without_tombstones()
        .map(|window: Windowed<String>, bids| {
            // A session lasts until the pause is over.
            let end = window.end + GAP.as_millis() as i64;
            let rows = vec![row![window.key, bids, window.start, end]];
            (window.key, Some(rows))
        })
}
