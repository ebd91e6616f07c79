//! A member of the classic protocol whose coordinator falls silent: at the end of its session others have what it read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_client::{Client, ClientConfig, GroupConfig, GroupConsumer, GroupEvent};
use headwater_wire::messages::{
    JoinGroupRequestData, JoinGroupResponseData, SyncGroupRequestData, SyncGroupResponseData,
};

use crate::classic::{self, Group};
use crate::scripted::{self, Asked, TOPIC};

/// Version 0, partition 0 of the topic `t`, no user data.
const ONE: &[u8] = &[0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
const SESSION: Duration = Duration::from_secs(2);
/// A heartbeat's interval and what a busy machine adds; far less than any request is waited for.
const LATE: Duration = Duration::from_millis(1500);

/// Its member has one partition; once it is cut off, heartbeats end connections.
struct Coordinator {
    cut: Arc<AtomicBool>,
}

impl Group for Coordinator {
    fn join(&mut self, _asked: JoinGroupRequestData) -> JoinGroupResponseData {
        classic::joined(1, "another", "m")
    }

    fn sync(&mut self, _asked: SyncGroupRequestData) -> Option<SyncGroupResponseData> {
        Some(SyncGroupResponseData::default().with_assignment(Bytes::from_static(ONE)))
    }

    fn beat(&mut self) -> Option<()> {
        (!self.cut.load(Ordering::Relaxed)).then_some(())
    }
}

async fn event(member: &mut GroupConsumer) -> GroupEvent {
    let event = member.poll(Duration::from_secs(30)).await.unwrap();
    event.expect("an event within the poll")
}

/// From when the coordinator is cut off to when the member is told.
async fn told(silent: bool) {
    let (cut, muted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let mut group = Coordinator { cut: Arc::clone(&cut) };
    let script = move |asked: Asked<'_>| classic::answer(&mut group, asked);
    let address = scripted::start_muted(&classic::VERSIONS, || vec![0], script, Arc::clone(&muted)).await;
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
