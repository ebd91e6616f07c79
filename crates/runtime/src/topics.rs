//! The topics an application needs before it starts: inputs checked, outputs and internal topics created; and inputs that change
//! while it runs.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use headwater_client::{Client, ErrorCode, NewTopic};
use headwater_model::acl::Operation;
use headwater_streams::Topology;

use crate::app::Shared;
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

/// Says of tables that are restored from their topics whether those forget rows.
pub(crate) async fn warn_of_tables(client: &Client, topology: &Topology) {
    let parts = topology.describe().subtopologies;
    let stores = parts.iter().flat_map(|part| topology.stores(part.id)).filter(|info| info.source_topic);
    let tables: Vec<_> = stores.filter_map(|info| Some((info.name, info.changelog?))).collect();
    for (store, topic) in tables {
        // What may not be seen is not warned of, nor asked for: each start would be told in the broker's audit as an attempt.
        if !client.may(Operation::DescribeConfigs, &topic).await.unwrap_or(false) {
            continue;
        }
        let mut settings = Vec::new();
        for name in ["cleanup.policy", "retention.ms", "retention.bytes"] {
            let entry = client.topic_config(&topic, name).await.ok().flatten();
            settings.extend(entry.and_then(|entry| entry.value));
        }
        if let [policy, ms, bytes] = &settings[..]
            && forgets(policy, ms, bytes)
        {
            tracing::warn!(
                store,
                topic,
                cleanup_policy = policy.as_str(),
                "this table is restored from its topic, whose retention deletes rows: they are missing after a restore; \
                 let the topic be compacted only, or use Materialized::own_changelog and process the topic again (headwater topology reprocess)"
            );
        }
    }
}

/// Whether a topic with these settings deletes records that no later one replaces.
fn forgets(policy: &str, retention_ms: &str, retention_bytes: &str) -> bool {
    let deletes = policy.split(',').any(|policy| policy.trim() == "delete");
    deletes && (retention_ms != "-1" || retention_bytes != "-1")
}

/// What has become of the topics that are read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changed {
    /// With the partitions that they had and have.
    grown: BTreeMap<String, (i32, i32)>,
    gone: Vec<String>,
}

fn changed(sources: &[String], known: &Counts, listed: &Counts) -> Changed {
    let mut changed = Changed::default();
    for topic in sources {
        match (known.get(topic), listed.get(topic)) {
            (Some(before), Some(now)) if now > before => {
                changed.grown.insert(topic.clone(), (*before, *now));
            }
            (_, None) => changed.gone.push(topic.clone()),
            _ => {}
        }
    }
    changed
}

/// Looks at the topics that are read, until the application stops. Partitions that they get are read from the next start on, and are
/// told; a topic that is gone at two looks in a row ends the application, as it does in Kafka Streams.
pub(crate) async fn watch(client: Client, shared: Arc<Shared>) {
    let sources = shared.topology.source_topics();
    let mut last = Changed::default();
    loop {
        tokio::select! {
            () = shared.stopped() => return,
            () = tokio::time::sleep(shared.config.metadata_max_age) => {}
        }
        let listed: Counts = match client.topics().await {
            Ok(listed) => listed.into_iter().map(|topic| (topic.name, topic.partitions)).collect(),
            Err(error) => {
                tracing::debug!(%error, "the topics that are read are not looked at; trying again");
                continue;
            }
        };
        let now = changed(&sources, &shared.counts, &listed);
        for (topic, (before, partitions)) in &now.grown {
            if last.grown.get(topic) != Some(&(*before, *partitions)) {
                tracing::warn!(
                    topic,
                    before,
                    partitions,
                    "the topic has got partitions that are not read before the next start: stop all instances, then start them"
                );
            }
        }
        let unread: u64 = now.grown.values().map(|(before, now)| u64::from(now.abs_diff(*before))).sum();
        shared.unread_partitions.store(unread, Ordering::Relaxed);
        let gone: Vec<String> = now.gone.iter().filter(|topic| last.gone.contains(topic)).cloned().collect();
        if let Some(first) = gone.first() {
            tracing::error!(topic = first.as_str(), "a topic that is read is gone: the application ends");
            return shared.fail(AppError::MissingTopics {
                application_id: shared.config.application_id.clone(),
                bootstrap: shared.config.bootstrap.clone(),
                first: first.clone(),
                topics: gone,
            });
        }
        last = now;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_forgets_rows_if_its_retention_deletes_what_nothing_replaces() {
        assert!(forgets("delete", "604800000", "-1"));
        assert!(forgets("compact, delete", "-1", "1000"));
        assert!(!forgets("compact", "604800000", "-1"));
        assert!(!forgets("delete", "-1", "-1"));
    }

    #[test]
    fn topics_that_grow_or_go_are_told_and_others_not() {
        let counts = |topics: &[(&str, i32)]| -> Counts {
            topics.iter().map(|(topic, partitions)| ((*topic).to_owned(), *partitions)).collect()
        };
        let sources = ["a", "b", "c", "d"].map(str::to_owned);
        let known = counts(&[("a", 2), ("b", 2), ("c", 3), ("d", 1), ("out", 1)]);
        let listed = counts(&[("a", 2), ("b", 5), ("c", 2), ("other", 9)]);
        let expected = Changed { grown: [("b".to_owned(), (2, 5))].into(), gone: vec!["d".to_owned()] };
        assert_eq!(changed(&sources, &known, &listed), expected);
    }
}
