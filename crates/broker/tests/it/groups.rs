//! Groups as their members see them, also across a restart.

use headwater_broker::Broker;
use headwater_wire::messages::*;
use headwater_wire::{ErrorCode, KafkaString};

use crate::common::{Raw, start};

fn group() -> KafkaString {
    KafkaString::from_static("g")
}

fn join(member_id: &str) -> JoinGroupRequestData {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name("range".to_owned().into())
        .with_metadata(bytes::Bytes::from_static(b"subscription"));
    JoinGroupRequestData::default()
        .with_group_id(group())
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(30_000)
        .with_member_id(member_id.to_owned().into())
        .with_protocol_type("consumer".to_owned().into())
        .with_protocols(vec![protocol])
}

/// Its member id: the first join only hands that out.
async fn introduce(raw: &mut Raw) -> String {
    let refused = raw.call(&join(""), 5).await;
    assert_eq!(refused.error_code, ErrorCode::MemberIdRequired.code());
    refused.member_id.to_string()
}

fn sync(member_id: &str, generation: i32, assignments: &[(&str, &'static [u8])]) -> SyncGroupRequestData {
    let assignments = assignments.iter().map(|(member, assignment)| {
        SyncGroupRequestAssignment::default()
            .with_member_id((*member).to_owned().into())
            .with_assignment(bytes::Bytes::from_static(assignment))
    });
    SyncGroupRequestData::default()
        .with_group_id(group())
        .with_generation_id(generation)
        .with_member_id(member_id.to_owned().into())
        .with_assignments(assignments.collect())
}

async fn heartbeat(raw: &mut Raw, member_id: &str, generation: i32) -> ErrorCode {
    let request = HeartbeatRequestData::default()
        .with_group_id(group())
        .with_generation_id(generation)
        .with_member_id(member_id.to_owned().into());
    ErrorCode::from(raw.call(&request, 3).await.error_code)
}

/// One member that is alone and has its assignment.
async fn settled(broker: &Broker) -> (Raw, String, i32) {
    let mut raw = Raw::connect(broker).await;
    let member = introduce(&mut raw).await;
    let joined = raw.call(&join(&member), 5).await;
    assert_eq!((joined.error_code, joined.leader.as_str()), (0, member.as_str()));
    let generation = joined.generation_id;
    let synced = raw.call(&sync(&member, generation, &[(&member, b"all")]), 3).await;
    assert_eq!(&synced.assignment[..], b"all");
    (raw, member, generation)
}

#[tokio::test]
async fn two_members_share_and_one_takes_over() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let (mut first, leader, generation) = settled(&broker).await;
    let mut second = Raw::connect(&broker).await;
    let follower = introduce(&mut second).await;
    second.send(&join(&follower), 5).await;
    while heartbeat(&mut first, &leader, generation).await != ErrorCode::RebalanceInProgress {}
    let joined = first.call(&join(&leader), 5).await;
    assert_eq!(joined.members.len(), 2, "the leader sees all");
    let followed = second.receive::<JoinGroupRequestData>(5, 0).await;
    assert_eq!((followed.generation_id, followed.members.len()), (joined.generation_id, 0));
    second.send(&sync(&follower, joined.generation_id, &[]), 3).await;
    first.call(&sync(&leader, joined.generation_id, &[(&leader, b"half"), (&follower, b"rest")]), 3).await;
    let synced = second.receive::<SyncGroupRequestData>(3, 0).await;
    assert_eq!(&synced.assignment[..], b"rest");
    let leave = LeaveGroupRequestData::default().with_group_id(group()).with_member_id(leader.into());
    assert_eq!(first.call(&leave, 1).await.error_code, 0);
    assert_eq!(heartbeat(&mut second, &follower, joined.generation_id).await, ErrorCode::RebalanceInProgress);
}

#[tokio::test]
async fn a_member_is_still_one_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let (raw, member, generation) = settled(&broker).await;
    drop(raw);
    broker.shutdown().await;
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    assert_eq!(heartbeat(&mut raw, &member, generation).await, ErrorCode::None);
    let described = raw.call(&DescribeGroupsRequestData::default().with_groups(vec![group()]), 4).await;
    assert_eq!(described.groups[0].group_state.as_str(), "Stable");
    assert_eq!(described.groups[0].members[0].client_id.as_str(), "test");
    assert_eq!(&described.groups[0].members[0].member_assignment[..], b"all");
}

#[tokio::test]
async fn whoever_goes_while_joining_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let (mut first, leader, generation) = settled(&broker).await;
    let mut second = Raw::connect(&broker).await;
    let member = introduce(&mut second).await;
    second.send(&join(&member), 5).await;
    while heartbeat(&mut first, &leader, generation).await != ErrorCode::RebalanceInProgress {}
    drop(second);
    let joined = first.call(&join(&leader), 5).await;
    assert_eq!(joined.error_code, 0);
}

async fn commit(raw: &mut Raw, offset: i64) -> i16 {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic =
        OffsetCommitRequestTopic::default().with_name("t".to_owned().into()).with_partitions(vec![partition]);
    let request = OffsetCommitRequestData::default()
        .with_group_id("simple".to_owned().into())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    raw.call(&request, 7).await.topics[0].partitions[0].error_code
}

#[tokio::test]
async fn committed_offsets_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    assert_eq!(commit(&mut raw, 1).await, ErrorCode::UnknownTopicOrPartition.code());
    raw.create_topic("t", 1).await;
    assert_eq!(commit(&mut raw, 41).await, 0);
    assert_eq!(commit(&mut raw, 42).await, 0);
    broker.shutdown().await;
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    let all = OffsetFetchRequestGroup::default().with_group_id("simple".to_owned().into()).with_topics(None);
    let fetched = raw.call(&OffsetFetchRequestData::default().with_groups(vec![all]), 8).await;
    assert_eq!(fetched.groups[0].topics[0].partitions[0].committed_offset, 42);
}
