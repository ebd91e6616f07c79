//! Names of what outlives a version of the program: those that it has made up are another operator's when one comes before it.

use crate::error::TopologyError;
use crate::graph::{Changelog, Graph};

/// Refuses generated names of changelogs and repartition topics, where the author wants to have given all of them (KIP-1111).
pub(super) fn check(graph: &mut Graph) {
    if !graph.explicit_names {
        return;
    }
    let stores = graph.stores.iter().filter(|store| matches!(store.changelog, Changelog::Topic(_)));
    let stores =
        stores.map(|store| (&*store.name, "a store, with Materialized::named or its operator's options"));
    let own = format!("{}-", graph.application_id);
    let topics = graph.repartitions.iter().map(|spec| spec.topic.strip_prefix(&own).unwrap_or(&spec.topic));
    let topics = topics.map(|topic| {
        (topic, "a repartition topic, with Grouped, Joined, StreamJoined or Repartitioned::named")
    });
    let refused = |(name, what): (&str, &str)| TopologyError::InvalidWindow {
        node: name.to_owned(),
        reason: format!("its name is generated, and explicit_names() asks for one: name {what}"),
    };
    let errors: Vec<_> = stores.chain(topics).filter(|(name, _)| is_generated(name)).map(refused).collect();
    graph.errors.extend(errors);
}

/// Whether a name has in it one that the graph has numbered.
fn is_generated(name: &str) -> bool {
    let is_number = |part: &str| part.len() == 10 && part.bytes().all(|byte| byte.is_ascii_digit());
    let begins = ["KSTREAM-", "KTABLE-", "STATE-STORE-"].iter().any(|prefix| name.contains(prefix));
    begins && name.split('-').any(is_number)
}

#[cfg(test)]
mod tests {
    use super::is_generated;

    #[test]
    fn generated_names_have_a_number_behind_the_operator() {
        for name in ["KSTREAM-AGGREGATE-0000000003-STORE", "KSTREAM-KEY-SELECT-0000000001-repartition"] {
            assert!(is_generated(name), "{name}");
        }
        for name in ["counts", "orders-2013060112", "KSTREAM-mine", "by-word-repartition"] {
            assert!(!is_generated(name), "{name}");
        }
    }
}
