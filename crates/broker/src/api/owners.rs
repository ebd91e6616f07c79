//! One writer per stream: what belongs to a service is written by it alone, and its internal streams are read by it
//! alone.
//!
//! Owns what Kafka's APIs do about it; whose a stream is and who may look into it is said in `owners.rs`. Holds for
//! super-users, too, as far as writing goes: what they write into somebody's stream is written by accident. Only this
//! node's own parts are exempt.

use headwater_coordinator::{INTERNAL, OWNER, is_of_a_service};
use headwater_model::Principal;
use headwater_wire::ErrorCode;

use super::{Call, rights};
use crate::catalog::Topic;
use crate::owners::is_owner;
use crate::security::is_node;

impl Call {
    /// Whether the client is who may write this stream, access rules apart; an error says whose it is.
    pub fn owns(&self, topic: &Topic) -> Result<(), String> {
        let Some(owner) = topic.owner.as_ref().filter(|owner| !is_owner(&self.principal, owner)) else {
            return Ok(());
        };
        self.refused(rights::WRITE_TOPIC, topic.name());
        Err(format!(
            "the stream '{}' has one writer, {owner} ({OWNER}), and this client is {}: write as its owner or to a stream of your own, or let whoever may alter the topic set {OWNER}",
            topic.name(),
            self.principal,
        ))
    }

    /// Whether the client may read this stream by access rules and by owner.
    pub fn may_read(&self, topic: &Topic) -> Result<(), ErrorCode> {
        self.check(rights::READ_TOPIC, topic.name())?;
        if self.shared.authorizer.may_look_into(&self.principal, topic) {
            return Ok(());
        }
        self.refused(rights::READ_TOPIC, topic.name());
        Err(rights::READ_TOPIC.refusal())
    }

    /// What is set on a new topic beside what its creator asks for: a service's own stream belongs to whoever creates
    /// it. Super-users create for others, and whoever is anonymous cannot be told from others.
    pub fn owning(&self, name: &str, configs: &mut Vec<(String, Option<String>)>) {
        let is_set = |key: &str| configs.iter().any(|(name, value)| name == key && value.is_some());
        let is_true = |value: &str| value.trim().eq_ignore_ascii_case("true");
        let asks =
            configs.iter().any(|(key, value)| key == INTERNAL && value.as_deref().is_some_and(is_true));
        let says = is_set(INTERNAL) || is_set(OWNER);
        let somebody = *self.principal != Principal::anonymous()
            && !is_node(&self.principal)
            && !self.shared.authorizer.is_super_user(&self.principal);
        if !somebody || is_set(OWNER) || !(asks || (is_of_a_service(name) && !says)) {
            return;
        }
        configs.retain(|(key, _)| key != INTERNAL && key != OWNER);
        configs.push((INTERNAL.to_owned(), Some("true".to_owned())));
        configs.push((OWNER.to_owned(), Some(self.principal.to_string())));
    }
}
