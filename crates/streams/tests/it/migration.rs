//! What becomes of the state of one version when another follows, and what is told of operators that are not deterministic.

use std::collections::BTreeSet;
use std::time::Duration;

use headwater_streams::serdes::{i64, nullable, string};
use headwater_streams::{
    Called, ChangeSafety, Consumed, Fate, Grouped, KStream, Materialized, Migration, MigrationRefused,
    Nondeterminism, Processor, ProcessorContext, ProcessorError, Produced, PunctuationType, Renames,
    StreamsBuilder, Topology, TopologyTestDriver, partitions_needed,
};

fn topology(build: impl Fn(&StreamsBuilder)) -> Topology {
    let builder = StreamsBuilder::new("shop");
    build(&builder);
    builder.build().unwrap()
}

fn orders(builder: &StreamsBuilder) -> KStream<String, String> {
    builder.stream("orders", Consumed::with(string(), string()))
}

fn count(stream: &KStream<String, String>, store: Option<&str>) {
    let materialized = store.map_or_else(Materialized::new, Materialized::named);
    stream.group_by_key(Grouped::with(string(), string())).count(materialized);
}

fn by_value(stream: &KStream<String, String>, name: &str, store: &str) {
    let grouped = Grouped::with(string(), string()).named(name);
    stream.group_by(|_, value| value.clone(), grouped).count(Materialized::named(store));
}

fn renames(pairs: &[(&str, &str)]) -> Renames {
    Renames::new(pairs.iter().map(|(old, new)| ((*old).to_owned(), (*new).to_owned())))
}

fn between(old: &Topology, new: &Topology, pairs: &[(&str, &str)]) -> Result<Migration, MigrationRefused> {
    Migration::between(&old.describe(), &new.describe(), &renames(pairs), &[])
}

fn fates(migration: &Migration) -> Vec<(&str, &Fate)> {
    migration.stores.iter().map(|step| (step.store.as_str(), &step.fate)).collect()
}

fn copies(migration: &Migration) -> Vec<(&str, &str)> {
    migration.copies.iter().map(|copied| (copied.from.as_str(), copied.to.as_str())).collect()
}

#[test]
fn a_generated_name_is_followed_to_its_new_number_and_a_given_one_where_its_author_says() {
    let old = topology(|builder| {
        count(&orders(builder), None);
        by_value(&builder.stream("bills", Consumed::with(string(), string())), "by-value", "values");
    });
    let new = topology(|builder| {
        count(&orders(builder).filter(|_, value| value != "x"), None);
        by_value(&builder.stream("bills", Consumed::with(string(), string())), "by-kind", "kinds");
    });
    let pairs = [("values", "kinds"), ("by-value", "by-kind")];
    let migration = between(&old, &new, &pairs).unwrap();
    let expected = [
        (
            "shop-KSTREAM-AGGREGATE-0000000001-STORE-changelog",
            "shop-KSTREAM-AGGREGATE-0000000002-STORE-changelog",
        ),
        ("shop-values-changelog", "shop-kinds-changelog"),
        ("shop-by-value-repartition", "shop-by-kind-repartition"),
    ];
    assert_eq!(copies(&migration).into_iter().collect::<BTreeSet<_>>(), BTreeSet::from(expected));
    assert_eq!(migration.again, None);
    // Without a word of its author, what is gone and what is new have nothing to do with each other.
    let silent = between(&old, &new, &[]).unwrap();
    assert!(
        fates(&silent).contains(&("kinds", &Fate::New)) && fates(&silent).contains(&("values", &Fate::Gone))
    );
    assert_eq!(silent.left, ["shop-by-value-repartition"]);
    let wrong = between(&old, &new, &[("valeus", "kinds")]).unwrap_err();
    assert_eq!(wrong, MigrationRefused::UnknownName { name: "valeus".to_owned() });
    let nowhere = between(&old, &new, &[("values", "knids")]).unwrap_err();
    assert!(matches!(nowhere, MigrationRefused::NoSuchName { .. }), "{nowhere}");
    assert!(between(&old, &old, &[]).unwrap().is_empty());
}

#[test]
fn generated_names_that_could_be_either_are_refused() {
    let two = topology(|builder| {
        let orders = orders(builder);
        count(&orders, None);
        count(&orders.filter(|_, value| value != "x"), None);
    });
    let other_one =
        topology(|builder| count(&orders(builder).map_values(|value| value).filter(|_, _| true), None));
    let refused = between(&two, &other_one, &[]).unwrap_err();
    assert!(matches!(refused, MigrationRefused::Ambiguous { .. }), "{refused}");
    let said = [("KSTREAM-AGGREGATE-0000000003-STORE", "KSTREAM-AGGREGATE-0000000003-STORE")];
    let migration = between(&two, &other_one, &said).unwrap();
    let expected = [
        ("KSTREAM-AGGREGATE-0000000003-STORE", &Fate::Kept),
        ("KSTREAM-AGGREGATE-0000000001-STORE", &Fate::Gone),
    ];
    assert_eq!(fates(&migration), expected);
    // The second one gets the name that the first one had.
    let shifted = topology(|builder| {
        let orders = orders(builder).filter(|_, _| true).filter(|_, _| true);
        count(&orders, None);
        count(&orders.filter(|_, value| value != "x"), None);
    });
    let taken = between(&two, &shifted, &[]).unwrap_err();
    assert!(matches!(taken, MigrationRefused::NameTaken { .. }), "{taken}");
    // The same name for something that reads another topic.
    let swapped =
        topology(|builder| count(&builder.stream("bills", Consumed::with(string(), string())), None));
    let one = topology(|builder| count(&orders(builder), None));
    let refused = between(&one, &swapped, &[]).unwrap_err();
    assert!(matches!(refused, MigrationRefused::Ambiguous { .. }), "{refused}");
}

#[test]
fn of_operators_that_look_alike_none_gets_the_state_of_another() {
    let filtered = |values: &'static [&'static str]| {
        topology(move |builder| {
            let orders = orders(builder);
            for value in values {
                count(&orders.filter(move |_, found| found != *value), None);
            }
        })
    };
    let (two, one) = (filtered(&["x", "y"]), filtered(&["y"]));
    for (old, new) in [(&two, &one), (&one, &two)] {
        let refused = between(old, new, &[]).unwrap_err();
        assert!(matches!(refused, MigrationRefused::Ambiguous { .. }), "{refused}");
    }
    let (first, second) = ("KSTREAM-AGGREGATE-0000000002-STORE", "KSTREAM-AGGREGATE-0000000004-STORE");
    let said = between(&two, &one, &[(first, first)]).unwrap();
    assert_eq!(fates(&said), [(first, &Fate::Kept), (second, &Fate::Gone)]);
    assert!(between(&two, &filtered(&["y", "x"]), &[]).unwrap().is_empty(), "what functions do is not seen");

    // One that looks otherwise is told apart, wherever it stands.
    let mapped = |first: bool| {
        topology(move |builder| {
            let orders = orders(builder);
            for mapped in [first, !first] {
                match mapped {
                    true => count(&orders.map_values(|value| value), None),
                    false => count(&orders.filter(|_, _| true), None),
                }
            }
        })
    };
    let refused = between(&mapped(true), &mapped(false), &[]).unwrap_err();
    assert!(matches!(refused, MigrationRefused::Ambiguous { .. }), "{refused}");
    let refused = between(&mapped(true), &one, &[]).unwrap_err();
    assert!(matches!(refused, MigrationRefused::Ambiguous { .. }), "{refused}");
}

#[test]
fn a_generated_operator_that_comes_behind_the_others_and_looks_otherwise_begins_empty() {
    let build = |more: bool| {
        topology(move |builder| {
            let orders = orders(builder);
            count(&orders, None);
            if more {
                count(&orders.filter(|_, _| true), None);
            }
        })
    };
    let migration = between(&build(false), &build(true), &[]).unwrap();
    let expected = [
        ("KSTREAM-AGGREGATE-0000000001-STORE", &Fate::Kept),
        ("KSTREAM-AGGREGATE-0000000003-STORE", &Fate::New),
    ];
    assert_eq!(fates(&migration), expected);
    assert_eq!(fates(&between(&build(true), &build(false), &[]).unwrap())[1].1, &Fate::Gone);
}

#[test]
fn what_is_processed_again_takes_along_all_that_topics_join_it_to_and_nothing_else() {
    let build = |kind: &'static str| {
        topology(move |builder| {
            let orders = orders(builder);
            count(&orders, Some("by-key"));
            let grouped =
                orders.group_by(|_, value| value.clone(), Grouped::with(string(), string()).named("g"));
            match kind {
                "count" => drop(grouped.count(Materialized::named("behind"))),
                _ => drop(grouped.reduce(|a, b| a + &b, Materialized::named("behind"))),
            }
            count(&builder.stream("bills", Consumed::with(string(), string())), Some("bills"));
        })
    };
    let migration = between(&build("count"), &build("reduce"), &[]).unwrap();
    let again = migration.again.as_ref().unwrap();
    assert_eq!(
        (&again.sources[..], &again.skipped[..]),
        (&["orders".to_owned()][..], &["shop-g-repartition".to_owned()][..])
    );
    assert!(matches!(
        fates(&migration).iter().find(|(name, _)| *name == "by-key").unwrap().1,
        Fate::Rebuilt { .. }
    ));
    assert!(fates(&migration).contains(&("bills", &Fate::Kept)));
    let asked = Migration::between(
        &build("count").describe(),
        &build("count").describe(),
        &Renames::default(),
        &["bills".to_owned()],
    );
    assert_eq!(asked.unwrap().again.unwrap().sources, ["bills"]);
}

#[test]
fn the_partitions_that_a_description_needs_are_those_that_its_topology_makes() {
    let built = topology(|builder| {
        let orders = orders(builder);
        count(&orders, Some("by-key"));
        by_value(&orders, "g", "by-value");
        let bills = builder.stream::<String, String>("bills", Consumed::with(string(), string()));
        by_value(&bills.merge(&orders), "h", "merged");
    });
    let existing = |topic: &str| match topic {
        "orders" => Some(3),
        "bills" => Some(5),
        _ => None,
    };
    let made = built.internal_topics(&existing).unwrap();
    let made = made.into_iter().map(|topic| (topic.name, topic.partitions)).collect();
    assert_eq!(partitions_needed(&built.describe(), &existing), made);
}

/// Forwards what time it is.
struct Clock;

impl Processor<String, String, String, i64> for Clock {
    fn init(&mut self, cx: &mut ProcessorContext<'_, '_, String, i64>) -> Result<(), ProcessorError> {
        cx.schedule(Duration::from_secs(1), PunctuationType::WallClock);
        Ok(())
    }

    fn process(
        &mut self,
        _: String,
        _: String,
        _: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<(), ProcessorError> {
        Ok(())
    }
}

fn restless() -> Topology {
    topology(|builder| {
        let towns =
            builder.global_table("towns", Consumed::with(string(), string()), Materialized::named("towns"));
        let orders = orders(builder);
        orders.process(|| Clock, &[]).named("clock").to("ticks", Produced::with(string(), i64()));
        orders
            .call(|_, value| async move { Ok::<_, String>(value) }, Called::named("rating"))
            .to("rated", Produced::with(string(), string()));
        orders
            .join_global(&towns, |_, value| Some(value.clone()), |value, town| format!("{value}{town}"))
            .named("in-town")
            .to("towns-of-orders", Produced::with(string(), string()));
        orders
            .map_values(|value| value)
            .named("dice")
            .nondeterministic("draws a number")
            .to("drawn", Produced::with(string(), string()));
    })
}

#[test]
fn describe_and_diff_tell_which_operators_may_have_other_results_the_next_time() {
    let built = restless();
    let told = |topology: &Topology, name: &str| {
        let parts = topology.describe().subtopologies;
        let mut nodes = parts.into_iter().flat_map(|part| part.nodes);
        nodes.find(|node| node.name == name).unwrap().nondeterminism
    };
    assert_eq!(told(&built, "rating"), [Nondeterminism::OutsideCall]);
    assert_eq!(told(&built, "in-town"), [Nondeterminism::GlobalTable]);
    assert_eq!(told(&built, "dice"), [Nondeterminism::Declared("draws a number".to_owned())]);
    assert_eq!(told(&built, "clock"), [], "nobody has run it");
    // A task that has begun is enough.
    let mut driver = TopologyTestDriver::new(built.clone()).unwrap();
    driver.pipe("orders", (&string(), &string()), (&"k".to_owned(), &"v".to_owned()), 0).unwrap();
    assert_eq!(told(&built, "clock"), [Nondeterminism::WallClock]);
    let text = built.describe().to_string();
    assert!(text.contains("   Not deterministic: clock (wall clock)\n"), "{text}");
    assert!(text.contains("   Not deterministic: dice (declared: draws a number)\n"), "{text}");
    let json = serde_json::to_string(&built.describe()).unwrap();
    assert!(json.contains(r#""nondeterminism":["outside_call"]"#), "{json}");
    assert_eq!(
        serde_json::from_str::<headwater_streams::TopologyDescription>(&json).unwrap(),
        built.describe()
    );

    let calm = topology(|builder| {
        orders(builder).filter(|_, _| true).to("rated", Produced::with(string(), string()));
    });
    let diff = calm.describe().diff(&built.describe());
    let changes: Vec<_> = diff.changes.iter().map(|change| (change.safety, change.change.as_str())).collect();
    assert!(
        changes.contains(&(ChangeSafety::Safe, "rating is not deterministic: outside call")),
        "{changes:?}"
    );
    let back = built.describe().diff(&calm.describe()).to_string();
    assert!(back.contains("rating had a reason"), "{back}");
    assert!(!calm.describe().to_string().contains("Not deterministic"));
}

#[test]
fn a_rebuild_names_what_may_come_out_otherwise() {
    let build = |called: bool| {
        topology(move |builder| {
            let orders = orders(builder);
            let rated = match called {
                true => {
                    orders.call(|_, value| async move { Ok::<_, String>(value) }, Called::named("rating"))
                }
                false => orders.map_values(|value| value),
            };
            let grouped = rated.group_by_key(Grouped::with(string(), string()));
            grouped
                .reduce(|_, new| new, Materialized::named("ratings"))
                .to_stream()
                .to("out", Produced::with(string(), nullable(string())));
        })
    };
    let (old, new) = (build(false).describe(), build(true).describe());
    let migration = Migration::between(&old, &new, &Renames::default(), &["ratings".to_owned()]).unwrap();
    assert_eq!(migration.again.unwrap().nondeterministic, ["rating"]);
}
