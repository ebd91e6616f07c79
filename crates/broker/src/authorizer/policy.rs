//! What holds beside the rules, by Kafka's keys.

use std::collections::BTreeSet;

use headwater_model::Principal;
use thiserror::Error;

/// Kafka's name of the only authorizer that there is.
pub const STANDARD_AUTHORIZER: &str = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";

/// `authorizer.class.name`, `super.users`, `allow.everyone.if.no.acl.found`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthorizerConfig {
    pub enabled: bool,
    pub super_users: BTreeSet<Principal>,
    pub allow_if_no_acl: bool,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum PolicyError {
    #[error("{STANDARD_AUTHORIZER}, or nothing for no authorization")]
    Class,
    #[error("principals with ; between them, for example User:alice;User:bob ('{0}' is not TYPE:NAME)")]
    SuperUser(String),
}

impl AuthorizerConfig {
    pub fn class_name(&self) -> &'static str {
        if self.enabled { STANDARD_AUTHORIZER } else { "" }
    }

    pub fn set_class_name(&mut self, name: &str) -> Result<(), PolicyError> {
        self.enabled = match name {
            "" => false,
            STANDARD_AUTHORIZER => true,
            _ => return Err(PolicyError::Class),
        };
        Ok(())
    }

    pub fn super_users(&self) -> String {
        let users: Vec<_> = self.super_users.iter().map(Principal::to_string).collect();
        users.join(";")
    }

    pub fn set_super_users(&mut self, text: &str) -> Result<(), PolicyError> {
        let each = text.split(';').map(str::trim).filter(|one| !one.is_empty());
        let user = |one: &str| Principal::parse(one).ok_or_else(|| PolicyError::SuperUser(one.to_owned()));
        self.super_users = each.map(user).collect::<Result<_, _>>()?;
        Ok(())
    }
}
