//! One claim of the protocol per test.

use bytes::Bytes;
use headwater_coordinator::*;

use crate::support::{Bench, offset, partition, settings};

fn stable_pair(bench: &mut Bench) -> (JoinedGroup, JoinedGroup) {
    let first = bench.join("g", "", None);
    let first = bench.joined(first).member_id;
    let second = bench.join("g", "", None);
    assert_eq!(bench.answer(second), None, "waits for the first member to rejoin");
    let leader = bench.join("g", &first, None);
    let (leader, follower) = (bench.joined(leader), bench.joined(second));
    let waiting = bench.sync("g", &follower);
    assert_eq!(bench.answer(waiting), None, "waits for the leader's assignments");
    let ticket = bench.sync("g", &leader);
    assert_eq!(bench.synced(ticket).assignment, Bytes::from(leader.member_id.clone()));
    assert_eq!(bench.synced(waiting).assignment, Bytes::from(follower.member_id.clone()));
    (leader, follower)
}

#[test]
fn two_members_share_a_generation_and_one_leads() {
    let mut bench = Bench::new();
    let (leader, follower) = stable_pair(&mut bench);
    assert_eq!(leader.generation, follower.generation);
    assert_eq!((leader.members.len(), follower.members.len()), (2, 0));
    assert_eq!(bench.heartbeat("g", leader.generation, &leader.member_id), None);
    assert_eq!(
        bench.heartbeat("g", leader.generation - 1, &leader.member_id),
        Some(Error::IllegalGeneration)
    );
    assert_eq!(bench.heartbeat("g", leader.generation, "nobody"), Some(Error::UnknownMemberId));
}

#[test]
fn members_go_on_after_a_restart_without_a_rebalance() {
    let mut bench = Bench::new();
    let (leader, follower) = stable_pair(&mut bench);
    bench.restart();
    for member in [&leader, &follower] {
        assert_eq!(bench.heartbeat("g", member.generation, &member.member_id), None);
        let ticket = bench.sync("g", &JoinedGroup { members: vec![], ..member.clone() });
        assert_eq!(bench.synced(ticket).assignment, Bytes::from(member.member_id.clone()));
    }
    assert_eq!(bench.commit("g", leader.generation, &leader.member_id, vec![offset(0, 5)]), None);
}

#[test]
fn a_silent_member_is_out_after_its_session() {
    let mut bench = Bench::new();
    let (leader, follower) = stable_pair(&mut bench);
    bench.pass(9_000);
    assert_eq!(bench.heartbeat("g", leader.generation, &leader.member_id), None);
    bench.pass(2_000);
    let error = bench.heartbeat("g", leader.generation, &leader.member_id);
    assert_eq!(error, Some(Error::RebalanceInProgress));
    let again = bench.join("g", &leader.member_id, None);
    assert_eq!(bench.joined(again).members.len(), 1);
    let fenced = bench.commit("g", follower.generation, &follower.member_id, vec![offset(0, 1)]);
    assert_eq!(fenced, Some(Error::UnknownMemberId));
}

#[test]
fn a_dynamic_member_first_gets_its_id() {
    let mut bench = Bench::new();
    let mut request = JoinGroup {
        group_id: "g".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: -1,
        member_id: String::new(),
        instance_id: None,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::new())],
        require_known_member_id: true,
        supports_skipping_assignment: true,
    };
    let ticket = bench.send(Request::JoinGroup(request.clone()));
    let refused = bench.joined(ticket);
    assert_eq!(refused.error, Some(Error::MemberIdRequired));
    request.member_id = refused.member_id;
    let ticket = bench.send(Request::JoinGroup(request.clone()));
    assert_eq!(bench.joined(ticket).error, None);
    for timeout in [5_999, 1_800_001] {
        let ticket =
            bench.send(Request::JoinGroup(JoinGroup { session_timeout_ms: timeout, ..request.clone() }));
        assert_eq!(bench.joined(ticket).error, Some(Error::InvalidSessionTimeout));
    }
    request.member_id = String::new();
    request.protocols[0].0 = "sticky".into();
    let ticket = bench.send(Request::JoinGroup(request));
    assert_eq!(bench.joined(ticket).error, Some(Error::InconsistentGroupProtocol));
}

#[test]
fn a_returning_static_member_fences_its_former_self_without_a_rebalance() {
    let mut bench = Bench::new();
    let ticket = bench.join("g", "", Some("one"));
    let old = bench.joined(ticket);
    bench.sync("g", &old);
    let ticket = bench.join("g", "", Some("one"));
    let new = bench.joined(ticket);
    assert_eq!((new.generation, new.skip_assignment), (old.generation, true));
    assert_ne!(new.member_id, old.member_id);
    let ticket = bench.join("g", &old.member_id, Some("one"));
    assert_eq!(bench.joined(ticket).error, Some(Error::FencedInstanceId));
    assert_eq!(bench.heartbeat("g", old.generation, &old.member_id), Some(Error::UnknownMemberId));
}

#[test]
fn an_empty_group_waits_the_initial_delay() {
    let mut bench = Bench::with(Settings { initial_rebalance_delay_ms: 3_000, ..settings(1) });
    let first = bench.join("g", "", None);
    bench.pass(2_000);
    let second = bench.join("g", "", None);
    bench.pass(2_000);
    assert_eq!(bench.answer(first), None, "the second member prolonged the wait");
    bench.pass(1_000);
    assert_eq!(bench.joined(first).generation, 1);
    assert_eq!(bench.joined(second).generation, 1);
}

#[test]
fn what_most_members_prefer_of_the_protocols_that_all_offer_is_chosen() {
    let mut bench = Bench::with(Settings { initial_rebalance_delay_ms: 3_000, ..settings(1) });
    let join = |names: &[&str]| {
        Request::JoinGroup(JoinGroup {
            group_id: "g".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 20_000,
            member_id: String::new(),
            instance_id: None,
            protocol_type: "consumer".into(),
            protocols: names.iter().map(|name| ((*name).to_owned(), Bytes::new())).collect(),
            require_known_member_id: false,
            supports_skipping_assignment: true,
        })
    };
    let offers: [&[&str]; 3] = [&["a", "sticky", "range"], &["range", "sticky"], &["b", "sticky", "range"]];
    let tickets = offers.map(|names| bench.send(join(names)));
    let stranger = bench.send(join(&["a", "b"]));
    assert_eq!(bench.joined(stranger).error, Some(Error::InconsistentGroupProtocol));
    bench.pass(4_000);
    for ticket in tickets {
        assert_eq!(bench.joined(ticket).protocol.as_deref(), Some("sticky"));
    }
}

#[test]
fn a_generation_forms_without_members_that_do_not_rejoin() {
    let mut bench = Bench::new();
    let (leader, follower) = stable_pair(&mut bench);
    let ticket = bench.join("g", &leader.member_id, None);
    for _ in 0..5 {
        bench.pass(4_000);
        bench.heartbeat("g", follower.generation, &follower.member_id);
    }
    assert_eq!(bench.joined(ticket).members.len(), 1);
}

#[test]
fn a_cancelled_join_is_never_answered_and_its_member_expires() {
    let mut bench = Bench::new();
    stable_pair(&mut bench);
    let ticket = bench.join("g", "", None);
    bench.coordinator.cancel(ticket);
    bench.pass(60_000);
    assert_eq!(bench.answer(ticket), None);
    let Response::DescribeGroups(groups) = bench.ask(Request::DescribeGroups(vec!["g".into()])) else {
        panic!()
    };
    assert_eq!((groups[0].state, groups[0].members.len()), ("Empty", 0));
}

#[test]
fn groups_with_members_cannot_be_deleted_or_overwritten() {
    let mut bench = Bench::new();
    let (leader, follower) = stable_pair(&mut bench);
    assert_eq!(bench.commit("g", -1, "", vec![offset(0, 1)]), Some(Error::UnknownMemberId));
    assert_eq!(bench.commit("new", 3, "x", vec![offset(0, 1)]), Some(Error::IllegalGeneration));
    assert_eq!(
        bench.commit("g", leader.generation, &leader.member_id, vec![offset(9, 1)]),
        Some(Error::UnknownTopicOrPartition)
    );
    let delete = Request::DeleteGroups(vec!["g".into()]);
    assert_eq!(
        bench.ask(delete.clone()),
        Response::DeleteGroups(vec![("g".into(), Some(Error::NonEmptyGroup))])
    );
    let members = [leader, follower].map(|m| LeavingMember { member_id: m.member_id, instance_id: None });
    bench.ask(Request::LeaveGroup { group_id: "g".into(), members: members.to_vec() });
    assert_eq!(bench.commit("g", -1, "", vec![offset(0, 1)]), None);
    assert_eq!(bench.ask(delete.clone()), Response::DeleteGroups(vec![("g".into(), None)]));
    assert_eq!(bench.fetch("g", 0, true), Ok(-1));
    assert_eq!(bench.ask(delete), Response::DeleteGroups(vec![("g".into(), Some(Error::GroupIdNotFound))]));
}

#[test]
fn who_leaves_a_group_that_is_not_there_is_unknown_each_by_itself() {
    let mut bench = Bench::new();
    let leave = |group: &str| {
        let one = LeavingMember { member_id: "x".into(), instance_id: None };
        let other = LeavingMember { member_id: String::new(), instance_id: Some("i".into()) };
        Request::LeaveGroup { group_id: group.into(), members: vec![one, other] }
    };
    let Response::LeaveGroup { error, members } = bench.ask(leave("nowhere")) else { panic!("it leaves") };
    assert_eq!(error, None);
    let names: Vec<_> = members.iter().map(|one| (&*one.member_id, one.instance_id.as_deref())).collect();
    assert_eq!(names, [("x", None), ("", Some("i"))]);
    assert!(members.iter().all(|one| one.error == Some(Error::UnknownMemberId)));
    let refused = Response::LeaveGroup { error: Some(Error::InvalidGroupId), members: Vec::new() };
    assert_eq!(bench.ask(leave("")), refused);
}

#[test]
fn nobody_creates_the_topic_of_the_metadata_quorum() {
    let mut bench = Bench::new();
    let name = "__cluster_metadata".to_owned();
    let topics = vec![NewTopic { name, partitions: 1, replication_factor: 1, configs: vec![] }];
    let Response::CreateTopics(created) = bench.ask(Request::CreateTopics { topics, validate_only: false })
    else {
        panic!("an answer")
    };
    let refused = created[0].result.as_ref().map(drop).map_err(|failure| failure.error);
    assert_eq!(refused, Err(Error::InvalidRequest));
}

#[test]
fn offsets_of_an_empty_group_expire() {
    let mut bench = Bench::new();
    bench.commit("g", -1, "", vec![offset(0, 1)]);
    let week = 7 * 24 * 3_600_000;
    bench.pass(week - 1);
    assert_eq!(bench.fetch("g", 0, false), Ok(1));
    bench.pass(2);
    assert_eq!(bench.fetch("g", 0, false), Ok(-1));
}

fn group_names(bench: &mut Bench) -> Vec<String> {
    match bench.ask(Request::ListGroups { states: Vec::new(), types: Vec::new() }) {
        Response::ListGroups(groups) => groups.into_iter().map(|group| group.group_id).collect(),
        other => panic!("{other:?}"),
    }
}

fn emptied(bench: &mut Bench) {
    let (leader, follower) = stable_pair(bench);
    let members = [leader, follower].map(|m| LeavingMember { member_id: m.member_id, instance_id: None });
    bench.ask(Request::LeaveGroup { group_id: "g".into(), members: members.to_vec() });
}

/// As Kafka's check every ten minutes has it.
#[test]
fn an_empty_group_without_offsets_goes_before_those_with_some() {
    let mut bench = Bench::new();
    emptied(&mut bench);
    bench.commit("kept", -1, "", vec![offset(0, 1)]);
    bench.pass(599_999);
    assert_eq!(group_names(&mut bench), ["g", "kept"]);
    bench.pass(1);
    assert_eq!(group_names(&mut bench), ["kept"]);
    assert_eq!(bench.replayed().snapshot(), bench.coordinator.snapshot());
}

#[test]
fn an_empty_group_goes_soon_after_the_topic_of_its_offsets() {
    let mut bench = Bench::new();
    emptied(&mut bench);
    assert_eq!(bench.commit("g", -1, "", vec![offset(0, 1)]), None);
    bench.pass(24 * 3_600_000);
    assert_eq!(group_names(&mut bench), ["g"]);
    bench.ask(Request::DeleteTopics(vec![TopicRef::Name("orders".into())]));
    bench.pass(600_000);
    assert!(group_names(&mut bench).is_empty());
    assert_eq!(bench.replayed().snapshot(), bench.coordinator.snapshot());
}

#[test]
fn the_group_of_the_empty_name_keeps_offsets_and_nothing_else() {
    let mut bench = Bench::new();
    assert_eq!(bench.commit("", -1, "", vec![offset(0, 1)]), None);
    bench.restart();
    assert_eq!(bench.fetch("", 0, true), Ok(1));
    let ticket = bench.join("", "", None);
    assert_eq!(bench.joined(ticket).error, Some(Error::InvalidGroupId));
    assert_eq!(bench.heartbeat("", 1, "m"), Some(Error::InvalidGroupId));
    let producer = bench.init("t", None).unwrap();
    assert_eq!(bench.txn_commit("t", producer, "", offset(0, 2)), Some(Error::InvalidGroupId));
    let delete = Request::OffsetDelete { group_id: String::new(), partitions: vec![partition(0)] };
    let refused = Response::OffsetDelete { error: Some(Error::InvalidGroupId), partitions: Vec::new() };
    assert_eq!(bench.ask(delete), refused);
    let Response::DescribeConsumerGroups(described) =
        bench.ask(Request::DescribeConsumerGroups(vec![String::new()]))
    else {
        panic!("a description")
    };
    assert_eq!(described[0].error.as_ref().map(|failure| failure.error), Some(Error::InvalidGroupId));
    let delete = Request::DeleteGroups(vec![String::new()]);
    assert_eq!(bench.ask(delete), Response::DeleteGroups(vec![(String::new(), None)]));
    assert_eq!(bench.fetch("", 0, true), Ok(-1));
}

#[test]
fn pending_offsets_are_unstable_until_the_transaction_ends() {
    let mut bench = Bench::new();
    let producer = bench.init("t", None).unwrap();
    bench.commit("g", -1, "", vec![offset(0, 1)]);
    assert_eq!(bench.txn_commit("t", producer, "g", offset(0, 2)), None);
    assert_eq!(bench.fetch("g", 0, true), Err(Error::UnstableOffsetCommit));
    assert_eq!(bench.fetch("g", 0, false), Ok(1));
    bench.restart();
    let producer = bench.end("t", producer, false, true).unwrap();
    assert_eq!(bench.fetch("g", 0, true), Ok(1));
    assert_eq!(bench.txn_commit("t", producer, "g", offset(0, 3)), None);
    bench.end("t", producer, true, true).unwrap();
    assert_eq!(bench.fetch("g", 0, true), Ok(3));
}

/// As in Apache Kafka.
#[test]
fn an_offset_is_deleted_with_what_is_pending_and_not_where_there_is_none() {
    let mut bench = Bench::new();
    let delete = |bench: &mut Bench, number: i32| {
        bench.ask(Request::OffsetDelete { group_id: "g".into(), partitions: vec![partition(number)] })
    };
    let deleted = |number: i32| Response::OffsetDelete {
        error: None,
        partitions: vec![PartitionResult { partition: partition(number), error: None }],
    };
    let producer = bench.init("t", None).unwrap();
    bench.commit("g", -1, "", vec![offset(0, 1)]);
    for number in [0, 1] {
        assert_eq!(bench.txn_commit("t", producer, "g", offset(number, 2)), None);
        assert_eq!(delete(&mut bench, number), deleted(number));
    }
    assert_eq!(bench.txn_commit("t", producer, "g", offset(2, 2)), None);
    let records = bench.log.len();
    assert_eq!(delete(&mut bench, 3), deleted(3));
    assert_eq!(bench.log.len(), records, "there is none");
    bench.end("t", producer, true, true).unwrap();
    let left = [0, 1, 2].map(|number| bench.fetch("g", number, true));
    assert_eq!(left, [Ok(-1), Ok(-1), Ok(2)]);
    assert_eq!(bench.replayed().snapshot(), bench.coordinator.snapshot());
}

#[test]
fn a_transaction_does_not_replace_a_later_commit() {
    let mut bench = Bench::new();
    let producer = bench.init("t", None).unwrap();
    bench.txn_commit("t", producer, "g", offset(0, 2));
    bench.commit("g", -1, "", vec![offset(0, 9)]);
    bench.end("t", producer, true, true).unwrap();
    assert_eq!(bench.fetch("g", 0, true), Ok(9));
}

#[test]
fn end_txn_v2_bumps_the_epoch_and_its_retry_changes_nothing() {
    let mut bench = Bench::new();
    let first = bench.init("t", None).unwrap();
    bench.add("t", first, 1);
    let second = bench.end("t", first, true, true).unwrap();
    assert_eq!(second, ProducerIdentity { producer_epoch: first.producer_epoch + 1, ..first });
    let records = bench.log.len();
    assert_eq!(bench.end("t", first, true, true), Ok(second));
    assert_eq!(bench.end("t", first, false, true), Err(Error::InvalidTxnState));
    assert_eq!((bench.log.len(), bench.markers.len()), (records, 1));
    bench.add("t", second, 1);
    assert_eq!(bench.end("t", first, false, true), Err(Error::ProducerFenced), "a delayed EndTxn");
    assert_eq!(bench.end("t", first, false, false), Err(Error::ProducerFenced));
}

#[test]
fn end_txn_v1_keeps_the_epoch_and_repeats_its_outcome() {
    let mut bench = Bench::new();
    let producer = bench.init("t", None).unwrap();
    assert_eq!(bench.end("t", producer, true, false), Err(Error::InvalidTxnState));
    bench.add("t", producer, 1);
    assert_eq!(bench.end("t", producer, true, false), Ok(producer));
    assert_eq!(bench.end("t", producer, true, false), Ok(producer));
    assert_eq!(bench.end("t", producer, false, false), Err(Error::InvalidTxnState));
    assert_eq!(bench.markers.len(), 1);
}

#[test]
fn a_new_producer_aborts_and_fences_the_old_one() {
    let mut bench = Bench::new();
    let old = bench.init("t", None).unwrap();
    bench.add("t", old, 1);
    let new = bench.init("t", None).unwrap();
    assert!(new.producer_epoch > old.producer_epoch);
    assert_eq!(bench.markers[0].2..=bench.markers[0].2, new.producer_epoch..=new.producer_epoch);
    assert!(!bench.markers[0].3);
    assert_eq!(bench.add("t", old, 1), Some(Error::ProducerFenced));
    assert_eq!(bench.init("t", Some(old)), Err(Error::ProducerFenced));
    assert_eq!(bench.txn_commit("t", old, "g", offset(0, 1)), Some(Error::InvalidProducerEpoch));
    let bumped = bench.init("t", Some(new)).unwrap();
    assert_eq!(bench.init("t", Some(new)), Ok(bumped), "the answer was lost");
}

#[test]
fn a_transaction_that_is_too_old_is_aborted() {
    let mut bench = Bench::new();
    let producer = bench.init("t", None).unwrap();
    bench.add("t", producer, 1);
    bench.txn_commit("t", producer, "g", offset(0, 2));
    bench.restart();
    bench.pass(60_000);
    assert_eq!(bench.markers.len(), 1);
    assert_eq!(bench.end("t", producer, true, true), Err(Error::ProducerFenced));
    assert_eq!(bench.fetch("g", 0, true), Ok(-1));
}

#[test]
fn a_transaction_times_out_where_the_clock_was_set_back_before_a_restart() {
    let mut bench = Bench::new();
    bench.now = 10_000_000;
    let producer = bench.init("t", None).unwrap();
    bench.add("t", producer, 1);
    bench.now = 1_000;
    bench.restart();
    bench.pass(60_000);
    assert_eq!(bench.markers.len(), 1);
    assert_eq!(bench.end("t", producer, true, true), Err(Error::ProducerFenced));
}

#[test]
fn an_exhausted_epoch_brings_a_new_producer_id() {
    let mut bench = Bench::new();
    let mut producer = bench.init("t", None).unwrap();
    let first = producer.producer_id;
    while producer.producer_id == first {
        bench.add("t", producer, 0);
        let next = bench.end("t", producer, true, true).unwrap();
        if next.producer_id != first {
            assert_eq!((producer.producer_epoch, next.producer_epoch), (i16::MAX - 1, 0));
            assert_eq!(bench.markers.last().map(|m| (m.1, m.2)), Some((first, i16::MAX)));
            assert_eq!(bench.end("t", producer, true, true), Ok(next), "a retry over the change");
        }
        producer = next;
        bench.replies.clear();
    }
}

#[test]
fn produce_is_checked_against_the_transaction() {
    let mut bench = Bench::new();
    let producer = bench.init("t", None).unwrap();
    let ProducerIdentity { producer_id: id, producer_epoch: epoch } = producer;
    let place = (bench.coordinator.topic("orders").unwrap().id, 2);
    let check =
        |bench: &Bench, epoch| bench.coordinator.check_transactional_produce(Some("t"), id, epoch, place);
    assert_eq!(check(&bench, epoch), Err(Error::InvalidTxnState));
    let now = bench.now;
    let mut add = |places: &[TopicPartitionId]| {
        bench.coordinator.add_partitions_implicitly("t", id, epoch, places, now)
    };
    assert_eq!(add(&[place, (place.0, 9)]), Err(Error::UnknownTopicOrPartition));
    assert_eq!(add(&[place]).unwrap().len(), 1, "none of them was added");
    assert_eq!(add(&[place]), Ok(vec![]));
    assert_eq!(check(&bench, epoch), Ok(()));
    assert_eq!(check(&bench, epoch - 1), Err(Error::InvalidProducerEpoch));
    assert_eq!(
        bench.coordinator.check_transactional_produce(None, id, epoch, place),
        Err(Error::InvalidTxnState)
    );
    let Response::DescribeTransactions(list) = bench.ask(Request::DescribeTransactions(vec!["t".into()]))
    else {
        panic!()
    };
    assert_eq!((list[0].state, list[0].partitions.clone()), ("Ongoing", vec![partition(2)]));
}

#[test]
fn topics_are_checked_created_and_deleted_with_their_offsets() {
    let mut bench = Bench::new();
    let mut create = |name: &str, partitions, replication_factor, validate_only| {
        let topics = vec![NewTopic { name: name.into(), partitions, replication_factor, configs: vec![] }];
        match bench.ask(Request::CreateTopics { topics, validate_only }) {
            Response::CreateTopics(results) => results[0].result.clone().err().map(|failure| failure.error),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(create("a b", 1, 1, false), Some(Error::InvalidTopic));
    assert_eq!(create("..", 1, 1, false), Some(Error::InvalidTopic));
    assert_eq!(create("orders", 1, 1, false), Some(Error::TopicAlreadyExists));
    assert_eq!(create("a", 10_001, 1, false), Some(Error::InvalidPartitions));
    assert_eq!(create("a", 0, 1, false), Some(Error::InvalidPartitions));
    assert_eq!(create("a", 1, 3, false), Some(Error::InvalidReplicationFactor));
    assert_eq!(create("a.b", -1, -1, true), None);
    assert_eq!(create("a.b", -1, -1, false), None);
    assert_eq!(create("a_b", -1, -1, false), Some(Error::InvalidTopic));
    bench.commit("g", -1, "", vec![offset(0, 1)]);
    let id = bench.coordinator.topic("orders").unwrap().id;
    bench.ask(Request::DeleteTopics(vec![TopicRef::Id(id)]));
    assert_eq!(bench.coordinator.topic_by_id(&id), None);
    assert_eq!(bench.fetch("g", 0, true), Ok(-1));
    assert_eq!(bench.replayed().snapshot(), bench.coordinator.snapshot());
}

#[test]
fn offsets_of_a_subscribed_topic_are_not_deleted() {
    let mut bench = Bench::new();
    let subscription = Bytes::from_static(b"\0\0\0\0\0\x01\0\x06orders");
    let ticket = bench.send(Request::JoinGroup(JoinGroup {
        group_id: "g".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        member_id: String::new(),
        instance_id: None,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), subscription)],
        require_known_member_id: false,
        supports_skipping_assignment: true,
    }));
    let joined = bench.joined(ticket);
    bench.sync("g", &joined);
    bench.commit("g", joined.generation, &joined.member_id, vec![offset(0, 4)]);
    let mut delete =
        || match bench.ask(Request::OffsetDelete { group_id: "g".into(), partitions: vec![partition(0)] }) {
            Response::OffsetDelete { error: None, partitions } => partitions[0].error,
            other => panic!("{other:?}"),
        };
    assert_eq!(delete(), Some(Error::GroupSubscribedToTopic));
    bench.pass(20_000);
    assert_eq!(bench.fetch("g", 0, true), Ok(4));
    bench.ask(Request::OffsetDelete { group_id: "g".into(), partitions: vec![partition(0)] });
    assert_eq!(bench.fetch("g", 0, true), Ok(-1));
}

#[test]
fn verifying_partitions_adds_none_and_one_unknown_stops_all() {
    let mut bench = Bench::new();
    let producer = bench.init("t", None).unwrap();
    let mut add = |numbers: &[i32], verify_only| {
        let partitions = numbers.iter().map(|number| partition(*number)).collect();
        let ProducerIdentity { producer_id, producer_epoch } = producer;
        let transactional_id = "t".into();
        let add = AddPartitions { transactional_id, producer_id, producer_epoch, verify_only, partitions };
        match bench.ask(Request::AddPartitionsToTxn(vec![add])) {
            Response::AddPartitionsToTxn(added) => {
                added[0].partitions.iter().map(|p| p.error).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(add(&[0], true), [Some(Error::InvalidTxnState)]);
    assert_eq!(
        add(&[0, 9], false),
        [Some(Error::OperationNotAttempted), Some(Error::UnknownTopicOrPartition)]
    );
    assert_eq!(add(&[0], true), [Some(Error::InvalidTxnState)]);
    assert_eq!(add(&[0, 1], false), [None, None]);
    assert_eq!(add(&[0, 2], true), [None, Some(Error::InvalidTxnState)]);
}

#[test]
fn partitions_only_grow_and_configs_survive_a_restart() {
    let mut bench = Bench::new();
    for (count, error) in
        [(4, Some(Error::InvalidPartitions)), (10_001, Some(Error::InvalidPartitions)), (6, None)]
    {
        let topics = vec![NewPartitions { name: "orders".into(), count }];
        let Response::CreatePartitions(results) =
            bench.ask(Request::CreatePartitions { topics, validate_only: false })
        else {
            panic!()
        };
        assert_eq!(results[0].result.clone().err().map(|failure| failure.error), error, "{count}");
    }
    let changes = vec![("cleanup.policy".to_owned(), ConfigChange::Set("compact".into()))];
    let topics = vec![AlterConfig { topic: "orders".into(), replace: false, changes }];
    bench.ask(Request::AlterConfigs { topics: topics.clone(), validate_only: true });
    assert!(!bench.coordinator.topic("orders").unwrap().settings(&BrokerConfigs::default()).compact);
    bench.ask(Request::AlterConfigs { topics, validate_only: false });
    bench.restart();
    let topic = bench.coordinator.topic("orders").unwrap();
    assert_eq!(
        (
            topic.partitions,
            topic.settings(&BrokerConfigs::default()).compact,
            topic.settings(&BrokerConfigs::default()).delete
        ),
        (6, true, false)
    );
}
