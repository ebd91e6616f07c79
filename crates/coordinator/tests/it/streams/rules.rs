//! What a group answers, one rule at a time.

use std::collections::{BTreeMap, BTreeSet};

use headwater_coordinator::*;
use headwater_model::TopicPartition;

use super::{DELAY_MS, GROUP, SESSION_MS, Thread, ask, describe, named, set, settle, word_count};
use crate::support::{Bench, offset, settings};
use StreamsStatusKind::*;

fn pair(bench: &mut Bench) -> Vec<Thread> {
    let mut threads = vec![Thread::of("a", "one"), Thread::of("b", "two")];
    for thread in &mut threads {
        thread.join(bench).expect("it joins");
    }
    bench.pass(DELAY_MS);
    settle(bench, &mut threads);
    threads
}

fn refused(bench: &mut Bench, beat: StreamsGroupHeartbeat) -> Error {
    ask(bench, beat).expect_err("it is refused").error
}

#[test]
fn a_new_group_waits_for_members_and_topics_and_then_shares_its_tasks() {
    let mut bench = Bench::with(settings(7));
    let mut a = Thread::of("a", "one");
    a.join(&mut bench).expect("it joins");
    assert_eq!((a.epoch, a.kinds()), (1, vec![AssignmentDelayed, MissingInternalTopics]));
    assert!(a.status[1].detail.contains("app-changelog, app-repartition"), "{:?}", a.status);
    assert_eq!(describe(&mut bench).state, "NotReady");
    let changelog = bench.coordinator.topic("app-changelog").expect("it was created");
    assert_eq!((changelog.partitions, changelog.config("cleanup.policy")), (4, "compact"));
    a.beat(&mut bench, false).expect("it lives");
    assert_eq!(a.kinds(), [AssignmentDelayed]);
    let mut b = Thread::of("b", "two");
    b.join(&mut bench).expect("it joins");
    bench.pass(DELAY_MS);
    let mut threads = [a, b];
    settle(&mut bench, &mut threads);
    assert_eq!(threads.each_ref().map(|one| (one.has.active.len(), one.kinds())), [(4, vec![]), (4, vec![])]);
    assert_eq!(describe(&mut bench).state, "Stable");
    assert_eq!(bench.replayed().snapshot(), bench.coordinator.snapshot());
}

#[test]
fn a_clock_that_was_set_back_before_a_restart_delays_no_assignment() {
    let mut bench = Bench::with(settings(7));
    bench.now = 10_000_000;
    let mut threads = pair(&mut bench);
    bench.now = 1_000_000;
    bench.restart();
    let mut c = Thread::of("c", "three");
    c.join(&mut bench).expect("it joins");
    threads.push(c);
    settle(&mut bench, &mut threads);
    assert!(!threads[2].has.active.is_empty(), "{threads:?}");
}

#[test]
fn what_is_in_the_way_of_a_topology_is_said() {
    let mut bench = Bench::with(settings(7));
    let a = Thread::of("a", "one");
    let mut topology = word_count();
    let split = topology.subtopologies.get_mut("0").expect("the first");
    split.source_topics = named(&["orders", "nowhere"]);
    split.copartition_groups = BTreeSet::from([named(&["orders", "nowhere"])]);
    let joining = StreamsGroupHeartbeat { topology: Some(topology), ..a.joining() };
    let answer = ask(&mut bench, joining).expect("it joins");
    let problem = answer.status.last().expect("a status");
    assert_eq!(problem.kind, MissingSourceTopics);
    assert!(problem.detail.contains("nowhere"), "{problem:?}");
    let topic = |name: &str, partitions| NewTopic {
        name: name.to_owned(),
        partitions,
        replication_factor: -1,
        configs: Vec::new(),
    };
    bench.ask(Request::CreateTopics { topics: vec![topic("nowhere", 3)], validate_only: false });
    let beat = StreamsGroupHeartbeat { member_epoch: answer.member_epoch, ..a.beating() };
    let answer = ask(&mut bench, beat.clone()).expect("it lives");
    let problem = answer.status.last().expect("a status");
    assert_eq!(problem.kind, IncorrectlyPartitionedTopics);
    assert!(problem.detail.contains("\"nowhere\": 3"), "{problem:?}");
    assert!(bench.coordinator.topic("app-changelog").is_none());
    let grow = NewPartitions { name: "nowhere".to_owned(), count: 4 };
    bench.ask(Request::CreatePartitions { topics: vec![grow], validate_only: false });
    let answer = ask(&mut bench, beat).expect("it lives");
    assert_eq!(answer.status.last().expect("a status").kind, MissingInternalTopics);
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let mut bench = Bench::with(settings(7));
    let a = Thread::of("a", "one");
    let snapshot = bench.coordinator.snapshot();
    let joining = || a.joining();
    let with = |change: &dyn Fn(&mut StreamsGroupHeartbeat)| {
        let mut beat = joining();
        change(&mut beat);
        beat
    };
    for beat in [
        with(&|beat| beat.instance_id = Some("i".into())),
        with(&|beat| beat.topology = None),
        with(&|beat| beat.active = None),
        with(&|beat| beat.active = Some([("0".to_owned(), 0)].into())),
        with(&|beat| beat.rebalance_timeout_ms = None),
        with(&|beat| beat.member_id.clear()),
        with(&|beat| beat.has_patterns = true),
        with(&|beat| beat.tells_offsets = true),
        with(&|beat| beat.member_epoch = -3),
    ] {
        assert_eq!(refused(&mut bench, beat.clone()), Error::InvalidRequest, "{beat:?}");
    }
    let mut counted = word_count();
    let count = counted.subtopologies.get_mut("1").expect("the second");
    count.state_changelog_topics.values_mut().for_each(|topic| topic.partitions = 4);
    let mut circle = word_count();
    circle.subtopologies.remove("0");
    for topology in [counted, circle] {
        let beat = StreamsGroupHeartbeat { topology: Some(topology), ..joining() };
        assert_eq!(refused(&mut bench, beat), Error::StreamsInvalidTopology);
    }
    let unknown = StreamsGroupHeartbeat { member_epoch: 3, ..a.beating() };
    assert_eq!(refused(&mut bench, unknown), Error::GroupIdNotFound);
    assert_eq!(bench.coordinator.snapshot(), snapshot);
}

#[test]
fn members_are_fenced_by_epoch_and_by_tasks_and_topologies_are_kept() {
    let mut bench = Bench::with(settings(7));
    let threads = pair(&mut bench);
    let a = &threads[0];
    let between = StreamsGroupHeartbeat { member_epoch: a.epoch - 1, ..a.beating() };
    let ahead = StreamsGroupHeartbeat { member_epoch: a.epoch + 1, ..a.beating() };
    assert_eq!(refused(&mut bench, ahead), Error::FencedMemberEpoch);
    assert_eq!(refused(&mut bench, between), Error::FencedMemberEpoch, "not the epoch before, which was 1");
    let strange = StreamsGroupHeartbeat { active: Some([("7".to_owned(), 0)].into()), ..a.beating() };
    assert_eq!(refused(&mut bench, strange), Error::InvalidRequest);
    let far = StreamsGroupHeartbeat { active: Some([("0".to_owned(), 4)].into()), ..a.beating() };
    assert_eq!(refused(&mut bench, far), Error::InvalidRequest);
    let c = Thread::of("c", "three");
    let mut other = word_count();
    other.subtopologies.remove("1");
    other.epoch = 1;
    let joining = StreamsGroupHeartbeat { topology: Some(other.clone()), ..c.joining() };
    assert_eq!(refused(&mut bench, joining), Error::InvalidRequest, "a group keeps its topology");
    assert_eq!(describe(&mut bench).members.len(), 2);
}

#[test]
fn who_has_not_got_the_answer_with_its_tasks_is_told_them_again() {
    let mut bench = Bench::with(settings(7));
    let mut a = Thread::of("a", "one");
    a.join(&mut bench).expect("it joins");
    bench.pass(2 * DELAY_MS);
    let lost = a.clone().beat(&mut bench, false).expect("it lives");
    assert_eq!(lost.tasks.as_ref().map(|tasks| tasks.active.len()), Some(8));
    let again = a.beat(&mut bench, false).expect("its epoch is the one before");
    assert_eq!((again.member_epoch, again.tasks), (lost.member_epoch, lost.tasks));
    assert_eq!(a.beat(&mut bench, false).expect("it lives").tasks, None, "it has them");
}

#[test]
fn a_silent_member_is_out_and_one_that_keeps_its_tasks_too() {
    let mut bench = Bench::with(settings(7));
    let mut threads = pair(&mut bench);
    let mut a = threads.remove(0);
    for _ in 0..4 {
        bench.pass(SESSION_MS / 2);
        a.beat(&mut bench, false).expect("it lives");
    }
    settle(&mut bench, std::slice::from_mut(&mut a));
    assert_eq!(a.has.active.len(), 8, "the other is out");
    let mut b = Thread::of("b", "two");
    b.join(&mut bench).expect("it joins");
    for _ in 0..5 {
        bench.pass(SESSION_MS / 3);
        drop(b.beat(&mut bench, false));
        if let Err(failure) = a.beat(&mut bench, true) {
            assert_eq!(failure.error, Error::UnknownMemberId);
            settle(&mut bench, std::slice::from_mut(&mut b));
            assert_eq!(b.has.active.len(), 8, "who does not give up tasks loses all");
            return;
        }
    }
    panic!("it kept its tasks for longer than its rebalance timeout");
}

#[test]
fn standbys_are_elsewhere_and_take_over() {
    let mut bench = Bench::with(settings(7));
    set(&mut bench, "streams.num.standby.replicas", 1);
    let mut threads = pair(&mut bench);
    assert_eq!(
        threads.iter().map(|one| one.has.standby.len()).sum::<usize>(),
        4,
        "the splitter has no store"
    );
    let gone = threads.remove(0);
    let copies: Vec<TaskId> = threads[0].has.standby.iter().cloned().collect();
    assert!(copies.iter().all(|task| gone.has.active.contains(task)));
    gone.clone().leave(&mut bench).expect("it leaves");
    settle(&mut bench, &mut threads);
    assert!(threads[0].has.standby.is_empty(), "one process has no use for copies");
    assert_eq!(threads[0].has.active.len(), 8);
}

#[test]
fn offsets_are_committed_by_epoch_and_task() {
    let mut bench = Bench::with(settings(7));
    let mut threads = pair(&mut bench);
    let commit = |bench: &mut Bench, member: &str, epoch: i32, partition: i32, knows: bool| {
        let commit = OffsetCommit {
            group_id: GROUP.to_owned(),
            generation: epoch,
            member_id: member.to_owned(),
            instance_id: None,
            knows_member_epochs: knows,
            offsets: vec![offset(partition, 5)],
        };
        match bench.ask(Request::OffsetCommit(commit)) {
            Response::OffsetCommit(results) => results[0].error,
            other => panic!("{other:?}"),
        }
    };
    let a = threads[0].clone();
    let own = a.has.active.iter().find(|task| task.0 == "0").expect("a splitter").1;
    let others = threads[1].has.active.iter().find(|task| task.0 == "0").expect("a splitter").1;
    assert_eq!(commit(&mut bench, "a", a.epoch, own, true), None);
    assert_eq!(commit(&mut bench, "a", a.epoch, own, false), Some(Error::UnsupportedVersion));
    assert_eq!(commit(&mut bench, "a", a.epoch + 1, own, true), Some(Error::StaleMemberEpoch));
    assert_eq!(commit(&mut bench, "a", -1, own, true), Some(Error::StaleMemberEpoch));
    assert_eq!(commit(&mut bench, "x", a.epoch, own, true), Some(Error::UnknownMemberId));
    let mut c = Thread::of("c", "three");
    c.join(&mut bench).expect("it joins");
    threads.push(c);
    settle(&mut bench, &mut threads);
    let kept = threads[0].has.active.iter().find(|task| task.0 == "0").map(|task| task.1);
    if let Some(kept) = kept {
        assert_eq!(commit(&mut bench, "a", a.epoch, kept, true), None, "it has had this one since then");
    }
    assert_eq!(commit(&mut bench, "a", a.epoch, others, true), Some(Error::StaleMemberEpoch));
    let partitions = vec![TopicPartition::new("orders", own)];
    let delete = Request::OffsetDelete { group_id: GROUP.to_owned(), partitions };
    let Response::OffsetDelete { partitions, .. } = bench.ask(delete) else { panic!("a deletion") };
    assert_eq!(partitions[0].error, Some(Error::GroupSubscribedToTopic));
    for thread in &mut threads {
        thread.leave(&mut bench).expect("it leaves");
    }
    assert_eq!(commit(&mut bench, "", -1, others, true), None, "nobody is there to be in the way");
}

#[test]
fn one_may_ask_all_to_end_and_endpoints_are_told() {
    let mut bench = Bench::with(settings(7));
    let mut threads = pair(&mut bench);
    let endpoint = StreamsEndpoint { host: "here".into(), port: 8080 };
    let beat = StreamsGroupHeartbeat { user_endpoint: Some(endpoint.clone()), ..threads[0].beating() };
    ask(&mut bench, beat).expect("it lives");
    settle(&mut bench, &mut threads);
    let mut c = Thread::of("c", "three");
    let joined = StreamsGroupHeartbeat { user_endpoint: Some(endpoint), endpoint_epoch: -1, ..c.joining() };
    let answer = ask(&mut bench, joined).expect("it joins");
    let known = answer.endpoints.expect("they are new to it");
    let partitions: BTreeMap<String, BTreeSet<i32>> = known[0].active.clone();
    assert_eq!(partitions.values().map(BTreeSet::len).sum::<usize>(), threads[0].has.active.len());
    c.epoch = answer.member_epoch;
    ask(&mut bench, StreamsGroupHeartbeat { shutdown_application: true, ..c.beating() }).expect("it lives");
    threads[1].beat(&mut bench, false).expect("it lives");
    assert!(threads[1].kinds().contains(&ShutdownApplication), "{:?}", threads[1].status);
}

#[test]
fn a_name_belongs_to_one_kind_of_group() {
    let mut bench = Bench::with(settings(7));
    let mut threads = pair(&mut bench);
    let consumer = ConsumerGroupHeartbeat {
        group_id: GROUP.to_owned(),
        rebalance_timeout_ms: Some(1_000),
        topics: Some(vec!["orders".to_owned()]),
        owned: Some(BTreeSet::new()),
        ..ConsumerGroupHeartbeat::default()
    };
    let Response::ConsumerGroupHeartbeat(answer) = bench.ask(Request::ConsumerGroupHeartbeat(consumer))
    else {
        panic!("a heartbeat")
    };
    assert_eq!(answer.expect_err("it is refused").error, Error::GroupIdNotFound);
    let classic = bench.join(GROUP, "", None);
    assert_eq!(bench.joined(classic).error, Some(Error::InconsistentGroupProtocol));
    let delete = Request::DeleteGroups(vec![GROUP.to_owned()]);
    let gone = |error| Response::DeleteGroups(vec![(GROUP.to_owned(), error)]);
    assert_eq!(bench.ask(delete.clone()), gone(Some(Error::NonEmptyGroup)));
    for thread in &mut threads {
        thread.leave(&mut bench).expect("it leaves");
    }
    let all = Request::ListGroups { states: Vec::new(), types: vec!["Streams".to_owned()] };
    let Response::ListGroups(listed) = bench.ask(all) else { panic!("a list") };
    assert_eq!((listed[0].state, listed[0].kind), ("Empty", "streams"));
    let classic = bench.join(GROUP, "", None);
    assert_eq!(bench.joined(classic).error, None, "an empty one becomes what is asked for");
    assert!(describe(&mut bench).error.is_some());
    assert_eq!(bench.replayed().snapshot(), bench.coordinator.snapshot());
}

#[test]
fn an_empty_group_without_offsets_is_not_kept() {
    let mut bench = Bench::new();
    let mut threads = pair(&mut bench);
    for thread in &mut threads {
        thread.leave(&mut bench).expect("it leaves");
    }
    bench.pass(599_999);
    assert!(describe(&mut bench).error.is_none());
    bench.pass(1);
    assert!(describe(&mut bench).error.is_some());
    assert_eq!(bench.replayed().snapshot(), bench.coordinator.snapshot());
}
