//! Group members share partitions and hand them over.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_client::{Committed, ErrorCode, GroupConfig, GroupConsumer, GroupEvent};
use headwater_model::TopicPartition;
use tokio::sync::mpsc;

use crate::support::{PATIENCE, client, producer, record, send, topic, transactional, unique, values};

fn config(group: &str, topic: &str) -> GroupConfig {
    GroupConfig { session_timeout: Duration::from_secs(6), ..GroupConfig::new(group, vec![topic.to_owned()]) }
}

/// Polls until the member is given partitions.
pub async fn assigned(member: &mut GroupConsumer) -> Vec<TopicPartition> {
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < PATIENCE, "nothing was assigned");
        if let Some(GroupEvent::Assigned { partitions, .. }) =
            member.poll(Duration::from_secs(1)).await.unwrap()
        {
            return partitions;
        }
    }
}

pub async fn read(member: &mut GroupConsumer, count: usize) -> Vec<String> {
    let (mut taken, begun) = (Vec::new(), Instant::now());
    while taken.len() < count {
        assert!(begun.elapsed() < PATIENCE, "only {taken:?} came");
        if let Some(GroupEvent::Records(fetched)) = member.poll(Duration::from_secs(1)).await.unwrap() {
            fetched.iter().for_each(|fetched| taken.extend(values(&fetched.records)));
        }
    }
    taken
}

pub fn all(topic: &str, partitions: i32) -> Vec<TopicPartition> {
    (0..partitions).map(|index| TopicPartition::new(topic, index)).collect()
}

/// A member that is polled in the background and reports its events.
pub fn drive(
    mut member: GroupConsumer,
) -> (mpsc::UnboundedReceiver<GroupEvent>, tokio::task::JoinHandle<()>) {
    let (sender, events) = mpsc::unbounded_channel();
    let task = tokio::spawn(async move {
        loop {
            if let Some(event) = member.poll(Duration::from_secs(1)).await.unwrap()
                && sender.send(event).is_err()
            {
                return member.leave().await.unwrap();
            }
        }
    });
    (events, task)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_goes_on_where_its_group_has_committed() {
    let Some(client) = client().await else { return };
    let (name, group) = (topic(&client, 1).await, unique("group"));
    let producer = producer(&client).await;
    for i in 0..4 {
        send(&producer, record(&name, 0, i.to_string())).await;
    }
    producer.flush().await.unwrap();
    let mut first = GroupConsumer::join(&client, config(&group, &name)).await.unwrap();
    assert_eq!(assigned(&mut first).await, all(&name, 1));
    assert_eq!(read(&mut first, 4).await, ["0", "1", "2", "3"]);
    let at = TopicPartition::new(&name, 0);
    let half = Committed { offset: 2, metadata: "half".into(), ..Committed::default() };
    first.commit(&HashMap::from([(at.clone(), half.clone())])).await.unwrap();
    assert_eq!(client.committed(&group, None).await.unwrap(), HashMap::from([(at, half)]));
    first.leave().await.unwrap();
    let mut second = GroupConsumer::join(&client, config(&group, &name)).await.unwrap();
    assigned(&mut second).await;
    assert_eq!(read(&mut second, 2).await, ["2", "3"]);
    second.leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_members_balance_and_the_one_that_stays_takes_over() {
    let Some(client) = client().await else { return };
    let (name, group) = (topic(&client, 4).await, unique("group"));
    let mut first = GroupConsumer::join(&client, config(&group, &name)).await.unwrap();
    assert_eq!(assigned(&mut first).await, all(&name, 4));
    let second = GroupConsumer::join(&client, config(&group, &name)).await.unwrap();
    let (mut events, task) = drive(second);
    let revoked = next_revoked(&mut first).await;
    assert_eq!(revoked, (all(&name, 4), false));
    let mine = assigned(&mut first).await;
    let theirs = loop {
        if let GroupEvent::Assigned { partitions, .. } = events.recv().await.unwrap() {
            break partitions;
        }
    };
    assert_eq!((mine.len(), theirs.len()), (2, 2));
    let both: BTreeSet<_> = mine.iter().chain(&theirs).cloned().collect();
    assert_eq!(both.into_iter().collect::<Vec<_>>(), all(&name, 4));
    let described = client.describe_group(&group).await.unwrap();
    assert_eq!((described.state.as_str(), described.protocol.as_str()), ("Stable", "range"));
    assert_eq!(described.members.iter().map(|member| member.assignment.len()).collect::<Vec<_>>(), [2, 2]);
    drop(events);
    let producer = producer(&client).await;
    for index in 0..4 {
        send(&producer, record(&name, index, "wake up")).await;
    }
    producer.flush().await.unwrap();
    assert_eq!(next_revoked(&mut first).await, (mine, false));
    assert_eq!(assigned(&mut first).await, all(&name, 4));
    task.await.unwrap();
    first.leave().await.unwrap();
}

pub async fn next_revoked(member: &mut GroupConsumer) -> (Vec<TopicPartition>, bool) {
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < PATIENCE, "nothing was revoked");
        if let Some(GroupEvent::Revoked { partitions, lost }) =
            member.poll(Duration::from_secs(1)).await.unwrap()
        {
            return (partitions, lost);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_may_commit_what_it_lost_until_it_polls_again() {
    let Some(client) = client().await else { return };
    let (name, group) = (topic(&client, 2).await, unique("group"));
    let mut first = GroupConsumer::join(&client, config(&group, &name)).await.unwrap();
    assigned(&mut first).await;
    let second = GroupConsumer::join(&client, config(&group, &name)).await.unwrap();
    let (events, task) = drive(second);
    next_revoked(&mut first).await;
    let at = TopicPartition::new(&name, 0);
    let offsets = HashMap::from([(
        at.clone(),
        Committed { offset: 0, metadata: "kept".into(), ..Committed::default() },
    )]);
    first.commit(&offsets).await.unwrap();
    assigned(&mut first).await;
    assert_eq!(client.committed(&group, Some(&[at])).await.unwrap(), offsets);
    task.abort();
    drop(events);
    first.leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_is_gone_cannot_commit() {
    let Some(client) = client().await else { return };
    let (name, group) = (topic(&client, 1).await, unique("group"));
    let mut member = GroupConsumer::join(&client, config(&group, &name)).await.unwrap();
    assigned(&mut member).await;
    let old = member.metadata();
    assert!(old.generation > 0 && !old.member_id.is_empty(), "{old:?}");
    // Behind the member's back it is made to leave.
    client.remove_member(&group, &old.member_id).await.unwrap();
    assert!(next_revoked(&mut member).await.1, "a member that the group does not know has lost everything");
    let offsets =
        HashMap::from([(TopicPartition::new(&name, 0), Committed { offset: 0, ..Committed::default() })]);
    let refused = member.commit(&offsets).await.unwrap_err();
    let codes = [Some(ErrorCode::UnknownMemberId), Some(ErrorCode::IllegalGeneration)];
    assert!(codes.contains(&refused.code()), "{refused}");
    let producer = transactional(&client, &unique("tx")).await;
    producer.begin_transaction().await.unwrap();
    let refused = producer.send_offsets(&old, &offsets).await.unwrap_err();
    assert!(refused.is_abortable(), "{refused}");
    producer.abort_transaction().await.unwrap();
    assert_eq!(assigned(&mut member).await, all(&name, 1));
    member.commit(&offsets).await.unwrap();
    member.leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_comes_back_to_its_partitions_without_a_rebalance() {
    let Some(client) = client().await else { return };
    let (name, group) = (topic(&client, 4).await, unique("group"));
    let member = |instance: &str| GroupConfig {
        instance_id: Some(instance.to_owned()),
        session_timeout: Duration::from_secs(30),
        ..config(&group, &name)
    };
    let mut one = GroupConsumer::join(&client, member("one")).await.unwrap();
    assigned(&mut one).await;
    let two = GroupConsumer::join(&client, member("two")).await.unwrap();
    let (mut events, task) = drive(two);
    next_revoked(&mut one).await;
    assert_eq!(assigned(&mut one).await, all(&name, 2));
    let theirs = loop {
        if let GroupEvent::Assigned { partitions, .. } = events.recv().await.unwrap() {
            break partitions;
        }
    };
    let generation = one.metadata().generation;
    one.leave().await.unwrap();
    let mut one = GroupConsumer::join(&client, member("one")).await.unwrap();
    assert_eq!(assigned(&mut one).await, all(&name, 2));
    assert_eq!(one.metadata().generation, generation);
    assert_eq!(theirs, all(&name, 4)[2..]);
    task.abort();
    one.leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_are_the_callers_when_it_says_so() {
    let Some(client) = client().await else { return };
    let (name, group) = (topic(&client, 1).await, unique("group"));
    let producer = producer(&client).await;
    for i in 0..3 {
        send(&producer, record(&name, 0, i.to_string())).await;
    }
    producer.flush().await.unwrap();
    let mut member = GroupConsumer::join(&client, config(&group, &name)).await.unwrap();
    member.manage_positions(false);
    let given = assigned(&mut member).await;
    assert_eq!(member.consumer().assignment(), []);
    member.consumer().add(given.into_iter().map(|at| (at, 2)).collect());
    assert_eq!(read(&mut member, 1).await, ["2"]);
    member.leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn members_with_different_protocols_do_not_form_a_group() {
    struct Other;
    impl headwater_client::Assignor for Other {
        fn name(&self) -> &str {
            "other"
        }
        fn assign(
            &self,
            _: &std::collections::BTreeMap<String, i32>,
            _: &[headwater_client::MemberSubscription],
        ) -> std::collections::BTreeMap<String, headwater_client::Assignment> {
            std::collections::BTreeMap::new()
        }
    }
    let Some(client) = client().await else { return };
    let (name, group) = (topic(&client, 1).await, unique("group"));
    let mut first = GroupConsumer::join(&client, config(&group, &name)).await.unwrap();
    assigned(&mut first).await;
    let other = GroupConfig { assignor: Arc::new(Other), ..config(&group, &name) };
    let mut second = GroupConsumer::join(&client, other).await.unwrap();
    let error = second.poll(PATIENCE).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InconsistentGroupProtocol), "{error}");
    first.leave().await.unwrap();
}
