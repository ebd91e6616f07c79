//! Compaction against a naive model, and its rules one by one.

mod written;

use std::collections::BTreeMap;

use bytes::Bytes;
use headwater_log::compact::{
    ActiveProducers, CleanSettings, Cleaner, CompactError, LastBatch, OffsetMap, Outcome, Survey,
};
use headwater_model::Record;
use headwater_wire::Compression;
use proptest::collection::vec;
use proptest::prelude::*;
use written::{CODECS, Pair, RETENTION, Written, fold, header};

const PLENTY: usize = 1 << 16;

#[derive(Debug, Clone)]
enum Step {
    Append { pairs: Vec<Pair>, codec: usize, producer: i64 },
    End { producer: i64, commit: bool },
}

#[derive(Debug, Clone)]
struct Round {
    steps: Vec<Step>,
    wait: i64,
    slots: usize,
}

fn step() -> impl Strategy<Value = Step> {
    let pair = (prop::option::weighted(0.95, 0u8..8), prop::option::weighted(0.7, any::<u8>()));
    prop_oneof![
        3 => (vec(pair, 1..6), 0..CODECS.len(), 0i64..4)
            .prop_map(|(pairs, codec, producer)| Step::Append { pairs, codec, producer }),
        1 => (1i64..4, any::<bool>()).prop_map(|(producer, commit)| Step::End { producer, commit }),
    ]
}

fn round() -> impl Strategy<Value = Round> {
    let slots = prop_oneof![2usize..14, Just(1000)];
    (vec(step(), 0..16), 0i64..1500, slots).prop_map(|(steps, wait, slots)| Round { steps, wait, slots })
}

/// The log as it was written, the log as it is cleaned, and what the rules promise of it.
#[derive(Default)]
struct Model {
    original: Written,
    log: Written,
    first_dirty: i64,
    horizons: BTreeMap<i64, i64>,
}

impl Model {
    fn run(&mut self, round: &Round) {
        for step in &round.steps {
            for written in [&mut self.original, &mut self.log] {
                match step {
                    Step::Append { pairs, codec, producer } => {
                        written.append(pairs, CODECS[*codec], (*producer > 0).then_some(*producer));
                    }
                    Step::End { producer, commit } => written.end(*producer, *commit),
                }
            }
        }
        self.log.now += round.wait;
        self.original.now = self.log.now;
        let surveyed = self.log.survey(round.slots * 24, self.first_dirty);
        assert!(surveyed.end > self.first_dirty || self.first_dirty == self.log.last_stable());
        self.first_dirty = surveyed.end;
        self.log.clean(&surveyed, &ActiveProducers::new());
        let once = self.log.batches.clone();
        let told = self.log.aborted.clone();
        self.log.clean(&surveyed, &ActiveProducers::new());
        assert_eq!(self.log.batches, once, "cleaning again changes nothing");
        assert_eq!(self.log.aborted, told);
        self.check();
    }

    fn check(&mut self) {
        self.check_batches();
        let end = self.first_dirty;
        let committed = self.original.committed();
        assert_eq!(fold(&self.log.committed()), fold(&committed));
        assert_eq!(self.log.looks_open(), self.original.looks_open());
        let survivors: Vec<Record> = self.log.records().into_iter().filter(|r| r.offset < end).collect();
        let expected = self.expected(committed.iter().filter(|r| r.offset < end));
        assert_eq!(survivors, expected, "what stays below {end}");
    }

    /// Offsets ascend, and the end of the range and everything after it is there.
    fn check_batches(&self) {
        let mut next = 0;
        for batch in &self.log.batches {
            let header = header(batch);
            assert!(header.base_offset >= next);
            next = header.last_offset() + 1;
        }
        assert_eq!(next, self.original.next);
        let holds_end = |batch: &Bytes| {
            (header(batch).base_offset..=header(batch).last_offset()).contains(&(self.first_dirty - 1))
        };
        assert!(self.first_dirty == 0 || self.log.batches.iter().any(holds_end));
        let past = |written: &Written| {
            let batches = written.batches.iter();
            batches.filter(|batch| header(batch).base_offset >= self.first_dirty).cloned().collect::<Vec<_>>()
        };
        assert_eq!(past(&self.log), past(&self.original));
    }

    /// The last record of each key, without tombstones whose horizon has passed.
    fn expected<'a>(&mut self, committed: impl Iterator<Item = &'a Record>) -> Vec<Record> {
        let mut last = BTreeMap::new();
        for record in committed.filter(|record| record.key.is_some()) {
            last.insert(record.key.clone(), record.clone());
        }
        let mut stay: Vec<Record> = last.into_values().collect();
        stay.sort_by_key(|record| record.offset);
        let covered = |offset: i64| {
            let batch = self.original.batches.iter().find(|batch| header(batch).last_offset() >= offset);
            header(batch.unwrap()).last_offset() < self.first_dirty
        };
        for tombstone in stay.iter().filter(|r| r.value.is_none() && covered(r.offset)) {
            self.horizons.entry(tombstone.offset).or_insert(self.log.now + RETENTION);
        }
        stay.retain(|r| {
            r.value.is_some() || self.horizons.get(&r.offset).is_none_or(|horizon| self.log.now < *horizon)
        });
        stay
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_rounds_leave_what_the_rules_promise_and_readers_see_the_same_table(rounds in vec(round(), 1..7)) {
        let mut model = Model::default();
        for round in &rounds {
            model.run(round);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..200), seal in any::<bool>()) {
        let mut bytes = bytes;
        if seal && bytes.len() >= 61 {
            let length = (bytes.len() - 12) as i32;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            bytes[16] = 2;
            bytes[22] &= 0xf8;
            let records = i32::from(bytes[60]);
            bytes[57..61].copy_from_slice(&records.to_be_bytes());
            headwater_wire::batch::assign_append_time(&mut bytes, 0);
        }
        let _ = Survey::new(map(), 0, &[]).add(&bytes);
        let surveyed = Written::default().survey(PLENTY, 1000);
        let _ = Cleaner::new(&surveyed, SETTINGS, &[], ActiveProducers::new()).clean(&bytes);
    }
}

const SETTINGS: CleanSettings = CleanSettings { now: 0, delete_retention_ms: RETENTION };

fn map() -> OffsetMap {
    OffsetMap::with_memory(PLENTY, [1, 2]).unwrap()
}

/// Cleans everything at once.
fn clean(log: &mut Written, active: &ActiveProducers) -> headwater_log::compact::Statistics {
    let surveyed = log.survey(PLENTY, 0);
    log.clean(&surveyed, active)
}

fn offsets(log: &Written) -> Vec<i64> {
    log.records().iter().map(|record| record.offset).collect()
}

fn kinds(log: &Written) -> String {
    let kind = |batch| match header(batch) {
        header if header.is_control() => 'm',
        header if header.record_count == 0 => 'e',
        _ => 'd',
    };
    log.batches.iter().map(kind).collect()
}

#[test]
fn records_without_a_key_go_and_are_counted() {
    let mut log = Written::default();
    log.append(&[(None, Some(1)), (Some(1), Some(1)), (None, None)], Compression::None, None);
    let statistics = clean(&mut log, &ActiveProducers::new());
    assert_eq!(offsets(&log), [1]);
    assert_eq!((statistics.keyless_dropped, statistics.records_in, statistics.records_out), (2, 3, 1));
}

#[test]
fn a_batch_of_which_all_stays_is_the_same_bytes() {
    let mut log = Written::default();
    for codec in CODECS {
        let first = log.next as u8;
        log.append(&[(Some(first), Some(1)), (Some(first + 1), Some(1))], codec, None);
    }
    let before = log.batches.clone();
    clean(&mut log, &ActiveProducers::new());
    assert_eq!(log.batches, before);
}

#[test]
fn a_tombstone_stays_until_its_horizon_and_goes_with_the_first_cleaning_after() {
    let mut log = Written::default();
    log.append(&[(Some(1), Some(1)), (Some(2), Some(2))], Compression::Lz4, None);
    log.append(&[(Some(1), None), (Some(3), Some(3))], Compression::Lz4, None);
    log.now = 100;
    clean(&mut log, &ActiveProducers::new());
    assert_eq!(offsets(&log), [1, 2, 3]);
    assert_eq!(header(&log.batches[1]).delete_horizon(), Some(100 + RETENTION));
    assert_eq!(log.records()[1].timestamp, 3);
    log.now = 99 + RETENTION;
    clean(&mut log, &ActiveProducers::new());
    assert_eq!(offsets(&log), [1, 2, 3]);
    log.now = 100 + RETENTION;
    assert_eq!(clean(&mut log, &ActiveProducers::new()).tombstones_dropped, 1);
    assert_eq!(offsets(&log), [1, 3]);
}

#[test]
fn a_marker_goes_when_nothing_of_its_transaction_was_left_for_long_enough() {
    let mut log = Written::default();
    log.append(&[(Some(1), Some(1))], Compression::None, Some(7));
    log.end(7, true);
    log.append(&[(Some(2), Some(2))], Compression::None, Some(8));
    log.end(8, false);
    log.append(&[(Some(3), Some(3))], Compression::None, None);
    clean(&mut log, &ActiveProducers::new());
    assert_eq!((kinds(&log).as_str(), log.aborted.len()), ("dmmd", 0));
    log.append(&[(Some(1), Some(4))], Compression::None, None);
    clean(&mut log, &ActiveProducers::new());
    assert_eq!(kinds(&log), "mmdd");
    log.now += RETENTION;
    assert_eq!(clean(&mut log, &ActiveProducers::new()).markers_dropped, 2);
    assert_eq!(kinds(&log), "dd");
}

#[test]
fn what_a_producer_commits_after_an_abort_whose_marker_is_gone_is_read() {
    let mut log = Written::default();
    log.append(&[(Some(1), Some(1))], Compression::None, Some(7));
    log.end(7, false);
    log.append(&[(Some(2), Some(2))], Compression::None, Some(7));
    log.end(7, true);
    clean(&mut log, &ActiveProducers::new());
    log.now += RETENTION;
    clean(&mut log, &ActiveProducers::new());
    assert_eq!(kinds(&log), "dm");
    assert_eq!(log.committed().len(), 1);
}

#[test]
fn an_aborted_transaction_past_the_range_is_not_forgotten() {
    let mut log = Written::default();
    log.append(&[(Some(1), Some(1))], Compression::None, None);
    log.append(&[(Some(1), Some(2))], Compression::None, Some(7));
    log.end(7, false);
    let told = log.aborted.clone();
    let surveyed = Survey::new(map(), 1, &[]).finish();
    log.clean(&surveyed, &ActiveProducers::new());
    assert_eq!((kinds(&log).as_str(), &log.aborted), ("ddm", &told));
    clean(&mut log, &ActiveProducers::new());
    assert_eq!((kinds(&log).as_str(), log.aborted.len()), ("dm", 0));
}

#[test]
fn the_last_batch_of_an_active_producer_stays_if_only_empty() {
    let mut log = Written::default();
    log.append(&[(Some(1), Some(1)), (Some(1), Some(2))], Compression::Zstd, Some(7));
    log.end(7, true);
    log.append(&[(Some(1), Some(3))], Compression::None, None);
    let active = ActiveProducers::from([(7, LastBatch::Data { last_offset: 1 })]);
    clean(&mut log, &active);
    log.now += 2 * RETENTION;
    clean(&mut log, &active);
    assert_eq!((kinds(&log).as_str(), header(&log.batches[0]).last_offset()), ("emd", 1));
    let active = ActiveProducers::from([(7, LastBatch::Marker { producer_epoch: 0 })]);
    clean(&mut log, &active);
    log.now += RETENTION;
    clean(&mut log, &active);
    assert_eq!(kinds(&log), "md");
    clean(&mut log, &ActiveProducers::new());
    assert_eq!(kinds(&log), "d");
}

#[test]
fn an_emptied_end_of_the_range_stays_until_there_is_more() {
    let mut log = Written::default();
    log.append(&[(Some(1), Some(1)), (None, Some(1))], Compression::Gzip, None);
    log.append(&[(None, Some(1))], Compression::Gzip, None);
    clean(&mut log, &ActiveProducers::new());
    assert_eq!(kinds(&log), "de");
    log.append(&[(Some(2), Some(1))], Compression::Gzip, None);
    clean(&mut log, &ActiveProducers::new());
    assert_eq!(kinds(&log), "dd");
}

#[test]
fn a_full_map_ends_the_range_within_a_batch_and_the_next_cleaning_goes_on_there() {
    let mut log = Written::default();
    log.append(&[(Some(1), Some(1)), (Some(2), None)], Compression::None, None);
    log.append(&[(Some(1), Some(2)), (Some(2), None), (Some(3), None)], Compression::None, None);
    let surveyed = log.survey(2 * 24, 0);
    assert_eq!(surveyed.end, 1);
    log.clean(&surveyed, &ActiveProducers::new());
    assert_eq!(offsets(&log), [0, 1, 2, 3, 4]);
    let surveyed = log.survey(4 * 24, 1);
    assert_eq!(surveyed.end, 5);
    log.clean(&surveyed, &ActiveProducers::new());
    assert_eq!(offsets(&log), [2, 3, 4]);
}

#[test]
fn a_flipped_bit_is_an_error_that_names_the_place() {
    let mut log = Written::default();
    log.append(&[(Some(1), Some(1))], Compression::None, None);
    log.append(&[(Some(2), None)], Compression::Lz4, None);
    let surveyed = log.survey(PLENTY, 0);
    for bit in (12 + 4) * 8..log.batches[1].len() * 8 {
        let mut bad = log.batches[1].to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        let mut survey = Survey::new(map(), 0, &[]);
        let mut cleaner = Cleaner::new(&surveyed, SETTINGS, &[], ActiveProducers::new());
        survey.add(&log.batches[0]).unwrap();
        assert_eq!(cleaner.clean(&log.batches[0]).unwrap(), Outcome::AsIs);
        assert!(matches!(survey.add(&bad), Err(CompactError::Damaged { at: 1, .. })), "bit {bit}");
        assert!(matches!(cleaner.clean(&bad), Err(CompactError::Damaged { at: 1, .. })), "bit {bit}");
        survey.add(&log.batches[1]).unwrap();
    }
}

#[test]
fn batches_out_of_order_are_refused() {
    let mut log = Written::default();
    log.append(&[(Some(1), Some(1))], Compression::None, None);
    let mut survey = Survey::new(map(), 0, &[]);
    survey.add(&log.batches[0]).unwrap();
    let refused = survey.add(&log.batches[0]);
    assert!(matches!(refused, Err(CompactError::OutOfOrder { base_offset: 0, expected: 1 })));
}
