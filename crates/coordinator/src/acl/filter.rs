//! Which rules a filter names (KIP-290).

use headwater_model::acl::{AclBinding, AclFilter, PatternFilter, PatternType, WILDCARD};

/// Whether the filter names the rule.
pub fn matches(filter: &AclFilter, acl: &AclBinding) -> bool {
    let is = |wanted: &Option<String>, text: &str| wanted.as_ref().is_none_or(|wanted| wanted == text);
    filter.resource.is_none_or(|resource| resource == acl.resource)
        && matches_pattern(filter, acl)
        && is(&filter.principal, &acl.principal)
        && is(&filter.host, &acl.host)
        && filter.operation.is_none_or(|operation| operation == acl.operation)
        && filter.permission.is_none_or(|permission| permission == acl.permission)
}

fn matches_pattern(filter: &AclFilter, acl: &AclBinding) -> bool {
    let of_type = match filter.pattern {
        PatternFilter::Any | PatternFilter::Match => true,
        PatternFilter::Exactly(pattern) => pattern == acl.pattern,
    };
    let Some(name) = &filter.name else { return of_type };
    of_type
        && match (filter.pattern, acl.pattern) {
            (PatternFilter::Match, PatternType::Literal) => *name == acl.name || acl.name == WILDCARD,
            (PatternFilter::Match, PatternType::Prefixed) => name.starts_with(&acl.name),
            _ => *name == acl.name,
        }
}
