//! Global tables: read to their end before any task starts, then kept current in the background.
//!
//! A broker that is away is waited for, however long that takes; what no retry changes ends the application, and so does a record
//! that does not decode, unless the table's handler leaves such out.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use headwater_client::{Client, ClientError, Consumer, ConsumerConfig, Fetched, Isolation, OffsetSpec};
use headwater_model::{Offset, TopicPartition};
use headwater_streams::GlobalStores;
use tokio::task::JoinHandle;

use crate::app::Shared;
use crate::error::AppError;
use crate::metrics::Metrics;
use crate::topics::Counts;

const POLL: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_secs(1);

/// Loads every global table and returns the task that follows their topics; `None` if there are none.
pub(crate) async fn load(
    client: &Client,
    shared: &Arc<Shared>,
    counts: &Counts,
) -> Result<Option<JoinHandle<()>>, AppError> {
    let mut stores: HashMap<String, Vec<String>> = HashMap::new();
    for global in shared.topology.global_stores() {
        stores.entry(global.topic).or_default().push(global.store);
    }
    if stores.is_empty() {
        return Ok(None);
    }
    let failed = || AppError::client("load the global tables");
    let partitions: Vec<TopicPartition> = stores
        .keys()
        .flat_map(|topic| {
            let count = counts.get(topic).copied().unwrap_or(0);
            (0..count).map(|partition| TopicPartition::new(topic.as_str(), partition))
        })
        .collect();
    let offsets = async |spec: OffsetSpec| {
        let asked: Vec<_> = partitions.iter().map(|at| (at.clone(), spec)).collect();
        client.list_offsets(&asked, Isolation::Committed).await
    };
    let starts = offsets(OffsetSpec::Earliest).await.map_err(failed())?;
    let ends = offsets(OffsetSpec::Latest).await.map_err(failed())?;
    let config = ConsumerConfig { isolation: Isolation::Committed, ..ConsumerConfig::default() };
    let mut consumer = Consumer::new(client, config);
    let positions: Vec<(TopicPartition, Offset)> = starts.into_iter().collect();
    let mut waiting: HashMap<TopicPartition, Offset> = ends
        .into_iter()
        .filter(|(at, end)| positions.iter().any(|(known, start)| known == at && start < end))
        .collect();
    consumer.assign(positions);
    while !waiting.is_empty() {
        let fetched = consumer.poll(POLL).await.map_err(failed())?;
        for part in &fetched {
            if waiting.get(&part.topic_partition).is_some_and(|end| part.next_offset >= *end) {
                waiting.remove(&part.topic_partition);
            }
        }
        apply(shared, &stores, fetched).await?;
        waiting.retain(|at, end| consumer.position(at).is_none_or(|position| position < *end));
    }
    for store in stores.values().flatten() {
        let (rows, skipped) = (shared.globals.len(store), shared.globals.skipped(store));
        tracing::info!(store, rows, skipped, "global table loaded");
    }
    for at in &partitions {
        shared.serving.read_global(at, consumer.position(at).unwrap_or(0));
    }
    let weak = Arc::downgrade(shared);
    Ok(Some(tokio::spawn(follow(client.clone(), consumer, weak, stores))))
}

async fn follow(
    client: Client,
    mut consumer: Consumer,
    shared: Weak<Shared>,
    stores: HashMap<String, Vec<String>>,
) {
    loop {
        let polled = consumer.poll(POLL).await;
        let Some(shared) = shared.upgrade() else { return };
        let error = match polled {
            Ok(fetched) => match apply(&shared, &stores, fetched).await {
                Ok(()) => continue,
                Err(error) => return end(&shared, error),
            },
            Err(error) => error,
        };
        match after(&error) {
            After::Begin(at) => {
                tracing::warn!(%error, "a global table is read from its topic's beginning again; rows that are not there any more stay until a restart");
                begin_again(&client, &mut consumer, at).await;
            }
            After::TryAgain => {
                tracing::warn!(%error, "global tables are not current; trying again");
                drop(shared);
                tokio::time::sleep(RETRY).await;
                // A partition that has failed is left alone until somebody says so.
                consumer.try_again();
            }
            After::End => {
                return end(&shared, AppError::client("keep the global tables current")(error));
            }
        }
    }
}

/// The application ends rather than go on with rows that are not those of the topic.
fn end(shared: &Shared, error: AppError) {
    tracing::error!(application_id = shared.config.application_id, %error, "global tables cannot be kept current");
    shared.fail(error);
}

/// What is done about an error.
#[derive(Debug, PartialEq, Eq)]
enum After<'a> {
    /// The topic is read from its beginning.
    Begin(&'a TopicPartition),
    TryAgain,
    End,
}

fn after(error: &ClientError) -> After<'_> {
    match error {
        ClientError::Truncated { at, .. } | ClientError::OffsetOutOfRange { at, .. } => After::Begin(at),
        // A topic that is not there may be between two leaders, or be made again.
        error if error.is_final() => After::End,
        _ => After::TryAgain,
    }
}

async fn begin_again(client: &Client, consumer: &mut Consumer, at: &TopicPartition) {
    let asked = [(at.clone(), OffsetSpec::Earliest)];
    match client.list_offsets(&asked, Isolation::Committed).await {
        Ok(found) => consumer.seek(at, found.get(at).copied().unwrap_or(0)),
        Err(error) => {
            tracing::warn!(%error, "the beginning of a global table's topic is not known; trying again");
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// What is applied is said to be read.
async fn apply(
    shared: &Shared,
    stores: &HashMap<String, Vec<String>>,
    fetched: Vec<Fetched>,
) -> Result<(), AppError> {
    let read: Vec<(TopicPartition, Offset)> =
        fetched.iter().map(|part| (part.topic_partition.clone(), part.next_offset)).collect();
    let skipped = apply_records(&shared.globals, stores, fetched).await?;
    Metrics::add(&shared.metrics.global_skipped, skipped);
    read.iter().for_each(|(at, next)| shared.serving.read_global(at, *next));
    Ok(())
}

/// Returns how many were left out. Decoding may wait for a schema, so it does not run on the reactor.
async fn apply_records(
    globals: &GlobalStores,
    stores: &HashMap<String, Vec<String>>,
    fetched: Vec<Fetched>,
) -> Result<u64, AppError> {
    let mut work = Vec::new();
    for part in fetched.into_iter().filter(|part| !part.records.is_empty()) {
        let (at, records) = (part.topic_partition, Arc::new(part.records));
        for store in stores.get(&at.topic).into_iter().flatten() {
            work.push((store.clone(), at.partition, records.clone()));
        }
    }
    if work.is_empty() {
        return Ok(0);
    }
    let globals = globals.clone();
    let done = tokio::task::spawn_blocking(move || {
        let mut skipped = 0;
        for (store, partition, records) in work {
            let before = globals.skipped(&store);
            let applied = globals.apply(&store, partition, &records);
            skipped += globals.skipped(&store) - before;
            applied.map_err(|source| AppError::Global { store, source })?;
        }
        Ok(skipped)
    });
    done.await.unwrap_or_else(|error| Err(AppError::Panic(error.to_string())))
}

#[cfg(test)]
mod tests {
    use headwater_client::ErrorCode;

    use super::*;

    fn gave_up(last: ClientError) -> ClientError {
        ClientError::GaveUp { what: "fetch t-0".to_owned(), after: POLL, last: Arc::new(last) }
    }

    fn refused(code: ErrorCode) -> ClientError {
        ClientError::Kafka { what: "fetch".to_owned(), code, message: String::new() }
    }

    #[test]
    fn a_leader_that_is_away_is_waited_for_and_what_no_retry_changes_ends_the_application() {
        let away = || ClientError::Disconnected { address: "a:1".to_owned(), reason: String::new() };
        for error in [away(), gave_up(away()), gave_up(ClientError::UnknownTopic("t".to_owned()))] {
            assert_eq!(after(&error), After::TryAgain, "{error}");
        }
        for code in [ErrorCode::TopicAuthorizationFailed, ErrorCode::UnsupportedVersion] {
            assert_eq!(after(&refused(code)), After::End, "{code:?}");
        }
        let at = TopicPartition::new("t", 0);
        let gone = ClientError::OffsetOutOfRange { at: at.clone(), offset: 3 };
        assert_eq!(after(&gone), After::Begin(&at));
    }
}
