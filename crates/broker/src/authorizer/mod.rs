//! Who may do what: the rules, and what holds beside them.
//!
//! Owns the answer that Kafka's StandardAuthorizer gives: super-users may do everything, then the rules decide, then
//! `allow.everyone.if.no.acl.found`. Refuses to know which API asks; that is in `api/rights.rs`.
//!
//! Invariant: without `authorizer.class.name` everybody may do everything, and no rule is looked at.

mod policy;

use std::net::IpAddr;
use std::sync::Arc;

use headwater_coordinator::{Asker, Client, Sight, Verdict};
use headwater_model::Principal;
use headwater_model::acl::{Operation, ResourceType};

pub use policy::{AuthorizerConfig, PolicyError, STANDARD_AUTHORIZER};

use crate::rules::Rules;
use crate::security::is_node;

/// Kafka asks for this name to learn what holds for a resource that no rule is about.
const SOME_NAME: &str = "hardcode";

#[derive(Clone)]
pub struct Authorizer {
    config: AuthorizerConfig,
    rules: Arc<Rules>,
}

impl Authorizer {
    pub fn new(config: AuthorizerConfig, rules: Arc<Rules>) -> Self {
        Self { config, rules }
    }

    pub fn is_on(&self) -> bool {
        self.config.enabled
    }

    pub fn is_super_user(&self, principal: &Principal) -> bool {
        self.config.super_users.contains(principal)
    }

    pub fn allows(
        &self,
        principal: &Principal,
        host: IpAddr,
        operation: Operation,
        kind: ResourceType,
        name: &str,
    ) -> bool {
        if !self.config.enabled || self.config.super_users.contains(principal) || is_node(principal) {
            return true;
        }
        let asker = Asker { principal, host: host.to_canonical() };
        match self.rules.acls().index.verdict(asker, operation, kind, name) {
            Verdict::Allowed => true,
            Verdict::Denied => false,
            Verdict::NoAcl => self.config.allow_if_no_acl,
        }
    }

    /// Whether something of the type may be used so, for all that can be said without its name.
    pub fn might_allow(
        &self,
        principal: &Principal,
        host: IpAddr,
        operation: Operation,
        kind: ResourceType,
    ) -> bool {
        let asker = Asker { principal, host: host.to_canonical() };
        self.config.allow_if_no_acl
            || self.allows(principal, host, operation, kind, SOME_NAME)
            || self.rules.acls().index.might_allow(asker, operation, kind)
    }

    /// Whether at least one resource of the type may be used so, whatever its name.
    pub fn allows_any(
        &self,
        principal: &Principal,
        host: IpAddr,
        operation: Operation,
        kind: ResourceType,
    ) -> bool {
        let asker = Asker { principal, host: host.to_canonical() };
        self.allows(principal, host, operation, kind, SOME_NAME)
            || self.rules.acls().index.allows_any(asker, operation, kind)
    }

    /// What may be done with a resource, as the bit field of `authorized_operations` (KIP-430).
    pub fn operations(&self, principal: &Principal, host: IpAddr, kind: ResourceType, name: &str) -> i32 {
        let allowed = supported(kind).iter().filter(|one| self.allows(principal, host, **one, kind, name));
        allowed.fold(0, |bits, operation| bits | 1 << operation.code())
    }
}

/// What members of groups see of the topics that regular expressions are about (KIP-848).
impl Sight for Authorizer {
    fn version(&self) -> u64 {
        self.rules.version()
    }

    fn sees(&self, client: &Client, topic: &str) -> bool {
        let host = client.host.trim_start_matches('/').parse();
        host.is_ok_and(|host| {
            self.allows(&client.principal, host, Operation::Describe, ResourceType::Topic, topic)
        })
    }
}

/// The operations that mean something for a type of resource.
fn supported(kind: ResourceType) -> &'static [Operation] {
    use Operation::*;
    match kind {
        ResourceType::Topic => &[Read, Write, Create, Describe, Delete, Alter, DescribeConfigs, AlterConfigs],
        ResourceType::Group => &[Read, Describe, Delete, DescribeConfigs, AlterConfigs],
        ResourceType::Cluster => {
            &[Create, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite, Alter, Describe]
        }
        ResourceType::TransactionalId => &[Describe, Write, TwoPhaseCommit],
        ResourceType::DelegationToken => &[Describe],
        ResourceType::User => &[CreateTokens, DescribeTokens],
    }
}

#[cfg(test)]
mod tests {
    use headwater_model::acl::{AclBinding, CLUSTER_NAME, PatternType, Permission, WILDCARD};

    use super::*;
    use crate::rules::RuleChange;

    const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn rules(of: &[(ResourceType, &str, &str, Operation, Permission)]) -> Arc<Rules> {
        let rules = Arc::new(Rules::default());
        let put = |&(resource, name, principal, operation, permission): &(_, &str, &str, _, _)| {
            RuleChange::Put(AclBinding {
                resource,
                name: name.to_owned(),
                pattern: PatternType::Literal,
                principal: principal.to_owned(),
                host: WILDCARD.to_owned(),
                operation,
                permission,
            })
        };
        rules.apply(of.iter().map(put).collect());
        rules
    }

    fn on() -> AuthorizerConfig {
        AuthorizerConfig { enabled: true, ..AuthorizerConfig::default() }
    }

    #[test]
    fn super_users_pass_every_deny_and_strangers_pass_nothing() {
        use {Operation::*, Permission::*, ResourceType::*};
        let mut config = on();
        config.set_super_users("User:root;User:CN=a;Team:ops").unwrap();
        let rules = rules(&[(Topic, "t", "User:*", All, Deny), (Topic, "u", "User:bob", Read, Allow)]);
        let authorizer = Authorizer::new(config, rules);
        let may = |principal: &str, name| {
            authorizer.allows(&Principal::parse(principal).unwrap(), HOST, Read, Topic, name)
        };
        assert!(may("User:root", "t") && may("User:CN=a", "t") && may("Team:ops", "t"));
        assert!(!may("User:ops", "u") && !may("User:bob", "t") && may("User:bob", "u"));
        assert!(!may("User:bob", "nobody knows"));
    }

    #[test]
    fn where_there_is_no_rule_everyone_may_only_when_told_so() {
        use {Operation::*, Permission::*, ResourceType::*};
        let rules = rules(&[(Topic, "t", "User:bob", Read, Allow)]);
        let authorizer =
            Authorizer::new(AuthorizerConfig { allow_if_no_acl: true, ..on() }, Arc::clone(&rules));
        let alice = Principal::user("alice");
        assert!(authorizer.allows(&alice, HOST, Write, Topic, "free"));
        assert!(!authorizer.allows(&alice, HOST, Read, Topic, "t"), "a rule about t is about everyone");
        let off = Authorizer::new(AuthorizerConfig::default(), rules);
        assert!(off.allows(&alice, HOST, Read, Topic, "t"));
    }

    #[test]
    fn who_may_write_to_one_topic_may_write_to_any() {
        use {Operation::*, Permission::*, ResourceType::*};
        let authorizer = Authorizer::new(on(), rules(&[(Topic, "t", "User:bob", Write, Allow)]));
        let any = |name: &str| authorizer.allows_any(&Principal::user(name), HOST, Write, Topic);
        assert!(any("bob") && !any("alice"));
    }

    #[test]
    fn who_is_allowed_nothing_of_a_type_has_nothing_to_look_for() {
        use {Operation::*, Permission::*, ResourceType::*};
        let rules = rules(&[
            (Group, "g", "User:bob", Read, Allow),
            (Group, "g", "User:bob", Read, Deny),
            (Group, "g", "User:eve", Describe, Deny),
            (Topic, "t", "User:eve", All, Allow),
        ]);
        let might = |config: AuthorizerConfig, name: &str| {
            let authorizer = Authorizer::new(config, Arc::clone(&rules));
            authorizer.might_allow(&Principal::user(name), HOST, Describe, Group)
        };
        assert!(might(on(), "bob") && !might(on(), "eve") && !might(on(), "alice"));
        assert!(might(AuthorizerConfig { allow_if_no_acl: true, ..on() }, "alice"));
        assert!(might(AuthorizerConfig::default(), "alice"), "without rules that count");
    }

    #[test]
    fn authorized_operations_are_those_that_are_allowed() {
        use {Operation::*, Permission::*, ResourceType::*};
        let of = [(Topic, "t", "User:bob", Read, Allow), (Cluster, CLUSTER_NAME, "User:bob", All, Allow)];
        let authorizer = Authorizer::new(on(), rules(&of));
        let bob = Principal::user("bob");
        assert_eq!(authorizer.operations(&bob, HOST, Topic, "t"), 1 << 3 | 1 << 8);
        let all = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;
        assert_eq!(authorizer.operations(&bob, HOST, Cluster, CLUSTER_NAME), all);
        assert_eq!(authorizer.operations(&Principal::user("eve"), HOST, Topic, "t"), 0);
    }
}
