//! Access rules: what is created, found and deleted, and that looking up is what reading all rules would say.

use std::net::{IpAddr, Ipv4Addr};

use headwater_coordinator::*;
use headwater_model::Principal;
use headwater_model::acl::{
    AclBinding, AclFilter, EVERYONE, Operation, PatternFilter, PatternType, Permission, ResourceType,
    WILDCARD,
};
use proptest::prelude::*;

use crate::support::{self, Bench};

fn acl(
    pattern: PatternType,
    name: &str,
    principal: &str,
    operation: Operation,
    permission: Permission,
) -> AclBinding {
    AclBinding {
        resource: ResourceType::Topic,
        name: name.into(),
        pattern,
        principal: principal.into(),
        host: WILDCARD.into(),
        operation,
        permission,
    }
}

fn allow(name: &str, operation: Operation) -> AclBinding {
    acl(PatternType::Literal, name, "User:alice", operation, Permission::Allow)
}

fn create(bench: &mut Bench, acls: Vec<AclBinding>) -> Vec<Result<(), Failure>> {
    match bench.ask(Request::CreateAcls(acls)) {
        Response::CreateAcls(results) => results,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rule_that_is_there_is_not_written_again() {
    let mut bench = Bench::new();
    let rule = allow("orders", Operation::Read);
    assert_eq!(create(&mut bench, vec![rule.clone(), rule.clone()]), [Ok(()), Ok(())]);
    let records = bench.log.iter().filter(|record| matches!(record, StateRecord::Acl(_))).count();
    assert_eq!(records, 1);
    bench.restart();
    assert_eq!(bench.coordinator.acls().collect::<Vec<_>>(), [&rule]);
}

#[test]
fn what_is_not_a_rule_is_refused_alone() {
    let mut bench = Bench::new();
    let good = allow("orders", Operation::Read);
    let cluster = AclBinding { resource: ResourceType::Cluster, ..allow("mine", Operation::Alter) };
    let nameless = allow("", Operation::Read);
    let nobody = AclBinding { principal: "alice".into(), ..good.clone() };
    let results = create(&mut bench, vec![cluster, nameless, good, nobody]);
    let refused: Vec<_> = results.iter().map(|result| result.as_ref().err().map(|f| f.error)).collect();
    let invalid = Some(Error::InvalidRequest);
    assert_eq!(refused, [invalid, invalid, None, invalid]);
}

#[test]
fn a_filter_that_matches_a_resource_finds_wildcards_and_prefixes() {
    let mut bench = Bench::new();
    let prefix = acl(PatternType::Prefixed, "ord", EVERYONE, Operation::Write, Permission::Allow);
    let rules = vec![
        allow("orders", Operation::Read),
        allow(WILDCARD, Operation::Read),
        prefix,
        allow("other", Operation::Read),
    ];
    create(&mut bench, rules);
    let filter = |pattern| AclFilter { name: Some("orders".into()), pattern, ..AclFilter::default() };
    let found = |pattern| bench.coordinator.acls().filter(|acl| acl_matches(&filter(pattern), acl)).count();
    assert_eq!(found(PatternFilter::Match), 3);
    assert_eq!(found(PatternFilter::Any), 1);
    assert_eq!(found(PatternFilter::Exactly(PatternType::Prefixed)), 0);
    let deleted = bench.ask(Request::DeleteAcls(vec![filter(PatternFilter::Match), AclFilter::default()]));
    let Response::DeleteAcls(deleted) = deleted else { panic!("{deleted:?}") };
    assert_eq!(deleted.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1], "a rule goes with the first filter");
    bench.restart();
    assert_eq!(bench.coordinator.acls().count(), 0);
}

#[test]
fn of_two_rules_of_one_address_in_other_words_one_stays_when_the_other_goes() {
    let from = |host: &str| AclBinding { host: host.into(), ..allow("orders", Operation::Read) };
    let (short, long) = (from("10.0.0.1"), from("::ffff:10.0.0.1"));
    let mut index = AclIndex::default();
    let alice = Principal::user("alice");
    let asker = Asker { principal: &alice, host: address(1) };
    let says = |index: &AclIndex| index.verdict(asker, Operation::Read, ResourceType::Topic, "orders");
    index.insert(&short);
    index.insert(&long);
    index.remove(&short);
    assert_eq!(says(&index), Verdict::Allowed);
    index.remove(&long);
    assert_eq!(says(&index), Verdict::NoAcl);
}

/// As Kafka describes it: all rules that are about the resource are read; a DENY that fits decides.
fn naive(
    acls: &[AclBinding],
    asker: Asker<'_>,
    operation: Operation,
    kind: ResourceType,
    name: &str,
) -> Verdict {
    let about = |acl: &&AclBinding| {
        acl.resource == kind
            && match acl.pattern {
                PatternType::Literal => acl.name == name || acl.name == WILDCARD,
                PatternType::Prefixed => name.starts_with(&acl.name),
            }
    };
    let implied = |acl: &AclBinding| match operation {
        Operation::Describe => {
            [Operation::Read, Operation::Write, Operation::Delete, Operation::Alter].contains(&acl.operation)
        }
        Operation::DescribeConfigs => acl.operation == Operation::AlterConfigs,
        _ => false,
    };
    let fits = |acl: &AclBinding| {
        (acl.principal == EVERYONE || acl.principal == asker.principal.to_string())
            && (acl.host == WILDCARD || acl.host == asker.host.to_string())
            && (acl.operation == operation
                || acl.operation == Operation::All
                || (acl.permission == Permission::Allow && implied(acl)))
    };
    let about: Vec<_> = acls.iter().filter(about).collect();
    let any = |permission| about.iter().any(|acl| acl.permission == permission && fits(acl));
    match () {
        () if about.is_empty() => Verdict::NoAcl,
        () if any(Permission::Deny) => Verdict::Denied,
        () if any(Permission::Allow) => Verdict::Allowed,
        () => Verdict::Denied,
    }
}

/// Kafka's default `authorizeByResourceType`, without its shortcuts.
fn naive_any(acls: &[AclBinding], asker: Asker<'_>, operation: Operation, kind: ResourceType) -> bool {
    let fits = |acl: &&AclBinding| {
        acl.resource == kind
            && (acl.principal == EVERYONE || acl.principal == asker.principal.to_string())
            && (acl.host == WILDCARD || acl.host == asker.host.to_string())
            && (acl.operation == operation || acl.operation == Operation::All)
    };
    let fitting: Vec<_> = acls.iter().filter(fits).collect();
    let (denied, allowed): (Vec<_>, Vec<_>) =
        fitting.into_iter().partition(|acl| acl.permission == Permission::Deny);
    let covers = |deny: &AclBinding, allow: &AclBinding| match deny.pattern {
        PatternType::Literal => {
            deny.name == WILDCARD || (allow.pattern == PatternType::Literal && deny.name == allow.name)
        }
        // Whoever may do it to everything may do it to something outside of any prefix.
        PatternType::Prefixed => {
            let everything = allow.pattern == PatternType::Literal && allow.name == WILDCARD;
            !everything && allow.name.starts_with(&deny.name)
        }
    };
    allowed.iter().any(|allow| !denied.iter().any(|deny| covers(deny, allow)))
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[ab]{1,4}", 1 => "[aä]{1,3}", 1 => Just(WILDCARD.to_owned())]
}

fn principal() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just("User:alice".to_owned()), 2 => Just("User:bob".to_owned()),
        2 => Just(EVERYONE.to_owned()), 1 => Just("Team:alice".to_owned()),
    ]
}

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

fn binding() -> impl Strategy<Value = AclBinding> {
    let host =
        prop_oneof![3 => Just(WILDCARD.to_owned()), 1 => (0..3u8).prop_map(|n| address(n).to_string())];
    let kind = prop::sample::select(&ResourceType::ALL[..2]);
    let (pattern, permission) =
        (prop::sample::select(PatternType::ALL), prop::sample::select(Permission::ALL));
    (kind, name(), pattern, principal(), host, prop::sample::select(Operation::ALL), permission).prop_map(
        |(resource, name, pattern, principal, host, operation, permission)| AclBinding {
            resource,
            name,
            pattern,
            principal,
            host,
            operation,
            permission,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn looking_up_is_what_reading_all_rules_says(
        acls in prop::collection::vec(binding(), 0..24),
        gone in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        questions in prop::collection::vec((name(), principal(), 0..3u8, prop::sample::select(Operation::ALL)), 1..16),
    ) {
        let mut index = AclIndex::default();
        let mut left = acls.clone();
        acls.iter().for_each(|acl| index.insert(acl));
        for gone in gone.iter().filter(|_| !acls.is_empty()) {
            let gone = gone.get(&acls);
            index.remove(gone);
            left.retain(|acl| acl != gone);
        }
        for (name, principal, host, operation) in questions {
            let principal = Principal::parse(&principal).expect("a principal");
            let asker = Asker { principal: &principal, host: address(host) };
            let kind = ResourceType::Topic;
            let expected = naive(&left, asker, operation, kind, &name);
            prop_assert_eq!(index.verdict(asker, operation, kind, &name), expected, "{} {} {:?}", operation, name, left);
            let expected = naive_any(&left, asker, operation, kind);
            prop_assert_eq!(index.allows_any(asker, operation, kind), expected, "{} {:?}", operation, left);
        }
    }
}

#[test]
fn a_snapshot_holds_rules_and_quotas() {
    let mut bench = Bench::new();
    create(&mut bench, vec![allow("orders", Operation::Read), allow("orders", Operation::Write)]);
    let alteration = QuotaAlteration {
        entity: vec![("user".into(), None)],
        changes: vec![("producer_byte_rate".into(), Some(1024.0))],
    };
    bench.ask(Request::AlterQuotas { alterations: vec![alteration], validate_only: false });
    let mut other = Coordinator::new(support::settings(3));
    for record in bench.coordinator.snapshot() {
        assert_eq!(StateRecord::decode(&record.encode()), Ok(record.clone()));
        other.apply(&record, bench.now);
    }
    assert_eq!((other.acls().count(), other.quotas().count()), (2, 1));
    assert_eq!(other.snapshot(), bench.coordinator.snapshot());
}

#[test]
fn a_rule_with_an_unknown_code_does_not_decode() {
    let mut bytes = StateRecord::Acl(AclRecord(allow("orders", Operation::Read))).encode();
    let permission = bytes.last_mut().expect("bytes");
    *permission = 99;
    assert!(
        matches!(StateRecord::decode(&bytes), Err(DecodeError::Malformed(_))),
        "a DENY might be overlooked"
    );
}
