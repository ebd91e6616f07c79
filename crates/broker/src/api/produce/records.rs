//! The rules of a topic for the records of a batch: who needs a key, who may have none, who may be null.
//!
//! Only topics with a rule have their batches opened here; a batch with one wrong record is refused whole.

use headwater_coordinator::{StreamKind, TopicSettings};
use headwater_wire::filter::{OpenBatch, RecordView};
use headwater_wire::{BatchError, BatchHeader};

/// A batch of nothing but wrong records still gets an answer of ordinary size.
const MOST_NAMED: usize = 100;

/// A record that the topic does not take.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Its place in the batch, from 0.
    pub index: i32,
    pub rule: &'static str,
}

/// The records that a topic does not take.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Judged {
    pub count: usize,
    /// The first of them.
    pub wrong: Vec<Wrong>,
}

impl Wrong {
    pub fn message(&self) -> String {
        format!("record {}: {}", self.index, self.rule)
    }
}

/// What a topic asks of its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Kind(StreamKind),
    Compacted,
}

impl Rule {
    fn of(settings: &TopicSettings) -> Option<Self> {
        match settings.kind {
            StreamKind::Unspecified => settings.compact.then_some(Self::Compacted),
            kind => Some(Self::Kind(kind)),
        }
    }

    fn broken_by(self, record: &RecordView<'_>) -> Option<&'static str> {
        match (self, record.key) {
            (Self::Kind(kind), key) => kind.refuses(key.is_some(), record.has_value),
            (Self::Compacted, None) => Some("cleanup.policy=compact needs a key in every record"),
            (Self::Compacted, Some(_)) => None,
        }
    }
}

/// Judges the records of a batch whose checksum and counts are right.
pub fn judge(settings: &TopicSettings, header: &BatchHeader, bytes: &[u8]) -> Result<Judged, BatchError> {
    let mut judged = Judged::default();
    let Some(rule) = Rule::of(settings) else { return Ok(judged) };
    // The base offset is the client's and outside of the checksum: places are counted from 0 instead.
    let batch = OpenBatch::decompress(BatchHeader { base_offset: 0, ..*header }, bytes)?;
    let mut index = 0;
    batch.visit(|record| {
        if let Some(rule) = rule.broken_by(&record) {
            judged.count += 1;
            if judged.wrong.len() < MOST_NAMED {
                judged.wrong.push(Wrong { index, rule });
            }
        }
        index += 1;
    })?;
    Ok(judged)
}
