//! What is sent when, and under which sequence, in transactions of both protocols.

use std::time::Duration;

use super::*;
use crate::ProduceRecord;

const FIRST: Identity = Identity { id: 7, epoch: 0 };

fn begin(protocol: Protocol) -> Accumulator {
    let config = ProducerConfig {
        transactional_id: Some("id".into()),
        linger: Duration::ZERO,
        batch_bytes: 100,
        ..ProducerConfig::default()
    };
    let mut state = Accumulator::new(config, Some(FIRST));
    state.set_topic("t", 1, StreamKind::Unspecified);
    state.transaction.open(protocol);
    state
}

/// A batch of its own.
fn push(state: &mut Accumulator) {
    let value = vec![b'v'; 90];
    let record = ProduceRecord { topic: "t".into(), value: Some(value.into()), ..ProduceRecord::default() };
    assert!(matches!(state.push(RecordRef::from(&record), 0), Ok(Pushed::Done { .. })));
}

/// What can be sent now, as epoch and base sequence.
fn take(state: &mut Accumulator) -> Vec<(Batch, i16, i32)> {
    let round = state.take(Instant::now(), |_, _| Some("broker".into()), |_| true);
    assert_eq!(round.protocol, state.transaction.protocol);
    let taken = round.taken.into_values().flatten().map(|taken| {
        let (batch, _, encoded) = taken.encode(headwater_wire::Compression::None, true);
        encoded.unwrap();
        let stamp = batch.stamp.unwrap();
        (batch, stamp.epoch, stamp.base_sequence)
    });
    taken.collect()
}

fn acknowledged(state: &mut Accumulator) -> Vec<(i16, i32)> {
    let taken = take(state);
    let stamps = taken.iter().map(|(_, epoch, sequence)| (*epoch, *sequence)).collect();
    for (batch, ..) in taken {
        state.landed(&batch);
        state.acknowledge(batch, 0);
    }
    stamps
}

fn end(state: &mut Accumulator, next: Option<Identity>, protocol: Protocol) {
    next.into_iter().for_each(|next| state.renewed(next));
    state.leave_transaction();
    state.transaction.close();
    state.transaction.open(protocol);
}

#[test]
fn under_the_second_protocol_nothing_waits_for_its_partition_to_be_added() {
    let mut state = begin(Protocol::V2);
    push(&mut state);
    assert!(state.transaction.ask().is_empty() && !state.transaction.begun);
    assert_eq!(acknowledged(&mut state), [(0, 0)]);
    assert!(state.transaction.begun, "the broker has heard of it");
}

#[test]
fn under_the_first_protocol_it_does() {
    let mut state = begin(Protocol::V1);
    push(&mut state);
    assert!(take(&mut state).is_empty());
    let asked = state.transaction.ask();
    assert_eq!(asked.len(), 1);
    state.joined(&asked);
    assert_eq!(acknowledged(&mut state), [(0, 0)]);
}

#[test]
fn an_epoch_begins_all_sequences_anew_and_without_one_they_go_on() {
    let mut state = begin(Protocol::V2);
    push(&mut state);
    assert_eq!(acknowledged(&mut state), [(0, 0)]);
    end(&mut state, Some(Identity { epoch: 1, ..FIRST }), Protocol::V2);
    push(&mut state);
    assert_eq!(acknowledged(&mut state), [(1, 0)]);
    end(&mut state, None, Protocol::V1);
    push(&mut state);
    let asked = state.transaction.ask();
    state.joined(&asked);
    assert_eq!(acknowledged(&mut state), [(1, 1)]);
}

/// A leader that knows the producer id refuses all but the first sequence of an epoch; one that does not takes any.
#[test]
fn several_batches_go_at_once_only_to_a_leader_that_knows_the_producer_id() {
    for (next, at_once) in [(Identity { epoch: 1, ..FIRST }, 2), (Identity { id: 8, epoch: 0 }, 1)] {
        let mut state = begin(Protocol::V2);
        push(&mut state);
        assert_eq!(acknowledged(&mut state), [(0, 0)]);
        end(&mut state, Some(next), Protocol::V2);
        push(&mut state);
        push(&mut state);
        let flying = [take(&mut state), take(&mut state)].map(|taken| taken.len());
        assert_eq!(flying.iter().sum::<usize>(), at_once);
    }
}

#[test]
fn records_without_a_key_do_not_follow_others_to_a_partition_without_a_leader() {
    let config = ProducerConfig { linger: Duration::ZERO, ..ProducerConfig::default() };
    let mut state = Accumulator::new(config, None);
    state.set_topic("t", 2, StreamKind::Unspecified);
    let leader = |_: &str, partition: i32| (partition == 1).then(|| "broker".to_owned());
    push(&mut state);
    let round = state.take(Instant::now(), leader, |_| true);
    assert!(round.taken.is_empty() && round.leaderless == ["t"]);
    push(&mut state);
    let round = state.take(Instant::now(), leader, |_| true);
    let taken: Vec<_> = round.taken.into_values().flatten().collect();
    assert_eq!(taken.len(), 1, "the second goes to the partition that has one");
}

#[test]
fn a_batch_whose_time_is_up_says_why_it_was_refused() {
    let config = ProducerConfig { linger: Duration::ZERO, ..ProducerConfig::default() };
    let timeout = config.delivery_timeout;
    let mut state = Accumulator::new(config, Some(FIRST));
    state.set_topic("t", 1, StreamKind::Unspecified);
    push(&mut state);
    let (batch, ..) = take(&mut state).pop().unwrap();
    state.landed(&batch);
    let few = ErrorCode::NotEnoughReplicas;
    state.repeat(batch, ClientError::kafka("produce to t/0", few.code(), None));
    assert_eq!(state.in_the_way().and_then(ClientError::code), Some(few));
    state.expire(Instant::now() + timeout);
    let failure = state.first_failure.take().unwrap();
    assert!(matches!(failure, ClientError::GaveUp { .. }) && failure.code() == Some(few), "{failure}");
    assert!(state.in_the_way().is_none(), "nothing is to be sent any more");
}

/// Who waits for its bytes is told: there may be no answer of a broker that would.
#[test]
fn a_batch_without_a_leader_gives_its_bytes_back_when_its_time_is_up() {
    let config = ProducerConfig { linger: Duration::ZERO, buffer_bytes: 250, ..ProducerConfig::default() };
    let timeout = config.delivery_timeout;
    let mut state = Accumulator::new(config, None);
    state.set_topic("t", 1, StreamKind::Unspecified);
    push(&mut state);
    let value = vec![b'v'; 90];
    let record = ProduceRecord { topic: "t".into(), value: Some(value.into()), ..ProduceRecord::default() };
    assert!(matches!(state.push(RecordRef::from(&record), 0), Ok(Pushed::NoSpace)));
    let now = Instant::now();
    let round = state.take(now, |_, _| None, |_| true);
    assert!(round.taken.is_empty() && round.leaderless == ["t"]);
    assert!(!state.expire(now), "its time is not up");
    assert!(state.expire(now + timeout), "there is something to tell");
    assert!(!state.expire(now + timeout), "once");
    push(&mut state);
}

#[test]
fn keys_go_to_all_partitions_that_a_topic_has_by_now() {
    let config = ProducerConfig { linger: Duration::ZERO, ..ProducerConfig::default() };
    let mut state = Accumulator::new(config, None);
    state.set_topic("t", 1, StreamKind::Unspecified);
    assert_eq!(state.topics(), ["t"]);
    for count in [Some(3), Some(2), None] {
        state.grow(|topic| count.filter(|_| topic == "t"));
    }
    for key in 0..50 {
        let key = Some(format!("k{key}").into());
        let record = ProduceRecord { topic: "t".into(), key, ..ProduceRecord::default() };
        assert!(matches!(state.push(RecordRef::from(&record), 0), Ok(Pushed::Done { .. })));
    }
    let round = state.take(Instant::now(), |_, _| Some("broker".into()), |_| true);
    assert_eq!(round.taken.into_values().flatten().count(), 3, "a batch for each partition");
}
