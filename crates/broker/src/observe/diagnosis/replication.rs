//! What asks for more replicas than there can be.

use std::collections::BTreeMap;

use super::facts::Facts;
use crate::observe::finding::{Finding, Place, Severity};

pub fn look(facts: &Facts, findings: &mut Vec<Finding>) {
    let topics =
        facts.partitions.iter().map(|known| (known.topic.name(), known.topic.settings.min_insync_replicas));
    let wanting: BTreeMap<&str, i64> = topics.filter(|(_, wanted)| *wanted > 1).collect();
    for (topic, wanted) in wanting {
        findings.push(
            Finding::new(Severity::Warning, "min_insync_replicas", format!("{topic} refuses writes with acks=all"))
                .at(Place { topic: Some(topic.to_owned()), ..Place::default() })
                .why(format!(
                    "its min.insync.replicas is {wanted}, and there is 1 replica, as on a Kafka of one broker; producers ask for acks=all unless told otherwise, and try again until they give up"
                ))
                .next(format!(
                    "set min.insync.replicas=1 on {topic}, or put it on a cluster of Apache Kafka"
                )),
        );
    }
}
