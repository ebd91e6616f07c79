//! Client quotas: what is set, for whom it counts, and that a rate is kept.

use headwater_coordinator::*;
use proptest::prelude::*;

use crate::support::Bench;

/// Type and name; no name for the default.
type Part<'a> = (&'a str, Option<&'a str>);

fn entity(parts: &[Part<'_>]) -> Vec<(String, Option<String>)> {
    parts.iter().map(|(kind, name)| ((*kind).to_owned(), name.map(str::to_owned))).collect()
}

fn alter(bench: &mut Bench, parts: &[Part<'_>], key: &str, value: Option<f64>) -> Result<(), Failure> {
    let alteration = QuotaAlteration { entity: entity(parts), changes: vec![(key.to_owned(), value)] };
    match bench.ask(Request::AlterQuotas { alterations: vec![alteration], validate_only: false }) {
        Response::AlterQuotas(mut results) => results.remove(0),
        other => panic!("{other:?}"),
    }
}

fn table(bench: &Bench) -> QuotaTable {
    let mut table = QuotaTable::default();
    bench.coordinator.quotas().for_each(|record| table.put(record));
    table
}

#[test]
fn the_most_particular_limit_counts() {
    let mut bench = Bench::new();
    let (user, client, all_users, all_clients) =
        (("user", Some("u")), ("client-id", Some("c")), ("user", None), ("client-id", None));
    // From the least particular on: each new limit takes the place of the one before.
    let order: [(&[Part<'_>], bool, bool); 8] = [
        (&[all_clients], false, true),
        (&[client], false, true),
        (&[all_users], true, false),
        (&[all_users, all_clients], true, true),
        (&[all_users, client], true, true),
        (&[user], true, false),
        (&[user, all_clients], true, true),
        (&[user, client], true, true),
    ];
    for (n, (parts, by_user, by_client_id)) in order.into_iter().enumerate() {
        let limit = n as f64 + 1.0;
        alter(&mut bench, parts, "producer_byte_rate", Some(limit)).unwrap();
        let found = table(&bench).of_client(QuotaKey::ProducerByteRate, "u", "c");
        assert_eq!(found, Some(Applies { limit, by_user, by_client_id }), "{parts:?}");
    }
    assert_eq!(table(&bench).of_client(QuotaKey::ConsumerByteRate, "u", "c"), None);
    let other = table(&bench).of_client(QuotaKey::ProducerByteRate, "other", "x").map(|found| found.limit);
    assert_eq!(other, Some(4.0), "the default of all users' client ids");
    bench.restart();
    assert_eq!(bench.coordinator.quotas().count(), 8);
    alter(&mut bench, &[user, client], "producer_byte_rate", None).unwrap();
    assert_eq!(
        table(&bench).of_client(QuotaKey::ProducerByteRate, "u", "c").map(|found| found.limit),
        Some(7.0)
    );
}

#[test]
fn what_is_no_quota_is_refused_with_what_is_one() {
    let mut bench = Bench::new();
    let user = [("user", Some("u"))];
    let mut refused = |parts: &[Part<'_>], key, value: f64, says: &str| {
        let failure = alter(&mut bench, parts, key, Some(value)).unwrap_err();
        assert_eq!(failure.error, Error::InvalidRequest);
        assert!(failure.message.contains(says), "{}", failure.message);
    };
    refused(&[], "producer_byte_rate", 1.0, "empty");
    refused(&[("usr", Some("u"))], "producer_byte_rate", 1.0, "client-id");
    refused(&[("user", Some(""))], "producer_byte_rate", 1.0, "default");
    refused(&[user[0], user[0]], "producer_byte_rate", 1.0, "two");
    refused(&[user[0], ("ip", None)], "connection_creation_rate", 1.0, "alone");
    refused(&[("ip", Some("nowhere"))], "connection_creation_rate", 1.0, "IP address");
    refused(&user, "connection_creation_rate", 1.0, "controller_mutation_rate");
    refused(&user, "producer_byte_rate", 0.0, "above 0");
    refused(&user, "producer_byte_rate", 1.5, "whole");
    refused(&user, "request_percentage", f64::NAN, "above 0");
    let twice = QuotaAlteration {
        entity: entity(&user),
        changes: vec![("request_percentage".into(), Some(1.0)), ("request_percentage".into(), None)],
    };
    let answer = bench.ask(Request::AlterQuotas { alterations: vec![twice], validate_only: false });
    assert!(matches!(answer, Response::AlterQuotas(results) if results[0].is_err()));
    assert_eq!(bench.coordinator.quotas().count(), 0);
}

#[test]
fn filters_find_entities_by_their_parts() {
    let read = |parts: &[Part<'_>]| QuotaEntity::read(&entity(parts)).unwrap();
    let both = read(&[("user", Some("u")), ("client-id", None)]);
    let user = read(&[("user", Some("u"))]);
    let filter = |parts: Vec<(&str, EntityFilter)>, strict| {
        let parts = parts.into_iter().map(|(kind, filter)| (kind.to_owned(), filter)).collect();
        QuotaFilter::new(parts, strict).unwrap()
    };
    let named = || ("user", EntityFilter::Exactly("u".into()));
    assert!(filter(vec![named()], false).matches(&both) && !filter(vec![named()], true).matches(&both));
    assert!(filter(vec![named()], true).matches(&user));
    assert!(filter(vec![("client-id", EntityFilter::Default)], false).matches(&both));
    assert!(
        filter(vec![("client-id", EntityFilter::Any)], false).matches(&both),
        "the default is one of any"
    );
    assert!(!filter(vec![("client-id", EntityFilter::Any)], false).matches(&user));
    assert!(filter(vec![], false).matches(&user) && !filter(vec![], true).matches(&user));
    assert!(
        QuotaFilter::new(
            vec![("ip".into(), EntityFilter::Default), ("user".into(), EntityFilter::Default)],
            false
        )
        .is_err()
    );
}

proptest! {
    /// Uses come as they like, but never within a time to wait; between any two of them the rate is kept.
    #[test]
    fn who_waits_as_told_never_exceeds_the_rate_for_long(
        rate in 1.0f64..10_000.0,
        samples in 1..20i64,
        uses in prop::collection::vec((0..30_000i64, 0.0f64..200_000.0), 1..200),
    ) {
        let allowance = samples * 1_000;
        let mut now = 0;
        let mut bucket = Bucket::full(rate, allowance, now);
        let mut history: Vec<(i64, f64)> = Vec::new();
        for (pause, amount) in uses {
            now += pause;
            history.push((now, amount));
            now += bucket.spend(amount, rate, allowance, now);
        }
        for (from, (start, _)) in history.iter().enumerate() {
            let mut used = 0.0;
            for (at, amount) in &history[from..] {
                // What was used before this use, and was waited for.
                let most = rate * ((at - start + allowance) as f64 / 1e3);
                prop_assert!(used <= most * (1.0 + 1e-9) + 1e-6, "{used} of {most} between {start} and {at}");
                used += amount;
            }
        }
    }
}
