//! `group.consumer.assignment.interval.ms` (KIP-1263): members that join soon after an assignment wait for the next one.

use headwater_coordinator::*;

use super::Consumer;
use crate::support::{Bench, settings};

fn bench() -> Bench {
    Bench::with(Settings { consumer_assignment_interval_ms: 1_000, ..settings(7) })
}

#[test]
fn who_joins_soon_after_an_assignment_gets_something_by_the_next_one() {
    let mut bench = bench();
    let (mut a, mut b) = (Consumer::of("a", &["orders"]), Consumer::of("b", &["orders"]));
    a.join(&mut bench).unwrap();
    assert_eq!(a.owned.len(), 4, "the first one is assigned at once");
    b.join(&mut bench).unwrap();
    assert_eq!((b.owned.len(), b.epoch), (0, 1), "at the epoch of the assignment that there is");
    bench.pass(999);
    a.beat(&mut bench).unwrap();
    assert_eq!(a.owned.len(), 4, "nobody has to give anything up yet");
    bench.pass(1);
    bench.converge(&mut [&mut a, &mut b]);
    assert_eq!((a.owned.len(), b.owned.len()), (2, 2));
    assert_eq!(bench.describe().state, "Stable");
}

#[test]
fn a_group_may_have_its_own_interval_and_a_restart_ends_the_wait() {
    let mut bench = bench();
    let changes = vec![("consumer.assignment.interval.ms".to_owned(), ConfigChange::Set("15000".into()))];
    let groups = vec![AlterGroupConfig { group_id: "g".into(), replace: false, changes }];
    bench.ask(Request::AlterGroupConfigs { groups, validate_only: false });
    let (mut a, mut b) = (Consumer::of("a", &["orders"]), Consumer::of("b", &["orders"]));
    a.join(&mut bench).unwrap();
    b.join(&mut bench).unwrap();
    bench.pass(10_000);
    bench.converge(&mut [&mut a, &mut b]);
    assert_eq!((a.owned.len(), b.owned.len()), (4, 0));
    bench.restart();
    bench.converge(&mut [&mut a, &mut b]);
    assert_eq!((a.owned.len(), b.owned.len()), (2, 2));
    assert_eq!(bench.replayed().snapshot(), bench.coordinator.snapshot());
}

#[test]
fn what_members_leave_behind_goes_to_others_after_the_interval() {
    let mut bench = bench();
    let (mut a, mut b) = (Consumer::of("a", &["orders"]), Consumer::of("b", &["orders"]));
    a.join(&mut bench).unwrap();
    bench.pass(1_000);
    b.join(&mut bench).unwrap();
    bench.converge(&mut [&mut a, &mut b]);
    b.leave(&mut bench, -1).unwrap();
    bench.pass(1_000);
    a.beat(&mut bench).unwrap();
    assert_eq!(a.owned.len(), 4);
}
