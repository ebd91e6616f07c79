//! Share groups on the wire: sessions, locks, delivery counts, what is left after connections, restarts and deletions.

use std::path::Path;
use std::time::{Duration, Instant};

use headwater_broker::{Broker, Config, CoordinatorSettings};
use headwater_coordinator::ShareDefaults;
use headwater_wire::messages::alter_share_group_offsets_request::{
    AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use headwater_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use headwater_wire::messages::share_acknowledge_request::{
    AcknowledgePartition, AcknowledgeTopic, AcknowledgementBatch as Acknowledged,
};
use headwater_wire::messages::share_fetch_request::{AcknowledgementBatch, FetchPartition, FetchTopic};
use headwater_wire::messages::share_fetch_response::PartitionData;
use headwater_wire::messages::*;
use headwater_wire::{ErrorCode, KafkaString, KafkaUuid, Producer};

use crate::common::{Raw, batch, batch_of, batches, config, damage, start};

const ACCEPT: i8 = 1;
const RELEASE: i8 = 2;
const REJECT: i8 = 3;
const RENEW: i8 = 4;
const GROUP: i8 = 32;

fn group() -> KafkaString {
    KafkaString::from_static("workers")
}

async fn set(raw: &mut Raw, name: &'static str, value: &'static str) {
    let config = AlterableConfig::default()
        .with_name(KafkaString::from_static(name))
        .with_value(Some(KafkaString::from_static(value)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(GROUP)
        .with_resource_name(group())
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequestData::default().with_resources(vec![resource]);
    let response = raw.call(&request, 1).await;
    assert_eq!(response.responses[0].error_code, 0, "{response:?}");
}

async fn topic_id(raw: &mut Raw) -> KafkaUuid {
    let topic = MetadataRequestTopic::default().with_name(Some(KafkaString::from_static("t")));
    let request = MetadataRequestData::default().with_topics(Some(vec![topic]));
    raw.call(&request, 12).await.topics[0].topic_id
}

/// A member of the group with a share session of its own.
struct Member {
    raw: Raw,
    name: String,
    topic: KafkaUuid,
    epoch: i32,
}

impl Member {
    async fn join(broker: &Broker, name: &str) -> Self {
        let mut raw = Raw::connect(broker).await;
        let topic = topic_id(&mut raw).await;
        let mut member = Self { raw, name: name.to_owned(), topic, epoch: 0 };
        let request = ShareGroupHeartbeatRequestData::default()
            .with_group_id(group())
            .with_member_id(member.name.clone().into())
            .with_subscribed_topic_names(Some(vec![KafkaString::from_static("t")]));
        let joined = member.raw.call(&request, 1).await;
        assert_eq!(joined.error_code, 0, "{joined:?}");
        assert!(joined.assignment.is_some_and(|assigned| assigned.topic_partitions.len() == 1));
        member
    }

    fn request(&self, acknowledged: &[(i64, i64, &[i8])]) -> ShareFetchRequestData {
        let batches = acknowledged.iter().map(|(first, last, types)| {
            AcknowledgementBatch::default()
                .with_first_offset(*first)
                .with_last_offset(*last)
                .with_acknowledge_types(types.to_vec())
        });
        let partition = FetchPartition::default().with_acknowledgement_batches(batches.collect());
        let topic = FetchTopic::default().with_topic_id(self.topic).with_partitions(vec![partition]);
        ShareFetchRequestData::default()
            .with_group_id(Some(group()))
            .with_member_id(Some(self.name.clone().into()))
            .with_share_session_epoch(self.epoch)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_max_records(500)
            .with_batch_size(500)
            .with_topics(vec![topic])
    }

    async fn call(&mut self, request: ShareFetchRequestData) -> ShareFetchResponseData {
        self.epoch += 1;
        self.raw.call(&request, 2).await
    }

    /// Acquires what there is after having acknowledged.
    async fn fetch(&mut self, wait: i32, acknowledged: &[(i64, i64, &[i8])]) -> PartitionData {
        let request = self.request(acknowledged).with_max_wait_ms(wait);
        let mut response = self.call(request).await;
        assert_eq!(response.error_code, 0, "{response:?}");
        match response.responses.pop() {
            Some(mut topic) => topic.partitions.remove(0),
            None => PartitionData::default(),
        }
    }

    async fn acquired(&mut self, wait: i32, acknowledged: &[(i64, i64, &[i8])]) -> Vec<(i64, i64, i16)> {
        let data = self.fetch(wait, acknowledged).await;
        assert_eq!((data.error_code, data.acknowledge_error_code), (0, 0), "{data:?}");
        ranges(&data)
    }

    async fn acknowledge(&mut self, epoch: i32, batch: (i64, i64, &[i8])) -> ShareAcknowledgeResponseData {
        let renew = batch.2.contains(&RENEW);
        let batch = Acknowledged::default()
            .with_first_offset(batch.0)
            .with_last_offset(batch.1)
            .with_acknowledge_types(batch.2.to_vec());
        let partition = AcknowledgePartition::default().with_acknowledgement_batches(vec![batch]);
        let topic = AcknowledgeTopic::default().with_topic_id(self.topic).with_partitions(vec![partition]);
        let request = ShareAcknowledgeRequestData::default()
            .with_group_id(Some(group()))
            .with_member_id(Some(self.name.clone().into()))
            .with_share_session_epoch(epoch)
            .with_is_renew_ack(renew)
            .with_topics(vec![topic]);
        self.raw.call(&request, 2).await
    }

    /// Acknowledges apart from fetching; returns the partition's error.
    async fn settle(&mut self, first: i64, last: i64, types: &[i8]) -> i16 {
        let response = self.acknowledge(self.epoch, (first, last, types)).await;
        self.epoch += 1;
        assert_eq!(response.error_code, 0, "{response:?}");
        response.responses[0].partitions[0].error_code
    }

    /// Start offset and lag.
    async fn position(&mut self) -> (i64, i64) {
        let wanted =
            DescribeShareGroupOffsetsRequestGroup::default().with_group_id(group()).with_topics(None);
        let request = DescribeShareGroupOffsetsRequestData::default().with_groups(vec![wanted]);
        let response = self.raw.call(&request, 1).await;
        let partition = &response.groups[0].topics[0].partitions[0];
        (partition.start_offset, partition.lag)
    }
}

fn ranges(data: &PartitionData) -> Vec<(i64, i64, i16)> {
    let ranges = data.acquired_records.iter();
    ranges.map(|range| (range.first_offset, range.last_offset, range.delivery_count)).collect()
}

/// A broker with a topic of ten records in two batches, which the group begins with.
async fn begin(directory: &Path, lock_ms: i32) -> Broker {
    let share =
        ShareDefaults { lock_duration_ms: lock_ms, delivery_count_limit: 2, ..ShareDefaults::default() };
    let coordinator = CoordinatorSettings { share, ..CoordinatorSettings::default() };
    let broker = Broker::start(Config { coordinator, ..config(directory) }).await.expect("it starts");
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    raw.produce("t", 0, batch(&["0", "1", "2", "3", "4"])).await;
    raw.produce("t", 0, batch(&["5", "6", "7", "8", "9"])).await;
    set(&mut raw, "share.auto.offset.reset", "earliest").await;
    broker
}

const LONG: i32 = 60_000;

#[tokio::test]
async fn each_record_goes_to_one_member_and_an_acknowledged_one_to_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let broker = begin(dir.path(), LONG).await;
    let mut one = Member::join(&broker, "one").await;
    let mut two = Member::join(&broker, "two").await;
    let request = one.request(&[]).with_max_records(3);
    let response = one.call(request).await;
    assert_eq!(response.acquisition_lock_timeout_ms, LONG);
    let data = &response.responses[0].partitions[0];
    assert_eq!(ranges(data), [(0, 4, 1)], "a batch is not split");
    assert_eq!(batches(data.records.clone().unwrap())[0].1.len(), 5);
    assert_eq!(two.acquired(0, &[]).await, [(5, 9, 1)]);
    assert_eq!(two.settle(0, 0, &[ACCEPT]).await, ErrorCode::InvalidRecordState.code(), "another's record");
    let types = [ACCEPT, RELEASE, REJECT, ACCEPT, ACCEPT];
    assert_eq!(one.acquired(0, &[(0, 4, &types)]).await, [(1, 1, 2)], "what was released comes again");
    assert_eq!(one.position().await, (1, 6));
    assert_eq!(one.settle(1, 1, &[RELEASE]).await, 0);
    assert_eq!(one.position().await, (5, 5), "after two deliveries it is archived");
    assert_eq!(two.settle(5, 9, &[ACCEPT]).await, 0);
    assert_eq!(one.position().await, (10, 0));
}

#[tokio::test]
async fn a_new_session_hears_of_each_partition_and_who_wants_no_bytes_waits_for_none() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 3).await;
    let partitions = (0..3).map(|index| FetchPartition::default().with_partition_index(index));
    let topic =
        FetchTopic::default().with_topic_id(topic_id(&mut raw).await).with_partitions(partitions.collect());
    let request = ShareFetchRequestData::default()
        .with_group_id(Some(group()))
        .with_member_id(Some(KafkaString::from_static("one")))
        .with_max_wait_ms(60_000)
        .with_max_bytes(1 << 20)
        .with_max_records(500)
        .with_batch_size(500)
        .with_topics(vec![topic]);
    let begun = Instant::now();
    let first = raw.call(&request, 2).await;
    assert_eq!(first.error_code, 0, "nobody need be a member: {first:?}");
    let told = first.responses[0].partitions.iter();
    let told: Vec<_> =
        told.map(|one| (one.partition_index, one.error_code, one.acquired_records.len())).collect();
    assert_eq!(told, [(0, 0, 0), (1, 0, 0), (2, 0, 0)]);
    let next = raw.call(&request.with_share_session_epoch(1), 2).await;
    assert_eq!((next.error_code, next.responses.len()), (0, 0), "nothing is new");
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_record_limit_splits_a_batch_and_a_batch_size_its_acquisitions() {
    let dir = tempfile::tempdir().unwrap();
    let broker = begin(dir.path(), LONG).await;
    let mut one = Member::join(&broker, "one").await;
    let strict = one.request(&[]).with_max_records(3).with_share_acquire_mode(1);
    let data = one.call(strict).await.responses.remove(0).partitions.remove(0);
    assert_eq!(ranges(&data), [(0, 2, 1)]);
    let small = one.request(&[]).with_batch_size(2);
    let data = one.call(small).await.responses.remove(0).partitions.remove(0);
    assert_eq!(ranges(&data), [(3, 4, 1), (5, 9, 1)]);
}

#[tokio::test]
async fn a_topic_that_is_gone_keeps_back_no_records_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let broker = begin(dir.path(), LONG).await;
    let mut one = Member::join(&broker, "one").await;
    let gone = KafkaUuid::from_parts(7, 7);
    let mut request = one.request(&[]).with_max_wait_ms(30_000);
    let partitions = vec![FetchPartition::default()];
    request.topics.push(FetchTopic::default().with_topic_id(gone).with_partitions(partitions));
    let response = one.call(request).await;
    let of = |id: KafkaUuid| {
        let topic = response.responses.iter().find(|topic| topic.topic_id == id);
        &topic.expect("an answer for each topic").partitions[0]
    };
    assert_eq!(of(gone).error_code, ErrorCode::UnknownTopicId.code());
    assert_eq!((of(one.topic).error_code, ranges(of(one.topic))), (0, vec![(0, 9, 1)]));
}

#[tokio::test]
async fn what_a_closed_connection_held_is_available_at_once_as_if_not_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let broker = begin(dir.path(), LONG).await;
    let mut one = Member::join(&broker, "one").await;
    let mut two = Member::join(&broker, "two").await;
    assert_eq!(one.acquired(0, &[]).await, [(0, 9, 1)]);
    assert!(two.acquired(0, &[]).await.is_empty());
    let begun = Instant::now();
    let (acquired, ()) = tokio::join!(two.acquired(30_000, &[]), async { drop(one.raw) });
    assert_eq!(acquired, [(0, 9, 1)]);
    assert!(begun.elapsed() < Duration::from_secs(20), "the long poll was woken");
}

#[tokio::test]
async fn a_lock_that_ends_gives_a_record_to_the_next_and_archives_it_after_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let broker = begin(dir.path(), 300).await;
    let mut one = Member::join(&broker, "one").await;
    let mut two = Member::join(&broker, "two").await;
    assert_eq!(one.acquired(0, &[]).await, [(0, 9, 1)]);
    assert_eq!(two.acquired(30_000, &[]).await, [(0, 9, 2)], "a waiting member is woken");
    assert_eq!(one.settle(0, 9, &[ACCEPT]).await, ErrorCode::InvalidRecordState.code(), "its time was over");
    assert!(one.acquired(600, &[]).await.is_empty());
    assert_eq!(one.position().await, (10, 0), "archived after two deliveries");
}

#[tokio::test]
async fn renewing_keeps_a_record_longer_than_a_lock_lasts() {
    let dir = tempfile::tempdir().unwrap();
    let broker = begin(dir.path(), 1_000).await;
    let mut one = Member::join(&broker, "one").await;
    let mut two = Member::join(&broker, "two").await;
    let begun = Instant::now();
    assert_eq!(one.acquired(0, &[]).await, [(0, 9, 1)]);
    while begun.elapsed() < Duration::from_millis(2_500) {
        assert_eq!(one.settle(0, 9, &[RENEW]).await, 0);
        assert!(two.acquired(100, &[]).await.is_empty());
    }
    let asks_for_more = one.request(&[(0, 9, &[RENEW])]).with_is_renew_ack(true);
    assert_eq!(one.raw.call(&asks_for_more, 2).await.error_code, ErrorCode::InvalidRequest.code());
    set(&mut two.raw, "share.renew.acknowledge.enable", "false").await;
    assert_eq!(one.settle(0, 9, &[RENEW]).await, ErrorCode::InvalidRecordState.code());
    assert_eq!(one.settle(0, 9, &[ACCEPT]).await, 0);
}

#[tokio::test]
async fn sessions_are_told_apart_by_their_epochs() {
    let dir = tempfile::tempdir().unwrap();
    let broker = begin(dir.path(), LONG).await;
    let mut one = Member::join(&broker, "one").await;
    let early = one.request(&[(0, 0, &[ACCEPT])]);
    assert_eq!(one.raw.call(&early, 2).await.error_code, ErrorCode::InvalidRequest.code());
    let unopened = one.request(&[]).with_share_session_epoch(1);
    assert_eq!(one.raw.call(&unopened, 2).await.error_code, ErrorCode::ShareSessionNotFound.code());
    assert_eq!(one.acquired(0, &[]).await, [(0, 9, 1)]);
    let wrong = one.request(&[]).with_share_session_epoch(9);
    assert_eq!(one.raw.call(&wrong, 2).await.error_code, ErrorCode::InvalidShareSessionEpoch.code());
    let backwards = one.acknowledge(1, (5, 4, &[ACCEPT])).await;
    assert_eq!(backwards.responses[0].partitions[0].error_code, ErrorCode::InvalidRequest.code());
    let last = one.acknowledge(-1, (0, 4, &[ACCEPT])).await;
    assert_eq!((last.error_code, last.responses[0].partitions[0].error_code), (0, 0));
    one.epoch = 0;
    assert_eq!(one.acquired(0, &[]).await, [(5, 9, 1)], "the end of the session gave the rest back");
    let mut stranger = one.request(&[]).with_share_session_epoch(0);
    stranger.group_id = Some(KafkaString::from_static("nobody"));
    assert_eq!(one.raw.call(&stranger, 2).await.error_code, ErrorCode::GroupIdNotFound.code());
}

#[tokio::test]
async fn what_was_acknowledged_and_counted_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let broker = begin(dir.path(), LONG).await;
    let mut one = Member::join(&broker, "one").await;
    assert_eq!(one.acquired(0, &[]).await, [(0, 9, 1)]);
    assert_eq!(one.settle(0, 1, &[ACCEPT]).await, 0);
    assert_eq!(one.settle(3, 3, &[RELEASE]).await, 0);
    assert_eq!(one.settle(5, 5, &[ACCEPT]).await, 0);
    broker.shutdown().await;
    let broker = start(dir.path()).await;
    let mut two = Member::join(&broker, "two").await;
    assert_eq!(two.acquired(0, &[]).await, [(2, 2, 1), (3, 3, 2), (4, 4, 1), (6, 9, 1)]);
}

#[tokio::test]
async fn what_is_before_damage_is_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let broker = begin(dir.path(), LONG).await;
    let mut raw = Raw::connect(&broker).await;
    for value in ["this is damaged", "this is behind it"] {
        assert_eq!(raw.produce("t", 0, batch(&[value])).await.error_code, 0);
    }
    drop(raw);
    broker.shutdown().await;
    damage(dir.path(), "this is damaged");
    let broker = start(dir.path()).await;
    let mut one = Member::join(&broker, "one").await;
    assert_eq!(one.acquired(0, &[]).await, [(0, 9, 1)]);
    let refused = one.fetch(0, &[(0, 9, &[ACCEPT])]).await;
    assert_eq!(refused.error_code, ErrorCode::CorruptMessage.code(), "{refused:?}");
    assert_eq!(refused.acknowledge_error_code, 0);
}

#[tokio::test]
async fn aborted_records_and_markers_are_not_delivered_under_read_committed() {
    let dir = tempfile::tempdir().unwrap();
    let broker = begin(dir.path(), LONG).await;
    let mut one = Member::join(&broker, "one").await;
    set(&mut one.raw, "share.isolation.level", "read_committed").await;
    let writer = one.raw.init_producer("writer", 60_000).await;
    for (turn, commit) in [(0, false), (1, true)] {
        assert_eq!(one.raw.add_to_transaction("writer", writer, "t", &[0]).await, 0);
        let producer = Producer { base_sequence: turn, ..writer };
        let written = batch_of(&["transactional"], Some(producer), true);
        assert_eq!(one.raw.produce_as(Some("writer"), "t", 0, written).await.error_code, 0);
        assert_eq!(one.raw.end_transaction("writer", writer, commit).await, 0);
    }
    assert_eq!(one.acquired(0, &[]).await, [(0, 9, 1), (12, 12, 1)]);
    assert!(one.acquired(0, &[(0, 9, &[ACCEPT]), (12, 12, &[ACCEPT])]).await.is_empty());
    assert_eq!(one.position().await, (14, 0), "the last marker is finished, too");
}

#[tokio::test]
async fn deleted_records_and_topics_take_what_is_in_flight_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let broker = begin(dir.path(), LONG).await;
    let mut one = Member::join(&broker, "one").await;
    assert_eq!(one.acquired(0, &[]).await, [(0, 9, 1)]);
    let partition = DeleteRecordsPartition::default().with_offset(7);
    let topic = DeleteRecordsTopic::default()
        .with_name(KafkaString::from_static("t"))
        .with_partitions(vec![partition]);
    let delete = DeleteRecordsRequestData::default().with_topics(vec![topic]).with_timeout_ms(1_000);
    one.raw.call(&delete, 2).await;
    assert!(one.acquired(0, &[]).await.is_empty());
    assert_eq!(one.position().await, (7, 3));
    assert_eq!(one.settle(0, 9, &[ACCEPT]).await, 0, "what is gone is not missed");
    assert_eq!(one.position().await, (10, 0));
    let delete = DeleteTopicsRequestData::default()
        .with_topic_names(vec![KafkaString::from_static("t")])
        .with_timeout_ms(1_000);
    one.raw.call(&delete, 5).await;
    assert_eq!(one.fetch(0, &[]).await.error_code, ErrorCode::UnknownTopicId.code());
}

#[tokio::test]
async fn an_idle_group_is_set_to_an_offset_and_a_busy_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let broker = begin(dir.path(), LONG).await;
    let mut one = Member::join(&broker, "one").await;
    let partition = AlterShareGroupOffsetsRequestPartition::default().with_start_offset(8);
    let topic = AlterShareGroupOffsetsRequestTopic::default()
        .with_topic_name(KafkaString::from_static("t"))
        .with_partitions(vec![partition]);
    let alter = AlterShareGroupOffsetsRequestData::default().with_group_id(group()).with_topics(vec![topic]);
    assert_eq!(one.raw.call(&alter, 0).await.error_code, ErrorCode::NonEmptyGroup.code());
    let leave = ShareGroupHeartbeatRequestData::default()
        .with_group_id(group())
        .with_member_id(one.name.clone().into())
        .with_member_epoch(-1);
    assert_eq!(one.raw.call(&leave, 1).await.error_code, 0);
    let altered = one.raw.call(&alter, 0).await;
    assert_eq!((altered.error_code, altered.responses[0].partitions[0].error_code), (0, 0));
    let mut two = Member::join(&broker, "two").await;
    assert_eq!(two.acquired(0, &[]).await, [(8, 9, 1)]);
}

#[tokio::test]
async fn a_new_group_begins_at_the_end_and_waits_for_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let broker = begin(dir.path(), LONG).await;
    let mut one = Member::join(&broker, "one").await;
    set(&mut one.raw, "share.auto.offset.reset", "latest").await;
    assert!(one.acquired(0, &[]).await.is_empty());
    let mut writer = Raw::connect(&broker).await;
    let written = batch(&["10"]);
    let (acquired, _) = tokio::join!(one.acquired(30_000, &[]), writer.produce("t", 0, written));
    assert_eq!(acquired, [(10, 10, 1)]);
}

#[tokio::test]
async fn clients_learn_that_there_are_share_groups_and_where_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    let versions = raw.call(&crate::common::api_versions(), 4).await;
    let features = versions.finalized_features.iter();
    let share = features.filter(|feature| feature.name.as_str() == "share.version");
    assert_eq!(share.map(|feature| feature.max_version_level).collect::<Vec<_>>(), [1]);
    let find = |key: &'static str| {
        FindCoordinatorRequestData::default()
            .with_key_type(2)
            .with_coordinator_keys(vec![KafkaString::from_static(key)])
    };
    let found = raw.call(&find("workers:aaaaaaaaaaaaaaaaaaaaaw:0"), 6).await;
    assert_eq!((found.coordinators[0].error_code, found.coordinators[0].node_id), (0, 1));
    let refused = raw.call(&find("workers"), 6).await;
    assert_eq!(refused.coordinators[0].error_code, ErrorCode::InvalidRequest.code());
}

#[tokio::test]
async fn a_fetch_waits_for_the_least_bytes_it_asks_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = begin(dir.path(), LONG).await;
    let mut one = Member::join(&broker, "one").await;
    let less = one.request(&[]).with_min_bytes(1 << 19).with_max_wait_ms(300);
    let asked = Instant::now();
    let mut response = one.call(less).await;
    assert!(asked.elapsed() >= Duration::from_millis(300), "there is less, so it waits");
    let data = response.responses.remove(0).partitions.remove(0);
    assert_eq!(ranges(&data), [(0, 9, 1)], "and then gets what there is");
    let mut two = Member::join(&broker, "two").await;
    let waits = two.request(&[]).with_min_bytes(200).with_max_wait_ms(60_000);
    let mut writer = Raw::connect(&broker).await;
    let write = async {
        for _ in 0..10 {
            writer.produce("t", 0, batch(&["x"])).await;
        }
    };
    let (mut response, ()) = tokio::join!(two.call(waits), write);
    let data = response.responses.remove(0).partitions.remove(0);
    assert!(ranges(&data)[0].1 > 10, "one batch is less than 200 bytes: {data:?}");
}

#[tokio::test]
async fn a_quota_of_bytes_makes_members_wait_and_keeps_none_of_their_records() {
    use headwater_wire::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
    let dir = tempfile::tempdir().unwrap();
    let broker = begin(dir.path(), LONG).await;
    let mut raw = Raw::connect(&broker).await;
    let entity = EntityData::default().with_entity_type(KafkaString::from_static("client-id"));
    let op = OpData::default().with_key(KafkaString::from_static("consumer_byte_rate")).with_value(1.0);
    let entry = EntryData::default().with_entity(vec![entity.with_entity_name(None)]).with_ops(vec![op]);
    let limited = raw.call(&AlterClientQuotasRequestData::default().with_entries(vec![entry]), 1).await;
    assert_eq!(limited.entries[0].error_code, 0, "{limited:?}");
    let mut member = Member::join(&broker, "m").await;
    let request = member.request(&[]).with_max_wait_ms(1_000);
    let answer = member.call(request).await;
    assert_eq!(ranges(&answer.responses[0].partitions[0]), [(0, 9, 1)]);
    assert!(answer.throttle_time_ms > 1_000, "{}", answer.throttle_time_ms);
}
