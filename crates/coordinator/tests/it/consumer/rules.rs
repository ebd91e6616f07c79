//! One claim of the protocol per test.

use headwater_coordinator::*;

use super::{Consumer, Partitions};
use crate::support::{Bench, offset, settings};

fn pair(bench: &mut Bench) -> (Consumer, Consumer) {
    let (mut a, mut b) = (Consumer::of("a", &["orders"]), Consumer::of("b", &["orders"]));
    a.join(bench).unwrap();
    b.join(bench).unwrap();
    bench.converge(&mut [&mut a, &mut b]);
    (a, b)
}

#[test]
fn the_first_member_gets_everything_at_once() {
    let mut bench = Bench::new();
    let mut a = Consumer::of("a", &["orders"]);
    a.join(&mut bench).unwrap();
    assert_eq!((a.owned.len(), a.epoch), (4, 1));
    assert_eq!(bench.describe().state, "Stable");
}

#[test]
fn a_partition_is_given_up_before_another_gets_it() {
    let mut bench = Bench::new();
    let (mut a, mut b) = (Consumer::of("a", &["orders"]), Consumer::of("b", &["orders"]));
    a.join(&mut bench).unwrap();
    b.join(&mut bench).unwrap();
    assert_eq!((b.owned.len(), b.epoch), (0, 2), "nothing is free yet");
    let all = a.owned.clone();
    a.beat(&mut bench).unwrap();
    assert_eq!((a.owned.len(), a.epoch), (2, 1), "told to give up two, at its old epoch");
    b.beat(&mut bench).unwrap();
    assert_eq!(b.owned.len(), 0, "not confirmed yet");
    let still = ConsumerGroupHeartbeat { owned: Some(all), ..a.beating("g") };
    assert_eq!(bench.beat(still).unwrap().member_epoch, 1, "it still has them");
    b.beat(&mut bench).unwrap();
    assert_eq!(b.owned.len(), 0);
    assert_eq!(bench.describe().state, "Reconciling");
    a.beat(&mut bench).unwrap();
    assert_eq!(a.epoch, 2);
    b.beat(&mut bench).unwrap();
    assert_eq!(b.owned.len(), 2);
    assert!(a.owned.is_disjoint(&b.owned));
    assert_eq!(bench.describe().state, "Stable");
}

#[test]
fn who_does_not_give_up_in_time_is_out() {
    let mut bench = Bench::new();
    let (mut a, mut b) = (Consumer::of("a", &["orders"]), Consumer::of("b", &["orders"]));
    a.join(&mut bench).unwrap();
    b.join(&mut bench).unwrap();
    let stubborn = ConsumerGroupHeartbeat { owned: None, ..a.beating("g") };
    for _ in 0..3 {
        bench.beat(stubborn.clone()).unwrap();
        b.beat(&mut bench).unwrap();
        bench.pass(20_000);
    }
    assert_eq!(bench.beat(stubborn).unwrap_err().error, Error::UnknownMemberId);
    b.beat(&mut bench).unwrap();
    assert_eq!(b.owned.len(), 4);
}

#[test]
fn a_silent_member_is_out_after_its_session_and_members_go_on_after_a_restart() {
    let mut bench = Bench::new();
    let (mut a, mut b) = pair(&mut bench);
    bench.restart();
    bench.converge(&mut [&mut a, &mut b]);
    assert_eq!((a.epoch, b.epoch), (2, 2), "nobody had to join again");
    bench.pass(40_000);
    a.beat(&mut bench).unwrap();
    bench.pass(10_000);
    a.beat(&mut bench).unwrap();
    assert_eq!((a.owned.len(), a.epoch), (4, 3));
    assert_eq!(b.beat(&mut bench), Err(Error::UnknownMemberId));
}

#[test]
fn epochs_are_checked_and_a_lost_answer_is_forgiven() {
    let mut bench = Bench::new();
    let (mut a, mut b) = pair(&mut bench);
    let ahead = ConsumerGroupHeartbeat { member_epoch: 9, ..a.beating("g") };
    assert_eq!(bench.beat(ahead).unwrap_err().error, Error::FencedMemberEpoch);
    let before = a.clone();
    b.leave(&mut bench, -1).unwrap();
    a.beat(&mut bench).unwrap();
    assert_eq!(a.epoch, before.epoch + 1);
    let retried = bench.beat(before.beating("g")).unwrap();
    assert_eq!(retried.member_epoch, a.epoch);
    let foreign = ConsumerGroupHeartbeat { owned: None, ..before.beating("g") };
    assert_eq!(bench.beat(foreign).unwrap_err().error, Error::FencedMemberEpoch);
    let unknown = ConsumerGroupHeartbeat { member_id: "x".into(), ..before.beating("g") };
    assert_eq!(bench.beat(unknown).unwrap_err().error, Error::UnknownMemberId);
    let nowhere = before.beating("other");
    assert_eq!(bench.beat(nowhere).unwrap_err().error, Error::GroupIdNotFound);
}

#[test]
fn a_static_member_comes_back_to_its_partitions_without_a_rebalance() {
    let mut bench = Bench::new();
    let mut a = Consumer { instance: Some("i".into()), ..Consumer::of("a", &["orders"]) };
    let mut b = Consumer::of("b", &["orders"]);
    a.join(&mut bench).unwrap();
    b.join(&mut bench).unwrap();
    bench.converge(&mut [&mut a, &mut b]);
    let epoch = bench.describe().epoch;
    let mut again = Consumer { id: "a2".into(), ..a.clone() };
    assert_eq!(again.join(&mut bench), Err(Error::UnreleasedInstanceId));
    a.leave(&mut bench, -2).unwrap();
    bench.restart();
    again.join(&mut bench).unwrap();
    assert_eq!(again.owned, a.owned);
    assert_eq!((bench.describe().epoch, again.epoch), (epoch, epoch));
    assert_eq!(a.beat(&mut bench), Err(Error::FencedInstanceId));
    bench.converge(&mut [&mut again, &mut b]);
    again.leave(&mut bench, -2).unwrap();
    bench.pass(30_000);
    b.beat(&mut bench).unwrap();
    bench.pass(20_000);
    b.beat(&mut bench).unwrap();
    assert_eq!(b.owned.len(), 4, "who does not come back in time is out");
}

#[test]
fn topics_that_come_grow_and_go_are_followed() {
    let mut bench = Bench::new();
    let mut a = Consumer { regex: Some("o.*".into()), ..Consumer::of("a", &[]) };
    a.join(&mut bench).unwrap();
    assert_eq!(a.owned.len(), 4);
    bench.create("other", 2);
    bench.create("payments", 2);
    bench.converge(&mut [&mut a]);
    assert_eq!(a.owned.len(), 6);
    bench.ask(Request::CreatePartitions {
        topics: vec![NewPartitions { name: "other".into(), count: 5 }],
        validate_only: false,
    });
    bench.converge(&mut [&mut a]);
    assert_eq!(a.owned.len(), 9);
    let epoch = a.epoch;
    bench.create("unrelated", 1);
    bench.restart();
    bench.converge(&mut [&mut a]);
    assert_eq!(a.epoch, epoch, "what nobody reads changes nothing");
    bench.ask(Request::DeleteTopics(vec![TopicRef::Name("orders".into())]));
    bench.converge(&mut [&mut a]);
    assert_eq!(a.owned.len(), 5);
}

#[test]
fn another_subscription_takes_effect_and_an_empty_expression_ends_one() {
    for compiled in [None, Some(Compiled::new("p.*"))] {
        let mut bench = Bench::new();
        bench.create("payments", 3);
        let mut a = Consumer { regex: Some("p.*".into()), ..Consumer::of("a", &["orders"]) };
        let joining = ConsumerGroupHeartbeat { compiled, ..a.joining("g") };
        a.say(&mut bench, joining).unwrap();
        assert_eq!(a.owned.len(), 4, "names first, as on Apache Kafka");
        a.beat(&mut bench).unwrap();
        assert_eq!(a.owned.len(), 7);
        let change = ConsumerGroupHeartbeat { regex: Some(String::new()), ..a.beating("g") };
        a.say(&mut bench, change).unwrap();
        bench.converge(&mut [&mut a]);
        assert_eq!(a.owned.len(), 4);
    }
}

#[test]
fn an_expression_that_comes_compiled_is_not_compiled_again() {
    let mut bench = Bench::new();
    bench.create("shipments", 1);
    let mut a = Consumer { regex: Some("o.*".into()), ..Consumer::of("a", &[]) };
    // Of another text, by which it shows which of them counts.
    let with = |pattern: &str| Some(Compiled::new(pattern));
    let joining = ConsumerGroupHeartbeat { compiled: with("s.*"), ..a.joining("g") };
    a.say(&mut bench, joining).unwrap();
    assert_eq!(a.owned.len(), 1);
    let wrong = ConsumerGroupHeartbeat { compiled: with("["), ..a.joining("g") };
    assert_eq!(bench.beat(wrong).unwrap_err().error, Error::InvalidRegularExpression);
    let again = ConsumerGroupHeartbeat { compiled: with("o.*"), ..a.joining("g") };
    a.say(&mut bench, again).unwrap();
    assert_eq!(a.owned.len(), 1, "it is known");
}

#[test]
fn wrong_requests_are_refused_with_their_codes() {
    let mut bench = Bench::with(Settings { consumer_max_group_size: 1, ..settings(7) });
    let good = Consumer::of("a", &["orders"]).joining("g");
    let mut refused = |beat: ConsumerGroupHeartbeat| bench.beat(beat).unwrap_err().error;
    for (wrong, error) in [
        (ConsumerGroupHeartbeat { group_id: String::new(), ..good.clone() }, Error::InvalidRequest),
        (ConsumerGroupHeartbeat { member_id: String::new(), ..good.clone() }, Error::InvalidRequest),
        (ConsumerGroupHeartbeat { member_epoch: -3, ..good.clone() }, Error::InvalidRequest),
        (ConsumerGroupHeartbeat { member_epoch: -2, ..good.clone() }, Error::InvalidRequest),
        (ConsumerGroupHeartbeat { topics: None, ..good.clone() }, Error::InvalidRequest),
        (ConsumerGroupHeartbeat { rebalance_timeout_ms: None, ..good.clone() }, Error::InvalidRequest),
        (
            ConsumerGroupHeartbeat { owned: Some(Partitions::from([([1; 16], 0)])), ..good.clone() },
            Error::InvalidRequest,
        ),
        (ConsumerGroupHeartbeat { instance_id: Some(String::new()), ..good.clone() }, Error::InvalidRequest),
        (
            ConsumerGroupHeartbeat { assignor: Some("best".into()), ..good.clone() },
            Error::UnsupportedAssignor,
        ),
        (ConsumerGroupHeartbeat { regex: Some("[".into()), ..good.clone() }, Error::InvalidRegularExpression),
    ] {
        assert_eq!(refused(wrong.clone()), error, "{wrong:?}");
    }
    bench.beat(good.clone()).unwrap();
    bench.beat(good.clone()).unwrap();
    let more = ConsumerGroupHeartbeat { member_id: "b".into(), ..good };
    assert_eq!(bench.beat(more).unwrap_err().error, Error::GroupMaxSizeReached);
    assert_eq!(bench.describe().members.len(), 1);
}

#[test]
fn a_group_has_so_many_different_expressions_and_its_members_share_them() {
    let mut bench = Bench::new();
    let good = Consumer::of("a", &["orders"]).joining("g");
    let by = |member: String, regex: String| ConsumerGroupHeartbeat {
        member_id: member,
        regex: Some(regex),
        ..good.clone()
    };
    for number in 0..256 {
        bench.beat(by(format!("m{number}"), format!("o{number}.*"))).unwrap();
    }
    let refused = bench.beat(by("more".into(), "p.*".into())).unwrap_err();
    assert_eq!(refused.error, Error::InvalidRegularExpression, "{refused}");
    bench.beat(by("more".into(), "o7.*".into())).unwrap();
}

#[test]
fn the_broker_names_a_member_that_cannot_name_itself() {
    let mut bench = Bench::new();
    let joining = Consumer::of("", &["orders"]).joining("g");
    let answer = bench.beat(ConsumerGroupHeartbeat { names_itself: false, ..joining }).unwrap();
    assert_eq!(answer.member_id.len(), 36);
}

#[test]
fn range_gives_runs_when_most_members_ask_for_it() {
    let mut bench = Bench::new();
    let member = |id: &str| Consumer { assignor: Some("range".into()), ..Consumer::of(id, &["orders"]) };
    let (mut a, mut b) = (member("a"), member("b"));
    a.join(&mut bench).unwrap();
    b.join(&mut bench).unwrap();
    bench.converge(&mut [&mut a, &mut b]);
    let numbers = |one: &Consumer| one.owned.iter().map(|(_, number)| *number).collect::<Vec<_>>();
    assert_eq!((numbers(&a), numbers(&b)), (vec![0, 1], vec![2, 3]));
    assert_eq!(bench.describe().assignor, "range");
}

#[test]
fn offsets_are_committed_with_the_members_epoch() {
    let mut bench = Bench::new();
    let (mut a, b) = pair(&mut bench);
    let (_, mine) = *a.owned.first().unwrap();
    let (_, theirs) = *b.owned.first().unwrap();
    assert_eq!(bench.commit("g", a.epoch, "a", vec![offset(mine, 5)]), None);
    assert_eq!(bench.commit("g", a.epoch + 1, "a", vec![offset(mine, 6)]), Some(Error::StaleMemberEpoch));
    assert_eq!(bench.commit("g", -1, "", vec![offset(mine, 6)]), Some(Error::UnknownMemberId));
    assert_eq!(bench.commit("g", a.epoch, "x", vec![offset(mine, 6)]), Some(Error::UnknownMemberId));
    b.clone().leave(&mut bench, -1).unwrap();
    let before = a.epoch;
    a.beat(&mut bench).unwrap();
    assert!(a.epoch > before);
    assert_eq!(bench.commit("g", before, "a", vec![offset(mine, 7)]), None, "its own all along (KIP-1251)");
    let late = bench.commit("g", before, "a", vec![offset(theirs, 7)]);
    assert_eq!(late, Some(Error::StaleMemberEpoch), "given to it only later");
    let ask =
        |member: Option<(String, i32)>| OffsetFetchGroup { group_id: "g".into(), member, partitions: None };
    for (member, error) in [
        (None, None),
        (Some(("a".to_owned(), a.epoch)), None),
        (Some(("a".to_owned(), before)), Some(Error::StaleMemberEpoch)),
        (Some(("x".to_owned(), 1)), Some(Error::UnknownMemberId)),
    ] {
        let fetch = OffsetFetch { groups: vec![ask(member)], require_stable: true };
        let Response::OffsetFetch(fetched) = bench.ask(Request::OffsetFetch(fetch)) else { panic!() };
        assert_eq!(fetched[0].error, error);
        assert_eq!(fetched[0].offsets.len(), usize::from(error.is_none()));
    }
}

#[test]
fn a_transaction_commits_with_the_members_epoch() {
    let mut bench = Bench::new();
    let (a, _) = pair(&mut bench);
    let (_, mine) = *a.owned.first().unwrap();
    let producer = bench.init("t", None).unwrap();
    let mut commit = |generation: i32, member: &str| {
        let commit = TxnOffsetCommit {
            transactional_id: "t".into(),
            producer_id: producer.producer_id,
            producer_epoch: producer.producer_epoch,
            group_id: "g".into(),
            generation,
            member_id: member.into(),
            instance_id: None,
            implicit: true,
            offsets: vec![offset(mine, 9)],
        };
        match bench.ask(Request::TxnOffsetCommit(commit)) {
            Response::TxnOffsetCommit(results) => results[0].error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(commit(a.epoch + 1, "a"), Some(Error::IllegalGeneration));
    assert_eq!(commit(1, "x"), Some(Error::UnknownMemberId));
    assert_eq!(commit(a.epoch, "a"), None);
    assert_eq!(commit(-1, ""), None, "without group metadata");
}

#[test]
fn a_group_is_listed_described_and_deleted_when_empty() {
    let mut bench = Bench::new();
    let (a, b) = pair(&mut bench);
    let list = |bench: &mut Bench, kind: &str| match bench
        .ask(Request::ListGroups { states: vec!["stable".into(), "empty".into()], types: vec![kind.into()] })
    {
        Response::ListGroups(groups) => groups.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!((list(&mut bench, "consumer"), list(&mut bench, "classic")), (1, 0));
    let described = bench.describe();
    assert_eq!((described.epoch, described.assignment_epoch, described.members.len()), (2, 2, 2));
    assert!(described.members.iter().all(|member| member.target == member.assignment && !member.is_classic));
    let delete = Request::DeleteGroups(vec!["g".into()]);
    let outcome = |error| Response::DeleteGroups(vec![("g".to_owned(), error)]);
    assert_eq!(bench.ask(delete.clone()), outcome(Some(Error::NonEmptyGroup)));
    let subscribed =
        Request::OffsetDelete { group_id: "g".into(), partitions: vec![crate::support::partition(0)] };
    let Response::OffsetDelete { partitions, .. } = bench.ask(subscribed) else { panic!() };
    assert_eq!(partitions[0].error, Some(Error::GroupSubscribedToTopic));
    a.clone().leave(&mut bench, -1).unwrap();
    b.clone().leave(&mut bench, -1).unwrap();
    assert_eq!(bench.describe().state, "Empty");
    assert_eq!(bench.ask(delete), outcome(None));
    assert_eq!(bench.describe().error.unwrap().error, Error::GroupIdNotFound);
    assert_eq!(bench.replayed().snapshot(), bench.coordinator.snapshot());
}

#[test]
fn an_empty_group_is_forgotten_with_its_offsets() {
    let mut bench = Bench::with(Settings { offsets_retention_ms: Some(100_000), ..settings(7) });
    let (a, b) = pair(&mut bench);
    bench.commit("g", a.epoch, "a", vec![offset(a.owned.first().unwrap().1, 5)]);
    a.clone().leave(&mut bench, -1).unwrap();
    b.clone().leave(&mut bench, -1).unwrap();
    bench.pass(90_000);
    assert_eq!(bench.describe().state, "Empty");
    bench.pass(20_000);
    assert!(bench.describe().error.is_some());
    assert_eq!(bench.replayed().snapshot(), bench.coordinator.snapshot());
}

#[test]
fn an_empty_group_without_offsets_is_not_kept() {
    let mut bench = Bench::new();
    let (a, b) = pair(&mut bench);
    a.clone().leave(&mut bench, -1).unwrap();
    b.clone().leave(&mut bench, -1).unwrap();
    bench.pass(599_999);
    assert_eq!(bench.describe().state, "Empty");
    bench.pass(1);
    assert!(bench.describe().error.is_some());
    assert_eq!(bench.replayed().snapshot(), bench.coordinator.snapshot());
}

/// KIP-211
#[test]
fn a_group_that_lives_loses_old_offsets_of_topics_that_it_does_not_read_and_no_others() {
    for (topic, left) in [("orders", Ok(5)), ("shipments", Ok(-1))] {
        let mut bench = Bench::with(Settings { offsets_retention_ms: Some(100_000), ..settings(7) });
        bench.create("shipments", 1);
        let mut a = Consumer::of("a", &[topic]);
        a.join(&mut bench).unwrap();
        assert_eq!(bench.commit("g", a.epoch, "a", vec![offset(0, 5)]), None);
        for _ in 0..3 {
            bench.pass(30_000);
            a.beat(&mut bench).unwrap();
        }
        assert_eq!(bench.fetch("g", 0, false), Ok(5), "it is not too old");
        for _ in 0..20 {
            bench.pass(30_000);
            a.beat(&mut bench).unwrap();
        }
        assert_eq!(bench.fetch("g", 0, false), left, "{topic} is read");
        assert_eq!(bench.describe().state, "Stable");
        assert_eq!(bench.replayed().snapshot(), bench.coordinator.snapshot());
    }
}

#[test]
fn a_group_may_have_its_own_session_timeout() {
    let mut bench = Bench::new();
    let alter = |bench: &mut Bench, value: &str| {
        let changes = vec![("consumer.session.timeout.ms".to_owned(), ConfigChange::Set(value.into()))];
        let groups = vec![AlterGroupConfig { group_id: "g".into(), replace: false, changes }];
        match bench.ask(Request::AlterGroupConfigs { groups, validate_only: false }) {
            Response::AlterGroupConfigs(mut altered) => altered.remove(0).1,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(alter(&mut bench, "1000").unwrap_err().error, Error::InvalidConfig);
    alter(&mut bench, "60000").unwrap();
    bench.restart();
    let mut a = Consumer::of("a", &["orders"]);
    a.join(&mut bench).unwrap();
    bench.pass(50_000);
    a.beat(&mut bench).unwrap();
    bench.pass(61_000);
    assert_eq!(a.beat(&mut bench), Err(Error::UnknownMemberId));
}
