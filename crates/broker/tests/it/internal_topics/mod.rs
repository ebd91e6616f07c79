//! `__consumer_offsets` and `__transaction_state`, read as monitors read Kafka's.

mod reader;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use headwater_broker::{Broker, CleanerConfig, Config, CoordinatorSettings, LogSettings};
use headwater_wire::messages::create_partitions_request::CreatePartitionsTopic;
use headwater_wire::messages::*;
use headwater_wire::{ErrorCode, Producer};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reader::{OFFSETS, Reading, TRANSACTIONS, partition_of};

use crate::common::{self, Raw, batch, config, start};
use crate::process::Process;

const GROUPS: [&str; 5] = ["billing", "audit", "a group with Ümlaut", "polygenelubricants", "x"];

async fn commit(raw: &mut Raw, group: &str, topic: &str, partition: i32, offset: i64) -> i16 {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(format!("at {offset}").into()));
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic.to_owned().into())
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequestData::default()
        .with_group_id(group.to_owned().into())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    raw.call(&request, 7).await.topics[0].partitions[0].error_code
}

/// Commits an offset in a transaction, which ends as it is told to.
async fn commit_in_transaction(raw: &mut Raw, id: &str, group: &str, offset: i64, outcome: bool) {
    let init = InitProducerIdRequestData::default()
        .with_transactional_id(Some(id.to_owned().into()))
        .with_transaction_timeout_ms(60_000);
    let init = raw.call(&init, 3).await;
    let producer = Producer { id: init.producer_id, epoch: init.producer_epoch, base_sequence: 0 };
    let add = AddOffsetsToTxnRequestData::default()
        .with_transactional_id(id.to_owned().into())
        .with_producer_id(producer.id)
        .with_producer_epoch(producer.epoch)
        .with_group_id(group.to_owned().into());
    assert_eq!(raw.call(&add, 3).await.error_code, 0);
    let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = TxnOffsetCommitRequestTopic::default()
        .with_name("kept".to_owned().into())
        .with_partitions(vec![partition]);
    let request = TxnOffsetCommitRequestData::default()
        .with_transactional_id(id.to_owned().into())
        .with_producer_id(producer.id)
        .with_producer_epoch(producer.epoch)
        .with_group_id(group.to_owned().into())
        .with_topics(vec![topic]);
    assert_eq!(raw.call(&request, 3).await.topics[0].partitions[0].error_code, 0);
    let end = EndTxnRequestData::default()
        .with_transactional_id(id.to_owned().into())
        .with_producer_id(producer.id)
        .with_producer_epoch(producer.epoch)
        .with_committed(outcome);
    assert_eq!(raw.call(&end, 3).await.error_code, 0);
}

/// What OffsetFetch says of every group.
async fn fetched(raw: &mut Raw) -> BTreeMap<(String, String, i32), i64> {
    let mut all = BTreeMap::new();
    for group in GROUPS {
        let wanted =
            OffsetFetchRequestGroup::default().with_group_id(group.to_owned().into()).with_topics(None);
        let response = raw.call(&OffsetFetchRequestData::default().with_groups(vec![wanted]), 8).await;
        for topic in &response.groups[0].topics {
            for partition in &topic.partitions {
                let key = (group.to_owned(), topic.name.as_str().to_owned(), partition.partition_index);
                all.insert(key, partition.committed_offset);
            }
        }
    }
    all
}

async fn do_something(raw: &mut Raw, random: &mut StdRng) {
    let group = GROUPS[random.random_range(0..GROUPS.len())];
    let partition = random.random_range(0..2);
    let offset = random.random_range(0..1_000_000);
    match random.random_range(0..20) {
        0 => {
            let request = DeleteGroupsRequestData::default().with_groups_names(vec![group.to_owned().into()]);
            raw.call(&request, 1).await;
        }
        1 => {
            let partition = OffsetDeleteRequestPartition::default().with_partition_index(partition);
            let topic = OffsetDeleteRequestTopic::default()
                .with_name("kept".to_owned().into())
                .with_partitions(vec![partition]);
            let request = OffsetDeleteRequestData::default()
                .with_group_id(group.to_owned().into())
                .with_topics(vec![topic]);
            raw.call(&request, 0).await;
        }
        2 => {
            let request = DeleteTopicsRequestData::default()
                .with_topic_names(vec!["passing".to_owned().into()])
                .with_timeout_ms(10_000);
            raw.call(&request, 5).await;
            raw.create_topic("passing", 2).await;
        }
        3..6 => commit_in_transaction(raw, "writer", group, offset, random.random_bool(0.5)).await,
        _ => {
            let topic = if random.random_bool(0.5) { "kept" } else { "passing" };
            assert_eq!(commit(raw, group, topic, partition, offset).await, 0);
        }
    }
}

/// Whatever is committed, deleted and killed: who reads the topic knows what the coordinator answers, and what was
/// read once stays where it was.
#[tokio::test]
async fn who_reads_the_topic_knows_what_offset_fetch_says() {
    let seed =
        std::env::var("HEADWATER_SIM_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("HEADWATER_SIM_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(dir.path(), None);
    let mut raw = Raw::to(&process.address).await;
    raw.create_topic("kept", 2).await;
    raw.create_topic("passing", 2).await;
    assert_eq!(commit(&mut raw, "x", "kept", 0, 1).await, 0);
    let mut before = Reading::default();
    for _ in 0..4 {
        for _ in 0..40 {
            do_something(&mut raw, &mut random).await;
        }
        let expected = fetched(&mut raw).await;
        let reading = Reading::of(&mut raw).await;
        assert_eq!(reading.offsets(), expected);
        reading.goes_on_from(&before);
        drop(process);
        process = Process::start(dir.path(), None);
        raw = Raw::to(&process.address).await;
        let again = Reading::of(&mut raw).await;
        assert_eq!(again.offsets(), expected, "after kill -9");
        assert_eq!(again.records, reading.records, "nothing is lost, and nothing is written anew");
        assert_eq!(fetched(&mut raw).await, expected);
        before = again;
    }
    assert_eq!(before.transactions().keys().collect::<Vec<_>>(), ["writer"]);
    let states: BTreeSet<i8> = before.states_of("writer").into_iter().collect();
    assert_eq!(states, BTreeSet::from([0, 1, 4, 5]), "Empty, Ongoing, CompleteCommit, CompleteAbort");
    let wrong = before.records.iter().filter(|record| record.topic == OFFSETS);
    let wrong: Vec<_> = wrong.filter(|one| one.partition != partition_of(&one.id(), 50)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[tokio::test]
async fn what_a_request_adds_to_a_transaction_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("kept", 3).await;
    assert_eq!(commit(&mut raw, "x", "kept", 0, 1).await, 0);
    let init = InitProducerIdRequestData::default()
        .with_transactional_id(Some("writer".to_owned().into()))
        .with_transaction_timeout_ms(60_000);
    let init = raw.call(&init, 3).await;
    let producer = Producer { id: init.producer_id, epoch: init.producer_epoch, base_sequence: 0 };
    let batch = || common::batch_of(&["v"], Some(producer), true);
    let mut request = common::produce(Some("writer"), "kept", 0, batch());
    for partition in 1..3 {
        request.topic_data.extend(common::produce(Some("writer"), "kept", partition, batch()).topic_data);
    }
    let written = raw.call(&request, 12).await;
    let codes = written.responses.iter().map(|topic| topic.partition_responses[0].error_code);
    assert_eq!(codes.collect::<Vec<_>>(), [0, 0, 0]);
    let states = Reading::of(&mut raw).await.states_of("writer");
    assert_eq!(states.iter().filter(|state| **state == 1).count(), 1, "Ongoing once: {states:?}");
}

#[tokio::test]
async fn a_consumer_that_tails_sees_a_commit_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("kept", 1).await;
    assert_eq!(commit(&mut raw, "x", "kept", 0, 1).await, 0);
    let partition = partition_of("x", 50);
    let end = raw.fetch(OFFSETS, partition, 0, false).await.high_watermark;
    let mut tail = Raw::connect(&broker).await;
    let waiting = common::fetch(OFFSETS, partition, end).with_max_wait_ms(20_000);
    tail.send(&waiting, 11).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begun = Instant::now();
    assert_eq!(commit(&mut raw, "x", "kept", 0, 2).await, 0);
    let seen = tail.receive::<FetchRequestData>(11, 0).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "the long poll was not woken");
    let records = seen.responses[0].partitions[0].records.clone().unwrap_or_default();
    assert_eq!(common::batches(records).len(), 1);
}

#[tokio::test]
async fn clients_see_internal_topics_and_cannot_write_to_them() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("kept", 1).await;
    assert_eq!(commit(&mut raw, "x", "kept", 0, 1).await, 0);
    let metadata = raw.call(&MetadataRequestData::default().with_topics(None), 8).await;
    let offsets = metadata
        .topics
        .iter()
        .find(|topic| topic.name.as_ref().is_some_and(|name| name.as_str() == OFFSETS))
        .expect("listed");
    assert_eq!((offsets.is_internal, offsets.partitions.len()), (true, 50));
    let refused = raw.produce(OFFSETS, 0, batch(&["a lie"])).await;
    assert_eq!(refused.error_code, ErrorCode::InvalidTopicException.code(), "{refused:?}");
    let grow = CreatePartitionsTopic::default().with_name(OFFSETS.to_owned().into()).with_count(60);
    let grow = CreatePartitionsRequestData::default().with_topics(vec![grow]).with_timeout_ms(1000);
    let refused = raw.call(&grow, 1).await;
    assert_eq!(refused.results[0].error_code, ErrorCode::InvalidTopicException.code(), "{refused:?}");
}

async fn start_publishing(directory: &std::path::Path, internal_topics: bool) -> Broker {
    let coordinator = CoordinatorSettings { internal_topics, ..CoordinatorSettings::default() };
    Broker::start(Config { coordinator, ..config(directory) }).await.expect("it starts")
}

#[tokio::test]
async fn an_older_directory_is_filled_and_a_switch_empties_it() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start_publishing(dir.path(), false).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("kept", 2).await;
    for (at, group) in GROUPS.into_iter().enumerate() {
        assert_eq!(commit(&mut raw, group, "kept", 1, at as i64).await, 0);
    }
    commit_in_transaction(&mut raw, "writer", "x", 99, true).await;
    let expected = fetched(&mut raw).await;
    let names = |metadata: MetadataResponseData| {
        metadata
            .topics
            .into_iter()
            .filter_map(|topic| Some(topic.name?.as_str().to_owned()))
            .collect::<Vec<_>>()
    };
    let all = MetadataRequestData::default().with_topics(None);
    assert_eq!(names(raw.call(&all, 8).await), ["kept"]);
    broker.shutdown().await;
    let broker = start_publishing(dir.path(), true).await;
    let mut raw = Raw::connect(&broker).await;
    let reading = Reading::of(&mut raw).await;
    assert_eq!(reading.offsets(), expected);
    assert_eq!(reading.transactions().len(), 1);
    assert!(names(raw.call(&all, 8).await).contains(&TRANSACTIONS.to_owned()));
    broker.shutdown().await;
    let broker = start_publishing(dir.path(), false).await;
    let mut raw = Raw::connect(&broker).await;
    assert_eq!(names(raw.call(&all, 8).await), ["kept"]);
    broker.shutdown().await;
}

/// Deleted and asked for again, a topic is there with all it must say.
#[tokio::test]
async fn a_deleted_topic_comes_back_whole() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("kept", 2).await;
    assert_eq!(commit(&mut raw, "x", "kept", 0, 1).await, 0);
    assert_eq!(commit(&mut raw, "billing", "kept", 0, 2).await, 0);
    let delete = DeleteTopicsRequestData::default()
        .with_topic_names(vec![OFFSETS.to_owned().into()])
        .with_timeout_ms(10_000);
    assert_eq!(raw.call(&delete, 5).await.responses[0].error_code, 0);
    assert_eq!(commit(&mut raw, "x", "kept", 1, 3).await, 0);
    assert_eq!(Reading::of(&mut raw).await.offsets(), fetched(&mut raw).await);
}

/// Tens of megabytes of commits of the same offsets become what the last of them say.
#[tokio::test]
async fn what_is_committed_again_and_again_stays_small() {
    let dir = tempfile::tempdir().unwrap();
    let cleaner = CleanerConfig { backoff: Duration::from_millis(50), ..CleanerConfig::default() };
    let log = LogSettings { segment_bytes: 1 << 20, ..LogSettings::default() };
    let broker = Broker::start(Config { cleaner, log, ..config(dir.path()) }).await.expect("it starts");
    let mut raw = Raw::connect(&broker).await;
    let name = "t".repeat(240);
    raw.create_topic(&name, 100).await;
    for round in 0..600 {
        let partition = |index| {
            OffsetCommitRequestPartition::default().with_partition_index(index).with_committed_offset(round)
        };
        let topic = OffsetCommitRequestTopic::default()
            .with_name(name.clone().into())
            .with_partitions((0..100).map(partition).collect());
        let request = OffsetCommitRequestData::default()
            .with_group_id("x".to_owned().into())
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        assert_eq!(raw.call(&request, 7).await.topics[0].partitions[99].error_code, 0);
    }
    let size = || -> u64 {
        let files = std::fs::read_dir(dir.path().join("log")).unwrap();
        files.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).sum()
    };
    let begun = Instant::now();
    while size() > 14 << 20 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} bytes are left of 40 MB", size());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The cleaner may still be at it.
    let reading = loop {
        let reading = Reading::of(&mut raw).await;
        if reading.records.len() < 10_000 {
            break reading;
        }
        let left = reading.records.len();
        assert!(begun.elapsed() < Duration::from_secs(60), "{left} records are left of 60,000");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(reading.offsets(), fetched(&mut raw).await);
    assert_eq!(reading.offsets().len(), 100);
}
