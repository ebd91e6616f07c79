//! Whose a stream is: the rule beside the access rules, by whichever way a client comes.
//!
//! Owns the only answer to "is it the owner's" and "may this client look into it"; Kafka's APIs (`api/owners.rs`) and
//! the HTTP surface (`gate/visitor.rs`) ask here, and nobody compares owners by itself.

use headwater_model::Principal;

use crate::authorizer::Authorizer;
use crate::catalog::Topic;
use crate::security::is_node;

/// Whether the client is the owner; the node's own parts count as every owner.
pub fn is_owner(principal: &Principal, owner: &Principal) -> bool {
    principal == owner || is_node(principal)
}

impl Authorizer {
    /// Whether the client may read the stream, READ apart: a closed one is its owner's, and super-users may look into
    /// it for a fault.
    pub fn may_look_into(&self, principal: &Principal, topic: &Topic) -> bool {
        match topic.owner.as_ref().filter(|_| topic.closed) {
            Some(owner) => is_owner(principal, owner) || self.is_super_user(principal),
            None => true,
        }
    }
}
