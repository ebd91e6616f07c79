//! What the rules say to one question, in time that does not grow with their number.
//!
//! Rules lie under the name of their pattern: literal ones in one table, prefixed ones in another. A resource asks the
//! first for its name and for `*`, and the second once for each length that a prefix has.
//!
//! Invariant: no name is kept without rules, so that "there is no rule" and "no rule fits" stay apart.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use headwater_model::Principal;
use headwater_model::acl::{
    AclBinding, EVERYONE, Operation, PatternType, Permission, ResourceType, WILDCARD,
};

/// Who asks, and from where.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    pub principal: &'a Principal,
    pub host: IpAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    Denied,
    /// No rule is about the resource, whoever asks.
    NoAcl,
}

/// All rules, for looking up.
#[derive(Debug, Clone, Default)]
pub struct AclIndex {
    kinds: HashMap<ResourceType, OfType>,
}

#[derive(Debug, Clone, Default)]
struct OfType {
    literal: Names,
    prefixed: Names,
    /// How many prefixes there are of each length in bytes.
    lengths: BTreeMap<usize, usize>,
}

type Names = HashMap<String, Vec<Rule>>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    /// `None` for everyone.
    principal: Option<Principal>,
    host: Host,
    operation: Operation,
    permission: Permission,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Any,
    /// With how it is written: two rules of one address in other words go one by one, as they came.
    Address(IpAddr, String),
    /// Not an address, so nobody comes from there.
    Nowhere(String),
}

impl Rule {
    /// `None` for a principal that cannot be, which no rule that was created has.
    fn of(acl: &AclBinding) -> Option<Self> {
        let principal = match acl.principal.as_str() {
            EVERYONE => None,
            text => Some(Principal::parse(text)?),
        };
        let host = match acl.host.parse::<IpAddr>() {
            _ if acl.host == WILDCARD => Host::Any,
            Ok(address) => Host::Address(address.to_canonical(), acl.host.clone()),
            Err(_) => Host::Nowhere(acl.host.clone()),
        };
        Some(Self { principal, host, operation: acl.operation, permission: acl.permission })
    }

    fn is_about(&self, asker: Asker<'_>) -> bool {
        self.principal.as_ref().is_none_or(|principal| principal == asker.principal)
            && match &self.host {
                Host::Any => true,
                Host::Address(address, _) => *address == asker.host,
                Host::Nowhere(_) => false,
            }
    }

    /// READ and the like allow DESCRIBE, too; but who is denied READ may still DESCRIBE.
    fn covers(&self, operation: Operation) -> bool {
        use Operation::*;
        match (self.operation, operation) {
            (All, _) => true,
            (Read | Write | Delete | Alter, Describe) => self.permission == Permission::Allow,
            (AlterConfigs, DescribeConfigs) => self.permission == Permission::Allow,
            (own, asked) => own == asked,
        }
    }
}

impl AclIndex {
    pub fn insert(&mut self, acl: &AclBinding) {
        let Some(rule) = Rule::of(acl) else { return };
        let kind = self.kinds.entry(acl.resource).or_default();
        let rules = kind.names_mut(acl.pattern).entry(acl.name.clone()).or_default();
        if rules.contains(&rule) {
            return;
        }
        rules.push(rule);
        if rules.len() == 1 && acl.pattern == PatternType::Prefixed {
            *kind.lengths.entry(acl.name.len()).or_default() += 1;
        }
    }

    pub fn remove(&mut self, acl: &AclBinding) {
        let (Some(rule), Some(kind)) = (Rule::of(acl), self.kinds.get_mut(&acl.resource)) else { return };
        let Entry::Occupied(mut rules) = kind.names_mut(acl.pattern).entry(acl.name.clone()) else { return };
        rules.get_mut().retain(|one| *one != rule);
        if !rules.get().is_empty() {
            return;
        }
        rules.remove();
        if acl.pattern == PatternType::Prefixed
            && let Some(count) = kind.lengths.get_mut(&acl.name.len())
        {
            *count -= 1;
            if *count == 0 {
                kind.lengths.remove(&acl.name.len());
            }
        }
    }

    /// Whether the rules let the asker do this to the resource of this name.
    pub fn verdict(&self, asker: Asker<'_>, operation: Operation, kind: ResourceType, name: &str) -> Verdict {
        let Some(kind) = self.kinds.get(&kind) else { return Verdict::NoAcl };
        let mut verdict = Verdict::NoAcl;
        for rule in kind.about(name) {
            let fits = rule.covers(operation) && rule.is_about(asker);
            match rule.permission {
                Permission::Deny if fits => return Verdict::Denied,
                Permission::Allow if fits => verdict = Verdict::Allowed,
                _ if verdict == Verdict::NoAcl => verdict = Verdict::Denied,
                _ => {}
            }
        }
        verdict
    }

    /// Whether a rule lets the asker do this to something of the type, whatever others deny. Where none does, there is nothing
    /// to look for.
    pub fn might_allow(&self, asker: Asker<'_>, operation: Operation, kind: ResourceType) -> bool {
        let Some(kind) = self.kinds.get(&kind) else { return false };
        let mut rules = kind.literal.values().chain(kind.prefixed.values()).flatten();
        rules.any(|rule| {
            rule.permission == Permission::Allow && rule.covers(operation) && rule.is_about(asker)
        })
    }

    /// Whether the rules let the asker do this to at least one resource of the type, whatever its name (KIP-679).
    ///
    /// No operation implies another here, as in Kafka.
    pub fn allows_any(&self, asker: Asker<'_>, operation: Operation, kind: ResourceType) -> bool {
        let Some(kind) = self.kinds.get(&kind) else { return false };
        let names = |names: &'_ Names, permission: Permission| -> HashSet<String> {
            let fits = |rule: &Rule| {
                rule.permission == permission
                    && (rule.operation == operation || rule.operation == Operation::All)
                    && rule.is_about(asker)
            };
            names.iter().filter(|(_, rules)| rules.iter().any(fits)).map(|(name, _)| name.clone()).collect()
        };
        let denied = names(&kind.literal, Permission::Deny);
        if denied.contains(WILDCARD) {
            return false;
        }
        let allowed = names(&kind.literal, Permission::Allow);
        if allowed.contains(WILDCARD) {
            return true;
        }
        let denied_prefixes = names(&kind.prefixed, Permission::Deny);
        let is_free = |name: &String| !denied_prefixes.iter().any(|prefix| name.starts_with(prefix));
        let literal = allowed.iter().filter(|name| !denied.contains(*name)).any(is_free);
        literal || names(&kind.prefixed, Permission::Allow).iter().any(is_free)
    }
}

impl OfType {
    fn names_mut(&mut self, pattern: PatternType) -> &mut Names {
        match pattern {
            PatternType::Literal => &mut self.literal,
            PatternType::Prefixed => &mut self.prefixed,
        }
    }

    /// The rules whose patterns match the name.
    fn about<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Rule> {
        let literal = [name, WILDCARD].into_iter().filter_map(|name| self.literal.get(name));
        let prefixes = self.lengths.keys().filter_map(|length| name.get(..*length));
        literal.chain(prefixes.filter_map(|prefix| self.prefixed.get(prefix))).flatten()
    }
}
