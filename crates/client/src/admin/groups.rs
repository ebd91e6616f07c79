//! Groups as an operator sees them: which there are, who is in them, what each member reads.

use headwater_model::TopicPartition;
use headwater_wire::ErrorCode;
use headwater_wire::messages::leave_group_request::MemberIdentity;
use headwater_wire::messages::{
    DeleteGroupsRequestData, DeleteGroupsResponseData, DescribeGroupsRequestData, DescribeGroupsResponseData,
    DescribedGroupMember, LeaveGroupRequestData, LeaveGroupResponseData, ListGroupsRequestData,
};

use super::text;
use crate::call::Call;
use crate::cluster::{CoordinatorOf, Lane, PATIENCE};
use crate::group::protocol;
use crate::{Client, ClientError};

/// The state of a group that does not exist, or is of another protocol.
const DEAD: &str = "Dead";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    pub group_id: String,
    pub state: String,
    pub protocol_type: String,
}

/// A group; one that does not exist has the state `Dead` and no members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    pub group_id: String,
    pub state: String,
    pub protocol_type: String,
    /// The assignor the members agreed on.
    pub protocol: String,
    pub members: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub host: String,
    pub assignment: Vec<TopicPartition>,
}

impl Client {
    /// Asks every broker for the groups it coordinates.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, ClientError> {
        let mut pause = self.pause(PATIENCE);
        loop {
            match self.list_groups_once().await {
                Err(error) if error.is_retriable() => pause.wait("list groups", error).await?,
                outcome => return outcome,
            }
        }
    }

    async fn list_groups_once(&self) -> Result<Vec<GroupListing>, ClientError> {
        self.refresh(Some(&[])).await?;
        let mut groups = Vec::new();
        for address in self.brokers() {
            let connection = self.connection(Lane::ADMIN, &address).await?;
            let answer = connection.call(&ListGroupsRequestData::default(), self.request_timeout()).await?;
            ClientError::check(answer.error_code, None, || format!("list the groups of {address}"))?;
            groups.extend(answer.groups.into_iter().map(|group| GroupListing {
                group_id: group.group_id.to_string(),
                state: group.group_state.to_string(),
                protocol_type: group.protocol_type.to_string(),
            }));
        }
        groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        Ok(groups)
    }

    /// Asks who coordinates the group; `code` is what the answer says of it, and `what` was asked for.
    pub(super) async fn ask_of_group<C: Call>(
        &self,
        group: &str,
        request: &C,
        code: impl Fn(&C::Response) -> i16,
        what: impl Fn() -> String,
    ) -> Result<C::Response, ClientError> {
        let check = |answer: &C::Response| ClientError::check(code(answer), None, &what);
        let timeout = self.request_timeout();
        self.call_coordinator(Lane::ADMIN, CoordinatorOf::Group, group, request, timeout, check).await
    }

    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription, ClientError> {
        let request = DescribeGroupsRequestData::default().with_groups(vec![text(group)]);
        let code =
            |answer: &DescribeGroupsResponseData| answer.groups.first().map_or(0, |group| group.error_code);
        let answer = self.ask_of_group(group, &request, code, || format!("describe group {group}")).await?;
        let Some(described) = answer.groups.into_iter().next() else {
            return Err(ClientError::Malformed {
                address: self.bootstrap().to_owned(),
                reason: format!("no description of group {group} in the answer"),
            });
        };
        if described.group_state.as_str() == DEAD {
            let consumer = self.describe_consumer_group(group).await?;
            let other = match consumer {
                Some(consumer) => Some(consumer),
                None => self.describe_streams_group(group).await?,
            };
            if let Some(described) = other {
                return Ok(described);
            }
        }
        Ok(GroupDescription {
            group_id: described.group_id.to_string(),
            state: described.group_state.to_string(),
            protocol_type: described.protocol_type.to_string(),
            protocol: described.protocol_data.to_string(),
            members: described.members.into_iter().map(member).collect(),
        })
    }

    /// Deletes a group that has no members, with its offsets.
    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        let request = DeleteGroupsRequestData::default().with_groups_names(vec![text(group)]);
        let code =
            |answer: &DeleteGroupsResponseData| answer.results.first().map_or(0, |result| result.error_code);
        self.ask_of_group(group, &request, code, || format!("delete group {group}")).await?;
        Ok(())
    }

    /// Makes a member leave, as if it had asked for it.
    pub async fn remove_member(&self, group: &str, member_id: &str) -> Result<(), ClientError> {
        let request = LeaveGroupRequestData::default()
            .with_group_id(text(group))
            .with_members(vec![MemberIdentity::default().with_member_id(text(member_id))]);
        let code = |answer: &LeaveGroupResponseData| {
            let member = answer.members.first().map_or(0, |member| member.error_code);
            if answer.error_code == 0 { member } else { answer.error_code }
        };
        self.ask_of_group(group, &request, code, || format!("remove {member_id} from group {group}")).await?;
        Ok(())
    }
}

/// `None` where there is no such group, or the broker does not know its protocol.
pub(super) fn if_known<T>(answer: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match answer {
        Err(ClientError::TooOld { .. } | ClientError::Kafka { code: ErrorCode::GroupIdNotFound, .. }) => {
            Ok(None)
        }
        answer => answer.map(Some),
    }
}

fn member(from: DescribedGroupMember) -> Member {
    // Another kind of group (Connect's) writes other bytes here: nothing is assigned that we could name.
    let assignment = protocol::decode_assignment(&from.member_assignment).map(|assigned| assigned.partitions);
    Member {
        member_id: from.member_id.to_string(),
        instance_id: from.group_instance_id.map(|id| id.to_string()),
        client_id: from.client_id.to_string(),
        host: from.client_host.to_string(),
        assignment: assignment.unwrap_or_default(),
    }
}
