//! From the bytes of one partition in a fetch to runs of visible records.
//!
//! Under read-committed the broker lists the aborted transactions that touch the bytes; a batch of a
//! producer is skipped from that transaction's first offset until its abort marker, as Kafka's
//! consumer does (KIP-98).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use bytes::Bytes;
use headwater_model::{Offset, Record, TopicPartition};
use headwater_wire::batch::{self, BatchError, BatchHeader};

use super::{Fetched, Position};

/// A run is closed when it holds about this much.
const RUN_BYTES: usize = 256 << 10;
/// What a record costs beyond its key, value and headers.
const RECORD_COST: usize = std::mem::size_of::<Record>();

/// Consecutive records of one partition, and the memory they hold.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) fetched: Fetched,
    pub(super) bytes: usize,
}

/// One partition of a fetch's answer.
pub(super) struct Answered {
    pub(super) at: TopicPartition,
    pub(super) from: Offset,
    pub(super) records: Bytes,
    /// Producer id and first offset; `None` under read-uncommitted.
    pub(super) aborted: Option<Vec<(i64, Offset)>>,
    pub(super) high_watermark: Offset,
    pub(super) last_stable_offset: Offset,
}

/// Decodes whole batches; one that is cut off at the end is left for the next fetch.
pub(super) fn runs(mut answered: Answered) -> Result<Vec<Run>, BatchError> {
    let mut filter = answered.aborted.take().map(AbortedFilter::new);
    let mut bytes = std::mem::take(&mut answered.records);
    let mut runs = Vec::new();
    let mut open: Option<Run> = None;
    while !bytes.is_empty() {
        let header = match BatchHeader::read(&bytes) {
            Ok(header) => header,
            Err(BatchError::Truncated { .. }) => break,
            Err(error) => return Err(error),
        };
        header.verify(&bytes)?;
        let one = bytes.split_to(header.size);
        if header.last_offset() < answered.from {
            continue;
        }
        // A position after any record of a run has the run's epoch.
        let epoch = (header.leader_epoch >= 0).then_some(header.leader_epoch);
        runs.extend(open.take_if(|run| run.fetched.leader_epoch != epoch));
        let hidden = filter.as_mut().is_some_and(|filter| filter.hides(&header, &one));
        let run = open.get_or_insert_with(|| answered.empty_run());
        if !hidden && !header.is_control() {
            run.push(batch::decode(&header, &one)?, answered.from);
        }
        run.fetched.next_offset = header.last_offset() + 1;
        run.fetched.leader_epoch = epoch;
        if run.bytes >= RUN_BYTES {
            runs.extend(open.take());
        }
    }
    runs.extend(open);
    Ok(runs)
}

impl Answered {
    fn empty_run(&self) -> Run {
        let fetched = Fetched {
            topic_partition: self.at.clone(),
            records: Vec::new(),
            next_offset: self.from,
            leader_epoch: None,
            high_watermark: self.high_watermark,
            last_stable_offset: self.last_stable_offset,
        };
        Run { fetched, bytes: 0 }
    }
}

impl Run {
    /// The position after it, `before` being the one before.
    pub(super) fn end(&self, before: Position) -> Position {
        let leader_epoch = self.fetched.leader_epoch.or(before.leader_epoch);
        Position { offset: self.fetched.next_offset, leader_epoch }
    }

    /// A compressed or compacted batch may begin before the offset that was asked for.
    fn push(&mut self, mut records: Vec<Record>, from: Offset) {
        if records.first().is_some_and(|record| record.offset < from) {
            records.retain(|record| record.offset >= from);
        }
        self.bytes += records.iter().map(cost).sum::<usize>();
        match self.fetched.records.is_empty() {
            true => self.fetched.records = records,
            false => self.fetched.records.append(&mut records),
        }
    }
}

fn cost(record: &Record) -> usize {
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize =
        record.headers.iter().map(|header| header.key.len() + length(&header.value) + 64).sum();
    RECORD_COST + length(&record.key) + length(&record.value) + headers
}

struct AbortedFilter {
    /// Aborted transactions not reached yet, by first offset.
    ahead: BinaryHeap<Reverse<(Offset, i64)>>,
    /// Producers inside an aborted transaction.
    inside: HashSet<i64>,
}

impl AbortedFilter {
    fn new(aborted: Vec<(i64, Offset)>) -> Self {
        let ahead = aborted.into_iter().map(|(producer, first)| Reverse((first, producer))).collect();
        Self { ahead, inside: HashSet::new() }
    }

    fn hides(&mut self, header: &BatchHeader, bytes: &Bytes) -> bool {
        if !header.has_producer() {
            return false;
        }
        while let Some(&Reverse((first, producer))) = self.ahead.peek()
            && first <= header.last_offset()
        {
            self.ahead.pop();
            self.inside.insert(producer);
        }
        if header.is_control() {
            if batch::marker_is_commit(bytes) == Some(false) {
                self.inside.remove(&header.producer_id);
            }
            return true;
        }
        header.is_transactional() && self.inside.contains(&header.producer_id)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use headwater_wire::{BatchBuilder, Compression, Producer};

    use super::*;

    /// A log of batches, each at the next offset.
    #[derive(Default)]
    struct Log {
        bytes: BytesMut,
        next: Offset,
        epoch: i32,
    }

    impl Log {
        fn append(&mut self, batch: Bytes) {
            let mut batch = BytesMut::from(&batch[..]);
            batch::assign_offset(&mut batch, self.next, self.epoch);
            self.next = BatchHeader::read(&batch).unwrap().last_offset() + 1;
            self.bytes.extend_from_slice(&batch);
        }

        fn write(&mut self, producer: Option<i64>, transactional: bool, values: &[&'static str]) {
            let mut builder = BatchBuilder::new();
            values.iter().for_each(|value| builder.push(0, None, Some(value.as_bytes()), &[]));
            let producer = producer.map(|id| Producer { id, epoch: 0, base_sequence: 0 });
            self.append(builder.build(Compression::Lz4, producer, transactional).unwrap());
        }

        fn end(&mut self, producer: i64, commit: bool) {
            self.append(batch::transaction_marker(producer, 0, commit, 0, 0));
        }

        fn answered(&self, from: Offset, aborted: Option<Vec<(i64, Offset)>>) -> Answered {
            Answered {
                at: TopicPartition::new("t", 0),
                from,
                records: self.bytes.clone().freeze(),
                aborted,
                high_watermark: self.next,
                last_stable_offset: self.next,
            }
        }

        fn read(&self, from: Offset, aborted: Option<Vec<(i64, Offset)>>) -> (Vec<String>, Offset) {
            let runs = runs(self.answered(from, aborted)).unwrap();
            let values = runs.iter().flat_map(|run| &run.fetched.records);
            let values = values.map(|r| String::from_utf8(r.value.clone().unwrap().to_vec()).unwrap());
            (values.collect(), runs.last().map_or(from, |run| run.fetched.next_offset))
        }
    }

    fn interleaved() -> Log {
        let mut log = Log::default();
        log.write(Some(1), true, &["a0", "a1"]);
        log.write(Some(2), true, &["b2"]);
        log.write(None, false, &["n3"]);
        log.end(1, false);
        log.write(Some(1), true, &["c5"]);
        log.end(2, true);
        log.end(1, true);
        log
    }

    #[test]
    fn an_aborted_transaction_is_hidden_until_its_marker_and_no_further() {
        let log = interleaved();
        assert_eq!(log.read(0, Some(vec![(1, 0)])), (vec!["b2".into(), "n3".into(), "c5".into()], 8));
    }

    #[test]
    fn reading_from_inside_an_aborted_transaction_hides_its_rest() {
        let log = interleaved();
        assert_eq!(log.read(1, Some(vec![(1, 0)])).0, ["b2", "n3", "c5"]);
    }

    #[test]
    fn read_uncommitted_shows_everything_but_markers() {
        assert_eq!(interleaved().read(0, None).0, ["a0", "a1", "b2", "n3", "c5"]);
    }

    #[test]
    fn a_batch_that_begins_before_the_position_is_trimmed() {
        let mut log = Log::default();
        log.write(None, false, &["0", "1", "2"]);
        assert_eq!(log.read(2, None), (vec!["2".into()], 3));
    }

    #[test]
    fn markers_alone_move_the_position() {
        let mut log = Log::default();
        log.end(1, true);
        assert_eq!(log.read(0, Some(Vec::new())), (Vec::new(), 1));
    }

    #[test]
    fn a_run_is_of_one_leader_epoch() {
        let mut log = Log::default();
        for (epoch, value) in [(3, "a"), (3, "b"), (5, "c")] {
            log.epoch = epoch;
            log.write(None, false, &[value]);
        }
        let runs = runs(log.answered(0, None)).unwrap();
        let ends: Vec<_> =
            runs.iter().map(|run| (run.fetched.next_offset, run.fetched.leader_epoch)).collect();
        assert_eq!(ends, [(2, Some(3)), (3, Some(5))]);
    }

    #[test]
    fn a_batch_cut_off_at_the_end_waits_for_the_next_fetch() {
        let mut log = Log::default();
        log.write(None, false, &["0"]);
        let whole = log.bytes.len();
        log.write(None, false, &["1"]);
        log.bytes.truncate(whole + 30);
        assert_eq!(log.read(0, None), (vec!["0".into()], 1));
    }

    #[test]
    fn a_flipped_bit_is_an_error() {
        let mut log = Log::default();
        log.write(None, false, &["0"]);
        log.bytes[70] ^= 1;
        let answered = Answered {
            at: TopicPartition::new("t", 0),
            from: 0,
            records: log.bytes.freeze(),
            aborted: None,
            high_watermark: 1,
            last_stable_offset: 1,
        };
        assert!(matches!(runs(answered), Err(BatchError::Checksum { .. })));
    }
}
