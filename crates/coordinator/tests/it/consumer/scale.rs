//! 500 members on 1,000 partitions, counted in records.

use headwater_coordinator::*;

use super::Consumer;
use crate::support::Bench;

const MEMBERS: usize = 500;
const PARTITIONS: i32 = 1_000;

fn counted(records: &[StateRecord], wanted: fn(&ConsumerGroupChange) -> bool) -> usize {
    let of_group =
        |record: &&StateRecord| matches!(record, StateRecord::ConsumerGroup { change, .. } if wanted(change));
    records.iter().filter(of_group).count()
}

#[test]
fn five_hundred_members_join_and_restart_with_a_bounded_number_of_records() {
    let mut bench = Bench::new();
    bench.create("large", PARTITIONS);
    let mut members: Vec<Consumer> =
        (0..MEMBERS).map(|number| Consumer::of(&format!("m{number:03}"), &["large"])).collect();
    let begun = bench.log.len();
    for member in &mut members {
        member.join(&mut bench).unwrap();
    }
    bench.converge(&mut members.iter_mut().collect::<Vec<_>>());
    assert!(members.iter().all(|member| member.owned.len() == 2));
    let targets = counted(&bench.log[begun..], |change| matches!(change, ConsumerGroupChange::Target { .. }));
    // The k-th member takes 1,000/k partitions from at most as many others.
    let moved: usize = (1..=MEMBERS).map(|k| 1 + (PARTITIONS as usize / k + 1).min(k - 1)).sum();
    assert!(targets <= moved, "{targets} targets, {moved} at most");
    assert!(bench.log.len() - begun <= moved + 6 * MEMBERS, "{} records", bench.log.len() - begun);

    let steady = bench.log.len();
    for member in &mut members {
        member.beat(&mut bench).unwrap();
    }
    assert_eq!(bench.log.len(), steady, "a heartbeat that changes nothing writes nothing");

    // A rolling restart, fifty at a time: who leaves is replaced before the others notice.
    for wave in members.chunks_mut(50) {
        for member in wave.iter_mut() {
            member.leave(&mut bench, -1).unwrap();
            member.id.push('x');
            member.join(&mut bench).unwrap();
        }
    }
    bench.converge(&mut members.iter_mut().collect::<Vec<_>>());
    let written = bench.log.len() - steady;
    assert!(members.iter().all(|member| member.owned.len() == 2));
    assert!(written <= 12 * MEMBERS, "{written} records for a rolling restart");
    assert_eq!(bench.replayed().snapshot(), bench.coordinator.snapshot());
}
