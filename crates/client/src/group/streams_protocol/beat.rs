//! Heartbeats of the streams protocol as the wire has them.

use std::collections::BTreeMap;
use std::time::Duration;

use headwater_model::TopicPartition;
use headwater_wire::ErrorCode;
use headwater_wire::messages::streams_group_heartbeat_request as ask;
use headwater_wire::messages::streams_group_heartbeat_response as told;
use headwater_wire::messages::{StreamsGroupHeartbeatRequestData, StreamsGroupHeartbeatResponseData};

use super::obstacle::Obstacle;
use super::{Kind, Role, StreamsApplication, StreamsEndpoint, StreamsInternalTopic, StreamsSubtopology};
use crate::ClientError;
use crate::admin::text;
use crate::group::GroupConfig;
use crate::group::consumer_protocol::member::{Answer, Beat, JOIN, Places};
use crate::group::membership::millis;

/// Whatever a broker says, heartbeats are not sent more often.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// Which topology of the application it is; there is one.
const TOPOLOGY_EPOCH: i32 = 0;

/// All that a heartbeat brings.
pub(super) struct Told {
    pub(super) answer: Answer<Kind>,
    pub(super) obstacles: Vec<Obstacle>,
    pub(super) endpoint_epoch: i32,
    /// `None` where they are as before.
    pub(super) endpoints: Option<Vec<StreamsEndpoint>>,
}

pub(super) fn request(
    config: &GroupConfig,
    application: &StreamsApplication,
    member_id: &str,
    beat: &Beat<Kind>,
    endpoint_epoch: i32,
) -> StreamsGroupHeartbeatRequestData {
    let tasks = |role: Role| beat.owned.as_ref().map(|owned| by_subtopology(owned, role));
    let request = StreamsGroupHeartbeatRequestData::default()
        .with_group_id(text(&config.group_id))
        .with_member_id(text(member_id))
        .with_member_epoch(beat.epoch)
        .with_endpoint_information_epoch(endpoint_epoch)
        .with_active_tasks(tasks(Role::Active))
        .with_standby_tasks(tasks(Role::Standby))
        .with_warmup_tasks(tasks(Role::Warmup));
    // What a member is, it says once: Kafka takes a topology from who joins only.
    if beat.epoch != JOIN {
        return request;
    }
    let endpoint = application.endpoint.as_ref();
    let endpoint = endpoint
        .map(|(host, port)| Box::new(ask::Endpoint::default().with_host(text(host)).with_port(*port)));
    request
        .with_rebalance_timeout_ms(millis(config.rebalance_timeout))
        .with_topology(Some(Box::new(topology(application))))
        .with_process_id(Some(text(&application.process_id)))
        .with_user_endpoint(endpoint)
        .with_client_tags(Some(Vec::new()))
}

fn by_subtopology(places: &Places<Kind>, role: Role) -> Vec<ask::TaskIds> {
    let mut found = BTreeMap::<i32, Vec<i32>>::new();
    for ((of, subtopology), partition) in places {
        if *of == role {
            found.entry(*subtopology).or_default().push(*partition);
        }
    }
    let ids = |(id, partitions): (i32, Vec<i32>)| {
        ask::TaskIds::default().with_subtopology_id(text(&id.to_string())).with_partitions(partitions)
    };
    found.into_iter().map(ids).collect()
}

fn topology(application: &StreamsApplication) -> ask::Topology {
    let subtopologies = application.subtopologies.iter().map(subtopology).collect();
    ask::Topology::default().with_epoch(TOPOLOGY_EPOCH).with_subtopologies(subtopologies)
}

fn subtopology(of: &StreamsSubtopology) -> ask::Subtopology {
    let groups = of.copartitions.iter().map(|group| copartitioned(of, group));
    ask::Subtopology::default()
        .with_subtopology_id(text(&of.id.to_string()))
        .with_source_topics(of.sources.iter().map(|name| text(name)).collect())
        .with_repartition_sink_topics(of.repartition_sinks.iter().map(|name| text(name)).collect())
        .with_repartition_source_topics(of.repartition_sources.iter().map(internal).collect())
        .with_state_changelog_topics(of.changelogs.iter().map(internal).collect())
        .with_copartition_groups(groups.collect())
}

/// The topics of the group by their places in the lists of the subtopology.
fn copartitioned(of: &StreamsSubtopology, group: &[String]) -> ask::CopartitionGroup {
    let place = |(at, name): (usize, &String)| group.contains(name).then(|| i16::try_from(at).ok()).flatten();
    let sources = of.sources.iter().enumerate().filter_map(place);
    let repartitioned = of.repartition_sources.iter().map(|topic| &topic.name).enumerate().filter_map(place);
    ask::CopartitionGroup::default()
        .with_source_topics(sources.collect())
        .with_repartition_source_topics(repartitioned.collect())
}

fn internal(topic: &StreamsInternalTopic) -> ask::TopicInfo {
    let config = |(key, value): &(String, String)| {
        ask::KeyValue::default().with_key(text(key)).with_value(text(value))
    };
    // The same in every member, or the broker would see another topology.
    let mut configs = topic.configs.clone();
    configs.sort();
    ask::TopicInfo::default()
        .with_name(text(&topic.name))
        .with_partitions(topic.partitions)
        .with_replication_factor(topic.replication.max(0))
        .with_topic_configs(configs.iter().map(config).collect())
}

/// # Errors
/// The refusal, in the broker's own words where it has some.
pub(super) fn answer(group: &str, response: StreamsGroupHeartbeatResponseData) -> Result<Told, ClientError> {
    let what = || format!("heartbeat in group {group}");
    ClientError::check(response.error_code, response.error_message.as_ref(), what)?;
    let interval = Duration::from_millis(u64::try_from(response.heartbeat_interval_ms).unwrap_or(0));
    let lists = (response.active_tasks, response.standby_tasks, response.warmup_tasks);
    let assignment = match lists {
        (None, None, None) => None,
        (active, standby, warmup) => {
            let mut places = Places::new();
            let all = [(Role::Active, active), (Role::Standby, standby), (Role::Warmup, warmup)];
            for (role, tasks) in all {
                for one in tasks.unwrap_or_default() {
                    let subtopology = number(group, one.subtopology_id.as_str())?;
                    places.extend(one.partitions.into_iter().map(|index| ((role, subtopology), index)));
                }
            }
            Some(places)
        }
    };
    let endpoints = response.partitions_by_user_endpoint;
    Ok(Told {
        answer: Answer {
            epoch: response.member_epoch,
            interval: interval.max(SHORTEST_INTERVAL),
            assignment,
        },
        obstacles: Obstacle::all(response.status),
        endpoint_epoch: response.endpoint_information_epoch,
        endpoints: endpoints.map(|all| all.into_iter().map(endpoint).collect()),
    })
}

fn number(group: &str, id: &str) -> Result<i32, ClientError> {
    id.parse().map_err(|_| ClientError::Malformed {
        address: format!("the coordinator of group {group}"),
        reason: format!("a task of subtopology {id:?}, which this application does not have"),
    })
}

fn endpoint(from: told::EndpointToPartitions) -> StreamsEndpoint {
    let places = |topics: Vec<told::TopicPartition>| {
        let of = |topic: told::TopicPartition| {
            let name = topic.topic.to_string();
            topic.partitions.into_iter().map(move |index| TopicPartition::new(name.as_str(), index))
        };
        topics.into_iter().flat_map(of).collect()
    };
    StreamsEndpoint {
        host: from.user_endpoint.host.to_string(),
        port: from.user_endpoint.port,
        active: places(from.active_partitions),
        standby: places(from.standby_partitions),
    }
}

/// What a refusal means to who joins, and what to do.
pub(super) fn explained(group: &str, error: ClientError) -> ClientError {
    let said = |code: ErrorCode, message: String| ClientError::Kafka {
        what: format!("join group {group} by the streams protocol"),
        code,
        message,
    };
    let words = |error: &ClientError| match error {
        ClientError::Kafka { message, .. } => message.clone(),
        other => other.to_string(),
    };
    match error {
        ClientError::TooOld { address, api } => said(
            ErrorCode::UnsupportedVersion,
            format!(
                "the broker at {address} does not offer {api}; use group.protocol=classic, or Apache Kafka 4.2 or later"
            ),
        ),
        error => match error.code() {
            Some(code @ ErrorCode::UnsupportedVersion) => said(
                code,
                format!(
                    "{}; use group.protocol=classic, or let the cluster speak it (kafka-features.sh upgrade --feature streams.version=1)",
                    words(&error)
                ),
            ),
            Some(code @ ErrorCode::GroupIdNotFound) => said(
                code,
                format!(
                    "{} It has members of another protocol: stop all instances of the application, wait until the group is empty (sessions of killed ones must end), and start them with group.protocol=streams; or go on with group.protocol=classic",
                    words(&error)
                ),
            ),
            Some(code @ ErrorCode::InvalidRequest) => said(
                code,
                format!(
                    "{} (a changed topology needs another application.id, or a group that was classic in between: docs/streams-groups.md)",
                    words(&error)
                ),
            ),
            Some(code @ ErrorCode::GroupMaxSizeReached) => said(
                code,
                "the group is full: group.streams.max.size of the broker says how many it takes".into(),
            ),
            _ => error,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn application() -> StreamsApplication {
        let topic = |name: &str, partitions| StreamsInternalTopic {
            name: name.to_owned(),
            partitions,
            replication: -1,
            configs: vec![("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())],
        };
        StreamsApplication {
            member_id: None,
            process_id: "here".to_owned(),
            endpoint: Some(("host".to_owned(), 7070)),
            subtopologies: vec![StreamsSubtopology {
                id: 3,
                sources: vec!["other".to_owned(), "rows".to_owned()],
                repartition_sinks: vec!["next".to_owned()],
                repartition_sources: vec![topic("by-key", 4)],
                changelogs: vec![topic("log", 0)],
                copartitions: vec![vec!["by-key".to_owned(), "rows".to_owned()]],
            }],
        }
    }

    fn beat(epoch: i32, owned: Option<&[(Kind, i32)]>) -> StreamsGroupHeartbeatRequestData {
        let owned = owned.map(|owned| owned.iter().copied().collect());
        let config = GroupConfig::new("g", Vec::new());
        request(&config, &application(), "m", &Beat { epoch, full: epoch == JOIN, owned }, 5)
    }

    #[test]
    fn who_joins_says_what_it_is_and_names_joined_topics_by_their_places() {
        let join = beat(JOIN, Some(&[]));
        assert_eq!(join.active_tasks.map(|tasks| tasks.len()), Some(0));
        assert_eq!((join.rebalance_timeout_ms, join.instance_id), (60_000, None));
        let endpoint = join.user_endpoint.unwrap();
        assert_eq!((endpoint.host.as_str(), endpoint.port), ("host", 7070));
        let topology = join.topology.unwrap();
        let one = &topology.subtopologies[0];
        let group = &one.copartition_groups[0];
        assert_eq!((&group.source_topics[..], &group.repartition_source_topics[..]), (&[1][..], &[0][..]));
        let by_key = &one.repartition_source_topics[0];
        assert_eq!((by_key.partitions, by_key.replication_factor), (4, 0));
        let keys: Vec<&str> = by_key.topic_configs.iter().map(|config| config.key.as_str()).collect();
        assert_eq!(keys, ["a", "b"], "the same in every member");
    }

    #[test]
    fn later_heartbeats_say_all_roles_of_tasks_or_none() {
        let quiet = beat(4, None);
        assert!(quiet.topology.is_none() && quiet.process_id.is_none() && quiet.user_endpoint.is_none());
        assert!(
            quiet.active_tasks.is_none() && quiet.standby_tasks.is_none() && quiet.warmup_tasks.is_none()
        );
        assert_eq!(quiet.endpoint_information_epoch, 5);
        let says = beat(4, Some(&[((Role::Active, 3), 1), ((Role::Active, 3), 0), ((Role::Warmup, 0), 2)]));
        let of = |tasks: Option<Vec<ask::TaskIds>>| -> Vec<(String, Vec<i32>)> {
            let tasks = tasks.unwrap().into_iter();
            tasks.map(|one| (one.subtopology_id.to_string(), one.partitions)).collect()
        };
        assert_eq!(of(says.active_tasks), [("3".to_owned(), vec![0, 1])]);
        assert_eq!(of(says.standby_tasks), []);
        assert_eq!(of(says.warmup_tasks), [("0".to_owned(), vec![2])]);
    }

    #[test]
    fn an_answer_without_tasks_leaves_them_and_one_with_foreign_tasks_is_an_error() {
        let quiet = answer("g", StreamsGroupHeartbeatResponseData::default().with_member_epoch(7)).unwrap();
        assert_eq!((quiet.answer.epoch, quiet.answer.assignment), (7, None));
        let given = |id: &str| {
            let tasks = told::TaskIds::default().with_subtopology_id(text(id)).with_partitions(vec![1]);
            answer("g", StreamsGroupHeartbeatResponseData::default().with_standby_tasks(Some(vec![tasks])))
        };
        let places = given("3").unwrap().answer.assignment.unwrap();
        assert_eq!(places, Places::from([((Role::Standby, 3), 1)]));
        assert!(given("a-name").is_err());
    }

    #[test]
    fn a_refusal_says_what_to_do_in_each_case() {
        let said = |code: ErrorCode| {
            let refused = ClientError::kafka("heartbeat", code.code(), Some("words of the broker."));
            explained("g", refused).to_string()
        };
        let expected = [
            (ErrorCode::UnsupportedVersion, "streams.version"),
            (ErrorCode::GroupIdNotFound, "stop all instances"),
            (ErrorCode::InvalidRequest, "docs/streams-groups.md"),
        ];
        for (code, next) in expected {
            let text = said(code);
            assert!(text.contains("words of the broker.") && text.contains(next), "{text}");
        }
        let old = ClientError::TooOld { address: "a:1".to_owned(), api: "StreamsGroupHeartbeat" };
        assert!(explained("g", old).to_string().contains("group.protocol=classic"));
    }
}
