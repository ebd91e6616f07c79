//! The verifier catches every kind of lie: each test tells one about a broker that did everything right.

use std::collections::{HashMap, HashSet};

use super::*;
use crate::history::{Followed, Growing, Outcome, ProducerKind, Progress};
use crate::readback::PartitionRead;
use crate::record::RecordId;

const PLACE: Place = (0, 0);
const OTHER: Place = (0, 1);

fn followed(next: i64, records: &[(i64, RecordId)]) -> Followed {
    Followed { from: 0, next, records: records.iter().copied().collect() }
}

fn id(producer: u32, sequence: u32) -> RecordId {
    RecordId { producer, sequence }
}

/// Two partitions: 0 holds a plain producer's 0, 1, 2 at offsets 0 to 2, an idempotent one's 0, 1 at 3
/// and 4, then a committed and an aborted transaction of one record each, with their markers. 1 holds
/// the committed transaction's second record and its marker.
fn honest() -> (History, ReadBack) {
    let mut history = History::new(1);
    let topic = history.add_topic("t", 2, false);
    history.topics[topic].created = Progress::Acknowledged;
    let gone = history.add_topic("gone", 1, false);
    history.topics[gone].created = Progress::Acknowledged;
    history.topics[gone].deleted = Progress::Acknowledged;
    let plain = history.add_producer(ProducerKind::Plain);
    history.note_sent(plain, PLACE, &[1, 2, 3], None);
    history.note_acknowledged(id(plain, 0), 3, 0);
    let idempotent = history.add_producer(ProducerKind::Idempotent);
    history.note_sent(idempotent, PLACE, &[1, 2], None);
    history.note_acknowledged(id(idempotent, 0), 2, 3);
    history.transactions = vec![Outcome::Committed, Outcome::Aborted];
    let transactional = history.add_producer(ProducerKind::Transactional);
    history.note_sent(transactional, PLACE, &[1], Some(0));
    history.note_acknowledged(id(transactional, 0), 1, 5);
    history.note_sent(transactional, OTHER, &[1], Some(0));
    history.note_acknowledged(id(transactional, 1), 1, 0);
    history.note_sent(transactional, PLACE, &[1], Some(1));
    history.note_acknowledged(id(transactional, 2), 1, 7);
    history.topics[topic].configs = vec!["1".into(), "2".into()];
    history.topics[topic].configs_acknowledged = 1;
    history.committed.insert(("g".into(), PLACE), Growing { asked: 5, acknowledged: 4 });
    let committed = [id(0, 0), id(0, 1), id(0, 2), id(1, 0), id(1, 1)];
    let committed: Vec<(i64, RecordId)> = (0..).zip(committed).collect();
    history.seen.insert(PLACE, followed(2, &[(0, id(0, 0)), (1, id(0, 1))]));
    history.seen_committed.insert(PLACE, followed(5, &committed));

    let first = PartitionRead {
        high_watermark: 9,
        records: vec![
            (0, Ok(id(0, 0))),
            (1, Ok(id(0, 1))),
            (2, Ok(id(0, 2))),
            (3, Ok(id(1, 0))),
            (4, Ok(id(1, 1))),
            (5, Ok(id(2, 0))),
            (7, Ok(id(2, 2))),
        ],
        controls: vec![(6, 6), (8, 8)],
        ..PartitionRead::default()
    };
    let first = PartitionRead { committed: first.records[..6].to_vec(), ..first };
    let second = PartitionRead {
        high_watermark: 2,
        records: vec![(0, Ok(id(2, 1)))],
        controls: vec![(1, 1)],
        committed: vec![(0, Ok(id(2, 1)))],
        ..PartitionRead::default()
    };
    let read = ReadBack {
        topics: HashMap::from([("t".into(), 2)]),
        partitions: HashMap::from([(PLACE, first), (OTHER, second)]),
        configs: HashMap::from([(0, Some("2".into()))]),
        committed: HashMap::from([(("g".into(), PLACE), 4)]),
    };
    (history, read)
}

fn rules(history: &History, read: &ReadBack, allowed: Allowed) -> HashSet<Rule> {
    verify(history, read, allowed).into_iter().map(|violation| violation.rule).collect()
}

/// What the verifier says about an honest broker after `lie` has been at it.
fn caught(lie: impl FnOnce(&mut History, &mut ReadBack)) -> HashSet<Rule> {
    let (mut history, mut read) = honest();
    lie(&mut history, &mut read);
    rules(&history, &read, Allowed::default())
}

fn first(read: &mut ReadBack) -> &mut PartitionRead {
    read.partitions.get_mut(&PLACE).expect("the partition")
}

#[test]
fn an_honest_broker_is_believed() {
    assert_eq!(caught(|_, _| {}), HashSet::new());
}

#[test]
fn a_dropped_acknowledged_record_is_lost() {
    let found = caught(|_, read| {
        let _ = first(read).records.remove(2);
        let _ = first(read).committed.remove(2);
    });
    assert!(found.contains(&Rule::Lost) && found.contains(&Rule::Gap), "{found:?}");
}

#[test]
fn a_dropped_tail_is_lost_though_no_gap_shows() {
    let found = caught(|_, read| {
        let second = read.partitions.get_mut(&OTHER).expect("the partition");
        *second = PartitionRead::default();
    });
    assert!(found.contains(&Rule::Lost), "{found:?}");
    assert!(found.contains(&Rule::TornTransaction), "{found:?}");
}

#[test]
fn two_swapped_offsets_are_seen() {
    let found = caught(|_, read| {
        first(read).records[0].1 = Ok(id(0, 1));
        first(read).records[1].1 = Ok(id(0, 0));
    });
    for rule in [Rule::Lost, Rule::Changed, Rule::Order] {
        assert!(found.contains(&rule), "{rule:?} in {found:?}");
    }
}

#[test]
fn a_doubled_record_is_a_duplicate() {
    let found = caught(|_, read| {
        first(read).records.push((9, Ok(id(1, 1))));
        first(read).committed.push((9, Ok(id(1, 1))));
        first(read).high_watermark = 10;
    });
    assert!(found.contains(&Rule::Duplicate), "{found:?}");
}

#[test]
fn an_unacknowledged_record_may_be_there_or_not() {
    let found = caught(|history, _| history.note_sent(0, PLACE, &[7], None));
    assert_eq!(found, HashSet::new());
    let found = caught(|history, read| {
        history.note_sent(0, PLACE, &[7], None);
        first(read).records.push((9, Ok(id(0, 3))));
        first(read).committed.push((9, Ok(id(0, 3))));
        first(read).high_watermark = 10;
    });
    assert_eq!(found, HashSet::new());
}

#[test]
fn a_record_that_was_never_sent_is_reported() {
    let found = caught(|_, read| {
        first(read).records.push((9, Ok(id(0, 3))));
        first(read).high_watermark = 10;
    });
    assert!(found.contains(&Rule::NeverSent), "{found:?}");
    let found = caught(|_, read| first(read).records[4].1 = Err("other bytes".into()));
    assert!(found.contains(&Rule::NeverSent) && found.contains(&Rule::Lost), "{found:?}");
}

#[test]
fn a_record_of_another_partition_is_reported() {
    let found = caught(|history, _| history.producers[0].sent[0].place = OTHER);
    assert!(found.contains(&Rule::WrongPlace), "{found:?}");
}

#[test]
fn an_offset_that_was_used_again_is_reported() {
    let found = caught(|history, _| {
        history.seen.insert(PLACE, followed(3, &[(2, id(1, 0))]));
    });
    assert_eq!(found, HashSet::from([Rule::Changed]));
}

#[test]
fn an_idempotent_producers_hole_is_reported() {
    let found = caught(|history, read| {
        history.producers[1].sent[0].acknowledged = None;
        let _ = first(read).records.remove(3);
        let _ = first(read).committed.remove(3);
    });
    assert!(found.contains(&Rule::Hole), "{found:?}");
}

#[test]
fn transactions_are_whole_and_aborted_ones_hidden() {
    let found = caught(|_, read| drop(first(read).committed.remove(5)));
    assert_eq!(found, HashSet::from([Rule::TornTransaction]));
    let found = caught(|_, read| {
        let _ = first(read).committed.remove(5);
        read.partitions.get_mut(&OTHER).expect("the partition").committed.clear();
    });
    assert_eq!(found, HashSet::from([Rule::CommittedHidden]));
    let found = caught(|_, read| first(read).committed.push((7, Ok(id(2, 2)))));
    assert_eq!(found, HashSet::from([Rule::AbortedVisible]));
    let found = caught(|_, read| drop(first(read).committed.remove(0)));
    assert_eq!(found, HashSet::from([Rule::CommittedHidden]));
}

#[test]
fn a_read_committed_consumer_gets_all_that_is_committed_and_nothing_else() {
    let given = |history: &mut History, offset: i64, record: RecordId| {
        let followed = history.seen_committed.get_mut(&PLACE).expect("the partition");
        followed.records.insert(5, id(2, 0));
        followed.records.insert(offset, record);
        followed.next = 9;
    };
    let found = caught(|history, _| given(history, 7, id(2, 2)));
    assert_eq!(found, HashSet::from([Rule::AbortedVisible]));
    let found = caught(|history, _| {
        history.seen_committed.get_mut(&PLACE).expect("the partition").records.remove(&3);
    });
    assert_eq!(found, HashSet::from([Rule::CommittedHidden]));
}

#[test]
fn an_unknown_end_may_be_either_but_not_both() {
    let either = |history: &mut History| history.transactions[0] = Outcome::CommitAsked;
    assert_eq!(caught(|history, _| either(history)), HashSet::new());
    let hidden = caught(|history, read| {
        either(history);
        let _ = first(read).committed.remove(5);
        read.partitions.get_mut(&OTHER).expect("the partition").committed.clear();
    });
    assert_eq!(hidden, HashSet::new());
    let torn = caught(|history, read| {
        either(history);
        let _ = first(read).committed.remove(5);
    });
    assert_eq!(torn, HashSet::from([Rule::TornTransaction]));
}

#[test]
fn topics_configurations_and_positions_are_kept() {
    let found = caught(|_, read| {
        read.topics.remove("t");
    });
    assert_eq!(found, HashSet::from([Rule::TopicLost]));
    let found = caught(|_, read| {
        read.topics.insert("gone".into(), 1);
    });
    assert_eq!(found, HashSet::from([Rule::TopicBack]));
    let found = caught(|_, read| drop(read.configs.insert(0, Some("9".into()))));
    assert_eq!(found, HashSet::from([Rule::Config]));
    for position in [3, -1, 6] {
        let found = caught(|_, read| {
            read.committed.insert(("g".into(), PLACE), position);
        });
        assert_eq!(found, HashSet::from([Rule::Position]), "{position}");
    }
}

#[test]
fn deleted_records_stay_deleted_and_others_stay() {
    let deleted = Growing { asked: 2, acknowledged: 2 };
    let found = caught(|history, _| {
        history.deleted_before.insert(PLACE, deleted);
    });
    assert_eq!(found, HashSet::from([Rule::LogStart]));
    let shortened = |read: &mut ReadBack, by: usize| {
        first(read).log_start = by as i64;
        first(read).records.drain(..by);
        first(read).committed.drain(..by);
    };
    let found = caught(|history, read| {
        history.deleted_before.insert(PLACE, deleted);
        shortened(read, 2);
    });
    assert_eq!(found, HashSet::new());
    let found = caught(|_, read| shortened(read, 1));
    assert_eq!(found, HashSet::from([Rule::LogStart]));
}

#[test]
fn what_is_damaged_or_refused_is_said() {
    let found = caught(|_, read| first(read).damaged.push("a batch".into()));
    assert_eq!(found, HashSet::from([Rule::Damaged]));
    let refuse = |read: &mut ReadBack| {
        let _ = first(read).records.remove(2);
        let _ = first(read).committed.remove(2);
        first(read).refused.push((2, "CORRUPT_MESSAGE".into()));
    };
    assert_eq!(caught(|_, read| refuse(read)), HashSet::from([Rule::Refused]));
    let (history, mut read) = honest();
    refuse(&mut read);
    assert_eq!(rules(&history, &read, Allowed { refused: true, ..Allowed::default() }), HashSet::new());
}

#[test]
fn a_compacted_topic_keeps_the_last_record_of_a_key() {
    let compact = |remove: usize| {
        let (mut history, mut read) = honest();
        history.topics[0].compacted = true;
        history.seen.clear();
        let _ = first(&mut read).records.remove(remove);
        let _ = first(&mut read).committed.remove(remove);
        rules(&history, &read, Allowed::default())
    };
    assert_eq!(compact(0), HashSet::new());
    assert_eq!(compact(2), HashSet::from([Rule::Lost]));
}
