//! Transactions: all or nothing, offsets included, and one producer for each transactional id.

use std::collections::HashMap;

use headwater_client::{ClientError, Committed, GroupMetadata, Isolation, OffsetSpec};
use headwater_model::TopicPartition;

use crate::support::{client, producer, read_all, record, send, topic, transactional, unique, values};

#[tokio::test(flavor = "multi_thread")]
async fn committed_is_seen_and_aborted_is_not() {
    let Some(client) = client().await else { return };
    let name = topic(&client, 2).await;
    let producer = transactional(&client, &unique("tx")).await;
    for (round, commit) in [true, false, true, false].into_iter().enumerate() {
        producer.begin_transaction().await.unwrap();
        for i in 0..4 {
            send(&producer, record(&name, i % 2, format!("{round}:{i}"))).await;
        }
        producer.flush().await.unwrap();
        match commit {
            true => producer.commit_transaction().await.unwrap(),
            false => producer.abort_transaction().await.unwrap(),
        }
    }
    let mut committed = values(&read_all(&client, &name, Isolation::Committed).await);
    committed.sort();
    assert_eq!(committed, ["0:0", "0:1", "0:2", "0:3", "2:0", "2:1", "2:2", "2:3"]);
    assert_eq!(read_all(&client, &name, Isolation::Uncommitted).await.len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_holds_back_readers_of_committed_records() {
    let Some(client) = client().await else { return };
    let name = topic(&client, 1).await;
    let (open, plain) = (transactional(&client, &unique("tx")).await, producer(&client).await);
    open.begin_transaction().await.unwrap();
    send(&open, record(&name, 0, "open")).await;
    open.flush().await.unwrap();
    send(&plain, record(&name, 0, "after")).await;
    plain.flush().await.unwrap();
    let ask = [(TopicPartition::new(&name, 0), OffsetSpec::Latest)];
    let stable = client.list_offsets(&ask, Isolation::Committed).await.unwrap();
    let end = client.list_offsets(&ask, Isolation::Uncommitted).await.unwrap();
    assert_eq!((stable[&ask[0].0], end[&ask[0].0]), (0, 2));
    open.commit_transaction().await.unwrap();
    assert_eq!(values(&read_all(&client, &name, Isolation::Committed).await), ["open", "after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_committed_with_the_transaction_or_not_at_all() {
    let Some(client) = client().await else { return };
    let name = topic(&client, 1).await;
    let group = GroupMetadata::simple(unique("group"));
    let producer = transactional(&client, &unique("tx")).await;
    let at = TopicPartition::new(&name, 0);
    for (offset, commit) in [(5, true), (9, false)] {
        let offsets = HashMap::from([(
            at.clone(),
            Committed { offset, metadata: format!("m{offset}"), ..Committed::default() },
        )]);
        producer.begin_transaction().await.unwrap();
        send(&producer, record(&name, 0, "v")).await;
        producer.send_offsets(&group, &offsets).await.unwrap();
        match commit {
            true => producer.commit_transaction().await.unwrap(),
            false => producer.abort_transaction().await.unwrap(),
        }
        let committed = client.committed(&group.group_id, Some(std::slice::from_ref(&at))).await.unwrap();
        assert_eq!(committed[&at], Committed { offset: 5, metadata: "m5".into(), ..Committed::default() });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_fences_its_predecessor_and_aborts_what_it_left_open() {
    let Some(client) = client().await else { return };
    let (name, id) = (topic(&client, 1).await, unique("tx"));
    let old = transactional(&client, &id).await;
    old.begin_transaction().await.unwrap();
    send(&old, record(&name, 0, "old")).await;
    old.flush().await.unwrap();
    let new = transactional(&client, &id).await;
    let error = old.commit_transaction().await.unwrap_err();
    assert!(error.is_fenced() && !error.is_abortable(), "{error}");
    let again = old.begin_transaction().await.unwrap_err();
    assert!(again.is_fenced(), "{again}");
    new.begin_transaction().await.unwrap();
    send(&new, record(&name, 0, "new")).await;
    new.commit_transaction().await.unwrap();
    assert_eq!(values(&read_all(&client, &name, Isolation::Committed).await), ["new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_producer_learns_of_it_when_it_writes() {
    let Some(client) = client().await else { return };
    let (name, id) = (topic(&client, 1).await, unique("tx"));
    let old = transactional(&client, &id).await;
    old.begin_transaction().await.unwrap();
    send(&old, record(&name, 0, "before")).await;
    old.flush().await.unwrap();
    let _new = transactional(&client, &id).await;
    send(&old, record(&name, 0, "after")).await;
    let error = old.commit_transaction().await.unwrap_err();
    assert!(error.is_fenced(), "{error}");
    assert!(old.send(record(&name, 0, "never")).await.unwrap_err().is_fenced());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_batch_fails_the_transaction_which_can_be_aborted_and_followed_by_another() {
    let Some(client) = client().await else { return };
    let name = topic(&client, 1).await;
    let producer = transactional(&client, &unique("tx")).await;
    producer.begin_transaction().await.unwrap();
    send(&producer, record(&name, 0, "small")).await;
    producer.flush().await.unwrap();
    send(&producer, record(&name, 0, "x".repeat(3 << 20))).await;
    let error = producer.commit_transaction().await.unwrap_err();
    assert!(error.is_abortable(), "{error}");
    assert!(producer.send(record(&name, 0, "no")).await.unwrap_err().is_abortable());
    producer.abort_transaction().await.unwrap();
    for value in ["one", "two"] {
        producer.begin_transaction().await.unwrap();
        send(&producer, record(&name, 0, value)).await;
        producer.commit_transaction().await.unwrap();
    }
    assert_eq!(values(&read_all(&client, &name, Isolation::Committed).await), ["one", "two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_a_generation_that_is_gone_are_refused_and_abort_the_transaction() {
    let Some(client) = client().await else { return };
    let name = topic(&client, 1).await;
    let producer = transactional(&client, &unique("tx")).await;
    let stale =
        GroupMetadata { generation: 7, member_id: "gone".into(), ..GroupMetadata::simple(unique("group")) };
    let offsets =
        HashMap::from([(TopicPartition::new(&name, 0), Committed { offset: 1, ..Committed::default() })]);
    producer.begin_transaction().await.unwrap();
    let error = producer.send_offsets(&stale, &offsets).await.unwrap_err();
    assert!(error.is_abortable(), "{error}");
    assert!(producer.commit_transaction().await.unwrap_err().is_abortable());
    producer.abort_transaction().await.unwrap();
    producer.begin_transaction().await.unwrap();
    producer.commit_transaction().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_out_of_order_are_state_errors() {
    let Some(client) = client().await else { return };
    let name = topic(&client, 1).await;
    let plain = producer(&client).await;
    assert!(matches!(plain.begin_transaction().await, Err(ClientError::State(_))));
    let producer = transactional(&client, &unique("tx")).await;
    assert!(matches!(producer.send(record(&name, 0, "v")).await, Err(ClientError::State(_))));
    assert!(matches!(producer.commit_transaction().await, Err(ClientError::State(_))));
    assert!(matches!(producer.abort_transaction().await, Err(ClientError::State(_))));
    producer.begin_transaction().await.unwrap();
    assert!(matches!(producer.begin_transaction().await, Err(ClientError::State(_))));
    producer.abort_transaction().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_short_transactions_follow_each_other() {
    let Some(client) = client().await else { return };
    let name = topic(&client, 3).await;
    let producer = transactional(&client, &unique("tx")).await;
    for round in 0..30 {
        producer.begin_transaction().await.unwrap();
        for i in 0..20 {
            send(&producer, record(&name, i % 3, format!("{round}:{i}"))).await;
        }
        producer.commit_transaction().await.unwrap();
    }
    assert_eq!(read_all(&client, &name, Isolation::Committed).await.len(), 600);
}
