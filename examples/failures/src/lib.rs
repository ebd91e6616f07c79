//! Payments in several currencies become balances. The rates come from a service that is slow and fails; the first version of
//! the program does not know pounds.
//!
//! Accounts that get pounds wait, in quarantine, with all that follows; the others go on. The second version is deployed,
//! and every payment is in its balance once, in the order it came.

mod payments;
mod rates;
mod topology;

use std::sync::Arc;

use anyhow::{Result, ensure};
use headwater_stage::{Options, Output, Stage};

pub use payments::{Payment, answer, draw, events};
pub use rates::Rates;
pub use topology::{Version, topology};

const PAYMENTS: usize = 400;

/// Runs the first version until nothing but what waits is left, deploys the second, and compares.
pub async fn run(options: &Options) -> Result<String> {
    let stage = Stage::open(options, "failures").await?;
    let id = stage.application_id().to_owned();
    let payments = draw(options.seed, PAYMENTS, stage.begin());
    let right = answer(&payments);
    let flows: usize = right.flowing.values().map(Vec::len).sum();
    let all: usize = right.balances.values().map(Vec::len).sum();
    stage.create(&["payments", "balances"]).await?;
    let rates = Arc::new(Rates::default());

    let app = stage.start(topology(&id, Version::First, rates.clone())?).await?;
    stage.feed(events(&id, &payments)).await?;
    let mut balances: Output<i64> = stage.output("balances").await?;
    balances.until("what can be paid in is paid in", |balances| balances.rows().len() >= flows).await?;
    while app.quarantined().iter().map(|(_, held)| held.records).sum::<u64>() < (all - flows) as u64 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let waiting = app.quarantined().len();
    app.stop().await?;
    balances.to_the_end().await?;
    ensure!(payments::by_account(balances.rows()) == right.flowing, "an account that waits was paid into");

    let app = stage.start(topology(&id, Version::Second, rates.clone())?).await?;
    balances.until("what waited is paid in", |balances| balances.rows().len() >= all).await?;
    app.stop().await?;
    balances.to_the_end().await?;
    ensure!(payments::by_account(balances.rows()) == right.balances, "the balances differ from the payments");
    stage.close().await?;
    Ok(format!(
        "failures: {all} payments; {waiting} accounts waited for the second version, the others did not; {} requests, {} of them \
         failed; every payment is in its balance once, in order\n",
        rates.asked(),
        rates.failed()
    ))
}
