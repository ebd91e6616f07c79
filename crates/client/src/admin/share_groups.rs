//! Share groups (KIP-932) as an operator sees them: who is in one, and how far it has come.

use headwater_model::{Offset, TopicPartition};
use headwater_wire::messages::share_group_describe_response::Member as Described;
use headwater_wire::messages::{
    DescribeShareGroupOffsetsRequestData, DescribeShareGroupOffsetsRequestGroup,
    DescribeShareGroupOffsetsResponseData, ShareGroupDescribeRequestData, ShareGroupDescribeResponseData,
};

use super::text;
use crate::{Client, ClientError, Member};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareGroupDescription {
    pub group_id: String,
    pub state: String,
    pub members: Vec<Member>,
    /// Of each partition that the group has read.
    pub offsets: Vec<ShareOffset>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareOffset {
    pub partition: TopicPartition,
    /// Everything below is finished; −1 before the first fetch.
    pub start: Offset,
    /// How many records are not finished; −1 when the broker does not say.
    pub lag: i64,
}

impl Client {
    /// Members and offsets of a share group.
    pub async fn describe_share_group(&self, group: &str) -> Result<ShareGroupDescription, ClientError> {
        let request = ShareGroupDescribeRequestData::default().with_group_ids(vec![text(group)]);
        let code = |answer: &ShareGroupDescribeResponseData| {
            answer.groups.first().map_or(0, |group| group.error_code)
        };
        let what = || format!("describe share group {group}");
        let answer = self.ask_of_group(group, &request, code, what).await?;
        let Some(described) = answer.groups.into_iter().next() else {
            return Err(ClientError::Malformed {
                address: self.bootstrap().to_owned(),
                reason: format!("no description of share group {group} in the answer"),
            });
        };
        Ok(ShareGroupDescription {
            group_id: described.group_id.to_string(),
            state: described.group_state.to_string(),
            members: described.members.into_iter().map(member).collect(),
            offsets: self.share_offsets(group).await?,
        })
    }

    async fn share_offsets(&self, group: &str) -> Result<Vec<ShareOffset>, ClientError> {
        let wanted =
            DescribeShareGroupOffsetsRequestGroup::default().with_group_id(text(group)).with_topics(None);
        let request = DescribeShareGroupOffsetsRequestData::default().with_groups(vec![wanted]);
        let code = |answer: &DescribeShareGroupOffsetsResponseData| {
            answer.groups.first().map_or(0, |group| group.error_code)
        };
        let what = || format!("describe the offsets of share group {group}");
        let answer = self.ask_of_group(group, &request, code, what).await?;
        let topics = answer.groups.into_iter().flat_map(|group| group.topics);
        let mut offsets: Vec<ShareOffset> = topics
            .flat_map(|topic| {
                let name = topic.topic_name.to_string();
                topic.partitions.into_iter().map(move |one| ShareOffset {
                    partition: TopicPartition::new(name.clone(), one.partition_index),
                    start: one.start_offset,
                    lag: one.lag,
                })
            })
            .collect();
        offsets.sort_by(|a, b| a.partition.cmp(&b.partition));
        Ok(offsets)
    }
}

fn member(from: Described) -> Member {
    let topics = from.assignment.topic_partitions.into_iter();
    let assignment = topics.flat_map(|topic| {
        let name = topic.topic_name.to_string();
        topic.partitions.into_iter().map(move |index| TopicPartition::new(name.clone(), index))
    });
    Member {
        member_id: from.member_id.to_string(),
        instance_id: None,
        client_id: from.client_id.to_string(),
        host: from.client_host.to_string(),
        assignment: assignment.collect(),
    }
}
