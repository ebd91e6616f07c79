//! The average of the winning bids in each category.

use headwater::streams::Grouped;
use headwater::streams::Materialized;
use headwater::streams::serdes::{i64, json, string};

use super::lots::won;
use super::sources::Sources;
use super::{Results, row};

/// Sum and number.
type Sum = (i64, i64);

pub fn build(sources: &Sources<'_>) -> Results {
    won(sources, |auction, bid| (auction.category, bid.price))
        .group_by(
            |_, (category, price)| (category.to_string(), *price),
            Grouped::with(string(), i64()).named("by-category"),
        )
        .aggregate(
            || (0, 0),
            |_, price, (sum, count): Sum| (sum + price, count + 1),
            |_, price, (sum, count)| (sum - price, count - 1),
            Materialized::named("prices-by-category").value_serde(json()),
        )
        .filter(|_, (_, count)| *count > 0)
        .map_values_with_key(|category, (sum, count)| vec![row![category, sum / count]])
        .to_stream()
}
