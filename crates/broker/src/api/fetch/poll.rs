//! Looks for records, and waits for those that are not there yet.
//!
//! Invariant: the first batch that is found is returned whatever its size, so that nobody gets stuck; after it
//! the limits hold.

use std::sync::Arc;

use headwater_coordinator::{CompressionType, UsageKind};
use headwater_log::{FileId, LogError, Offsets, PartitionId};
use headwater_wire::ErrorCode;
use tokio::time::{Instant, timeout_at};

use super::asked::{Asked, Limits};
use super::scatter::Answer;
use crate::api::{Call, rights};
use crate::broker::Shared;
use crate::catalog::Topic;
use crate::mirror::LogDisk;
use crate::planted::{self, Bug};

/// A client of an older version could not open what a topic keeps under zstd (KIP-110).
const ZSTD: i16 = 10;
/// How often files are brought for one request: they may have gone again before they were read.
const ROUNDS: usize = 3;

type Located = headwater_log::Located<LogDisk>;

/// A partition that was asked for, and the one it is.
struct Wanted {
    asked: Asked,
    place: Result<PartitionId, ErrorCode>,
}

pub struct Poll {
    wanted: Vec<Wanted>,
    limits: Limits,
}

/// What there is of one partition.
pub enum Found {
    Records(Located),
    /// The response is full; where the partition is.
    Full(Offsets),
    Refused(ErrorCode),
}

struct Look {
    found: Vec<Found>,
    bytes: usize,
    refused: bool,
}

impl Poll {
    pub fn new(call: &Call, asked: Vec<Asked>, by_id: bool, limits: Limits) -> Self {
        let catalog = &call.shared.catalog;
        let mut wanted: Vec<Wanted> = Vec::with_capacity(asked.len());
        let (mut topic, mut allowed): (Option<Arc<Topic>>, _) = (None, Ok(()));
        for asked in asked {
            // Partitions of one topic come together.
            if wanted.last().is_none_or(|last| last.asked.topic != asked.topic) {
                topic = match by_id {
                    true => catalog.by_id(&asked.topic.id.to_bytes()),
                    false => catalog.by_name(asked.topic.name.as_str()),
                };
                allowed = match &topic {
                    Some(topic) => call.may_read(topic),
                    None if by_id => Ok(()),
                    None => call.check(rights::READ_TOPIC, asked.topic.name.as_str()),
                };
                if let Some(topic) = topic.as_ref().filter(|_| allowed.is_ok()) {
                    call.uses(UsageKind::Reader, topic, None);
                }
            }
            let place = match &topic {
                _ if let Err(code) = allowed => Err(code),
                None if by_id => Err(ErrorCode::UnknownTopicId),
                None => Err(ErrorCode::UnknownTopicOrPartition),
                Some(_) if asked.leader_epoch > 0 => Err(ErrorCode::UnknownLeaderEpoch),
                Some(topic)
                    if call.version < ZSTD
                        && matches!(topic.settings.compression, CompressionType::Zstd(_)) =>
                {
                    Err(ErrorCode::UnsupportedCompressionType)
                }
                Some(topic) => topic.partition(asked.index).ok_or(ErrorCode::UnknownTopicOrPartition),
            };
            wanted.push(Wanted { asked, place });
        }
        Self { wanted, limits }
    }

    /// Returns when there is enough, an error to tell, or no more time; one result for each partition.
    pub async fn run(&self, shared: &Shared) -> Vec<Found> {
        if let Some(found) = self.enough(shared) {
            return found;
        }
        let places = self.wanted.iter().filter_map(|wanted| wanted.place.ok()).collect();
        let waiting = shared.waiters.register(places);
        loop {
            if let Some(found) = self.enough(shared) {
                return found;
            }
            if timeout_at(self.limits.deadline, waiting.woken()).await.is_err() {
                return self.look(shared).found;
            }
        }
    }

    fn enough(&self, shared: &Shared) -> Option<Vec<Found>> {
        let look = self.look(shared);
        let enough = look.refused
            || look.bytes >= self.limits.min_bytes
            || self.available(shared) >= self.limits.min_bytes
            || self.limits.deadline <= Instant::now();
        enough.then_some(look.found)
    }

    /// What the partitions have, each within its own limit: the response's limit may be below the minimum.
    fn available(&self, shared: &Shared) -> usize {
        if self.limits.min_bytes <= 1 {
            return 0;
        }
        let sizes = self.wanted.iter().filter_map(|wanted| {
            let (asked, isolation) = (&wanted.asked, self.limits.isolation);
            shared.reader.available(wanted.place.ok()?, asked.offset, asked.max_bytes, isolation).ok()
        });
        sizes.sum()
    }

    fn look(&self, shared: &Shared) -> Look {
        let mut look = Look { found: Vec::with_capacity(self.wanted.len()), bytes: 0, refused: false };
        for wanted in &self.wanted {
            let left = self.limits.max_bytes.saturating_sub(look.bytes);
            let full = left == 0 && look.bytes > 0;
            let found = match wanted.place {
                Err(code) => Err(code),
                Ok(place) if full => peek(shared, place, &wanted.asked),
                Ok(place) => self.locate(shared, place, &wanted.asked, left),
            };
            let found = match (found, wanted.place) {
                // A partition gives a whole batch even where it does not fit, but only the first one may.
                (Ok(Found::Records(located)), Ok(place)) if look.bytes > 0 && located.bytes > left => {
                    peek(shared, place, &wanted.asked)
                }
                (found, _) => found,
            };
            match &found {
                Ok(Found::Records(located)) => look.bytes += located.bytes,
                Ok(_) => {}
                Err(_) => look.refused = true,
            }
            look.found.push(found.unwrap_or_else(Found::Refused));
        }
        look
    }

    fn locate(
        &self,
        shared: &Shared,
        place: PartitionId,
        asked: &Asked,
        left: usize,
    ) -> Result<Found, ErrorCode> {
        let most = asked.max_bytes.min(left);
        let mut isolation = self.limits.isolation;
        if planted::is(Bug::ReadOpen) {
            isolation = headwater_log::Isolation::Uncommitted;
        }
        let skipped = i64::from(planted::is(Bug::SkipRecords) && asked.offset % 8 == 7);
        let located = shared.reader.locate(place, asked.offset + skipped, most, isolation);
        // Where the records are in a file that is not here is found out again when its index is damaged.
        if let Err(LogError::Far { id, .. }) = &located {
            shared.cold.begin(*id);
        }
        located.map(Found::Records).map_err(|error| code(&error))
    }

    /// Puts what was found beside what was asked.
    pub fn answers(self, found: Vec<Found>) -> Vec<Answer> {
        let isolation = self.limits.isolation;
        self.wanted
            .into_iter()
            .zip(found)
            .map(|(Wanted { asked, .. }, found)| match found {
                Found::Records(located) => Answer::of_records(asked, located, isolation),
                Found::Full(offsets) => Answer::of_offsets(asked, offsets, isolation),
                Found::Refused(code) => Answer::of_error(asked, code),
            })
            .collect()
    }
}

/// Where the partition is, without records.
fn peek(shared: &Shared, place: PartitionId, asked: &Asked) -> Result<Found, ErrorCode> {
    let offsets = shared.reader.offsets(place).map_err(|error| code(&error))?;
    match (offsets.log_start..=offsets.high_watermark).contains(&asked.offset) {
        true => Ok(Found::Full(offsets)),
        false => Err(ErrorCode::OffsetOutOfRange),
    }
}

/// Waits for the disk, where records are not in memory, so that no connection's task has to; and, as a task,
/// for the cold store where they are not here.
pub async fn prepare(shared: &Shared, mut found: Vec<Found>) -> Vec<Found> {
    if !found.iter().any(Found::is_cold) {
        return found;
    }
    for _ in 0..ROUNDS {
        bring(shared, &mut found).await;
        found = on_a_thread(found).await;
        if found.iter().all(Found::is_prepared) {
            return found;
        }
    }
    // What was brought went again before it was read, each time: what is here is given, and the rest when it is asked for.
    on_a_thread(found.into_iter().map(Found::without_far).collect()).await
}

/// Waits for what is in the cold store only.
async fn bring(shared: &Shared, found: &mut [Found]) {
    for file in found.iter().flat_map(Found::far) {
        shared.cold.begin(file);
    }
    for one in found {
        let far = one.far();
        if !far.is_empty() && !shared.cold.bring(&far).await {
            *one = Found::Refused(ErrorCode::KafkaStorageError);
        }
    }
}

async fn on_a_thread(found: Vec<Found>) -> Vec<Found> {
    let partitions = found.len();
    let preparing = tokio::task::spawn_blocking(move || found.into_iter().map(prepare_one).collect());
    preparing.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a fetch could not be prepared");
        (0..partitions).map(|_| Found::Refused(ErrorCode::UnknownServerError)).collect()
    })
}

fn prepare_one(mut found: Found) -> Found {
    if let Found::Records(located) = &mut found
        && !located.is_warm()
        && let Err(error) = located.prepare()
        && !matches!(error, LogError::Far { .. })
    {
        return Found::Refused(code(&error));
    }
    found
}

impl Found {
    fn is_cold(&self) -> bool {
        matches!(self, Self::Records(located) if !located.is_warm())
    }

    /// Nothing is left to be opened or looked at.
    fn is_prepared(&self) -> bool {
        !matches!(self, Self::Records(located) if !located.is_prepared())
    }

    /// What there is of it here.
    fn without_far(mut self) -> Self {
        let Self::Records(located) = &mut self else { return self };
        let far = located.far();
        if located.is_prepared() || located.leave_far() {
            return self;
        }
        let files: Vec<String> = far.iter().map(|file| file.name()).collect();
        tracing::warn!(?files, "a file from the cold store has no room here for as long as it is read");
        Self::Refused(ErrorCode::KafkaStorageError)
    }

    fn far(&self) -> Vec<FileId> {
        if let Self::Records(located) = self { located.far() } else { Vec::new() }
    }
}

fn code(error: &LogError) -> ErrorCode {
    match error {
        LogError::UnknownPartition(_) => ErrorCode::UnknownTopicOrPartition,
        LogError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        LogError::Damaged { .. } => ErrorCode::CorruptMessage,
        error => {
            tracing::error!(%error, "the log cannot be read");
            ErrorCode::KafkaStorageError
        }
    }
}
