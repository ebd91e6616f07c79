//! Two nodes of our registry on the same `_schemas`, and a client of each that registers one schema after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use headwater_client::Client;
use headwater_registry::{Registry, RegistryClient};
use tokio::net::TcpListener;

use super::Load;

/// A registration is tried again for so long.
const PATIENCE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(250);

pub async fn serve(client: Client) -> Result<RegistryClient> {
    let registry = Registry::start(client).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, registry.router()).await });
    Ok(RegistryClient::new(format!("http://{address}")))
}

/// The id of each subject, as it was answered; the second registry must know it, too.
pub async fn register(registries: [RegistryClient; 2], load: Load) -> Result<BTreeMap<String, u32>> {
    let mut ids = BTreeMap::new();
    for number in 0.. {
        if !load.writing.load(Ordering::Relaxed) {
            break;
        }
        let (subject, schema) = (format!("subject-{number}"), schema(number));
        let first = patiently(&registries[number % 2], &subject, &schema).await?;
        let second = patiently(&registries[(number + 1) % 2], &subject, &schema).await?;
        if first != second {
            bail!("{subject} has id {first} in one registry and {second} in the other");
        }
        ids.insert(subject, first);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(ids)
}

fn schema(number: usize) -> String {
    format!(r#"{{"type":"record","name":"Record{number}","fields":[{{"name":"a","type":"long"}}]}}"#)
}

async fn patiently(registry: &RegistryClient, subject: &str, schema: &str) -> Result<u32> {
    let begun = Instant::now();
    loop {
        match registry.register(subject, schema).await {
            Ok(id) => return Ok(id),
            Err(error) if begun.elapsed() > PATIENCE => bail!("{subject} after {PATIENCE:?}: {error}"),
            Err(error) => tracing::warn!(%error, subject, "not registered; trying again"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What a registry that starts anew says differently.
pub async fn check(client: Client, ids: &BTreeMap<String, u32>) -> Result<Vec<String>> {
    let registry = serve(client).await?;
    let mut wrong = Vec::new();
    for (subject, id) in ids {
        match registry.latest(subject).await {
            Ok(found) if found.id == *id => {}
            Ok(found) => wrong.push(format!("registry: {subject} has id {}, was told {id}", found.id)),
            Err(error) => wrong.push(format!("registry: {subject} with id {id}: {error}")),
        }
    }
    let unique: BTreeSet<u32> = ids.values().copied().collect();
    if unique.len() < ids.len() {
        wrong.push(format!("registry: {} schemas share {} ids", ids.len(), unique.len()));
    }
    Ok(wrong)
}
