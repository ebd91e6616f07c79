//! Members of the consumer protocol (KIP-848): the broker assigns, each member follows at its own pace.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use headwater_client::{
    Client, Committed, ErrorCode, GroupConfig, GroupConsumer, GroupEvent, GroupProtocol, Isolation, Remote,
};
use headwater_model::TopicPartition;
use tokio::sync::mpsc;

use crate::groups::{all, assigned, drive, next_revoked, read};
use crate::support::{
    PATIENCE, client, producer, read_all, record, send, topic, transactional, unique, values,
};

fn config(group: &str, topic: &str) -> GroupConfig {
    GroupConfig { protocol: GroupProtocol::consumer(), ..GroupConfig::new(group, vec![topic.to_owned()]) }
}

async fn join(client: &Client, config: GroupConfig) -> GroupConsumer {
    GroupConsumer::join(client, config).await.unwrap()
}

/// Polls until the member has so many partitions; returns them and what was revoked meanwhile.
async fn until_it_has(
    member: &mut GroupConsumer,
    count: usize,
) -> (Vec<TopicPartition>, Vec<TopicPartition>) {
    let (begun, mut gone) = (Instant::now(), Vec::new());
    loop {
        assert!(begun.elapsed() < PATIENCE, "it never had {count} partitions");
        match member.poll(Duration::from_secs(1)).await.unwrap() {
            Some(GroupEvent::Assigned { partitions, .. }) if partitions.len() == count => {
                return (partitions, gone);
            }
            Some(GroupEvent::Revoked { partitions, lost }) => {
                assert!(!lost, "it was put out");
                gone.extend(partitions);
            }
            _ => {}
        }
    }
}

async fn next(events: &mut mpsc::UnboundedReceiver<GroupEvent>) -> GroupEvent {
    tokio::time::timeout(PATIENCE, events.recv()).await.expect("the other member heard something").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_reads_commits_leaves_and_its_successor_goes_on() {
    let Some(client) = client().await else { return };
    let (name, group) = (topic(&client, 1).await, unique("group"));
    let producer = producer(&client).await;
    for i in 0..4 {
        send(&producer, record(&name, 0, i.to_string())).await;
    }
    producer.flush().await.unwrap();
    let mut first = join(&client, config(&group, &name)).await;
    assert_eq!(until_it_has(&mut first, 1).await.0, all(&name, 1));
    assert_eq!(read(&mut first, 4).await, ["0", "1", "2", "3"]);
    let metadata = first.metadata();
    assert!(metadata.generation > 0 && !metadata.member_id.is_empty(), "{metadata:?}");
    let at = TopicPartition::new(&name, 0);
    let half = Committed { offset: 2, metadata: "half".into(), ..Committed::default() };
    first.commit(&HashMap::from([(at.clone(), half.clone())])).await.unwrap();
    assert_eq!(client.committed(&group, None).await.unwrap(), HashMap::from([(at, half)]));
    first.leave().await.unwrap();
    assert_eq!(client.describe_group(&group).await.unwrap().members, []);
    let mut second = join(&client, config(&group, &name)).await;
    assigned(&mut second).await;
    assert_eq!(read(&mut second, 2).await, ["2", "3"]);
    second.leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_moves_is_revoked_and_it_comes_back_when_the_other_leaves() {
    let Some(client) = client().await else { return };
    let (name, group) = (topic(&client, 4).await, unique("group"));
    let mut first = join(&client, config(&group, &name)).await;
    assert_eq!(until_it_has(&mut first, 4).await.0, all(&name, 4));
    let (mut events, task) = drive(join(&client, config(&group, &name)).await);
    let (mine, gone) = until_it_has(&mut first, 2).await;
    assert_eq!(gone.len(), 2, "two of four go, and two stay");
    assert_eq!(mine, first.consumer().assignment(), "what stays is read on");
    let theirs = loop {
        match next(&mut events).await {
            GroupEvent::Assigned { partitions, .. } if partitions.len() == 2 => break partitions,
            GroupEvent::Revoked { .. } => panic!("it had nothing to give up"),
            _ => {}
        }
    };
    let both: BTreeSet<_> = mine.iter().chain(&theirs).cloned().collect();
    assert_eq!(both.into_iter().collect::<Vec<_>>(), all(&name, 4));
    drop(events);
    let producer = producer(&client).await;
    for partition in 0..4 {
        send(&producer, record(&name, partition, "wake up")).await;
    }
    producer.flush().await.unwrap();
    let (everything, gone) = until_it_has(&mut first, 4).await;
    assert_eq!((everything, gone), (all(&name, 4), Vec::new()));
    task.await.unwrap();
    first.leave().await.unwrap();
}

/// A hand-over with records in it: what the first member has committed on `Revoked`, the second does not see again.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_may_commit_what_it_loses_until_it_polls_again() {
    let Some(client) = client().await else { return };
    let (name, group) = (topic(&client, 2).await, unique("group"));
    let producer = producer(&client).await;
    for partition in 0..2 {
        send(&producer, record(&name, partition, format!("read in {partition}"))).await;
    }
    producer.flush().await.unwrap();
    let mut first = join(&client, config(&group, &name)).await;
    assigned(&mut first).await;
    assert_eq!(read(&mut first, 2).await.len(), 2);
    let (mut events, task) = drive(join(&client, config(&group, &name)).await);
    let (gone, lost) = next_revoked(&mut first).await;
    assert_eq!((gone.len(), lost), (1, false));
    let offsets = HashMap::from([(
        gone[0].clone(),
        Committed { offset: 1, metadata: "kept".into(), ..Committed::default() },
    )]);
    first.commit(&offsets).await.unwrap();
    until_it_has(&mut first, 1).await;
    send(&producer, record(&name, gone[0].partition, "after the hand-over")).await;
    producer.flush().await.unwrap();
    let seen = loop {
        if let GroupEvent::Records(fetched) = next(&mut events).await {
            break fetched.iter().flat_map(|run| values(&run.records)).collect::<Vec<_>>();
        }
    };
    assert_eq!(seen, ["after the hand-over"]);
    task.abort();
    first.leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_comes_back_to_its_partitions_and_nobody_else_notices() {
    let Some(client) = client().await else { return };
    let (name, group) = (topic(&client, 4).await, unique("group"));
    let member =
        |instance: &str| GroupConfig { instance_id: Some(instance.to_owned()), ..config(&group, &name) };
    let mut one = join(&client, member("one")).await;
    assigned(&mut one).await;
    let (mut events, task) = drive(join(&client, member("two")).await);
    let (before, _) = until_it_has(&mut one, 2).await;
    while !matches!(
        next(&mut events).await,
        GroupEvent::Assigned { partitions, .. } if partitions.len() == 2
    ) {}
    one.leave().await.unwrap();
    let mut one = join(&client, member("one")).await;
    assert_eq!(until_it_has(&mut one, 2).await.0, before);
    assert!(events.try_recv().is_err(), "the other one was disturbed");
    // Somebody else with the instance id of a member that is there.
    let mut other = join(&client, member("one")).await;
    let error = other.poll(PATIENCE).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnreleasedInstanceId), "{error}");
    task.abort();
    one.leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_regular_expression_reads_topics_that_come_and_lets_go_of_those_that_go() {
    let Some(client) = client().await else { return };
    let (prefix, group) = (unique("pattern"), unique("group"));
    let create = |suffix: &str| {
        let (client, name) = (client.clone(), format!("{prefix}-{suffix}"));
        async move { client.ensure_topic(headwater_client::NewTopic::new(name, 1)).await.unwrap() }
    };
    create("a").await;
    let remote = Remote { pattern: Some(format!("{prefix}-.*")), ..Remote::default() };
    let config =
        GroupConfig { protocol: GroupProtocol::Consumer(remote), ..GroupConfig::new(&group, Vec::new()) };
    let mut member = join(&client, config).await;
    until_it_has(&mut member, 1).await;
    create("b").await;
    let (both, gone) = until_it_has(&mut member, 2).await;
    let names: Vec<_> = both.iter().map(|at| at.topic.as_str()).collect();
    assert_eq!((names, gone.len()), (vec![&*format!("{prefix}-a"), &*format!("{prefix}-b")], 0));
    client.delete_topic(&format!("{prefix}-a")).await.unwrap();
    let (left, gone) = until_it_has(&mut member, 1).await;
    assert_eq!((&left[0].topic, &gone[0].topic), (&format!("{prefix}-b"), &format!("{prefix}-a")));
    member.leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_cannot_do_is_an_error_that_says_so() {
    let Some(client) = client().await else { return };
    let name = topic(&client, 1).await;
    let bad_assignor = Remote { assignor: Some("by-moonlight".into()), ..Remote::default() };
    let bad_pattern = Remote { pattern: Some("a)(b".into()), ..Remote::default() };
    for (remote, code, word) in [
        (bad_assignor, ErrorCode::UnsupportedAssignor, "by-moonlight"),
        (bad_pattern, ErrorCode::InvalidRegularExpression, "a)(b"),
    ] {
        let config =
            GroupConfig { protocol: GroupProtocol::Consumer(remote), ..config(&unique("group"), &name) };
        let mut member = join(&client, config).await;
        let error = member.poll(PATIENCE).await.unwrap_err();
        assert_eq!(error.code(), Some(code), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_range_assignor_keeps_topics_together() {
    let Some(client) = client().await else { return };
    let (one, two, group) = (topic(&client, 2).await, topic(&client, 2).await, unique("group"));
    let member = || {
        let remote = Remote { assignor: Some("range".into()), ..Remote::default() };
        GroupConfig {
            protocol: GroupProtocol::Consumer(remote),
            ..GroupConfig::new(&group, vec![one.clone(), two.clone()])
        }
    };
    let mut first = join(&client, member()).await;
    until_it_has(&mut first, 4).await;
    let (events, task) = drive(join(&client, member()).await);
    let (mine, _) = until_it_has(&mut first, 2).await;
    assert_eq!(mine[0].partition, mine[1].partition, "{mine:?}");
    assert_ne!(mine[0].topic, mine[1].topic, "{mine:?}");
    task.abort();
    drop(events);
    first.leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_commits_offsets_with_the_member_epoch() {
    let Some(client) = client().await else { return };
    let (name, out, group) = (topic(&client, 1).await, topic(&client, 1).await, unique("group"));
    let mut member = join(&client, config(&group, &name)).await;
    assigned(&mut member).await;
    let producer = transactional(&client, &unique("tx")).await;
    producer.begin_transaction().await.unwrap();
    send(&producer, record(&out, 0, "once")).await;
    let at = TopicPartition::new(&name, 0);
    let offsets =
        HashMap::from([(at.clone(), Committed { offset: 7, metadata: "tx".into(), ..Committed::default() })]);
    producer.send_offsets(&member.metadata(), &offsets).await.unwrap();
    producer.commit_transaction().await.unwrap();
    assert_eq!(client.committed(&group, Some(&[at])).await.unwrap(), offsets);
    assert_eq!(values(&read_all(&client, &out, Isolation::Committed).await), ["once"]);
    let gone = headwater_client::GroupMetadata { member_id: "nobody".into(), ..member.metadata() };
    producer.begin_transaction().await.unwrap();
    let refused = producer.send_offsets(&gone, &offsets).await.unwrap_err();
    assert!(refused.is_abortable(), "{refused}");
    producer.abort_transaction().await.unwrap();
    member.leave().await.unwrap();
}

/// KIP-848's migration, seen by our own members: the classic one goes on under the new protocol.
#[tokio::test(flavor = "multi_thread")]
async fn a_classic_member_and_one_of_the_consumer_protocol_share_a_group() {
    let Some(client) = client().await else { return };
    let (name, group) = (topic(&client, 4).await, unique("group"));
    let classic = GroupConfig { protocol: GroupProtocol::Classic, ..config(&group, &name) };
    let mut old = join(&client, classic).await;
    assert_eq!(assigned(&mut old).await, all(&name, 4));
    let mut new = join(&client, config(&group, &name)).await;
    let (begun, mut shares) = (Instant::now(), [all(&name, 4), Vec::new()]);
    while shares.iter().any(|share| share.len() != 2) {
        assert!(begun.elapsed() < PATIENCE, "they did not share: {shares:?}");
        for (member, share) in [&mut old, &mut new].into_iter().zip(&mut shares) {
            match member.poll(Duration::from_millis(100)).await.unwrap() {
                Some(GroupEvent::Assigned { partitions, .. }) => *share = partitions,
                Some(GroupEvent::Revoked { partitions, .. }) => share.retain(|at| !partitions.contains(at)),
                _ => {}
            }
        }
    }
    let both: BTreeSet<_> = shares.into_iter().flatten().collect();
    assert_eq!(both.into_iter().collect::<Vec<_>>(), all(&name, 4));
    old.leave().await.unwrap();
    until_it_has(&mut new, 4).await;
    new.leave().await.unwrap();
}
