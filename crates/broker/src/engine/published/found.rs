//! Kafka's own topics as a start finds them, when they are not as the broker makes them.
//!
//! Versions that wrote none of them let clients create them as they liked, and versions after that let an
//! administrator change their policy. The second are told by what is in them: who writes to such a topic is
//! either a client or the broker, and never both.

use headwater_coordinator::{Coordinator, PublishedTopic, TopicRecord, published_partition};
use headwater_log::{Isolation, LogError, PartitionId, Reader};
use headwater_wire::{BatchHeader, batch};

use crate::StartError;
use crate::mirror::{Home, LogDisk};

/// What is to be done about a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Odd {
    /// It is a client's and holds nothing: it makes room.
    Empty(PublishedTopic),
    /// It is the broker's own, and its cleanup policy has been changed.
    Policy(PublishedTopic),
    /// Whose it is lies where nobody can look: it stays as it is until a start can.
    Unread(PublishedTopic),
}

/// The topics of these names that are not as the broker makes them.
///
/// # Errors
/// `ForeignTopic`: what somebody has written is not deleted unasked.
pub fn odd(coordinator: &Coordinator, reader: &Reader<LogDisk>, home: &Home) -> Result<Vec<Odd>, StartError> {
    let mut odd = Vec::new();
    for topic in PublishedTopic::ALL {
        let Some(record) = coordinator.topic(topic.name()) else { continue };
        if PublishedTopic::is_as_made(record) {
            continue;
        }
        odd.push(match holds(reader, topic, record) {
            Ok(Holds::Nothing) => Odd::Empty(topic),
            Ok(Holds::Ours) => Odd::Policy(topic),
            Ok(Holds::Others) => return Err(foreign(topic, record, home)),
            Err(error) => unread(topic, record, &error),
        });
    }
    Ok(odd)
}

fn foreign(topic: PublishedTopic, record: &TopicRecord, home: &Home) -> StartError {
    let (directory, partitions, policy) = (home.log.clone(), record.partitions, policy(record).to_owned());
    StartError::ForeignTopic { directory, name: topic.name(), partitions, policy }
}

/// A cold store that is away, or a disk that does not answer, keeps nobody else from being served. Nothing is lost
/// of what is not told meanwhile: the start that can look tells all of it.
fn unread(topic: PublishedTopic, record: &TopicRecord, reason: &LogError) -> Odd {
    tracing::error!(
        topic = topic.name(), policy = policy(record), %reason,
        "the topic is not as the broker makes it, and what would show whose it is cannot be read: it stays as it is, and groups and transactions are not told there, until the broker is started when that can be read"
    );
    Odd::Unread(topic)
}

fn policy(record: &TopicRecord) -> &str {
    record.configs.get("cleanup.policy").map_or("delete", String::as_str)
}

/// Whose records there are.
#[derive(PartialEq, Eq)]
enum Holds {
    Nothing,
    Ours,
    Others,
}

fn holds(reader: &Reader<LogDisk>, topic: PublishedTopic, record: &TopicRecord) -> Result<Holds, LogError> {
    let mut holds = Holds::Nothing;
    for partition in 0..record.partitions {
        let id = PartitionId { topic_id: record.id, partition };
        match first_of(reader, id)? {
            First::None => {}
            First::Batch(bytes) if is_ours(topic, record, partition, &bytes) => holds = Holds::Ours,
            // What nobody can read may be somebody's.
            First::Batch(_) | First::Damaged => return Ok(Holds::Others),
        }
    }
    Ok(holds)
}

enum First {
    None,
    Batch(bytes::Bytes),
    Damaged,
}

/// The first batch of a partition that can be read.
fn first_of(reader: &Reader<LogDisk>, id: PartitionId) -> Result<First, LogError> {
    let offsets = reader.offsets(id)?;
    let mut at = offsets.log_start;
    while at < offsets.high_watermark {
        match reader.read(id, at, 1, Isolation::Uncommitted) {
            Ok(fetched) if fetched.records.is_empty() => return Ok(First::None),
            Ok(fetched) => return Ok(First::Batch(fetched.records)),
            Err(LogError::Damaged { damage, .. }) => at = damage.last + 1,
            Err(error) => return Err(error),
        }
    }
    Ok(if at > offsets.log_start { First::Damaged } else { First::None })
}

/// Whether all records of a batch are such as the broker writes, each where it belongs.
fn is_ours(topic: PublishedTopic, record: &TopicRecord, partition: i32, bytes: &bytes::Bytes) -> bool {
    let Ok(header) = BatchHeader::read(bytes) else { return false };
    if header.producer_id >= 0 || header.verify(bytes).is_err() {
        return false;
    }
    let belongs = |key: Option<&[u8]>| {
        let id = key.and_then(|key| topic.id_of(key));
        id.is_some_and(|id| published_partition(&id, record.partitions) == partition)
    };
    batch::decode(&header, bytes)
        .is_ok_and(|records| records.iter().all(|record| belongs(record.key.as_deref())))
}
