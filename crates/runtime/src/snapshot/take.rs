//! Taking snapshots of the stores whose tasks run here, beside the processing: a store is read as it was at one moment.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use headwater_client::Client;
use headwater_model::{Bytes, Offset, TopicPartition};
use object_store::buffered::BufWriter;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::format::{Header, LAYOUT, Writer};
use super::place::{Place, hex};
use super::{Snapshots, Subject, topic_ids};
use crate::app::Shared;
use crate::metrics::Metrics;
use crate::state::{Captured, StoreId};
use crate::thread::wall_clock;

/// Blocks that wait to be sent.
const AHEAD: usize = 4;

/// Until it is dropped.
pub(crate) async fn run(client: Client, shared: Arc<Shared>) {
    let Some(snapshots) = shared.snapshots.clone() else { return };
    let mut taken: HashMap<StoreId, Offset> = HashMap::new();
    loop {
        tokio::time::sleep(snapshots.config.interval).await;
        for subject in subjects(&client, &shared).await {
            let begun = Instant::now();
            match take(&shared, &snapshots, &subject, &mut taken).await {
                Ok(None) => {}
                Ok(Some((position, entries))) => {
                    Metrics::add(&shared.metrics.snapshots, 1);
                    tracing::info!(
                        store = %subject.store, position, entries, took = ?begun.elapsed(), "a snapshot was taken"
                    );
                }
                Err(error) => {
                    Metrics::add(&shared.metrics.snapshot_failures, 1);
                    tracing::warn!(
                        store = %subject.store, place = snapshots.place.url(), error,
                        "no snapshot was taken; the next turn tries again"
                    );
                }
            }
        }
    }
}

/// The stores of the tasks that run here, as far as they have changelogs that exist.
async fn subjects(client: &Client, shared: &Shared) -> Vec<Subject> {
    let running = shared.board.tasks().into_iter().filter(|(_, status)| status.running);
    let stores: Vec<(StoreId, TopicPartition)> = running.flat_map(|(task, _)| logged(shared, task)).collect();
    let mut topics: Vec<String> = stores.iter().map(|(_, changelog)| changelog.topic.to_string()).collect();
    topics.sort();
    topics.dedup();
    match topic_ids(client, topics).await {
        Ok(ids) => stores
            .into_iter()
            .filter_map(|(store, changelog)| {
                let topic_id = *ids.get(changelog.topic.as_str())?;
                Some(Subject { store, changelog, topic_id })
            })
            .collect(),
        Err(error) => {
            Metrics::add(&shared.metrics.snapshot_failures, 1);
            tracing::warn!(%error, "no snapshots were taken: the changelogs' ids could not be asked for");
            Vec::new()
        }
    }
}

fn logged(shared: &Shared, task: headwater_streams::TaskId) -> Vec<(StoreId, TopicPartition)> {
    let stores = shared.topology.stores(task.subtopology).into_iter();
    let logged = stores.filter_map(|info| {
        let changelog = TopicPartition::new(info.changelog?.as_str(), task.partition);
        Some((StoreId::new(task, info.name), changelog))
    });
    logged.collect()
}

/// Position and number of entries, if there is anything new.
async fn take(
    shared: &Shared,
    snapshots: &Snapshots,
    of: &Subject,
    taken: &mut HashMap<StoreId, Offset>,
) -> Result<Option<(Offset, u64)>, String> {
    let view = shared.stores.capture(&of.store).map_err(|error| error.to_string())?;
    let Some((position, view)) = view.filter(|(position, _)| taken.get(&of.store) != Some(position)) else {
        return Ok(None);
    };
    let folder = snapshots.folder(of);
    let path = Place::path(&folder, of.topic_id, position);
    let kept = snapshots.place.list(&folder).await?;
    if kept.iter().any(|found| found.object.location == path) {
        taken.insert(of.store.clone(), position);
        return Ok(None);
    }
    let header = Header {
        application_id: snapshots.application_id.clone(),
        store: of.store.store.clone(),
        layout: LAYOUT,
        changelog: of.changelog.topic.to_string(),
        partition: of.changelog.partition,
        topic_id: hex(of.topic_id),
        position,
        taken_at: wall_clock(),
    };
    let (sender, mut blocks) = mpsc::channel(AHEAD);
    let writing = tokio::task::spawn_blocking(move || write(&view, &header, &sender));
    let mut object = BufWriter::new(snapshots.place.store.clone(), path);
    let put = async {
        while let Some(block) = blocks.recv().await {
            object.write_all(&block).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    let put = put.await.map_err(|error| error.to_string());
    drop(blocks);
    let written = writing.await.map_err(|error| error.to_string()).flatten();
    // An object appears whole, when it is shut down, or not at all.
    let done = match put.and(written) {
        Ok(entries) => object.shutdown().await.map(|()| entries).map_err(|error| error.to_string()),
        Err(error) => {
            let _ = object.abort().await;
            Err(error)
        }
    };
    let entries = done?;
    taken.insert(of.store.clone(), position);
    prune(snapshots, of).await?;
    Ok(Some((position, entries)))
}

fn write(view: &Captured, header: &Header, to: &mpsc::Sender<Bytes>) -> Result<u64, String> {
    let send = |block: Bytes| to.blocking_send(block).map_err(|_| "it could not be written".to_owned());
    let (mut writer, begins) = Writer::begin(header).map_err(|error| error.to_string())?;
    send(begins)?;
    view.each(&mut |key, value| {
        let full = writer.entry(key, value).map_err(|error| headwater_streams::StoreError::new(error.0))?;
        full.map_or(Ok(()), &send).map_err(headwater_streams::StoreError::new)
    })
    .map_err(|error| error.to_string())?;
    let (ends, entries) = writer.end().map_err(|error| error.to_string())?;
    send(ends)?;
    Ok(entries)
}

/// Removes all but the newest; those of a changelog that is no more count as the oldest.
async fn prune(snapshots: &Snapshots, of: &Subject) -> Result<(), String> {
    let mut kept = snapshots.place.list(&snapshots.folder(of)).await?;
    kept.sort_by_key(|found| (found.topic_id != of.topic_id, std::cmp::Reverse(found.position)));
    for found in kept.iter().skip(snapshots.config.keep) {
        snapshots.place.remove(&found.object.location).await?;
    }
    Ok(())
}
