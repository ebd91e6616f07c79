//! Which protocol transactions speak (KIP-890): the second where the cluster has finalized `transaction.version` 2, and
//! the first where it has not. HEADWATER_TEST_TRANSACTION_VERSION says what it must have finalized, where that is known.

use std::collections::HashMap;

use headwater_client::{Committed, GroupMetadata, Isolation};
use headwater_model::TopicPartition;

use crate::support::{named, read_all, record, send, topic, transactional, unique, values};
use crate::wire;

const ROUNDS: usize = 4;

/// Every other one is aborted.
fn commits(round: usize) -> bool {
    round.is_multiple_of(2)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_speaks_what_the_cluster_has_finalized() {
    wire::listen();
    let name = unique("protocol");
    let Some(client) = named(&name).await else { return };
    let level = client.finalized_level("transaction.version");
    if let Ok(expected) = std::env::var("HEADWATER_TEST_TRANSACTION_VERSION") {
        assert_eq!(level.to_string(), expected);
    }
    let topic = topic(&client, 2).await;
    let (group, at) = (GroupMetadata::simple(unique("group")), TopicPartition::new(&topic, 0));
    let producer = transactional(&client, &unique("tx")).await;
    for round in 0..ROUNDS {
        producer.begin_transaction().await.unwrap();
        for partition in [0, 1, 0] {
            send(&producer, record(&topic, partition, format!("{round}"))).await;
        }
        let offset = round as i64;
        let offsets =
            HashMap::from([(at.clone(), Committed { offset, leader_epoch: None, metadata: String::new() })]);
        producer.send_offsets(&group, &offsets).await.unwrap();
        match commits(round) {
            true => producer.commit_transaction().await.unwrap(),
            false => producer.abort_transaction().await.unwrap(),
        }
    }
    let asked = |api| wire::asked(&name, api);
    let (added, groups) = (asked("AddPartitionsToTxn"), asked("AddOffsetsToTxn"));
    let (ends, renewals) = (asked("EndTxn"), asked("InitProducerId").len() - 1);
    let produced = asked("Produce");
    match level {
        2.. => {
            assert!(added.is_empty() && groups.is_empty(), "{added:?} {groups:?}");
            assert!(!produced.is_empty() && produced.iter().all(|version| *version == 12), "{produced:?}");
            assert!(asked("TxnOffsetCommit").iter().all(|version| *version == 5));
            assert!(ends.len() >= ROUNDS && ends.iter().all(|version| *version == 5), "{ends:?}");
            assert_eq!(renewals, 0, "every end has brought an epoch");
        }
        _ => {
            assert!(added.len() >= ROUNDS && groups.len() >= ROUNDS, "{added:?} {groups:?}");
            assert!(!produced.is_empty() && produced.iter().all(|version| *version <= 11), "{produced:?}");
            assert!(ends.len() >= ROUNDS && ends.iter().all(|version| *version <= 4), "{ends:?}");
        }
    }
    let mut committed = values(&read_all(&client, &topic, Isolation::Committed).await);
    committed.sort();
    assert_eq!(committed, ["0", "0", "0", "2", "2", "2"]);
    let position = client.committed(&group.group_id, Some(std::slice::from_ref(&at))).await.unwrap();
    assert_eq!(position[&at].offset, 2);
}
