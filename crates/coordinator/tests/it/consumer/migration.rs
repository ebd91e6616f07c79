//! Groups that change between the classic and the consumer protocol with members in them.

use bytes::{BufMut, Bytes, BytesMut};
use headwater_coordinator::*;

use super::Consumer;
use crate::support::{Bench, offset, settings};

/// A classic consumer of `orders` that says which of its partitions it has.
fn classic(bench: &mut Bench, member: &str, owned: &[i32]) -> u64 {
    let mut metadata = BytesMut::new();
    metadata.put_slice(b"\0\x01\0\0\0\x01\0\x06orders\xff\xff\xff\xff\0\0\0\x01\0\x06orders");
    metadata.put_i32(owned.len() as i32);
    owned.iter().for_each(|partition| metadata.put_i32(*partition));
    bench.send(Request::JoinGroup(JoinGroup {
        group_id: "g".into(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 40_000,
        member_id: member.into(),
        instance_id: None,
        protocol_type: "consumer".into(),
        protocols: vec![("cooperative-sticky".into(), metadata.freeze())],
        require_known_member_id: false,
        supports_skipping_assignment: true,
    }))
}

fn assignment(partitions: &[i32]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_slice(b"\0\x01\0\0\0\x01\0\x06orders");
    bytes.put_i32(partitions.len() as i32);
    partitions.iter().for_each(|partition| bytes.put_i32(*partition));
    bytes.put_i32(-1);
    bytes.freeze()
}

fn sync(bench: &mut Bench, joined: &JoinedGroup, assignments: Vec<(String, Bytes)>) -> SyncedGroup {
    let ticket = bench.send(Request::SyncGroup(SyncGroup {
        group_id: "g".into(),
        generation: joined.generation,
        member_id: joined.member_id.clone(),
        instance_id: None,
        protocol_type: None,
        protocol: joined.protocol.clone(),
        assignments,
    }));
    bench.synced(ticket)
}

/// A classic group with one member that has all of `orders`.
fn alone(bench: &mut Bench) -> JoinedGroup {
    let ticket = classic(bench, "", &[]);
    let joined = bench.joined(ticket);
    let given = vec![(joined.member_id.clone(), assignment(&[0, 1, 2, 3]))];
    assert_eq!(sync(bench, &joined, given).error, None);
    joined
}

#[test]
fn a_classic_group_comes_along_and_goes_back_with_its_members() {
    let mut bench = Bench::new();
    let old = alone(&mut bench);
    assert_eq!(bench.commit("g", old.generation, &old.member_id, vec![offset(0, 7)]), None);
    let mut new = Consumer::of("new", &["orders"]);
    new.join(&mut bench).unwrap();
    assert_eq!(new.owned.len(), 0, "the classic member has them");
    bench.restart();
    let beat = bench.heartbeat("g", old.generation, &old.member_id);
    assert_eq!(beat, Some(Error::RebalanceInProgress));
    let ticket = classic(&mut bench, &old.member_id, &[0, 1, 2, 3]);
    let joined = bench.joined(ticket);
    assert_eq!((joined.error, joined.leader.as_str(), joined.members.len()), (None, "", 0));
    assert_eq!(sync(&mut bench, &joined, vec![]).assignment, assignment(&[0, 1]));
    let beat = bench.heartbeat("g", joined.generation, &old.member_id);
    assert_eq!(beat, Some(Error::RebalanceInProgress), "to say that it gave two up");
    let ticket = classic(&mut bench, &old.member_id, &[0, 1]);
    let joined = bench.joined(ticket);
    assert_eq!(sync(&mut bench, &joined, vec![]).assignment, assignment(&[0, 1]));
    assert_eq!(bench.heartbeat("g", joined.generation, &old.member_id), None);
    new.beat(&mut bench).unwrap();
    assert_eq!(new.owned.len(), 2);
    let described = bench.describe();
    assert_eq!(described.state, "Stable");
    assert_eq!(described.members.iter().filter(|member| member.is_classic).count(), 1);
    assert_eq!(bench.commit("g", joined.generation, &old.member_id, vec![offset(0, 8)]), None);

    new.leave(&mut bench, -1).unwrap();
    assert!(bench.describe().error.is_some(), "a classic group again");
    let beat = bench.heartbeat("g", joined.generation, &old.member_id);
    assert_eq!(beat, Some(Error::RebalanceInProgress));
    assert_eq!(bench.replayed().snapshot(), bench.coordinator.snapshot());
    let ticket = classic(&mut bench, &old.member_id, &[0, 1]);
    let joined = bench.joined(ticket);
    assert_eq!(joined.leader, old.member_id);
    assert_eq!(bench.fetch("g", 0, true), Ok(8), "offsets outlast both changes");
}

#[test]
fn members_of_a_group_that_went_back_are_called_after_a_restart_too() {
    let mut bench = Bench::new();
    let old = alone(&mut bench);
    let mut new = Consumer::of("new", &["orders"]);
    new.join(&mut bench).unwrap();
    classic(&mut bench, &old.member_id, &[0, 1, 2, 3]);
    let ticket = classic(&mut bench, &old.member_id, &[0, 1]);
    let joined = bench.joined(ticket);
    assert_eq!(sync(&mut bench, &joined, vec![]).assignment, assignment(&[0, 1]));
    new.beat(&mut bench).unwrap();
    assert_eq!(new.owned.len(), 2);
    new.leave(&mut bench, -1).unwrap();
    bench.restart();
    let beat = bench.heartbeat("g", joined.generation, &old.member_id);
    assert_eq!(beat, Some(Error::IllegalGeneration), "two partitions are nobody's");
    let ticket = classic(&mut bench, &old.member_id, &[]);
    let again = bench.joined(ticket);
    assert!(again.generation > joined.generation, "{again:?}");
    assert_eq!((again.leader.as_str(), again.members.len()), (old.member_id.as_str(), 1));
    assert_eq!(bench.replayed().snapshot(), bench.coordinator.snapshot());
}

#[test]
fn a_classic_member_that_does_not_follow_is_out() {
    let mut bench = Bench::new();
    let old = alone(&mut bench);
    let mut new = Consumer::of("new", &["orders"]);
    new.join(&mut bench).unwrap();
    for _ in 0..5 {
        bench.heartbeat("g", old.generation, &old.member_id);
        bench.pass(10_000);
        new.beat(&mut bench).unwrap();
    }
    assert_eq!(new.owned.len(), 4);
    assert_eq!(bench.heartbeat("g", old.generation, &old.member_id), Some(Error::UnknownMemberId));
}

#[test]
fn a_classic_member_joins_and_leaves_a_consumer_group() {
    let mut bench = Bench::new();
    let mut new = Consumer::of("new", &["orders"]);
    new.join(&mut bench).unwrap();
    let ticket = classic(&mut bench, "", &[]);
    let joined = bench.joined(ticket);
    assert_eq!(sync(&mut bench, &joined, vec![]).error, None);
    bench.converge(&mut [&mut new]);
    assert_eq!(new.owned.len(), 2);
    let beat = bench.heartbeat("g", joined.generation, &joined.member_id);
    assert_eq!(beat, Some(Error::RebalanceInProgress), "two are free for it now");
    let leaving = vec![LeavingMember { member_id: joined.member_id, instance_id: None }];
    bench.ask(Request::LeaveGroup { group_id: "g".into(), members: leaving });
    bench.converge(&mut [&mut new]);
    assert_eq!(new.owned.len(), 4);
}

#[test]
fn who_waits_for_a_classic_generation_is_called_back_when_the_group_changes() {
    let mut bench = Bench::new();
    let old = alone(&mut bench);
    let waiting = classic(&mut bench, "", &[]);
    assert_eq!(bench.answer(waiting), None);
    let mut new = Consumer::of("new", &["orders"]);
    new.join(&mut bench).unwrap();
    assert_eq!(bench.joined(waiting).error, Some(Error::RebalanceInProgress));
    assert_eq!(bench.describe().members.len(), 3);
    let beat = bench.heartbeat("g", old.generation, &old.member_id);
    assert_eq!(beat, Some(Error::RebalanceInProgress));
}

#[test]
fn a_group_stays_what_it_is_where_the_policy_or_its_assignor_say_so() {
    let policy = MigrationPolicy::Downgrade;
    let mut bench = Bench::with(Settings { migration_policy: policy, ..settings(7) });
    let old = alone(&mut bench);
    let mut new = Consumer::of("new", &["orders"]);
    assert_eq!(new.join(&mut bench), Err(Error::GroupIdNotFound));
    assert_eq!(bench.heartbeat("g", old.generation, &old.member_id), None);

    let mut bench = Bench::new();
    let ticket = bench.join("g", "", None);
    let joined = bench.joined(ticket);
    bench.sync("g", &joined);
    assert_eq!(new.join(&mut bench), Err(Error::GroupIdNotFound), "no embedded consumer protocol");
    assert_eq!(bench.heartbeat("g", joined.generation, &joined.member_id), None);
}

#[test]
fn an_empty_group_is_either() {
    let mut bench = Bench::new();
    let old = alone(&mut bench);
    let leaving = vec![LeavingMember { member_id: old.member_id, instance_id: None }];
    bench.ask(Request::LeaveGroup { group_id: "g".into(), members: leaving });
    let mut new = Consumer::of("new", &["orders"]);
    new.join(&mut bench).unwrap();
    assert_eq!(bench.replayed().snapshot(), bench.coordinator.snapshot());
    new.leave(&mut bench, -1).unwrap();
    let ticket = classic(&mut bench, "", &[]);
    assert_eq!(bench.joined(ticket).error, None);
    assert_eq!(bench.replayed().snapshot(), bench.coordinator.snapshot());
}
