//! Sales become stock levels in a table of PostgreSQL, which a web shop reads by SQL.
//!
//! The levels and the offsets of the sales are in one transaction, so each sale is in its level once. The service stops in the middle
//! and goes on: it restores nothing, as everything is in the database.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use headwater::streams::serdes::{i64, json, string};
use headwater::streams::{
    ColumnType, Consumed, ExternalTable, Grouped, Materialized, StreamsBuilder, Topology, TopologyError,
};
use headwater::{AppConfig, StreamsApp};
use headwater_stage::{Event, Options, Stage, topic};
use serde::{Deserialize, Serialize};
use tokio_postgres::NoTls;

const SALES: u64 = 3_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// So many pieces of an item.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Sale {
    pub pieces: i64,
}

/// How many pieces of each item were sold: a table whose columns any program can read.
pub fn topology(application_id: &str, table: &str) -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new(application_id);
    let table = ExternalTable::named(table).key(ColumnType::Text).value(ColumnType::BigInt);
    builder
        .stream(&topic(application_id, "sales"), Consumed::with(string(), json::<Sale>()))
        .map_values(|sale| sale.pieces)
        .group_by_key(Grouped::with(string(), i64()))
        .reduce(|sum, pieces| sum + pieces, Materialized::named("sold").external(table));
    builder.build()
}

/// What is sold, in order.
fn sales(seed: u64) -> impl Iterator<Item = (String, Sale)> {
    (0..SALES).map(move |n| {
        let drawn = (n + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (format!("item-{:02}", drawn >> 59), Sale { pieces: (drawn >> 40 & 3) as i64 + 1 })
    })
}

/// Runs the service twice, and compares what the table says with what was sold.
pub async fn run(options: &Options, external: &str) -> Result<String> {
    let stage = Stage::open(options, "shop").await?;
    let id = stage.application_id().to_owned();
    let table = id.replace('-', "_");
    stage.create(&["sales"]).await?;
    let begin = stage.begin();
    let events: Vec<Event> = (0..)
        .zip(sales(options.seed))
        .map(|(n, (item, sale))| Event::new(stage.topic("sales"), item, &sale, begin + n))
        .collect();
    let mut right: BTreeMap<String, i64> = BTreeMap::new();
    sales(options.seed).for_each(|(item, sale)| *right.entry(item).or_default() += sale.pieces);

    let mut config: AppConfig = stage.config();
    config.external = Some(headwater_external::open(external)?);
    let (early, late) = events.split_at(events.len() / 2);
    let app = StreamsApp::start(topology(&id, &table)?, config.clone()).await?;
    stage.feed(early.to_vec()).await?;
    app.stop().await?;
    stage.feed(late.to_vec()).await?;
    let app = StreamsApp::start(topology(&id, &table)?, config).await?;
    let sold = settled(external, &table, right.values().sum()).await;
    let restored = app.metrics().restored;
    app.stop().await?;
    ensure!(sold? == right, "the table differs from what was sold");
    ensure!(restored == 0, "{restored} records were restored");
    if !options.keep {
        remove(external, &id, &table).await?;
    }
    stage.close().await?;
    Ok(format!("shop: {SALES} sales of {} items, each in its row of table {table} once\n", right.len()))
}

async fn connect(external: &str) -> Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(external, NoTls)
        .await
        .context("connecting to the database (name it with --external or HEADWATER_EXTERNAL)")?;
    tokio::spawn(connection);
    Ok(client)
}

/// As the web shop asks, until everything is there.
async fn settled(external: &str, table: &str, pieces: i64) -> Result<BTreeMap<String, i64>> {
    let shop = connect(external).await?;
    let begun = Instant::now();
    loop {
        let rows = shop.query(&format!("SELECT key, value FROM {table}"), &[]).await?;
        let sold: BTreeMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        if sold.values().sum::<i64>() >= pieces {
            return Ok(sold);
        }
        ensure!(begun.elapsed() < PATIENCE, "not all sales are in the table after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Leaves nothing of this run behind.
async fn remove(external: &str, id: &str, table: &str) -> Result<()> {
    let shop = connect(external).await?;
    shop.batch_execute(&format!("DROP TABLE {table}")).await?;
    for own in ["headwater_stores", "headwater_tasks", "headwater_positions"] {
        shop.execute(&format!("DELETE FROM {own} WHERE application_id = $1"), &[&id]).await?;
    }
    Ok(())
}
