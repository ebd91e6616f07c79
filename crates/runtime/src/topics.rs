//! The topics an application needs before it starts: inputs checked, outputs and internal topics created.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use headwater_client::{Client, ErrorCode, NewTopic};
use headwater_streams::Topology;

use crate::config::AppConfig;
use crate::error::AppError;

/// Partition counts by topic.
pub(crate) type Counts = HashMap<String, i32>;

/// Returns the partition counts of every topic that the topology reads or writes.
pub(crate) async fn prepare(
    client: &Client,
    topology: &Topology,
    config: &AppConfig,
) -> Result<Counts, AppError> {
    let listed = client.topics().await.map_err(AppError::client("list topics"))?;
    let mut counts: Counts = listed.into_iter().map(|topic| (topic.name, topic.partitions)).collect();
    let sinks = topology.sink_topics();
    let sources = topology.source_topics();
    let missing: Vec<String> = sources
        .iter()
        .filter(|topic| !counts.contains_key(*topic) && !sinks.contains(topic))
        .cloned()
        .collect();
    if let Some(first) = missing.first() {
        return Err(AppError::MissingTopics {
            application_id: config.application_id.clone(),
            bootstrap: config.bootstrap.clone(),
            first: first.clone(),
            topics: missing,
        });
    }
    let widest = sources.iter().filter_map(|topic| counts.get(topic)).copied().max().unwrap_or(1);
    for sink in sinks {
        if let Entry::Vacant(missing) = counts.entry(sink) {
            let (partitions, settings) = declared(config, missing.key());
            let partitions = partitions.unwrap_or(widest);
            create(client, missing.key(), partitions, &settings, config).await?;
            missing.insert(partitions);
        }
    }
    for topic in topology.internal_topics(&|name| counts.get(name).copied())? {
        match counts.get(&topic.name) {
            Some(found) if *found == topic.partitions => {}
            Some(found) => {
                return Err(AppError::InternalTopic {
                    topic: topic.name,
                    found: *found,
                    expected: topic.partitions,
                });
            }
            None => {
                let settings = topic.configs.iter().cloned().collect();
                create(client, &topic.name, topic.partitions, &settings, config).await?;
                counts.insert(topic.name, topic.partitions);
            }
        }
    }
    Ok(counts)
}

/// How large a batch each topic takes. One whose configuration this client may not see has no limit that is known.
pub(crate) async fn limits(client: &Client, topics: &[String]) -> Result<HashMap<String, usize>, AppError> {
    let mut limits = HashMap::new();
    for topic in topics {
        match client.topic_config(topic, "max.message.bytes").await {
            Ok(entry) => {
                let value = entry.and_then(|entry| entry.value?.parse().ok());
                limits.extend(value.map(|limit| (topic.clone(), limit)));
            }
            Err(error) if error.code() == Some(ErrorCode::TopicAuthorizationFailed) => {
                tracing::warn!(
                    topic,
                    "its max.message.bytes cannot be read: what is too large is known when the broker refuses it"
                );
            }
            Err(source) => return Err(AppError::client("read max.message.bytes of what is written")(source)),
        }
    }
    Ok(limits)
}

/// What the manifest says about an output.
fn declared(config: &AppConfig, topic: &str) -> (Option<i32>, BTreeMap<String, String>) {
    let Some(manifest) = &config.manifest else { return (None, BTreeMap::new()) };
    if let Some(output) = manifest.outputs.values().find(|output| output.topic == topic) {
        return (output.partitions, output.config.clone());
    }
    let stream = manifest.streams.iter().find(|stream| stream.topic == topic);
    stream.map_or((None, BTreeMap::new()), |stream| (stream.partitions, stream.config.clone()))
}

async fn create(
    client: &Client,
    topic: &str,
    partitions: i32,
    settings: &BTreeMap<String, String>,
    config: &AppConfig,
) -> Result<(), AppError> {
    let mut new = NewTopic::new(topic, partitions);
    new.replication = config.replication;
    for (name, value) in settings {
        new = new.config(name, value);
    }
    tracing::info!(topic, partitions, "creating topic");
    let failed = |source| AppError::PrepareTopic { topic: topic.to_owned(), source };
    client.ensure_topic(new).await.map_err(failed)
}
