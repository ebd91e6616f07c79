//! Whether this client may: every handler asks here, and nowhere else.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use headwater_model::acl::{CLUSTER_NAME, ResourceType};
use headwater_wire::ErrorCode;

use super::rights::{self, Right};
use super::{APIS, Call};
use crate::audit::{Entry, LONGEST_CLIENT, LONGEST_NAME, Subject};
use crate::clock;
use crate::security::told;

impl Call {
    fn allows(&self, right: Right, name: &str) -> bool {
        debug_assert!(rights::names(self.key, right), "api/rights.rs: API {} lacks {right:?}", self.key);
        let host = self.peer.ip();
        self.shared.authorizer.allows(&self.principal, host, right.operation, right.on, name)
    }

    /// Whether the client may do what it asked for; a refusal is told to whoever watches.
    pub fn may(&self, right: Right, name: &str) -> bool {
        let allowed = self.allows(right, name);
        if !allowed {
            self.refused(right, name);
        }
        allowed
    }

    /// As [`Self::may`], with the code of the refusal.
    pub fn check(&self, right: Right, name: &str) -> Result<(), ErrorCode> {
        if self.may(right, name) { Ok(()) } else { Err(right.refusal()) }
    }

    pub fn check_cluster(&self, right: Right) -> Result<(), ErrorCode> {
        self.check(right, CLUSTER_NAME)
    }

    /// Whether the client may, where it did not ask for this very resource: nobody is told of what it does not see.
    pub fn sees(&self, right: Right, name: &str) -> bool {
        self.allows(right, name)
    }

    /// Whether there may be something of the type for the client to see: what it lists is gathered by the only thread that
    /// writes, which is not for those who see nothing of it.
    pub fn may_see_some(&self, right: Right) -> bool {
        debug_assert!(rights::names(self.key, right), "api/rights.rs: API {} lacks {right:?}", self.key);
        self.shared.authorizer.might_allow(&self.principal, self.peer.ip(), right.operation, right.on)
    }

    pub fn sees_cluster(&self, right: Right) -> bool {
        self.sees(right, CLUSTER_NAME)
    }

    /// Whether the client may do this to one resource at least (KIP-679).
    pub fn may_to_any(&self, right: Right) -> bool {
        debug_assert!(rights::names(self.key, right), "api/rights.rs: API {} lacks {right:?}", self.key);
        self.shared.authorizer.allows_any(&self.principal, self.peer.ip(), right.operation, right.on)
    }

    /// KIP-430
    pub fn operations(&self, on: ResourceType, name: &str) -> i32 {
        self.shared.authorizer.operations(&self.principal, self.peer.ip(), on, name)
    }

    /// The operations on the cluster; none for those who may not describe it.
    pub fn cluster_operations(&self) -> i32 {
        match self.may(rights::DESCRIBE_CLUSTER, CLUSTER_NAME) {
            true => self.operations(ResourceType::Cluster, CLUSTER_NAME),
            false => 0,
        }
    }

    /// Parts what may be used from what may not.
    pub fn part<T>(&self, right: Right, all: Vec<T>, name: impl Fn(&T) -> &str) -> (Vec<T>, Vec<T>) {
        if !self.shared.authorizer.is_on() {
            return (all, Vec::new());
        }
        all.into_iter().partition(|one| self.may(right, name(one)))
    }

    /// Tells of a refusal; `right` is what was missing.
    pub fn refused(&self, right: Right, name: &str) {
        self.tell(right, name, false, None);
    }

    /// Tells of a change that was made by a right.
    pub fn changed(&self, right: Right, name: &str, detail: impl FnOnce() -> Option<String>) {
        if self.shared.audit.is_on() {
            self.tell(right, name, true, detail());
        }
    }

    fn tell(&self, right: Right, name: &str, allowed: bool, detail: Option<String>) {
        let client_id = self.client_id.as_ref().map_or("", |id| id.as_str());
        let subject = Subject {
            principal: Arc::clone(&self.principal),
            host: self.peer.ip().to_canonical(),
            client_id: told(client_id, LONGEST_CLIENT),
            api: APIS.iter().find(|api| api.key as i16 == self.key).map_or("", |api| api.name),
            operation: right.operation.word(),
            resource: right.on,
            name: told(name, LONGEST_NAME),
        };
        self.shared.audit.tell(Entry { time: clock::wall(), subject, allowed, detail });
    }
}
