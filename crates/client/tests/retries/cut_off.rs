//! A member of the classic protocol whose coordinator falls silent: at the end of its session others have what it read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_client::{Client, ClientConfig, GroupConfig, GroupConsumer, GroupEvent};
use headwater_wire::ApiKey;
use headwater_wire::messages::{
    HeartbeatRequestData, HeartbeatResponseData, JoinGroupRequestData, JoinGroupResponseData,
    SyncGroupRequestData, SyncGroupResponseData,
};

use crate::scripted::{self, Asked, TOPIC};

const VERSIONS: [(ApiKey, i16); 3] = [(ApiKey::JoinGroup, 7), (ApiKey::SyncGroup, 5), (ApiKey::Heartbeat, 4)];
/// Version 0, partition 0 of the topic `t`, no user data.
const ONE: &[u8] = &[0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
const SESSION: Duration = Duration::from_secs(2);
/// A heartbeat's interval and what a busy machine adds; far less than any request is waited for.
const LATE: Duration = Duration::from_millis(1500);

fn answer(mut asked: Asked<'_>, beats: bool) -> Option<()> {
    match asked.key {
        ApiKey::JoinGroup => {
            JoinGroupRequestData::read(&mut asked.body, asked.version).unwrap();
            let answer = JoinGroupResponseData::default()
                .with_generation_id(1)
                .with_protocol_type(Some("consumer".to_owned().into()))
                .with_protocol_name(Some("range".to_owned().into()))
                .with_leader("another".to_owned().into())
                .with_member_id("m".to_owned().into());
            answer.write(asked.answer, asked.version).unwrap();
        }
        ApiKey::SyncGroup => {
            SyncGroupRequestData::read(&mut asked.body, asked.version).unwrap();
            let answer = SyncGroupResponseData::default().with_assignment(Bytes::from_static(ONE));
            answer.write(asked.answer, asked.version).unwrap();
        }
        ApiKey::Heartbeat if beats => {
            HeartbeatRequestData::read(&mut asked.body, asked.version).unwrap();
            HeartbeatResponseData::default().write(asked.answer, asked.version).unwrap();
        }
        ApiKey::Heartbeat => return None,
        other => panic!("{other:?}"),
    }
    Some(())
}

async fn event(member: &mut GroupConsumer) -> GroupEvent {
    let event = member.poll(Duration::from_secs(30)).await.unwrap();
    event.expect("an event within the poll")
}

/// From when the coordinator is cut off to when the member is told.
async fn told(silent: bool) {
    let (cut, muted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let beats = Arc::clone(&cut);
    let script = move |asked: Asked<'_>| answer(asked, !beats.load(Ordering::Relaxed));
    let address = scripted::start_muted(&VERSIONS, || vec![0], script, Arc::clone(&muted)).await;
    let client = Client::connect(ClientConfig::new(address, "cut-off")).await.unwrap();
    let config = GroupConfig { session_timeout: SESSION, ..GroupConfig::new("g", vec![TOPIC.to_owned()]) };
    let mut member = GroupConsumer::join(&client, config).await.unwrap();
    member.manage_positions(false);
    assert!(
        matches!(event(&mut member).await, GroupEvent::Assigned { partitions, .. } if partitions.len() == 1)
    );
    // A session passes in peace.
    assert!(member.poll(SESSION + LATE).await.unwrap().is_none());
    if silent { &muted } else { &cut }.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    let lost = event(&mut member).await;
    let took = begun.elapsed();
    assert!(
        matches!(&lost, GroupEvent::Revoked { partitions, lost: true } if partitions.len() == 1),
        "{lost:?}"
    );
    assert!((SESSION / 2..SESSION + LATE).contains(&took), "told after {took:?}");
    cut.store(false, Ordering::Relaxed);
    muted.store(false, Ordering::Relaxed);
    assert!(
        matches!(event(&mut member).await, GroupEvent::Assigned { partitions, .. } if partitions.len() == 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_coordinator_says_nothing_has_lost_what_it_had_at_the_end_of_its_session() {
    told(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_connections_end_at_each_heartbeat_has_lost_what_it_had_at_the_end_of_its_session() {
    told(false).await;
}
