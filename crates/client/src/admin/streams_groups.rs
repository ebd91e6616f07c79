//! Groups of Kafka Streams applications (KIP-1071), which DescribeGroups does not know.

use std::collections::BTreeMap;

use headwater_model::TopicPartition;
use headwater_wire::messages::streams_group_describe_response::{Member as DescribedMember, Topology};
use headwater_wire::messages::{StreamsGroupDescribeRequestData, StreamsGroupDescribeResponseData};

use super::groups::if_known;
use super::{GroupDescription, Member, text};
use crate::{Client, ClientError};

/// What the tasks of each subtopology read.
type Inputs = BTreeMap<String, Vec<String>>;

impl Client {
    /// `None` when there is no such group, or the broker does not know the protocol.
    pub(super) async fn describe_streams_group(
        &self,
        group: &str,
    ) -> Result<Option<GroupDescription>, ClientError> {
        let request = StreamsGroupDescribeRequestData::default().with_group_ids(vec![text(group)]);
        let code = |answer: &StreamsGroupDescribeResponseData| {
            answer.groups.first().map_or(0, |group| group.error_code)
        };
        let answer = self.ask_of_group(group, &request, code, || format!("describe group {group}")).await;
        let Some(answer) = if_known(answer)? else { return Ok(None) };
        Ok(answer.groups.into_iter().next().map(|described| {
            let inputs = described.topology.as_deref().map(inputs).unwrap_or_default();
            GroupDescription {
                group_id: described.group_id.to_string(),
                state: described.group_state.to_string(),
                protocol_type: "streams".to_owned(),
                protocol: "streams".to_owned(),
                members: described.members.into_iter().map(|one| member(one, &inputs)).collect(),
            }
        }))
    }
}

fn inputs(topology: &Topology) -> Inputs {
    let of = topology.subtopologies.iter().flatten().map(|one| {
        let sources = one.source_topics.iter().map(ToString::to_string);
        let repartitioned = one.repartition_source_topics.iter().map(|topic| topic.name.to_string());
        (one.subtopology_id.to_string(), sources.chain(repartitioned).collect())
    });
    of.collect()
}

/// The member with the partitions that its active tasks read.
fn member(from: DescribedMember, inputs: &Inputs) -> Member {
    let places = from.assignment.active_tasks.iter().flat_map(|tasks| {
        let topics = inputs.get(tasks.subtopology_id.as_str()).into_iter().flatten();
        topics.flat_map(|topic| {
            tasks.partitions.iter().map(|index| TopicPartition::new(topic.as_str(), *index))
        })
    });
    Member {
        assignment: places.collect(),
        member_id: from.member_id.to_string(),
        instance_id: from.instance_id.map(|id| id.to_string()),
        client_id: from.client_id.to_string(),
        host: from.client_host.to_string(),
    }
}
