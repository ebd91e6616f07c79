//! What others may know of a thread's tasks: that they can be read here, and where everything else is.

use super::Worker;
use crate::queries::HostMap;

impl Worker {
    /// Says how far the stores of the tasks that run have seen their inputs. It is called at the end of a turn.
    pub(super) fn publish(&mut self) {
        let lease = self.group.lease();
        for (id, active) in &mut self.active {
            if let Some(seen) = active.seen_anew() {
                self.shared.serving.run(self.index, *id, &lease, seen);
            }
        }
    }

    /// Takes note of who has what. A static member that comes back is told what the group knew before, so if its address
    /// has changed since, the group is made to learn the new one.
    pub(super) fn learn_hosts(&self, hosts: Option<HostMap>) {
        let Some(hosts) = hosts else {
            self.shared.hosts.set(HostMap::new());
            return;
        };
        if let Some(own) = self.shared.endpoint() {
            let known = hosts.get(own);
            let is_known = |task: &String| known.is_some_and(|has| has.active.contains(task));
            let assigned = self.assigned.iter().map(ToString::to_string);
            let unknown = assigned.filter(|task| !is_known(task)).count();
            if unknown > 0 && self.owned.announce() {
                tracing::info!(
                    thread = self.index,
                    application_server = own,
                    "the group learns a new address"
                );
                self.group.enforce_rebalance();
            }
        }
        self.shared.hosts.set(hosts);
    }
}
