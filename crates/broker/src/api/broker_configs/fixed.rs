//! What one broker cannot have otherwise, and what it does as Kafka does by default: told for tools that ask any Kafka.
//!
//! Nothing stands here that this broker does not do: a key of Kafka's that has no meaning here is left out, and tools
//! see that it is.

use headwater_coordinator::{BrokerLayer, ConfigKind};

use super::Entry;
use crate::{Config, NODE_ID};

/// A key of Kafka's, its type, what this broker does, which is Kafka's default unless said otherwise, and what that means.
type Fact = (&'static str, ConfigKind, Option<&'static str>, &'static str);

#[rustfmt::skip]
const FACTS: &[Fact] = &[
    ("alter.config.policy.class.name", ConfigKind::Class, None, "No class of somebody's own looks at changes of configurations."),
    ("auto.leader.rebalance.enable", ConfigKind::Boolean, Some("true"), "The only replica of a partition always leads it."),
    ("broker.rack", ConfigKind::String, None, "None: there is one broker."),
    ("client.quota.callback.class", ConfigKind::Class, None, "Quotas are not decided by a class of somebody's own."),
    ("controlled.shutdown.enable", ConfigKind::Boolean, Some("true"), "A broker that is told to stop closes its log first."),
    ("create.topic.policy.class.name", ConfigKind::Class, None, "No class of somebody's own looks at new topics."),
    ("default.replication.factor", ConfigKind::Int, Some("1"), "Replicas of a topic whose creator does not say."),
    ("delegation.token.secret.key", ConfigKind::Password, None, "None, so that there are no delegation tokens."),
    ("delete.topic.enable", ConfigKind::Boolean, Some("true"), "Whether topics can be deleted."),
    ("group.consumer.assignors", ConfigKind::List, Some("uniform,range"), "How the broker assigns in groups of the consumer protocol; the first where a group does not say."),
    ("group.coordinator.rebalance.protocols", ConfigKind::List, Some("classic,consumer,streams"), "The protocols that groups may speak; share groups are there, too."),
    ("group.share.assignors", ConfigKind::List, Some("simple"), "How the broker assigns in share groups."),
    ("group.share.max.share.sessions", ConfigKind::Int, Some("2000"), "Share sessions that are kept at once."),
    ("log.retention.hours", ConfigKind::Int, Some("168"), "What log.retention.ms holds where nobody sets it, in hours; set log.retention.ms."),
    ("log.retention.minutes", ConfigKind::Int, None, "Not here: set log.retention.ms."),
    ("log.roll.hours", ConfigKind::Int, Some("168"), "What log.roll.ms holds where nobody sets it, in hours; set log.roll.ms."),
    ("log.roll.jitter.hours", ConfigKind::Int, Some("0"), "What log.roll.jitter.ms holds where nobody sets it, in hours; set log.roll.jitter.ms."),
    ("max.connection.creation.rate", ConfigKind::Int, Some("2147483647"), "No limit for all clients together; one address has the quota connection_creation_rate."),
    ("max.request.partition.size.limit", ConfigKind::Int, Some("2000"), "The most partitions that one answer to DescribeTopicPartitions has."),
    ("remote.log.storage.system.enable", ConfigKind::Boolean, Some("false"), "Kafka's tiered storage is not here; see headwater.cold.store."),
    ("replica.selector.class", ConfigKind::String, None, "None: who reads, reads from the leader."),
    ("socket.receive.buffer.bytes", ConfigKind::Int, Some("-1"), "The operating system's own."),
    ("socket.send.buffer.bytes", ConfigKind::Int, Some("-1"), "The operating system's own."),
    ("ssl.enabled.protocols", ConfigKind::List, Some("TLSv1.2,TLSv1.3"), "The versions of TLS that listeners speak."),
    ("telemetry.max.bytes", ConfigKind::Int, Some("1048576"), "The most that a client may push of its metrics, which nobody keeps."),
    ("transaction.partition.verification.enable", ConfigKind::Boolean, Some("true"), "Whether what an older client writes in a transaction is refused where it has not added the partition."),
    ("transaction.two.phase.commit.enable", ConfigKind::Boolean, Some("false"), "Whether a transaction may take part in a two-phase commit of somebody else's."),
];

pub(super) fn fixed(config: &Config) -> impl Iterator<Item = Entry> {
    facts().chain(of_node(config))
}

fn facts() -> impl Iterator<Item = Entry> {
    FACTS.iter().map(|(name, kind, default, documentation)| Entry {
        name,
        values: Vec::new(),
        default: default.map(str::to_owned),
        kind: *kind,
        documentation,
        read_only: true,
    })
}

fn of_node(config: &Config) -> impl Iterator<Item = Entry> {
    let (node, one, whole) = (NODE_ID.to_string(), "1".to_owned(), ConfigKind::Int);
    let known = [
        ("broker.id", node.clone(), whole, "The id of the only broker."),
        ("log.dirs", config.log_dir(), ConfigKind::List, "Where all data is."),
        ("node.id", node, whole, "The id of the only node."),
        (
            "offsets.topic.replication.factor",
            one.clone(),
            ConfigKind::Short,
            "Replicas of committed offsets.",
        ),
        ("process.roles", "broker,controller".to_owned(), ConfigKind::List, "What the only node is."),
        (
            "transaction.state.log.min.isr",
            one.clone(),
            whole,
            "Replicas that must have a transaction's state.",
        ),
        (
            "transaction.state.log.replication.factor",
            one,
            ConfigKind::Short,
            "Replicas of transactions' states.",
        ),
    ];
    known.into_iter().map(|(name, value, kind, documentation)| Entry {
        name,
        values: vec![(BrokerLayer::Start, value)],
        default: None,
        kind,
        documentation,
        read_only: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BROKER_SETTINGS;

    #[test]
    fn every_fact_is_said_once_and_is_nothing_that_can_be_set() {
        let mut names: Vec<_> = fixed(&Config::default()).map(|entry| entry.name).collect();
        for name in &names {
            assert!(BROKER_SETTINGS.iter().all(|setting| setting.name != *name), "{name}");
            assert!(headwater_coordinator::BrokerKey::find(name).is_none(), "{name}");
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(FACTS.is_sorted_by(|a, b| a.0 < b.0));
    }
}
