//! A member that leads a group of the classic protocol, whose topic gets more partitions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use headwater_client::{Client, ClientConfig, GroupConfig, GroupConsumer, GroupEvent};
use headwater_wire::messages::join_group_response::JoinGroupResponseMember;
use headwater_wire::messages::{
    JoinGroupRequestData, JoinGroupResponseData, SyncGroupRequestData, SyncGroupResponseData,
};

use crate::classic::{self, Group};
use crate::scripted::{self, Asked, TOPIC};

const PATIENCE: Duration = Duration::from_secs(20);

/// A group of one member, in its last generation.
struct Alone {
    generation: i32,
}

impl Group for Alone {
    fn join(&mut self, asked: JoinGroupRequestData) -> JoinGroupResponseData {
        self.generation += 1;
        let member = JoinGroupResponseMember::default()
            .with_member_id("one".to_owned().into())
            .with_metadata(asked.protocols[0].metadata.clone());
        classic::joined(self.generation, "one", "one").with_members(vec![member])
    }

    fn sync(&mut self, asked: SyncGroupRequestData) -> Option<SyncGroupResponseData> {
        let assignment = asked.assignments[0].assignment.clone();
        Some(SyncGroupResponseData::default().with_assignment(assignment))
    }
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
    let (count, mut group) = (Arc::new(AtomicUsize::new(1)), Alone { generation: 0 });
    let there = Arc::clone(&count);
    let script = move |asked: Asked<'_>| classic::answer(&mut group, asked);
    let epochs = move || vec![0; there.load(Ordering::Relaxed)];
    let address = scripted::start(&classic::VERSIONS, epochs, script).await;
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
