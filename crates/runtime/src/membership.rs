//! By which protocol the application joins its group, and what the broker and its members tell each other under the streams
//! protocol (KIP-1071).
//!
//! A group has members of one protocol at a time, and there is no change while it runs: whoever finds the other one waits
//! for its last sessions to end, and then says what to do.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use headwater_client::{
    Client, ClientError, ErrorCode, GroupDescription, StreamsApplication, StreamsEndpoint,
    StreamsInternalTopic, StreamsSubtopology,
};
use headwater_streams::{InternalTopic, InternalTopicKind, SubtopologyTopics, TaskId};

use crate::app::Shared;
use crate::assignor::{TaskInputs, tasks_of};
use crate::balance::names;
use crate::config::{AppConfig, GroupProtocol, Guarantee};
use crate::error::AppError;
use crate::queries::{HostMap, HostTasks};

/// What a cluster finalizes when it offers the streams protocol.
const FEATURE: &str = "streams.version";
/// How much longer than a session is waited for members of the other protocol.
const GRACE: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(500);

/// How the threads of the application join the group.
pub(crate) enum Membership {
    Classic,
    /// The broker is told of these.
    Streams(Vec<StreamsSubtopology>),
}

impl Membership {
    /// As the configuration says; where it leaves that open, as the group is.
    pub async fn choose(client: &Client, shared: &Shared) -> Result<Self, AppError> {
        let (config, group) = (&shared.config, shared.config.application_id.as_str());
        let streams = match config.group_protocol {
            GroupProtocol::Classic => false,
            GroupProtocol::Streams => {
                wait_for_others(client, shared).await?;
                true
            }
            GroupProtocol::Auto => {
                let found = describe(client, group).await?;
                let streams = client.finalized_level(FEATURE) > 0 && !is_other(&found);
                let chosen = if streams { "streams" } else { "classic" };
                tracing::info!(
                    group,
                    state = found.state,
                    members = found.members.len(),
                    chosen,
                    "group.protocol"
                );
                streams
            }
        };
        if !streams {
            return Ok(Self::Classic);
        }
        if config.num_standby_replicas > 0 {
            let standbys = config.num_standby_replicas;
            tracing::warn!(
                group,
                standbys,
                "num_standby_replicas counts for nothing under the streams protocol: set streams.num.standby.replicas of the group (kafka-configs.sh --entity-type groups)"
            );
        }
        let count = |topic: &str| shared.counts.get(topic).copied();
        let topics = shared.topology.subtopology_topics(&count)?;
        Ok(Self::Streams(topics.into_iter().map(|one| subtopology(one, config.replication)).collect()))
    }

    /// What one thread tells the broker; `None` under the classic protocol.
    pub fn application(&self, shared: &Shared, index: usize) -> Option<StreamsApplication> {
        let Self::Streams(subtopologies) = self else { return None };
        Some(StreamsApplication {
            member_id: is_sole(&shared.config).then(|| instance_id(&shared.instance, index)),
            process_id: shared.instance.clone(),
            endpoint: shared.endpoint().and_then(endpoint),
            subtopologies: subtopologies.clone(),
        })
    }
}

/// The name of a thread across restarts.
pub(crate) fn instance_id(instance: &str, index: usize) -> String {
    format!("{instance}-{index}")
}

/// Whether a static member is a thread of this instance.
fn is_own(instance: &str, name: Option<&str>) -> bool {
    let thread = name.and_then(|name| name.strip_prefix(instance)?.strip_prefix('-'));
    thread.is_some_and(|thread| thread.parse::<usize>().is_ok())
}

/// Whether a second process under the same name is noticed: by its producers, or by the lock of the state directory. The broker
/// does not tell two members of one id apart.
fn is_sole(config: &AppConfig) -> bool {
    config.guarantee == Guarantee::ExactlyOnce || config.instance.is_none()
}

fn endpoint(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    Some((host.to_owned(), port.parse().ok()?))
}

/// Repartition topics have the partitions that the topology gives them here: who joins has created them already. Those of
/// changelogs follow, and Kafka refuses to be told.
fn subtopology(topics: SubtopologyTopics, replication: i16) -> StreamsSubtopology {
    let internal = |topic: InternalTopic| StreamsInternalTopic {
        partitions: if topic.kind == InternalTopicKind::Changelog { 0 } else { topic.partitions },
        name: topic.name,
        replication,
        configs: topic.configs,
    };
    StreamsSubtopology {
        id: topics.id,
        sources: topics.sources.into_iter().collect(),
        repartition_sinks: topics.repartition_sinks.into_iter().collect(),
        repartition_sources: topics.repartition_sources.into_iter().map(internal).collect(),
        changelogs: topics.changelogs.into_iter().map(internal).collect(),
        copartitions: topics.copartitions.into_iter().map(|group| group.into_iter().collect()).collect(),
    }
}

async fn describe(client: &Client, group: &str) -> Result<GroupDescription, AppError> {
    client.describe_group(group).await.map_err(AppError::client("look at the group"))
}

/// Whether it has members that do not speak the streams protocol.
fn is_other(group: &GroupDescription) -> bool {
    group.protocol_type != "streams" && !group.members.is_empty()
}

/// Waits until nobody is in the group by another protocol. Members that this instance itself was before are sent away: nobody
/// else has their names.
async fn wait_for_others(client: &Client, shared: &Shared) -> Result<(), AppError> {
    let (config, group) = (&shared.config, shared.config.application_id.as_str());
    let begun = Instant::now();
    loop {
        let found = describe(client, group).await?;
        if !is_other(&found) {
            return Ok(());
        }
        for member in
            found.members.iter().filter(|member| is_own(&shared.instance, member.instance_id.as_deref()))
        {
            tracing::info!(
                group,
                member = member.member_id,
                "this instance was in the group by the classic protocol"
            );
            // Whoever is gone already is gone.
            let _ = client.remove_member(group, &member.member_id).await;
        }
        if begun.elapsed() >= config.session_timeout + GRACE {
            return Err(AppError::OtherProtocol {
                application_id: group.to_owned(),
                wanted: "streams",
                found: if found.protocol_type == "consumer" { "classic or consumer" } else { "other" }
                    .to_owned(),
                members: found.members.len().to_string(),
            });
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// What an ended membership says that no other one would change.
pub(crate) fn refused(shared: &Shared, error: &ClientError) -> Option<AppError> {
    match error {
        ClientError::Streams { .. } => {
            Some(AppError::Client { what: "be in the group", source: error.clone() })
        }
        error if error.code() == Some(ErrorCode::InconsistentGroupProtocol) => {
            Some(AppError::OtherProtocol {
                application_id: shared.config.application_id.clone(),
                wanted: "classic",
                found: "streams".to_owned(),
                members: "other".to_owned(),
            })
        }
        error => {
            let is_final = matches!(
                error.code(),
                Some(
                    ErrorCode::InvalidRequest
                        | ErrorCode::StreamsInvalidTopology
                        | ErrorCode::GroupIdNotFound
                        | ErrorCode::UnsupportedVersion
                )
            );
            let streams = matches!(shared.membership, Membership::Streams(_));
            (streams && is_final).then(|| AppError::Client { what: "be in the group", source: error.clone() })
        }
    }
}

/// Who has which tasks, by what they read.
pub(crate) fn hosts(tasks: &TaskInputs, endpoints: Vec<StreamsEndpoint>) -> HostMap {
    let mut hosts: BTreeMap<String, HostTasks> = BTreeMap::new();
    // The threads of a process are told one by one.
    for endpoint in endpoints {
        let host = hosts.entry(format!("{}:{}", endpoint.host, endpoint.port)).or_default();
        let of = |places| -> Vec<TaskId> { tasks_of(tasks, places) };
        host.active.extend(names(&of(&endpoint.active)));
        host.standby.extend(names(&of(&endpoint.standby)));
    }
    hosts
}

#[cfg(test)]
mod tests {
    use headwater_model::TopicPartition;

    use super::*;

    #[test]
    fn the_threads_of_an_endpoint_are_one_host() {
        let task = |subtopology, partition| TaskId { subtopology, partition };
        let tasks: TaskInputs = (0..2)
            .flat_map(|partition| {
                [
                    (task(0, partition), vec![TopicPartition::new("in", partition)]),
                    (task(1, partition), vec![TopicPartition::new("between", partition)]),
                ]
            })
            .collect();
        let thread = |active: (&str, i32), standby: (&str, i32)| StreamsEndpoint {
            host: "a".to_owned(),
            port: 7,
            active: vec![TopicPartition::new(active.0, active.1)],
            standby: vec![TopicPartition::new(standby.0, standby.1)],
        };
        let hosts =
            hosts(&tasks, vec![thread(("in", 0), ("between", 1)), thread(("between", 0), ("gone", 1))]);
        assert_eq!(hosts.len(), 1);
        assert_eq!(
            (hosts["a:7"].active.join(" "), hosts["a:7"].standby.join(" ")),
            ("0_0 1_0".into(), "1_1".into())
        );
    }

    #[test]
    fn an_endpoint_is_a_host_and_a_port() {
        assert_eq!(endpoint("host:7070"), Some(("host".to_owned(), 7070)));
        assert_eq!(endpoint("[::1]:7070"), Some(("[::1]".to_owned(), 7070)));
        assert_eq!(endpoint("host"), None);
    }

    #[test]
    fn only_threads_of_this_instance_are_its_own() {
        assert!(is_own("pod", Some(&instance_id("pod", 12))));
        for other in ["pod-1-0", "pod2-0", "pod", "pod-"] {
            assert!(!is_own("pod", Some(other)), "{other}");
        }
        assert!(!is_own("pod", None));
    }

    #[test]
    fn a_name_that_two_processes_may_have_is_no_member_id_unless_their_producers_fence_each_other() {
        let mut config = AppConfig::new("kafka:9092", "app");
        assert!(is_sole(&config));
        config.guarantee = Guarantee::AtLeastOnce;
        assert!(is_sole(&config));
        config.instance = Some("one".to_owned());
        assert!(!is_sole(&config));
    }
}
