//! What is produced is what is consumed.

use std::collections::HashMap;
use std::slice::from_ref;
use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_client::{
    AutoOffsetReset, Client, ClientError, Committed, Compression, Consumer, ConsumerConfig, Isolation,
    OffsetSpec, ProduceRecord, Producer, ProducerConfig,
};
use headwater_model::{Header, Record, TopicPartition, partition};

use crate::support::{PATIENCE, client, consumer, producer, read_all, record, send, topic, unique, values};

async fn returns_everything(client: &Client, compression: Compression) {
    let name = topic(client, 1).await;
    let producer =
        Producer::new(client, ProducerConfig { compression, ..ProducerConfig::default() }).await.unwrap();
    let sent: Vec<ProduceRecord> = (0..2000i64)
        .map(|i| ProduceRecord {
            topic: name.clone(),
            partition: Some(0),
            timestamp: Some(1_600_000_000_000 + i),
            key: (i % 3 != 0).then(|| Bytes::from(format!("key-{i}"))),
            value: (i % 5 != 0).then(|| Bytes::from(format!("value-{i}-{}", "x".repeat((i % 200) as usize)))),
            headers: (0..i % 3)
                .map(|h| Header {
                    key: format!("h{h}"),
                    value: (h != 1).then(|| Bytes::from(vec![7; h as usize])),
                })
                .collect(),
        })
        .collect();
    for record in &sent {
        send(&producer, record.clone()).await;
    }
    producer.flush().await.unwrap();
    let expected: Vec<Record> = sent
        .into_iter()
        .enumerate()
        .map(|(offset, record)| Record {
            offset: offset as i64,
            timestamp: record.timestamp.unwrap(),
            key: record.key,
            value: record.value,
            headers: record.headers,
        })
        .collect();
    assert!(read_all(client, &name, Isolation::Committed).await == expected, "{compression:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_codec_returns_keys_values_headers_tombstones_and_times() {
    let Some(client) = client().await else { return };
    for codec in
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
    {
        returns_everything(&client, codec).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_tells_the_partition_and_the_offset() {
    let Some(client) = client().await else { return };
    let name = topic(&client, 3).await;
    let producer = producer(&client).await;
    let keyed = ProduceRecord {
        topic: name.clone(),
        key: Some(Bytes::from_static(b"UA1545")),
        value: Some(Bytes::from_static(b"v")),
        ..ProduceRecord::default()
    };
    let first = producer.send(keyed.clone()).await.unwrap();
    let second = producer.send(keyed).await.unwrap();
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!(first.topic_partition, TopicPartition::new(&name, partition::for_key(b"UA1545", 3)));
    assert_eq!((first.offset, second.offset), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_without_a_key_reach_every_partition() {
    let Some(client) = client().await else { return };
    let name = topic(&client, 3).await;
    let config = ProducerConfig { batch_bytes: 1000, ..ProducerConfig::default() };
    let producer = Producer::new(&client, config).await.unwrap();
    for i in 0..300 {
        send(&producer, ProduceRecord { partition: None, ..record(&name, 0, format!("{i:>50}")) }).await;
    }
    producer.flush().await.unwrap();
    let ask: Vec<_> = (0..3).map(|index| (TopicPartition::new(&name, index), OffsetSpec::Latest)).collect();
    let ends = client.list_offsets(&ask, Isolation::Committed).await.unwrap();
    assert_eq!(ends.values().sum::<i64>(), 300);
    assert!(ends.values().all(|end| *end > 0), "{ends:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_buffer_slows_send_down_and_loses_nothing() {
    let Some(client) = client().await else { return };
    let name = topic(&client, 2).await;
    let config = ProducerConfig { batch_bytes: 4 << 10, buffer_bytes: 16 << 10, ..ProducerConfig::default() };
    let producer = Producer::new(&client, config).await.unwrap();
    for i in 0..5000 {
        send(&producer, record(&name, i % 2, format!("{i:>100}"))).await;
    }
    producer.flush().await.unwrap();
    let mut read = values(&read_all(&client, &name, Isolation::Committed).await);
    read.sort();
    assert_eq!(read, (0..5000).map(|i| format!("{i:>100}")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_larger_than_a_batch_goes_alone_and_one_larger_than_the_buffer_is_refused() {
    let Some(client) = client().await else { return };
    let name = topic(&client, 1).await;
    let config = ProducerConfig { batch_bytes: 1000, buffer_bytes: 100_000, ..ProducerConfig::default() };
    let producer = Producer::new(&client, config).await.unwrap();
    send(&producer, record(&name, 0, "a".repeat(50_000))).await;
    producer.flush().await.unwrap();
    let refused = producer.send(record(&name, 0, "b".repeat(200_000))).await.unwrap_err();
    assert!(matches!(refused, ClientError::RecordTooLarge { limit: 100_000, .. }), "{refused}");
    assert_eq!(read_all(&client, &name, Isolation::Committed).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_batch_fails_its_delivery_and_flush_but_not_what_comes_after() {
    let Some(client) = client().await else { return };
    let name = topic(&client, 1).await;
    let producer = producer(&client).await;
    let delivery = producer.send(record(&name, 0, "x".repeat(3 << 20))).await.unwrap();
    let refused = producer.flush().await.unwrap_err();
    assert_eq!(refused.code(), Some(headwater_client::ErrorCode::MessageTooLarge), "{refused}");
    assert_eq!(delivery.await.unwrap_err().code(), refused.code());
    send(&producer, record(&name, 0, "small")).await;
    producer.flush().await.unwrap();
    assert_eq!(values(&read_all(&client, &name, Isolation::Committed).await), ["small"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_before_the_last_handle_went_is_delivered() {
    let Some(client) = client().await else { return };
    let name = topic(&client, 1).await;
    let producer = producer(&client).await;
    let delivery = producer.send(record(&name, 0, "last words")).await.unwrap();
    drop(producer);
    assert_eq!(delivery.await.unwrap().offset, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_topic_is_an_error_that_names_it() {
    let Some(client) = client().await else { return };
    let producer = producer(&client).await;
    let error = producer.send(record("no-such-topic", 0, "v")).await.unwrap_err();
    assert!(matches!(&error, ClientError::UnknownTopic(name) if name == "no-such-topic"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn seek_pause_and_resume_move_what_poll_returns() {
    let Some(client) = client().await else { return };
    let name = topic(&client, 2).await;
    let producer = producer(&client).await;
    for i in 0..10 {
        send(&producer, record(&name, i % 2, i.to_string())).await;
    }
    producer.flush().await.unwrap();
    let (even, odd) = (TopicPartition::new(&name, 0), TopicPartition::new(&name, 1));
    let mut consumer = consumer(&client, Isolation::Committed);
    consumer.assign(vec![(even.clone(), 0), (odd.clone(), 0)]);
    consumer.pause(from_ref(&odd));
    assert_eq!(take(&mut consumer, 5).await, ["0", "2", "4", "6", "8"]);
    assert_eq!((consumer.position(&even), consumer.position(&odd)), (Some(5), Some(0)));
    consumer.resume(from_ref(&odd));
    consumer.seek(&odd, 3);
    assert_eq!(take(&mut consumer, 2).await, ["7", "9"]);
    consumer.remove(from_ref(&odd));
    consumer.seek(&even, 4);
    assert_eq!(take(&mut consumer, 1).await, ["8"]);
    assert_eq!((consumer.assignment(), consumer.position(&odd)), (vec![even], None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_added_during_a_long_poll_is_served_at_once() {
    let Some(client) = client().await else { return };
    let name = topic(&client, 2).await;
    let producer = producer(&client).await;
    send(&producer, record(&name, 1, "here")).await;
    producer.flush().await.unwrap();
    let config = ConsumerConfig { max_wait: Duration::from_secs(20), ..ConsumerConfig::default() };
    let mut consumer = Consumer::new(&client, config);
    consumer.assign(vec![(TopicPartition::new(&name, 0), 0)]);
    assert!(consumer.poll(Duration::from_millis(300)).await.unwrap().is_empty());
    consumer.add(vec![(TopicPartition::new(&name, 1), 0)]);
    let begun = Instant::now();
    assert_eq!(take(&mut consumer, 1).await, ["here"]);
    assert!(begun.elapsed() < Duration::from_secs(10), "it waited for the other partition's long poll");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_out_of_range_fails_or_is_reset_as_configured() {
    let Some(client) = client().await else { return };
    let name = topic(&client, 1).await;
    let producer = producer(&client).await;
    send(&producer, record(&name, 0, "first")).await;
    producer.flush().await.unwrap();
    let at = TopicPartition::new(&name, 0);
    let mut strict = consumer(&client, Isolation::Committed);
    strict.assign(vec![(at.clone(), 99)]);
    let error = strict.poll(PATIENCE).await.unwrap_err();
    assert!(matches!(error, ClientError::OffsetOutOfRange { offset: 99, .. }), "{error}");
    strict.seek(&at, 0);
    assert_eq!(take(&mut strict, 1).await, ["first"]);
    let config = ConsumerConfig { auto_offset_reset: AutoOffsetReset::Earliest, ..ConsumerConfig::default() };
    let mut lenient = Consumer::new(&client, config);
    lenient.assign(vec![(at, 99)]);
    assert_eq!(take(&mut lenient, 1).await, ["first"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_is_committed_with_its_leader_epoch_and_gone_on_from() {
    let Some(client) = client().await else { return };
    let (name, group) = (topic(&client, 1).await, unique("group"));
    let producer = producer(&client).await;
    let at = TopicPartition::new(&name, 0);
    send(&producer, record(&name, 0, "before")).await;
    producer.flush().await.unwrap();
    let mut first = consumer(&client, Isolation::Committed);
    first.assign(vec![(at.clone(), 0)]);
    let fetched = loop {
        if let Some(fetched) = first.poll(PATIENCE).await.unwrap().pop() {
            break fetched;
        }
    };
    let read = Committed::from(&fetched);
    assert_eq!((read.offset, read.leader_epoch), (1, Some(0)), "a topic's first leader is of epoch 0");
    client.commit_offsets(&group, &HashMap::from([(at.clone(), read.clone())])).await.unwrap();
    let committed = client.committed(&group, Some(from_ref(&at))).await.unwrap();
    assert_eq!(committed[&at], read);
    let mut next = consumer(&client, Isolation::Committed);
    next.add_positions(vec![(at.clone(), committed[&at].position())]);
    send(&producer, record(&name, 0, "after")).await;
    producer.flush().await.unwrap();
    assert_eq!(take(&mut next, 1).await, ["after"]);
    // The same topic's name, and another log: shorter than what was read.
    client.delete_topic(&name).await.unwrap();
    client.ensure_topic(headwater_client::NewTopic::new(&name, 1)).await.unwrap();
    let mut late = consumer(&client, Isolation::Committed);
    late.add_positions(vec![(at, committed.into_values().next().unwrap().position())]);
    let error = late.poll(PATIENCE).await.unwrap_err();
    assert!(matches!(error, ClientError::Truncated { offset: 1, divergent: Some(0), .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_of_many_partitions_gets_every_record_once_and_in_order() {
    let Some(client) = client().await else { return };
    let name = topic(&client, 6).await;
    let producer = producer(&client).await;
    for i in 0..60_000 {
        send(&producer, record(&name, i % 6, format!("{i:0>100}"))).await;
    }
    producer.flush().await.unwrap();
    let config =
        ConsumerConfig { max_partition_bytes: 32 << 10, max_bytes: 64 << 10, ..ConsumerConfig::default() };
    let mut consumer = Consumer::new(&client, config);
    consumer.assign((0..6).map(|index| (TopicPartition::new(&name, index), 0)).collect());
    let mut next = [0i64; 6];
    while next.iter().sum::<i64>() < 60_000 {
        for fetched in consumer.poll(PATIENCE).await.unwrap() {
            for record in &fetched.records {
                let expected = &mut next[fetched.topic_partition.partition as usize];
                assert_eq!(record.offset, *expected, "{}", fetched.topic_partition);
                *expected += 1;
            }
        }
    }
    assert_eq!(next, [10_000; 6]);
}

async fn take(consumer: &mut Consumer, count: usize) -> Vec<String> {
    let mut taken = Vec::new();
    let begun = Instant::now();
    while taken.len() < count {
        assert!(begun.elapsed() < PATIENCE, "only {taken:?} came");
        for fetched in consumer.poll(Duration::from_secs(1)).await.unwrap() {
            taken.extend(values(&fetched.records));
        }
    }
    taken
}
