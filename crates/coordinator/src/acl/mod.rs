//! Access control lists: which rules there are, and what they allow.
//!
//! Owns the rules and their meaning, which is that of Kafka's StandardAuthorizer; refuses to know who is connected,
//! who is a super-user, and what holds where there is no rule: the broker asks an [`AclIndex`] with its own copy.
//!
//! Invariant: a rule is there once, however often it was created.

mod filter;
mod index;
mod record;

use std::collections::BTreeSet;

pub use filter::matches;
use headwater_model::Principal;
use headwater_model::acl::{AclBinding, AclFilter, CLUSTER_NAME, ResourceType};
pub use index::{AclIndex, Asker, Verdict};
pub use record::AclRecord;

use crate::context::Context;
use crate::error::{Error, Failure};
use crate::records::StateRecord;

#[derive(Debug, Default)]
pub(crate) struct Acls {
    bindings: BTreeSet<AclBinding>,
}

impl Acls {
    pub fn iter(&self) -> impl Iterator<Item = &AclBinding> {
        self.bindings.iter()
    }

    pub fn put(&mut self, binding: AclBinding) {
        self.bindings.insert(binding);
    }

    pub fn remove(&mut self, binding: &AclBinding) {
        self.bindings.remove(binding);
    }

    /// One result for each; creating what is there succeeds and changes nothing.
    pub fn create(&mut self, cx: &mut Context, wanted: Vec<AclBinding>) -> Vec<Result<(), Failure>> {
        let mut results = Vec::with_capacity(wanted.len());
        for binding in wanted {
            results.push(check(&binding).map(|()| {
                if self.bindings.insert(binding.clone()) {
                    cx.append(StateRecord::Acl(AclRecord(binding)));
                }
            }));
        }
        results
    }

    /// What each filter deleted; a rule that two filters match goes with the first.
    pub fn delete(&mut self, cx: &mut Context, filters: &[AclFilter]) -> Vec<Vec<AclBinding>> {
        let mut results = Vec::with_capacity(filters.len());
        for filter in filters {
            let gone: Vec<_> = self.bindings.iter().filter(|one| matches(filter, one)).cloned().collect();
            for binding in &gone {
                self.bindings.remove(binding);
                cx.append(StateRecord::AclDeleted(AclRecord(binding.clone())));
            }
            results.push(gone);
        }
        results
    }
}

/// What Kafka's controller asks of a new rule.
fn check(binding: &AclBinding) -> Result<(), Failure> {
    let refuse = |message: String| Err(Failure::new(Error::InvalidRequest, message));
    let AclBinding { resource, name, principal, .. } = binding;
    if *resource == ResourceType::Cluster && name != CLUSTER_NAME {
        return refuse(format!("the only valid name for the CLUSTER resource is {CLUSTER_NAME}"));
    }
    if name.is_empty() {
        return refuse("the name of the resource is empty: name one, or * for all".to_owned());
    }
    if Principal::parse(principal).is_none() {
        return refuse(format!("the principal '{principal}' is not TYPE:NAME: write for example User:alice"));
    }
    Ok(())
}
