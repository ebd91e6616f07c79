//! Share groups by example: who is in one, what each member reads, who else may use its name.

use headwater_coordinator::*;

use crate::support::{self, Bench};

fn share(bench: &mut Bench, request: ShareRequest) -> ShareResponse {
    match bench.ask(Request::Share(request)) {
        Response::Share(response) => response,
        other => panic!("{other:?}"),
    }
}

fn beat(
    bench: &mut Bench,
    member: &str,
    epoch: i32,
    topics: Option<&[&str]>,
) -> Result<ShareAssigned, Error> {
    let beat = ShareHeartbeat {
        group_id: "workers".to_owned(),
        member_id: member.to_owned(),
        member_epoch: epoch,
        rack: None,
        subscription: topics.map(|topics| topics.iter().map(|topic| (*topic).to_owned()).collect()),
    };
    match share(bench, ShareRequest::Heartbeat(beat)) {
        ShareResponse::Heartbeat(outcome) => outcome.map_err(|failure| failure.error),
        other => panic!("{other:?}"),
    }
}

fn join(bench: &mut Bench, member: &str) -> ShareAssigned {
    beat(bench, member, 0, Some(&["orders"])).expect("a member")
}

fn partitions(assigned: &ShareAssigned) -> Vec<i32> {
    assigned.assignment.iter().flatten().flat_map(|(_, partitions)| partitions.clone()).collect()
}

fn description(bench: &mut Bench) -> ShareGroupDescription {
    match share(bench, ShareRequest::Describe(vec!["workers".to_owned()])) {
        ShareResponse::Describe(mut groups) => groups.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn members_share_the_partitions_and_learn_of_it_by_heartbeats() {
    let mut bench = Bench::new();
    let one = join(&mut bench, "one");
    assert_eq!((one.member_epoch, partitions(&one)), (1, vec![0, 1, 2, 3]));
    assert_eq!(beat(&mut bench, "one", 1, None).expect("it stays").assignment, None);
    let two = join(&mut bench, "two");
    assert_eq!((two.member_epoch, partitions(&two).len()), (2, 2));
    let one = beat(&mut bench, "one", 1, None).expect("its epoch is the one before");
    assert_eq!((one.member_epoch, partitions(&one).len()), (2, 2));
    let group = description(&mut bench);
    assert_eq!((group.state, group.members.len(), group.epoch), ("Stable", 2, 2));
}

#[test]
fn who_has_not_got_an_answer_is_told_its_partitions_again() {
    let mut bench = Bench::new();
    join(&mut bench, "one");
    join(&mut bench, "two");
    let lost = beat(&mut bench, "one", 1, None).expect("it stays");
    assert_eq!((lost.member_epoch, partitions(&lost).len()), (2, 2));
    assert_eq!(beat(&mut bench, "one", 1, None), Ok(lost.clone()), "it goes on with the epoch before");
    assert_eq!(beat(&mut bench, "one", 2, Some(&["orders"])), Ok(lost), "who says all is told all");
    assert_eq!(beat(&mut bench, "one", 2, None).expect("it stays").assignment, None);
}

#[test]
fn a_wrong_epoch_is_fenced_and_a_stranger_is_unknown() {
    let mut bench = Bench::new();
    assert_eq!(beat(&mut bench, "one", 3, None), Err(Error::GroupIdNotFound));
    join(&mut bench, "one");
    assert_eq!(beat(&mut bench, "two", 3, None), Err(Error::UnknownMemberId));
    assert_eq!(beat(&mut bench, "one", 7, None), Err(Error::FencedMemberEpoch));
    assert_eq!(beat(&mut bench, "", 0, Some(&["orders"])), Err(Error::InvalidRequest));
    assert_eq!(beat(&mut bench, "three", 0, None), Err(Error::InvalidRequest));
    assert_eq!(beat(&mut bench, "one", -1, None).expect("it leaves").member_epoch, -1);
    assert_eq!(description(&mut bench).state, "Empty");
}

#[test]
fn a_member_without_heartbeats_is_gone_and_its_partitions_go_to_others() {
    let mut bench = Bench::new();
    join(&mut bench, "one");
    bench.pass(30_000);
    join(&mut bench, "two");
    bench.pass(20_000);
    let two = beat(&mut bench, "two", 2, None).expect("it stays");
    assert_eq!((two.member_epoch, partitions(&two)), (3, vec![0, 1, 2, 3]));
    assert_eq!(beat(&mut bench, "one", 1, None), Err(Error::UnknownMemberId));
}

#[test]
fn members_go_on_after_a_restart() {
    let mut bench = Bench::new();
    join(&mut bench, "one");
    join(&mut bench, "two");
    bench.restart();
    assert_eq!(beat(&mut bench, "one", 3, None), Err(Error::FencedMemberEpoch));
    assert_eq!(partitions(&beat(&mut bench, "one", 1, None).expect("it stays")).len(), 2);
    assert_eq!(beat(&mut bench, "two", 2, None).expect("it stays").assignment, None);
}

#[test]
fn more_partitions_and_new_topics_are_assigned_with_the_next_heartbeat() {
    let mut bench = Bench::new();
    beat(&mut bench, "one", 0, Some(&["later", "orders"])).expect("a member");
    let more = NewPartitions { name: "orders".to_owned(), count: 5 };
    bench.ask(Request::CreatePartitions { topics: vec![more], validate_only: false });
    let configs = Vec::new();
    let later = NewTopic { name: "later".to_owned(), partitions: 1, replication_factor: -1, configs };
    bench.ask(Request::CreateTopics { topics: vec![later], validate_only: false });
    let one = beat(&mut bench, "one", 1, None).expect("it stays");
    assert_eq!(partitions(&one).len(), 6);
}

/// What partition 0 has from where the member goes on; all of it is given back.
fn deliver(bench: &mut Bench, log: &[ReadBatch]) -> Vec<(i64, i64, i16)> {
    let place = (bench.coordinator.topic("orders").expect("the topic").id, 0);
    let plan = |bench: &mut Bench, acknowledgements| {
        let fetch = ShareRequest::Fetch {
            group_id: "workers".to_owned(),
            member_id: "one".to_owned(),
            acknowledgements,
            wanted: vec![(place, 0)],
        };
        match share(bench, fetch) {
            ShareResponse::Fetch(Ok(plan)) => plan,
            other => panic!("{other:?}"),
        }
    };
    let ShareNext::At(from) = plan(bench, Vec::new()).next[0] else { panic!("all is in flight") };
    let batches = log.iter().filter(|batch| batch.last >= from).copied().collect();
    let acquire = Acquire {
        group_id: "workers".to_owned(),
        member_id: "one".to_owned(),
        max_records: 500,
        strict: false,
        batch_size: 500,
        partitions: vec![(place, ReadBatches { from, batches })],
    };
    let ShareResponse::Acquire(acquired) = share(bench, ShareRequest::Acquire(acquire)) else { panic!() };
    let batch = |range: &Acquired| AcknowledgementBatch {
        first: range.first,
        last: range.last,
        types: vec![AcknowledgeType::Release],
    };
    let batches: Vec<_> = acquired[0].iter().map(batch).collect();
    if !batches.is_empty() {
        let released = plan(bench, vec![Acknowledgement { partition: place, batches }]);
        assert_eq!(released.acknowledged, [None]);
    }
    acquired[0].iter().map(|range| (range.first, range.last, range.delivery_count)).collect()
}

/// As with Apache Kafka: a record that nobody can bear does not take all that came with it.
#[test]
fn what_was_delivered_in_vain_comes_with_less_and_less_and_at_last_alone() {
    let mut bench = Bench::new();
    join(&mut bench, "one");
    let partition = (bench.coordinator.topic("orders").expect("the topic").id, 0);
    let group_id = "workers".to_owned();
    share(&mut bench, ShareRequest::Initialize { group_id, partition, offset: 0 });
    let batch = |first, last| ReadBatch { first, last, skipped: false };
    let log = [batch(0, 99), batch(100, 109)];
    let mut expected: Vec<(i64, i64, i16)> = vec![(0, 109, 1), (0, 109, 2), (0, 109, 3)];
    for (first, last) in [(0, 49), (50, 99), (100, 104), (105, 109)] {
        expected.push((first, last, 4));
        expected.extend((first..=last).map(|offset| (offset, offset, 5)));
    }
    for delivery in expected {
        assert_eq!(deliver(&mut bench, &log), [delivery]);
    }
    assert!(deliver(&mut bench, &log).is_empty(), "all is archived");
}

#[test]
fn a_name_belongs_to_one_kind_of_group() {
    let mut bench = Bench::new();
    join(&mut bench, "one");
    let ticket = bench.join("workers", "", None);
    assert_eq!(bench.joined(ticket).error, Some(Error::InconsistentGroupProtocol));
    let classic = bench.join("readers", "", None);
    assert_eq!(bench.joined(classic).error, None);
    let share = ShareRequest::Heartbeat(ShareHeartbeat {
        group_id: "readers".to_owned(),
        member_id: "one".to_owned(),
        member_epoch: 0,
        rack: None,
        subscription: Some(vec!["orders".to_owned()]),
    });
    let Response::Share(ShareResponse::Heartbeat(Err(refused))) = bench.ask(Request::Share(share)) else {
        panic!("it is refused")
    };
    assert_eq!(refused.error, Error::GroupIdNotFound);
    assert_eq!(bench.commit("workers", -1, "", vec![support::offset(0, 1)]), Some(Error::GroupIdNotFound));
    let types = vec!["Share".to_owned()];
    let Response::ListGroups(listed) = bench.ask(Request::ListGroups { states: Vec::new(), types }) else {
        panic!("a list")
    };
    assert_eq!(listed.iter().map(|group| group.group_id.as_str()).collect::<Vec<_>>(), ["workers"]);
}

#[test]
fn a_group_is_told_where_to_begin_before_it_begins() {
    let mut bench = Bench::new();
    let place = (bench.coordinator.topic("orders").expect("the topic").id, 0);
    let alter = |group: &str, place| ShareRequest::AlterOffsets {
        group_id: group.to_owned(),
        offsets: vec![(place, 8)],
    };
    let missing = (TopicId::default(), 0);
    let refused = |answer: ShareResponse| match answer {
        ShareResponse::AlterOffsets(Err(failure)) => failure.error,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(share(&mut bench, alter("workers", missing))), Error::GroupIdNotFound);
    let told = ShareResponse::AlterOffsets(Ok(vec![(place, None)]));
    assert_eq!(share(&mut bench, alter("workers", place)), told);
    let classic = bench.join("readers", "", None);
    assert_eq!(bench.joined(classic).error, None);
    assert_eq!(refused(share(&mut bench, alter("readers", place))), Error::GroupIdNotFound);
    bench.restart();
    let describe = ShareRequest::DescribeOffsets { group_id: "workers".to_owned(), partitions: None };
    let ShareResponse::DescribeOffsets(Ok(offsets)) = share(&mut bench, describe) else { panic!("offsets") };
    assert_eq!(offsets.iter().map(|one| (one.partition, one.start)).collect::<Vec<_>>(), [(place, 8)]);
    assert_eq!(description(&mut bench).state, "Empty");
}

#[test]
fn who_fetches_need_not_be_a_member() {
    let mut bench = Bench::new();
    let place = (bench.coordinator.topic("orders").expect("the topic").id, 0);
    let fetch = |group: &str, wanted: Vec<(TopicPartitionId, i64)>| ShareRequest::Fetch {
        group_id: group.to_owned(),
        member_id: "one".to_owned(),
        acknowledgements: Vec::new(),
        wanted,
    };
    let unknown = ShareResponse::Fetch(Err(Error::GroupIdNotFound));
    assert_eq!(share(&mut bench, fetch("workers", Vec::new())), unknown, "there is nothing to acknowledge");
    let ShareResponse::Fetch(Ok(plan)) = share(&mut bench, fetch("workers", vec![(place, 0)])) else {
        panic!("a plan")
    };
    assert_eq!(plan.next, [ShareNext::Uninitialized(ShareReset::Latest)]);
    bench.restart();
    assert_eq!(description(&mut bench).state, "Empty");
    let classic = bench.join("readers", "", None);
    assert_eq!(bench.joined(classic).error, None);
    assert_eq!(share(&mut bench, fetch("readers", vec![(place, 0)])), unknown, "another kind of group");
}

#[test]
fn an_empty_group_is_deleted_with_its_offsets_and_a_deleted_topic_takes_its_part() {
    let mut bench = Bench::new();
    join(&mut bench, "one");
    let place = (bench.coordinator.topic("orders").expect("the topic").id, 0);
    let group_id = || "workers".to_owned();
    share(&mut bench, ShareRequest::Initialize { group_id: group_id(), partition: place, offset: 7 });
    let delete = Request::DeleteGroups(vec![group_id()]);
    let refused = vec![(group_id(), Some(Error::NonEmptyGroup))];
    assert_eq!(bench.ask(delete.clone()), Response::DeleteGroups(refused));
    beat(&mut bench, "one", -1, None).expect("it leaves");
    let describe = ShareRequest::DescribeOffsets { group_id: group_id(), partitions: None };
    let known = ShareOffset { partition: place, start: 7, finished: 0 };
    assert_eq!(share(&mut bench, describe.clone()), ShareResponse::DescribeOffsets(Ok(vec![known])));
    bench.ask(Request::DeleteTopics(vec![TopicRef::Name("orders".to_owned())]));
    assert_eq!(share(&mut bench, describe.clone()), ShareResponse::DescribeOffsets(Ok(Vec::new())));
    bench.restart();
    assert_eq!(share(&mut bench, describe.clone()), ShareResponse::DescribeOffsets(Ok(Vec::new())));
    assert_eq!(bench.ask(delete), Response::DeleteGroups(vec![(group_id(), None)]));
    bench.restart();
    assert_eq!(share(&mut bench, describe), ShareResponse::DescribeOffsets(Err(Error::GroupIdNotFound)));
}

#[test]
fn offsets_are_deleted_once_and_the_empty_name_is_refused() {
    let mut bench = Bench::new();
    let topic = bench.coordinator.topic("orders").expect("a topic").id;
    let alter = |group_id: &str| ShareRequest::AlterOffsets {
        group_id: group_id.to_owned(),
        offsets: vec![((topic, 0), 2)],
    };
    let ShareResponse::AlterOffsets(Err(refused)) = share(&mut bench, alter("")) else {
        panic!("the empty name is taken")
    };
    assert_eq!(refused.error, Error::InvalidGroupId);
    share(&mut bench, alter("workers"));
    let delete = || ShareRequest::DeleteOffsets { group_id: "workers".to_owned(), topics: vec![topic] };
    let deleted = |error| ShareResponse::DeleteOffsets(Ok(vec![(topic, error)]));
    assert_eq!(share(&mut bench, delete()), deleted(None));
    assert_eq!(share(&mut bench, delete()), deleted(Some(Error::UnknownTopicOrPartition)));
}

#[test]
fn who_joins_soon_after_an_assignment_waits_for_the_next_one() {
    let share = ShareDefaults { assignment_interval_ms: 1_000, ..ShareDefaults::default() };
    let mut bench = Bench::with(Settings { share, ..support::settings(7) });
    assert_eq!(partitions(&join(&mut bench, "one")).len(), 4, "the first one is assigned at once");
    let two = join(&mut bench, "two");
    assert_eq!((two.member_epoch, partitions(&two).len()), (1, 0));
    bench.pass(999);
    assert_eq!(beat(&mut bench, "one", 1, None).expect("it stays").assignment, None);
    bench.pass(1);
    assert_eq!(partitions(&beat(&mut bench, "one", 1, None).expect("it stays")).len(), 2);
    assert_eq!(partitions(&beat(&mut bench, "two", 1, None).expect("it stays")).len(), 2);
    // Whoever waits when the broker is restarted is not forgotten.
    join(&mut bench, "three");
    bench.restart();
    assert_eq!(beat(&mut bench, "one", 2, None).expect("it stays").member_epoch, 3);
    assert!(!partitions(&beat(&mut bench, "three", 2, None).expect("it stays")).is_empty());
    // Who leaves keeps nobody waiting.
    beat(&mut bench, "three", -1, None).expect("it leaves");
    assert_eq!(beat(&mut bench, "one", 3, None).expect("it stays").member_epoch, 4);
}

#[test]
fn configurations_of_groups_are_checked_and_survive_a_restart() {
    let mut bench = Bench::new();
    let set = |name: &str, value: &str| (name.to_owned(), ConfigChange::Set(value.to_owned()));
    let outcome = |bench: &mut Bench, changes| {
        let groups = vec![AlterGroupConfig { group_id: "workers".to_owned(), replace: false, changes }];
        match bench.ask(Request::AlterGroupConfigs { groups, validate_only: false }) {
            Response::AlterGroupConfigs(mut altered) => {
                altered.remove(0).1.map_err(|failure| failure.message)
            }
            other => panic!("{other:?}"),
        }
    };
    let alter = |name: &str, value: &str| vec![set(name, value)];
    assert_eq!(outcome(&mut bench, alter("share.auto.offset.reset", "by_duration:PT1H")), Ok(()));
    let refused = outcome(&mut bench, alter("share.auto.offset.reset", "soon")).expect_err("it is refused");
    assert!(refused.contains("earliest, latest or by_duration"), "{refused}");
    let refused = outcome(&mut bench, alter("share.record.lock.ms", "1")).expect_err("it is refused");
    assert!(refused.contains("share.record.lock.duration.ms"), "{refused}");
    // A change is taken as a whole or not at all, whatever kinds of groups its keys are of.
    let mixed = vec![
        set("consumer.session.timeout.ms", "50000"),
        set("streams.num.standby.replicas", "1"),
        set("share.record.lock.duration.ms", "1000"),
    ];
    let refused = outcome(&mut bench, mixed).expect_err("it is refused");
    assert!(refused.contains("from 15000 to 60000"), "{refused}");
    assert_eq!(outcome(&mut bench, alter("share.record.lock.duration.ms", "20000")), Ok(()));
    let refused = outcome(&mut bench, alter("streams.num.standby.replicas", "3")).expect_err("it is refused");
    assert!(refused.contains("from 0 to 2"), "{refused}");
    bench.restart();
    let describe = DescribeGroupConfig { group_id: "workers".to_owned(), keys: None };
    let Response::DescribeGroupConfigs(mut described) =
        bench.ask(Request::DescribeGroupConfigs(vec![describe]))
    else {
        panic!("descriptions")
    };
    let entries = described.remove(0).result.expect("any group has a configuration");
    let set: Vec<_> = entries.iter().filter_map(|entry| Some((entry.name, entry.set.as_deref()?))).collect();
    assert_eq!(
        set,
        [("share.auto.offset.reset", "by_duration:PT1H"), ("share.record.lock.duration.ms", "20000")]
    );
}
