//! What the rules say of one request's client.

use std::net::IpAddr;
use std::sync::Arc;

use headwater_model::acl::{Operation, ResourceType};
use headwater_model::{Principal, Rights};

use super::Gate;
use crate::audit::{Entry, LONGEST_NAME, Subject};
use crate::clock;
use crate::security::told;

pub struct Visitor {
    pub gate: Arc<Gate>,
    pub principal: Arc<Principal>,
    pub host: IpAddr,
    pub client_id: String,
    pub api: &'static str,
}

impl Visitor {
    fn tell(&self, (operation, resource, name): (Operation, ResourceType, &str), detail: Option<String>) {
        let subject = Subject {
            principal: Arc::clone(&self.principal),
            host: self.host.to_canonical(),
            client_id: self.client_id.clone(),
            api: self.api,
            operation: operation.word(),
            resource,
            name: told(name, LONGEST_NAME),
        };
        let allowed = detail.is_some();
        self.gate.audit.tell(Entry { time: clock::wall(), subject, allowed, detail });
    }

    /// READ apart, whether the client may read this stream.
    fn may_look_into(&self, name: &str) -> bool {
        let topic = self.gate.catalog.as_ref().and_then(|catalog| catalog.by_name(name));
        topic.is_none_or(|topic| self.gate.authorizer.may_look_into(&self.principal, &topic))
    }
}

impl Rights for Visitor {
    fn allows(&self, operation: Operation, kind: ResourceType, name: &str) -> bool {
        let reads = matches!((operation, kind), (Operation::Read, ResourceType::Topic));
        self.gate.authorizer.allows(&self.principal, self.host, operation, kind, name)
            && (!reads || self.may_look_into(name))
    }

    fn refused(&self, operation: Operation, kind: ResourceType, name: &str) {
        self.tell((operation, kind, name), None);
    }

    fn changed(&self, operation: Operation, kind: ResourceType, name: &str, detail: String) {
        if self.gate.audit.is_on() {
            self.tell((operation, kind, name), Some(detail));
        }
    }
}

/// Who has proved nothing where proofs are asked for: it may do nothing, also where there are no rules.
pub struct Nobody;

impl Rights for Nobody {
    fn allows(&self, _: Operation, _: ResourceType, _: &str) -> bool {
        false
    }

    fn refused(&self, _: Operation, _: ResourceType, _: &str) {}

    fn changed(&self, _: Operation, _: ResourceType, _: &str, _: String) {}
}
