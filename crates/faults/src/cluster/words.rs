//! A service of ours on the streams runtime, exactly once: it counts the plain topic's records by their number's rest.
//!
//! Its oracle is the plain topic itself: each word's counts must be 1, 2, 3 … up to how often the word is there, each
//! once and in order.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use headwater::streams::serdes::{i64, string};
use headwater::streams::{Consumed, Grouped, Materialized, Produced, StreamsBuilder, Topology};
use headwater::{AppConfig, StreamsApp};
use headwater_client::Client;

use super::{COUNTS, PLAIN, read};

const APPLICATION: &str = "words";
const WORDS: u64 = 40;

fn word(value: &str) -> String {
    let number = value.rsplit('-').next().and_then(|number| number.parse::<u64>().ok());
    number.map_or_else(|| "none".to_owned(), |number| format!("word{}", number % WORDS))
}

fn topology() -> Result<Topology> {
    let builder = StreamsBuilder::new(APPLICATION);
    builder
        .stream(PLAIN, Consumed::with(string(), string()))
        .flat_map(|_, value: String| vec![(word(&value), value)])
        .group_by_key(Grouped::with(string(), string()).named("words"))
        .count(Materialized::named("counts").json())
        .to(COUNTS, Produced::with(string(), i64()));
    Ok(builder.build()?)
}

pub async fn start(bootstrap: &str, directory: &Path) -> Result<StreamsApp> {
    let mut config = AppConfig::new(bootstrap, APPLICATION);
    config.state_dir = directory.join("state");
    config.threads = 2;
    config.rebalance_timeout = Duration::from_secs(15);
    // Shorter than a node is away: its transactions are aborted under it, and it must do their work again.
    config.transaction_timeout = Duration::from_secs(3);
    Ok(StreamsApp::start(topology()?, config).await?)
}

/// What the counts must end with.
pub fn oracle(plain: &[Vec<String>]) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    plain.iter().flatten().for_each(|value| *counts.entry(word(value)).or_default() += 1);
    counts
}

/// What is wrong with the counts: too few, too many, out of order.
pub async fn check(client: &Client, plain: &[Vec<String>]) -> Result<Vec<String>> {
    let mut seen: BTreeMap<String, i64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for record in read::all(client, COUNTS).await?.into_iter().flatten() {
        let word = read::text(record.key.as_deref());
        let bytes = record.value.as_deref().and_then(|value| value.try_into().ok());
        let count = i64::from_be_bytes(bytes.context("a count is not eight bytes")?);
        let before = seen.insert(word.clone(), count).unwrap_or(0);
        if count != before + 1 {
            wrong.push(format!("counts: {word} goes from {before} to {count}"));
        }
    }
    for (word, count) in oracle(plain) {
        let found = seen.get(&word).copied().unwrap_or(0);
        if found != count {
            wrong.push(format!("counts: {word} ends with {found}, not {count}"));
        }
    }
    Ok(wrong)
}
