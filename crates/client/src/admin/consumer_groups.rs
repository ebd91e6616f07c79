//! Groups of the consumer protocol (KIP-848), which DescribeGroups does not know.

use headwater_model::TopicPartition;
use headwater_wire::messages::consumer_group_describe_response::Member as DescribedMember;
use headwater_wire::messages::{ConsumerGroupDescribeRequestData, ConsumerGroupDescribeResponseData};

use super::groups::if_known;
use super::{GroupDescription, Member, text};
use crate::{Client, ClientError};

impl Client {
    /// `None` when there is no such group, or the broker does not know the protocol.
    pub(super) async fn describe_consumer_group(
        &self,
        group: &str,
    ) -> Result<Option<GroupDescription>, ClientError> {
        let request = ConsumerGroupDescribeRequestData::default().with_group_ids(vec![text(group)]);
        let code = |answer: &ConsumerGroupDescribeResponseData| {
            answer.groups.first().map_or(0, |group| group.error_code)
        };
        let answer = self.ask_of_group(group, &request, code, || format!("describe group {group}")).await;
        let Some(answer) = if_known(answer)? else { return Ok(None) };
        Ok(answer.groups.into_iter().next().map(|described| GroupDescription {
            group_id: described.group_id.to_string(),
            state: described.group_state.to_string(),
            protocol_type: "consumer".to_owned(),
            protocol: described.assignor_name.to_string(),
            members: described.members.into_iter().map(member).collect(),
        }))
    }
}

fn member(from: DescribedMember) -> Member {
    let places = from.assignment.topic_partitions.iter().flat_map(|topic| {
        topic.partitions.iter().map(|index| TopicPartition::new(topic.topic_name.as_str(), *index))
    });
    Member {
        assignment: places.collect(),
        member_id: from.member_id.to_string(),
        instance_id: from.instance_id.map(|id| id.to_string()),
        client_id: from.client_id.to_string(),
        host: from.client_host.to_string(),
    }
}
