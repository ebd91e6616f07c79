//! Who sells in category 10 in Oregon, Idaho or California, and what. Seller and auction may come in either order, so both are
//! tables, joined by the auction's foreign key.

use headwater::streams::serdes::{json, string};
use headwater::streams::{Materialized, TableJoined};

use super::sources::Sources;
use super::{Results, row};

const STATES: [&str; 3] = ["or", "id", "ca"];

pub fn build(sources: &Sources<'_>) -> Results {
    let persons = sources
        .persons()
        .filter(|_, person| STATES.contains(&person.state.to_lowercase().as_str()))
        .to_table(Materialized::with("persons", string(), json()));
    sources
        .auctions()
        .filter(|_, auction| auction.category == 10)
        .to_table(Materialized::with("auctions", string(), json()))
        .join_foreign(
            &persons,
            |_, auction| Some(auction.seller.to_string()),
            |auction, person| vec![row![person.name, person.city, person.state, auction.id]],
            TableJoined::new().named("sellers").foreign_key_serde(string()).result_serde(json()),
        )
        .to_stream()
}
