//! Snapshots of stores on object storage: a store that is not here comes back from one, and from the changelog only what
//! came after.
//!
//! Invariant: a snapshot holds what its store held at one position of one incarnation of its changelog, all of it or it is
//! refused. It is never needed: whatever is wrong with it, the changelog makes the store.

mod fetch;
mod format;
mod place;
mod take;

use std::collections::HashMap;
use std::time::Duration;

use headwater_client::{Client, ClientError};
use headwater_model::{Offset, TimestampMs, TopicPartition};

pub(crate) use fetch::{Chunk, Fetch};
pub(crate) use place::Place;
pub(crate) use take::run;

use crate::config::{AppConfig, ConfigError};
use crate::state::StoreId;

/// Where snapshots of an application's stores lie, and how often they are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotConfig {
    /// `file:///directory` or `s3://bucket/prefix`; may be shared by applications.
    pub place: String,
    /// Time between two snapshots of a store that has changed.
    pub interval: Duration,
    /// So many of each store are kept, the newest.
    pub keep: usize,
}

impl SnapshotConfig {
    /// Every ten minutes, two of each store.
    pub fn new(place: impl Into<String>) -> Self {
        Self { place: place.into(), interval: Duration::from_secs(600), keep: 2 }
    }
}

/// A changelog's topic, by the id that it does not share with one of the same name that was deleted.
pub(crate) type TopicIds = HashMap<String, [u8; 16]>;

/// A snapshot that fits a store.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub object: object_store::ObjectMeta,
    /// The changelog's offset up to which it is complete.
    pub position: Offset,
    pub topic_id: [u8; 16],
}

/// One store, as snapshots name it.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub store: StoreId,
    pub changelog: TopicPartition,
    pub topic_id: [u8; 16],
}

pub(crate) struct Snapshots {
    pub place: Place,
    pub config: SnapshotConfig,
    pub application_id: String,
}

impl Snapshots {
    pub fn open(config: &AppConfig) -> Result<Option<Self>, ConfigError> {
        let Some(snapshots) = &config.snapshots else { return Ok(None) };
        let refused = |reason: String| ConfigError {
            value: snapshots.place.clone(),
            origin: "[runtime] snapshots".to_owned(),
            reason,
        };
        if snapshots.keep == 0 || snapshots.interval.is_zero() {
            return Err(refused("keep one or more, and leave some time between two of them".to_owned()));
        }
        let place = Place::open(&snapshots.place).map_err(refused)?;
        let application_id = config.application_id.clone();
        Ok(Some(Self { place, config: snapshots.clone(), application_id }))
    }

    /// The newest snapshot of a store whose position is in `from..=to`; none that was taken before `since`, unless nothing came
    /// after it but the end of a transaction.
    pub async fn newest(
        &self,
        of: &Subject,
        (from, to): (Offset, Offset),
        since: TimestampMs,
    ) -> Result<Option<Found>, String> {
        let kept = self.place.list(&self.folder(of)).await?;
        let is_recent = |found: &Found| {
            to - found.position <= 1 || found.object.last_modified.timestamp_millis() >= since
        };
        let fits = |found: &Found| {
            found.topic_id == of.topic_id && (from..=to).contains(&found.position) && is_recent(found)
        };
        Ok(kept.into_iter().filter(fits).max_by_key(|found| found.position))
    }

    fn folder(&self, of: &Subject) -> object_store::path::Path {
        self.place.folder(&self.application_id, &of.changelog)
    }
}

pub(crate) async fn topic_ids(client: &Client, topics: Vec<String>) -> Result<TopicIds, ClientError> {
    let mut ids = TopicIds::new();
    for topic in topics {
        if let Some(id) = client.topic_id(&topic).await? {
            ids.insert(topic, id);
        }
    }
    Ok(ids)
}
