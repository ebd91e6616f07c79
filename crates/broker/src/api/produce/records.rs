//! The rules of a topic for the records of a batch: who needs a key, who may have none, who may be null, and which
//! schema keys and values must have.
//!
//! Every batch is looked at to the last byte of its records, so that nobody stores what no consumer gets past. A batch with
//! one wrong record is refused whole.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use headwater_coordinator::{StreamKind, TopicSettings};
use headwater_model::TimestampMs;
use headwater_wire::batch::NO_TIMESTAMP;
use headwater_wire::filter::{OpenBatch, RecordView, Times};
use headwater_wire::scan::scan;
use headwater_wire::{BatchError, BatchHeader};

use crate::broker::Shared;
use crate::catalog::Topic;
use crate::schemas::{Judge, Unreadable};

/// A batch of nothing but wrong records still gets an answer of ordinary size, and costs no more than that.
pub const MOST_NAMED: usize = 100;

/// What is said of one record, in bytes: names in schemas may be of any length.
const LONGEST_RULE: usize = 512;

/// Says what is wrong with a record, if anything is.
type Refuses<'a> = dyn Fn(&RecordView<'_>) -> Option<String> + 'a;

/// What depends on who writes.
pub struct Asker<'a> {
    /// Which subjects of the registry may be named.
    pub sees: &'a dyn Fn(&str) -> bool,
    /// What this client may not write into the topic, if that is not all the same.
    pub refuses: Option<&'a Refuses<'a>>,
}

/// A record that the topic does not take.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Its place in the batch, from 0.
    pub index: i32,
    pub rule: Cow<'static, str>,
}

/// The records that a topic does not take.
#[derive(Debug, Default)]
pub struct Judged {
    /// By schema only the first [`MOST_NAMED`] are counted.
    pub count: usize,
    /// The first of them.
    pub wrong: Vec<Wrong>,
    /// Why schemas could not be looked at.
    pub unreadable: Option<Unreadable>,
    /// When the records were written.
    pub times: Times,
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
            (Self::Kind(kind), key) => kind.refuses(key.is_some(), record.value.is_some()),
            (Self::Compacted, None) => Some("cleanup.policy=compact needs a key in every record"),
            (Self::Compacted, Some(_)) => None,
        }
    }
}

/// Who judges keys, and who values; nobody where the topic does not ask for it.
struct Judges<'a> {
    key: Option<Judge<'a>>,
    value: Option<Judge<'a>>,
}

impl<'a> Judges<'a> {
    fn of(shared: &'a Shared, topic: &'a Topic, sees: &'a dyn Fn(&str) -> bool) -> Self {
        let asked = topic.settings.enforcement;
        let judge = |part, strategy| Judge::new(shared, topic.name(), (part, strategy), sees);
        Self {
            key: asked.key.map(|strategy| judge("key", strategy)),
            value: asked.value.map(|strategy| judge("value", strategy)),
        }
    }

    fn are_there(&self) -> bool {
        self.key.is_some() || self.value.is_some()
    }

    fn wrong(&mut self, record: &RecordView<'_>) -> Result<Option<String>, Unreadable> {
        for (judge, bytes) in [(&mut self.key, record.key), (&mut self.value, record.value)] {
            if let (Some(judge), Some(bytes)) = (judge, bytes)
                && let Some(wrong) = judge.wrong(bytes)?
            {
                return Ok(Some(wrong));
            }
        }
        Ok(None)
    }
}

impl Judged {
    fn blame(&mut self, index: i32, mut rule: Cow<'static, str>) {
        self.count += 1;
        if rule.len() > LONGEST_RULE {
            rule = Cow::Owned(format!("{}…", &rule[..rule.floor_char_boundary(LONGEST_RULE)]));
        }
        if self.wrong.len() < MOST_NAMED {
            self.wrong.push(Wrong { index, rule });
        }
    }

    fn by_schema(&mut self, judges: &mut Judges<'_>, record: &RecordView<'_>) -> Option<Cow<'static, str>> {
        if self.unreadable.is_some() || self.wrong.len() >= MOST_NAMED {
            return None;
        }
        match judges.wrong(record) {
            Ok(wrong) => wrong.map(Cow::Owned),
            Err(error) => {
                self.unreadable = Some(error);
                None
            }
        }
    }
}

/// Judges the records of a batch whose checksum and counts are right. Where the topic asks nothing of them, they are looked
/// at as their codec gives them; only who judges them needs all at once.
pub fn judge(
    shared: &Shared,
    topic: &Topic,
    (header, bytes): (&BatchHeader, &[u8]),
    asker: &Asker<'_>,
) -> Result<Judged, BatchError> {
    let (rule, mut judges) = (Rule::of(&topic.settings), Judges::of(shared, topic, asker.sees));
    // The base offset is the client's and outside of the checksum: places are counted from 0 instead.
    let header = BatchHeader { base_offset: 0, ..*header };
    if rule.is_none() && !judges.are_there() && asker.refuses.is_none() {
        return Ok(Judged { times: scan(&header, bytes)?, ..Judged::default() });
    }
    let batch = OpenBatch::decompress(header, bytes)?;
    let mut judged = Judged { times: batch.check()?, ..Judged::default() };
    let mut index = 0;
    batch.visit(|record| {
        let broken = rule.and_then(|rule| rule.broken_by(&record)).map(Cow::Borrowed);
        let broken = broken.or_else(|| asker.refuses?(&record).map(Cow::Owned));
        if let Some(rule) = broken.or_else(|| judged.by_schema(&mut judges, &record)) {
            judged.blame(index, rule);
        }
        index += 1;
    })?;
    Ok(judged)
}

/// Which records of a batch are of a time that its topic does not take; none where the batch cannot be opened.
pub fn out_of_time(bytes: &[u8], allowed: &RangeInclusive<TimestampMs>) -> Vec<Wrong> {
    let mut judged = Judged::default();
    let looked_at = BatchHeader::read(bytes).and_then(|header| {
        let batch = OpenBatch::decompress(BatchHeader { base_offset: 0, ..header }, bytes)?;
        let mut index = 0;
        batch.visit(|record| {
            let time = record.timestamp();
            let is_wrong = time != NO_TIMESTAMP && !allowed.contains(&time);
            if is_wrong && judged.wrong.len() < MOST_NAMED {
                let (from, to) = (allowed.start(), allowed.end());
                let rule = format!("its timestamp is {time}, and the topic takes those from {from} to {to}");
                judged.blame(index, Cow::Owned(rule));
            }
            index += 1;
        })
    });
    if looked_at.is_ok() { judged.wrong } else { Vec::new() }
}
