//! Bank account: a deposit, then a withdrawal. If the withdrawal is seen first, it is charged for an overdraft that never was.
//!
//! Three services see the same postings. One takes them as they come and charges wrongly; one puts them in order within a
//! grace period; one reads deposits and withdrawals from two topics, lowest timestamp first. The last two must be right to the cent.

mod answer;
mod input;
mod topology;

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use headwater_stage::{Options, Output, Row, Stage};

pub use answer::{Answer, answer};
pub use input::Happened;
pub use topology::{Account, Charge, FEE, GRACE, Order, Posting, STRETCH, topology};

/// What a service wrote: the last of each account, and all charges.
pub fn told(accounts: &[Row<Account>], charges: &[Row<Charge>]) -> Answer {
    let real = |key: &str| !key.starts_with("end-");
    let mut answer = Answer::default();
    for (key, account, _) in accounts.iter().filter(|(key, ..)| real(key)) {
        answer.accounts.extend(account.clone().map(|account| (key.clone(), account.at_rest())));
    }
    let charges = charges.iter().filter_map(|(key, charge, _)| Some((key.clone(), charge.clone()?)));
    answer.charges = charges.collect();
    answer.charges.sort();
    answer
}

/// Runs the three services one after the other.
pub async fn run(options: &Options) -> Result<String> {
    let mut text = String::new();
    for order in [Order::Arrival, Order::Grace, Order::Timestamp] {
        let stage = Stage::open(options, "book-bank").await?;
        let happened = Happened::draw(options.seed, stage.begin());
        let right = answer(happened.postings());
        let told = serve(&stage, order, &happened).await?;
        stage.close().await?;
        writeln!(text, "{}", judge(order, &told, &right)?)?;
    }
    Ok(text)
}

/// Lets one service go through everything and takes down what it says.
async fn serve(stage: &Stage, order: Order, happened: &Happened) -> Result<Answer> {
    let id = stage.application_id().to_owned();
    let partitions = stage.options().partitions;
    stage.create(&["postings", "deposits", "withdrawals", "accounts", "charges", "late"]).await?;
    let app = if order == Order::Timestamp {
        // The producer of deposits is the slower one: the task has to wait for it.
        stage.feed(happened.withdrawals(&id)).await?;
        let app = stage.start(topology(&id, order)?).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        stage.feed(happened.deposits(&id)).await?;
        for name in ["deposits", "withdrawals"] {
            stage.feed(happened.ends(&id, name, partitions)).await?;
        }
        app
    } else {
        let app = stage.start(topology(&id, order)?).await?;
        stage.feed(happened.in_one_topic(&id)).await?;
        stage.feed(happened.ends(&id, "postings", partitions)).await?;
        app
    };
    let mut accounts: Output<Account> = stage.output("accounts").await?;
    let expected = happened.postings().len();
    let real =
        |output: &Output<Account>| output.rows().iter().filter(|(key, ..)| !key.starts_with("end-")).count();
    accounts.until("every posting is on its account", |output| real(output) >= expected).await?;
    app.stop().await?;
    accounts.to_the_end().await?;
    ensure!(real(&accounts) == expected, "{} postings led to {} accounts", expected, real(&accounts));
    let mut charges: Output<Charge> = stage.output("charges").await?;
    charges.to_the_end().await?;
    Ok(told(accounts.rows(), charges.rows()))
}

/// What is to be said about a service's answer; an error if it is not the one that its order promises.
pub fn judge(order: Order, told: &Answer, right: &Answer) -> Result<String> {
    let wrong = told.charges.iter().filter(|charge| !right.charges.contains(charge)).count();
    let all = told.charges.len();
    match order {
        Order::Arrival => {
            ensure!(
                wrong > 0,
                "as they come: no wrong charge, so the input was in order; try another --seed"
            );
            Ok(format!("bank, as they come:      {all} charges, {wrong} of them wrong"))
        }
        Order::Grace | Order::Timestamp => {
            ensure!(told == right, "{order:?}: {told:?} is told, {right:?} is right");
            let how = if order == Order::Grace { "with a grace period: " } else { "lowest timestamp:    " };
            Ok(format!("bank, {how}  {all} charges, all right"))
        }
    }
}
