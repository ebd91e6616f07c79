//! What the last ten closed auctions of each seller brought on average.

use headwater::streams::serdes::{json, string};
use headwater::streams::{Grouped, Materialized};

use super::lots::won;
use super::sources::Sources;
use super::{Results, row};

const LAST: usize = 10;

/// When an auction closes, which one it is, and what it brings.
type Sale = (i64, i64, i64);

pub fn build(sources: &Sources<'_>) -> Results {
    won(sources, |auction, bid| (auction.seller, (auction.expires, auction.id, bid.price)))
        .group_by(
            |_, (seller, sale)| (seller.to_string(), *sale),
            Grouped::with(string(), json()).named("by-seller"),
        )
        .aggregate(
            Vec::new,
            |_, sale: Sale, mut sales: Vec<Sale>| {
                sales.insert(sales.partition_point(|earlier| *earlier < sale), sale);
                sales
            },
            |_, sale, mut sales| {
                sales.retain(|other| *other != sale);
                sales
            },
            Materialized::named("sales-by-seller").value_serde(json()),
        )
        .filter(|_, sales| !sales.is_empty())
        .map_values_with_key(|seller, sales| vec![row![seller, average(&sales)]])
        .to_stream()
}

fn average(sales: &[Sale]) -> i64 {
    let last = &sales[sales.len().saturating_sub(LAST)..];
    last.iter().map(|(_, _, price)| price).sum::<i64>() / last.len() as i64
}
