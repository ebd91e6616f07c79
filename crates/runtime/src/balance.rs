//! What members tell the leader and what it tells them, as JSON in their user data.

use std::collections::BTreeMap;

use headwater_model::Bytes;
use headwater_streams::TaskId;
use serde::{Deserialize, Serialize};

use crate::queries::HostMap;
use crate::state::parse_task;

/// The offset sum of a task that runs, as Kafka Streams' `Task.LATEST_OFFSET`: its stores lack nothing.
pub(crate) const LATEST_OFFSET: i64 = -2;

/// What a member tells the leader. One of an older version says only `owned`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SubscriptionInfo {
    /// Its process; its threads share their stores. A member that does not say is a process of its own.
    #[serde(default)]
    pub process: String,
    /// Tasks it ran until now, printed `0_1`.
    #[serde(default)]
    pub owned: Vec<String>,
    /// Tasks of which it kept copies.
    #[serde(default)]
    pub standby: Vec<String>,
    /// By task the sum of the changelog positions of its stores on this machine, or `LATEST_OFFSET`.
    #[serde(default)]
    pub offsets: BTreeMap<String, i64>,
    /// `host:port` at which its process answers questions (Kafka Streams' `application.server`); empty if it does not.
    #[serde(default)]
    pub endpoint: String,
    /// Changes when the member wants the group to rebalance: a static one would be told what it knows otherwise.
    #[serde(default)]
    pub nonce: u64,
}

impl SubscriptionInfo {
    pub fn encode(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Anything unreadable counts as a member without state: an assignment is better than none.
    pub fn decode(bytes: Option<&Bytes>) -> Self {
        bytes.and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default()
    }
}

/// What the leader tells a member beside the partitions of the tasks that it is to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AssignmentInfo {
    /// Tasks of which it is to keep copies.
    #[serde(default)]
    pub standby: Vec<String>,
    /// When it is to let the group rebalance, in milliseconds since 1970.
    #[serde(default)]
    pub probing_at: Option<i64>,
    /// Who has what in the whole group, by `host:port`; a leader of an older version does not say.
    #[serde(default)]
    pub hosts: Option<HostMap>,
}

impl AssignmentInfo {
    pub fn encode(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(self).unwrap_or_default())
    }

    /// A leader of an older version says nothing.
    pub fn decode(bytes: Option<&Bytes>) -> Self {
        bytes.and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default()
    }
}

pub(crate) fn names<'a>(tasks: impl IntoIterator<Item = &'a TaskId>) -> Vec<String> {
    tasks.into_iter().map(TaskId::to_string).collect()
}

/// Names that are no tasks are left out.
pub(crate) fn tasks(names: &[String]) -> Vec<TaskId> {
    names.iter().filter_map(|name| parse_task(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_other_versions_and_nonsense_are_read_as_far_as_they_go() {
        let old = Bytes::from(r#"{"owned":["0_1"],"stored":["0_2"]}"#);
        let read = SubscriptionInfo::decode(Some(&old));
        assert_eq!(
            (tasks(&read.owned), read.process),
            (vec![TaskId { subtopology: 0, partition: 1 }], String::new())
        );
        assert_eq!(SubscriptionInfo::decode(Some(&Bytes::from("not json"))), SubscriptionInfo::default());
        assert_eq!(AssignmentInfo::decode(None), AssignmentInfo::default());
        let told = AssignmentInfo { standby: vec!["1_0".to_owned()], probing_at: Some(7), hosts: None };
        assert_eq!(AssignmentInfo::decode(Some(&told.encode())), told);
    }
}
