//! Topics and their partitions.

use headwater_log::PartitionSummary;
use prometheus_client::registry::Unit;

use super::family::{Family, Read, Samples, family, flag, labelled};
use crate::observe::scrape::{Scrape, TopicSummary};

pub fn families() -> Vec<Family> {
    use Read::Gauge;
    const PARTITION: &[&str] = &["topic", "partition"];
    vec![
        family("headwater_partitions", None, "Partitions of all topics", Gauge(|s| s.partitions as f64)),
        family(
            "headwater_partitions_summed",
            None,
            "1 when there are too many partitions (1,000) for a sample each: then there are sums by topic only",
            Gauge(|s| flag(!s.is_detailed())),
        ),
        family(
            "headwater_topics_left_out",
            None,
            "Topics without samples because there are too many (1,000); the largest have samples",
            Gauge(|s| s.topics_left_out as f64),
        ),
        labelled("kafka_topic_partitions", None, &["topic"], "Partitions of a topic", |s| {
            topics(s, |t| t.partitions.len() as f64)
        }),
        labelled(
            "headwater_topic_size",
            Some(Unit::Bytes),
            &["topic"],
            "Bytes of a topic's batches that can be read",
            |s| topics(s, |t| t.bytes() as f64),
        ),
        labelled(
            "headwater_topic_offsets",
            None,
            &["topic"],
            "Offsets from log start to log end, over a topic's partitions",
            |s| topics(s, |t| t.offsets() as f64),
        ),
        labelled("kafka_topic_partition_oldest_offset", None, PARTITION, "Log start offset", |s| {
            partitions(s, |p| p.offsets.log_start as f64)
        }),
        labelled("kafka_topic_partition_current_offset", None, PARTITION, "Log end offset", |s| {
            partitions(s, |p| p.offsets.high_watermark as f64)
        }),
        labelled(
            "headwater_topic_partition_last_stable_offset",
            None,
            PARTITION,
            "Up to where read_committed consumers read",
            |s| partitions(s, |p| p.offsets.last_stable as f64),
        ),
        labelled("kafka_log_log_size", None, PARTITION, "Bytes of batches that can be read", |s| {
            partitions(s, |p| p.bytes as f64)
        }),
    ]
}

fn topics(scrape: &Scrape, measure: fn(&TopicSummary) -> f64) -> Samples {
    let sample = |topic: &TopicSummary| (vec![("topic", topic.topic.name().to_owned())], measure(topic));
    scrape.topics.iter().map(sample).collect()
}

fn partitions(scrape: &Scrape, measure: fn(&PartitionSummary) -> f64) -> Samples {
    if !scrape.is_detailed() {
        return Samples::new();
    }
    let mut samples = Samples::new();
    for topic in &scrape.topics {
        for (index, partition) in &topic.partitions {
            let labels = vec![("topic", topic.topic.name().to_owned()), ("partition", index.to_string())];
            samples.push((labels, measure(partition)));
        }
    }
    samples
}
