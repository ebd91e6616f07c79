//! Advertising: session events become conversions, their sums are kept in a table, the table is joined with the advertisements, and
//! out comes what is billed.
//!
//! A bill is an entity: it changes with every session that ends and with every change of its advertisement, and it is deleted
//! when the advertisement is.

mod answer;
mod input;
mod topology;

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use headwater_stage::{Options, Output, Row, Stage};

pub use answer::{answer, conversions};
pub use input::{Touched, advertisements, changes, draw, end, events};
pub use topology::{Advertisement, Bill, GAP, GRACE, Seen, Touch, topology};

/// The last bill of each advertisement.
pub fn told(rows: &[Row<Bill>]) -> BTreeMap<String, Bill> {
    let mut bills = BTreeMap::new();
    for (advertisement, bill, _) in rows {
        match bill {
            Some(bill) => bills.insert(advertisement.clone(), bill.clone()),
            None => bills.remove(advertisement),
        };
    }
    bills
}

/// Lets a day go by and compares.
pub async fn run(options: &Options) -> Result<String> {
    let stage = Stage::open(options, "book-advertising").await?;
    let (id, begin) = (stage.application_id().to_owned(), stage.begin());
    let happened = draw(options.seed, begin);
    let before = advertisements(&id, options.seed, begin);
    let after = changes(&id, begin + 1);
    let right = answer(&happened, &[before.clone(), after.clone()].concat());
    stage.create(&["views", "clicks", "advertisements", "bills"]).await?;
    let app = stage.start(topology(&id)?).await?;
    stage.feed(before).await?;
    stage.feed(events(&id, &happened)).await?;
    stage.feed(end(&id, &happened, options.partitions)).await?;
    stage.feed(after).await?;

    let mut bills: Output<Bill> = stage.output("bills").await?;
    bills.until("the bills are right", |bills| told(bills.rows()) == right).await?;
    app.stop().await?;
    bills.to_the_end().await?;
    ensure!(told(bills.rows()) == right, "the bills were right, and are not any more");
    let sum: i64 = right.values().map(|bill| bill.conversions).sum();
    let (all, count) = (happened.len(), right.len());
    stage.close().await?;
    Ok(format!(
        "advertising: {all} views and clicks, {sum} billed conversions of {count} advertisements: every bill is right\n"
    ))
}
