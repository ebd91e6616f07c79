//! A query's topology between topics in memory or on a cluster, and what came out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use headwater::streams::TopologyTestDriver;
use headwater_stage::{Output, Row, Stage, pipe, read, topic};

use crate::events::{Happened, over};
use crate::queries::{Kind, Query, Rows};
use crate::reference::sorted;

/// Between two commits in memory.
const COMMIT_EVERY: usize = 500;
/// As many topics follow each other in a topology at most.
const DEPTH: usize = 4;
const APPLICATION: &str = "nexmark";
/// Of the first rows that differ so many are shown.
const SHOWN: usize = 5;

/// What a query answered, and how long it took.
pub struct Ran {
    /// Rows as lines, sorted.
    pub rows: Vec<String>,
    pub took: Duration,
}

/// The rows that hold in the end, sorted.
pub fn rows(kind: Kind, records: &[Row<Rows>]) -> Vec<String> {
    let told = records.iter().filter(|(key, ..)| !key.starts_with("end-") && !key.starts_with('-'));
    match kind {
        Kind::Every => sorted(told.filter_map(|(_, rows, _)| rows.as_ref()).flatten()),
        Kind::Last => {
            let mut last: BTreeMap<&str, &Rows> = BTreeMap::new();
            for (key, rows, _) in told {
                match rows {
                    Some(rows) => last.insert(key, rows),
                    None => last.remove(key.as_str()),
                };
            }
            sorted(last.into_values().flatten())
        }
    }
}

/// Runs on the test driver; `trouble` may do something to it after each commit.
pub fn in_memory(
    query: &Query,
    happened: &[Happened],
    partitions: i32,
    mut trouble: impl FnMut(&mut TopologyTestDriver, usize) -> Result<()>,
) -> Result<Ran> {
    let topology = query.topology(APPLICATION)?;
    let begun = Instant::now();
    let mut driver = TopologyTestDriver::with_partitions(topology, &|_| partitions)?;
    driver.manual_commit();
    for (place, part) in happened.chunks(COMMIT_EVERY).enumerate() {
        pipe(&mut driver, part.iter().map(|happened| happened.event(APPLICATION)))?;
        driver.commit()?;
        trouble(&mut driver, place)?;
    }
    pipe(&mut driver, over(APPLICATION, happened, partitions))?;
    for _ in 0..DEPTH {
        driver.commit()?;
    }
    let took = begun.elapsed();
    let late = driver.metrics().dropped_late;
    ensure!(late == 0, "{} has {late} late records: the grace is shorter than the disorder", query.name);
    let records = read(&mut driver, &topic(APPLICATION, "results"));
    Ok(Ran { rows: rows(query.kind, &records), took })
}

/// Runs on a cluster until the rows are `expected`; what comes after that is read, too.
pub async fn on_cluster(
    query: &Query,
    happened: &[Happened],
    stage: &Stage,
    expected: &[String],
) -> Result<Ran> {
    let id = stage.application_id();
    stage.create(&["person", "auction", "bid", "results"]).await?;
    stage.feed(happened.iter().map(|happened| happened.event(id))).await?;
    stage.feed(over(id, happened, stage.options().partitions)).await?;
    let begun = Instant::now();
    let app = stage.start(query.topology(id)?).await?;
    let mut results: Output<Rows> = stage.output("results").await?;
    let right = |results: &Output<Rows>| rows(query.kind, results.rows()) == expected;
    let settled = results.until(&format!("{} answers as SQL does", query.name), right).await;
    let took = begun.elapsed();
    app.stop().await?;
    results.to_the_end().await?;
    if settled.is_err() {
        compare(query, &rows(query.kind, results.rows()), expected)?;
    }
    settled?;
    Ok(Ran { rows: rows(query.kind, results.rows()), took })
}

/// An error that shows what differs, if anything does.
pub fn compare(query: &Query, rows: &[String], expected: &[String]) -> Result<()> {
    if rows == expected {
        return Ok(());
    }
    let without = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|row| those.binary_search(row).is_err()).take(SHOWN).cloned().collect()
    };
    let (ours, theirs) = (without(rows, expected), without(expected, rows));
    let (count, all) = (rows.len(), expected.len());
    bail!("{}: {count} rows, SQL has {all}; only here {ours:?}; only in SQL {theirs:?}", query.name)
}

/// The query of this name, or what there is.
pub fn query(name: &str) -> Result<&'static Query> {
    Query::named(name).with_context(|| {
        let names: Vec<&str> = crate::QUERIES.iter().map(|query| query.name).collect();
        format!("no query is called {name:?}; there are {}", names.join(", "))
    })
}
