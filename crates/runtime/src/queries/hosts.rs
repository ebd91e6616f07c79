//! Which instance of the group runs a task and which have copies of it (KIP-535), as the leader told at the last rebalance.
//!
//! It says whom to ask and decides nothing else: an instance answers for what it knows itself to have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLock};

use headwater_streams::TaskId;
use serde::{Deserialize, Serialize};

use crate::balance::tasks;

/// Where the rows of a key are (Kafka Streams' class of this name).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyQueryMetadata {
    /// `host:port` of the instance that runs the task; `None` if that one answers no questions, or nobody has the task.
    pub active_host: Option<String>,
    /// Those that keep a copy, warm-ups included.
    pub standby_hosts: BTreeSet<String>,
    pub partition: i32,
}

/// The tasks of one instance, printed `0_1`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostTasks {
    #[serde(default)]
    pub active: Vec<String>,
    #[serde(default)]
    pub standby: Vec<String>,
}

/// Who has what, by `host:port`.
pub(crate) type HostMap = BTreeMap<String, HostTasks>;

#[derive(Default)]
pub(crate) struct Hosts(RwLock<HostMap>);

impl Hosts {
    /// A panic elsewhere leaves the map whole: it is only ever replaced.
    pub fn set(&self, hosts: HostMap) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = hosts;
    }

    pub fn all(&self) -> HostMap {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn of(&self, task: TaskId) -> KeyQueryMetadata {
        let hosts = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let who = |of: fn(&HostTasks) -> &Vec<String>| {
            hosts.iter().filter(move |(_, has)| tasks(of(has)).contains(&task)).map(|(host, _)| host.clone())
        };
        KeyQueryMetadata {
            active_host: who(|has| &has.active).next(),
            standby_hosts: who(|has| &has.standby).collect(),
            partition: task.partition,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_by_task() {
        let hosts = Hosts::default();
        let has = |active: &str, standby: &str| HostTasks {
            active: vec![active.to_owned()],
            standby: vec![standby.to_owned()],
        };
        hosts.set(BTreeMap::from([
            ("a:1".to_owned(), has("0_0", "0_1")),
            ("b:1".to_owned(), has("0_1", "0_0")),
        ]));
        let found = hosts.of(TaskId { subtopology: 0, partition: 1 });
        assert_eq!((found.active_host.as_deref(), found.partition), (Some("b:1"), 1));
        assert_eq!(found.standby_hosts, BTreeSet::from(["a:1".to_owned()]));
        assert_eq!(
            hosts.of(TaskId { subtopology: 7, partition: 1 }),
            KeyQueryMetadata { partition: 1, ..KeyQueryMetadata::default() }
        );
    }
}
