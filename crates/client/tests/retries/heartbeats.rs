//! A member of the consumer protocol whose coordinator refuses, forgets it, or does not answer.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use headwater_client::{
    Client, ClientConfig, Committed, ErrorCode, GroupConfig, GroupConsumer, GroupEvent, GroupProtocol,
};
use headwater_model::TopicPartition;
use headwater_wire::ApiKey;
use headwater_wire::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use headwater_wire::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use headwater_wire::messages::{
    ConsumerGroupHeartbeatRequestData, ConsumerGroupHeartbeatResponseData, OffsetCommitRequestData,
    OffsetCommitResponseData,
};

use crate::scripted::{self, Asked, TOPIC, TOPIC_ID};

const VERSIONS: [(ApiKey, i16); 2] = [(ApiKey::ConsumerGroupHeartbeat, 1), (ApiKey::OffsetCommit, 9)];
const PATIENCE: Duration = Duration::from_secs(20);

/// What becomes of a heartbeat.
#[derive(Debug, Clone)]
enum Reply {
    /// The member's epoch, and its partitions where they are told.
    Epoch(i32, Option<Vec<i32>>),
    Refuse(ErrorCode),
    /// The connection is closed.
    Lost,
}

#[derive(Default)]
struct Coordinator {
    replies: VecDeque<Reply>,
    heard: Vec<ConsumerGroupHeartbeatRequestData>,
    commits: Vec<i32>,
    /// Commits with an epoch below this one are stale.
    epoch: i32,
}

impl Coordinator {
    fn answer(&mut self, mut asked: Asked<'_>) -> Option<()> {
        match asked.key {
            ApiKey::ConsumerGroupHeartbeat => {
                let beat = ConsumerGroupHeartbeatRequestData::read(&mut asked.body, asked.version).unwrap();
                let epoch = beat.member_epoch;
                self.heard.push(beat);
                let reply = self.replies.pop_front();
                self.beat(reply.unwrap_or(Reply::Epoch(epoch.max(self.epoch), None)))?
                    .write(asked.answer, asked.version)
                    .unwrap();
            }
            ApiKey::OffsetCommit => {
                let commit = OffsetCommitRequestData::read(&mut asked.body, asked.version).unwrap();
                self.commits.push(commit.generation_id_or_member_epoch);
                let stale = commit.generation_id_or_member_epoch < self.epoch;
                let code = if stale { ErrorCode::StaleMemberEpoch.code() } else { 0 };
                let partition = OffsetCommitResponsePartition::default().with_error_code(code);
                let topic = OffsetCommitResponseTopic::default()
                    .with_name(TOPIC.to_owned().into())
                    .with_partitions(vec![partition]);
                let answer = OffsetCommitResponseData::default().with_topics(vec![topic]);
                answer.write(asked.answer, asked.version).unwrap();
            }
            other => panic!("{other:?}"),
        }
        Some(())
    }

    /// `None` closes the connection.
    fn beat(&mut self, reply: Reply) -> Option<ConsumerGroupHeartbeatResponseData> {
        let answer = ConsumerGroupHeartbeatResponseData::default().with_heartbeat_interval_ms(200);
        match reply {
            Reply::Lost => None,
            Reply::Refuse(code) => Some(answer.with_error_code(code.code())),
            Reply::Epoch(epoch, partitions) => {
                self.epoch = epoch.max(self.epoch);
                let assignment = partitions.map(|partitions| {
                    let topic =
                        TopicPartitions::default().with_topic_id(TOPIC_ID).with_partitions(partitions);
                    Box::new(Assignment::default().with_topic_partitions(vec![topic]))
                });
                Some(answer.with_member_epoch(epoch).with_assignment(assignment))
            }
        }
    }
}

struct Scene {
    coordinator: Arc<Mutex<Coordinator>>,
    member: GroupConsumer,
}

impl Scene {
    async fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::with(GroupConfig::new("g", vec![TOPIC.to_owned()]), replies).await
    }

    async fn with(config: GroupConfig, replies: impl IntoIterator<Item = Reply>) -> Self {
        let coordinator = Coordinator { replies: replies.into_iter().collect(), ..Coordinator::default() };
        let coordinator = Arc::new(Mutex::new(coordinator));
        let shared = Arc::clone(&coordinator);
        let script = move |asked: Asked<'_>| shared.lock().unwrap().answer(asked);
        let address = scripted::start(&VERSIONS, || vec![0; 4], script).await;
        let client = Client::connect(ClientConfig::new(address, "heartbeats")).await.unwrap();
        let config = GroupConfig { protocol: GroupProtocol::consumer(), ..config };
        let mut member = GroupConsumer::join(&client, config).await.unwrap();
        // Nothing is fetched: the broker has no records.
        member.manage_positions(false);
        Self { coordinator, member }
    }

    async fn event(&mut self) -> GroupEvent {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < PATIENCE, "nothing happened; heard {:?}", self.heard());
            if let Some(event) = self.member.poll(Duration::from_secs(1)).await.unwrap() {
                return event;
            }
        }
    }

    async fn assigned(&mut self) -> Vec<i32> {
        match self.event().await {
            GroupEvent::Assigned { partitions, .. } => numbers(&partitions),
            other => panic!("{other:?}"),
        }
    }

    async fn revoked(&mut self) -> (Vec<i32>, bool) {
        match self.event().await {
            GroupEvent::Revoked { partitions, lost } => (numbers(&partitions), lost),
            other => panic!("{other:?}"),
        }
    }

    fn then(&self, replies: impl IntoIterator<Item = Reply>) {
        self.coordinator.lock().unwrap().replies.extend(replies);
    }

    fn heard(&self) -> Vec<ConsumerGroupHeartbeatRequestData> {
        self.coordinator.lock().unwrap().heard.clone()
    }

    /// Polls until so many heartbeats have been heard; nothing else happens meanwhile.
    async fn hear(&mut self, count: usize) -> Vec<ConsumerGroupHeartbeatRequestData> {
        let begun = Instant::now();
        while self.heard().len() < count {
            assert!(begun.elapsed() < PATIENCE, "heard only {:?}", self.heard());
            let event = self.member.poll(Duration::from_millis(50)).await.unwrap();
            assert!(event.is_none(), "{event:?}");
        }
        self.heard()
    }
}

fn numbers(partitions: &[TopicPartition]) -> Vec<i32> {
    assert!(partitions.iter().all(|at| at.topic == TOPIC));
    partitions.iter().map(|at| at.partition).collect()
}

fn owned(beat: &ConsumerGroupHeartbeatRequestData) -> Option<Vec<i32>> {
    let topics = beat.topic_partitions.as_ref()?;
    Some(topics.iter().flat_map(|topic| topic.partitions.clone()).collect())
}

fn offsets() -> HashMap<TopicPartition, Committed> {
    HashMap::from([(TopicPartition::new(TOPIC, 0), Committed { offset: 3, ..Committed::default() })])
}

fn is_full(beat: &ConsumerGroupHeartbeatRequestData) -> bool {
    beat.rebalance_timeout_ms > 0 && beat.subscribed_topic_names.is_some() && beat.topic_partitions.is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_said_once_and_afterwards_what_changed() {
    let mut scene = Scene::new([Reply::Epoch(1, Some(vec![0, 1]))]).await;
    assert_eq!(scene.assigned().await, [0, 1]);
    let heard = scene.hear(4).await;
    assert!(is_full(&heard[0]) && heard[0].member_epoch == 0);
    assert!(!heard[0].member_id.is_empty(), "the member names itself");
    assert_eq!(owned(&heard[0]), Some(Vec::new()));
    assert_eq!(owned(&heard[1]), Some(vec![0, 1]), "it says what it took");
    for beat in &heard[2..] {
        assert!(beat.rebalance_timeout_ms == -1 && beat.subscribed_topic_names.is_none(), "{beat:?}");
        assert_eq!(owned(beat), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_is_told_first_and_what_comes_only_after_the_coordinator_knows() {
    let mut scene = Scene::new([Reply::Epoch(1, Some(vec![0, 1]))]).await;
    scene.assigned().await;
    scene.then([Reply::Epoch(1, Some(vec![1, 2]))]);
    assert_eq!(scene.revoked().await, (vec![0], false));
    let before = scene.heard().len();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(scene.heard()[before..].iter().all(|beat| owned(beat).is_none()), "nobody has let go yet");
    assert_eq!(scene.assigned().await, [1, 2]);
    let said: Vec<_> = scene.heard().iter().filter_map(owned).collect();
    assert_eq!(said[2], [1], "{said:?}");
    let heard = scene.heard().len();
    scene.hear(heard + 1).await;
    assert_eq!(scene.heard().iter().filter_map(owned).nth(3), Some(vec![1, 2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_lost_answer_or_another_coordinator_everything_is_said_again() {
    for trouble in [
        Reply::Lost,
        Reply::Refuse(ErrorCode::NotCoordinator),
        Reply::Refuse(ErrorCode::CoordinatorLoadInProgress),
    ] {
        let mut scene = Scene::new([Reply::Epoch(1, Some(vec![0]))]).await;
        scene.assigned().await;
        let before = scene.hear(3).await.len();
        scene.then([trouble.clone(), Reply::Epoch(1, Some(vec![0]))]);
        let heard = scene.hear(before + 3).await;
        let again = heard[before..].iter().find(|beat| is_full(beat));
        let again = again.unwrap_or_else(|| panic!("after {trouble:?}: {heard:?}"));
        assert_eq!((again.member_epoch, owned(again)), (1, Some(vec![0])));
        assert_eq!(again.member_id, heard[0].member_id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_put_out_has_lost_everything_and_comes_again() {
    for code in [ErrorCode::FencedMemberEpoch, ErrorCode::UnknownMemberId] {
        let mut scene = Scene::new([Reply::Epoch(5, Some(vec![0, 1]))]).await;
        scene.assigned().await;
        scene.then([Reply::Refuse(code), Reply::Epoch(7, Some(vec![1]))]);
        assert_eq!(scene.revoked().await, (vec![0, 1], true));
        assert_eq!(scene.assigned().await, [1]);
        let joins: Vec<_> = scene.heard().into_iter().filter(|beat| beat.member_epoch == 0).collect();
        assert_eq!(joins.len(), 2);
        assert!(joins.iter().all(|join| is_full(join) && owned(join) == Some(Vec::new())));
        assert_eq!(scene.member.metadata().generation, 7);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_with_a_stale_epoch_is_sent_again_with_the_next() {
    let mut scene = Scene::new([Reply::Epoch(1, Some(vec![0]))]).await;
    scene.assigned().await;
    scene.hear(2).await;
    // The group has moved on, and the member will hear of it with its next heartbeat.
    scene.coordinator.lock().unwrap().epoch = 2;
    scene.member.commit(&offsets()).await.unwrap();
    let commits = scene.coordinator.lock().unwrap().commits.clone();
    assert!(matches!(commits[..], [1, 2] | [2]), "{commits:?}");
    assert_eq!(scene.member.metadata().generation, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_commit_of_a_member_that_is_out_is_refused() {
    let mut scene = Scene::new([Reply::Epoch(1, Some(vec![0]))]).await;
    scene.assigned().await;
    scene.coordinator.lock().unwrap().epoch = 9;
    scene.then(vec![Reply::Refuse(ErrorCode::FencedMemberEpoch); 3]);
    assert_eq!(scene.revoked().await, (vec![0], true));
    let refused = scene.member.commit(&offsets()).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::StaleMemberEpoch), "{refused}");
    assert_eq!(scene.coordinator.lock().unwrap().commits, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_leave_for_good_or_to_come_back() {
    for (instance, epoch) in [(None, -1), (Some("one".to_owned()), -2)] {
        let config =
            GroupConfig { instance_id: instance.clone(), ..GroupConfig::new("g", vec![TOPIC.to_owned()]) };
        let mut scene = Scene::with(config, [Reply::Epoch(1, Some(vec![0]))]).await;
        scene.assigned().await;
        let coordinator = Arc::clone(&scene.coordinator);
        scene.member.leave().await.unwrap();
        let heard = coordinator.lock().unwrap().heard.clone();
        let last = heard.last().unwrap();
        assert_eq!(last.member_epoch, epoch);
        assert_eq!(last.instance_id.as_ref().map(|id| id.to_string()), instance);
        assert_eq!(last.member_id, heard[0].member_id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_heal_ends_the_membership_and_stays_its_error() {
    let mut scene = Scene::new([Reply::Refuse(ErrorCode::GroupMaxSizeReached)]).await;
    assert!(!scene.member.has_ended());
    for _ in 0..2 {
        let error = scene.member.poll(PATIENCE).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::GroupMaxSizeReached), "{error}");
        assert!(scene.member.has_ended());
    }
    assert_eq!(scene.heard().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_does_not_know_the_protocol_is_named() {
    let script = |asked: Asked<'_>| panic!("{:?} was asked", asked.key);
    let address = scripted::start(&[(ApiKey::OffsetCommit, 8)], || vec![0], script).await;
    let client = Client::connect(ClientConfig::new(&address, "heartbeats")).await.unwrap();
    let config =
        GroupConfig { protocol: GroupProtocol::consumer(), ..GroupConfig::new("g", vec![TOPIC.to_owned()]) };
    let mut member = GroupConsumer::join(&client, config).await.unwrap();
    let error = member.poll(PATIENCE).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnsupportedVersion), "{error}");
    assert!(error.to_string().contains(&address) && error.to_string().contains("classic"), "{error}");
}
