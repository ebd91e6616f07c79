//! A member that leads a group of the classic protocol, whose topic gets more partitions.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use headwater_client::{Client, ClientConfig, GroupConfig, GroupConsumer, GroupEvent};
use headwater_wire::ApiKey;
use headwater_wire::messages::join_group_response::JoinGroupResponseMember;
use headwater_wire::messages::{
    HeartbeatRequestData, HeartbeatResponseData, JoinGroupRequestData, JoinGroupResponseData,
    SyncGroupRequestData, SyncGroupResponseData,
};

use crate::scripted::{self, Asked, TOPIC};

const VERSIONS: [(ApiKey, i16); 3] = [(ApiKey::JoinGroup, 7), (ApiKey::SyncGroup, 5), (ApiKey::Heartbeat, 4)];
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers the only member of a group; `generation` is the last one.
fn answer(generation: &mut i32, mut asked: Asked<'_>) -> Option<()> {
    match asked.key {
        ApiKey::JoinGroup => {
            let join = JoinGroupRequestData::read(&mut asked.body, asked.version).unwrap();
            *generation += 1;
            let member = JoinGroupResponseMember::default()
                .with_member_id("one".to_owned().into())
                .with_metadata(join.protocols[0].metadata.clone());
            let answer = JoinGroupResponseData::default()
                .with_generation_id(*generation)
                .with_protocol_type(Some("consumer".to_owned().into()))
                .with_protocol_name(Some("range".to_owned().into()))
                .with_leader("one".to_owned().into())
                .with_member_id("one".to_owned().into())
                .with_members(vec![member]);
            answer.write(asked.answer, asked.version).unwrap();
        }
        ApiKey::SyncGroup => {
            let sync = SyncGroupRequestData::read(&mut asked.body, asked.version).unwrap();
            let answer =
                SyncGroupResponseData::default().with_assignment(sync.assignments[0].assignment.clone());
            answer.write(asked.answer, asked.version).unwrap();
        }
        ApiKey::Heartbeat => {
            HeartbeatRequestData::read(&mut asked.body, asked.version).unwrap();
            HeartbeatResponseData::default().write(asked.answer, asked.version).unwrap();
        }
        other => panic!("{other:?}"),
    }
    Some(())
}

async fn event(member: &mut GroupConsumer) -> GroupEvent {
    let next = async {
        loop {
            if let Some(event) = member.poll(Duration::from_secs(1)).await.unwrap() {
                return event;
            }
        }
    };
    tokio::time::timeout(PATIENCE, next).await.expect("nothing happened")
}

async fn assigned(member: &mut GroupConsumer) -> Vec<i32> {
    match event(member).await {
        GroupEvent::Assigned { partitions, .. } => partitions.iter().map(|at| at.partition).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_added_are_given_out() {
    let (count, generation) = (Arc::new(AtomicUsize::new(1)), Mutex::new(0));
    let there = Arc::clone(&count);
    let script = move |asked: Asked<'_>| answer(&mut generation.lock().unwrap(), asked);
    let address = scripted::start(&VERSIONS, move || vec![0; there.load(Ordering::Relaxed)], script).await;
    let client = Client::connect(ClientConfig::new(address, "grown")).await.unwrap();
    let config = GroupConfig {
        metadata_max_age: Duration::from_millis(20),
        ..GroupConfig::new("g", vec![TOPIC.to_owned()])
    };
    let mut member = GroupConsumer::join(&client, config).await.unwrap();
    // Nothing is fetched: the broker has no records.
    member.manage_positions(false);
    assert_eq!(assigned(&mut member).await, [0]);
    count.store(3, Ordering::Relaxed);
    assert!(matches!(event(&mut member).await, GroupEvent::Revoked { lost: false, .. }));
    assert_eq!(assigned(&mut member).await, [0, 1, 2]);
}
