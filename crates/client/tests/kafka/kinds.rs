//! Records that do not fit the kind of their stream are refused: by the broker where it knows of kinds, else by the
//! producer, which keeps to what the catalog says.

use headwater_client::{
    Client, ClientConfig, ErrorCode, Isolation, NewTopic, ProduceRecord, Producer, ProducerConfig,
};
use headwater_model::StreamKind;

use crate::support::{bootstrap, client, producer, read_all, security, topic, unique, values};

fn record(topic: &str, key: Option<&str>, value: Option<&str>) -> ProduceRecord {
    let text = |text: &str| text.to_owned().into();
    ProduceRecord {
        topic: topic.to_owned(),
        key: key.map(text),
        value: value.map(text),
        ..ProduceRecord::default()
    }
}

async fn again() -> Client {
    let config = ClientConfig::new(bootstrap().expect("a broker"), "headwater-client-tests-again")
        .security(security());
    Client::connect(config).await.expect("the broker answers")
}

const KIND: &str = "headwater.stream.kind";

/// Headwater's own broker goes by the topic's configuration, whatever the catalog says, and producers leave it to that.
async fn decides_itself(client: &Client) -> bool {
    let name = topic(client, 1).await;
    let configs = client.topic_configs(&name).await.expect("described");
    client.delete_topic(&name).await.expect("deleted");
    configs.iter().any(|entry| entry.name == KIND)
}

/// A topic of the kind, said where the broker's producers look for it.
async fn of_kind(client: &Client, kind: StreamKind, by_configuration: bool) -> String {
    let name = unique("kind");
    let wanted = NewTopic::new(&name, 1);
    let wanted = if by_configuration { wanted.config(KIND, kind.name()) } else { wanted };
    client.create_topic(wanted).await.expect("created");
    if !by_configuration {
        client.announce_kind(&name, kind).await.expect("announced");
    }
    name
}

#[tokio::test]
async fn records_that_do_not_fit_the_kind_of_their_stream_are_refused() {
    let Some(client) = client().await else { return };
    let by_configuration = decides_itself(&client).await;
    let cases = [
        (
            StreamKind::Entity,
            record("", None, Some("nobody")),
            "needs the entity's id as key of every record",
        ),
        (StreamKind::Keyed, record("", None, Some("fact")), "needs a key in every record"),
        (StreamKind::Keyed, record("", Some("ada"), None), "takes no null values"),
        (StreamKind::Unkeyed, record("", Some("ada"), Some("fact")), "takes no keys"),
    ];
    for (kind, wrong, words) in cases {
        let name = of_kind(&client, kind, by_configuration).await;
        // Whoever connects later knows it, too.
        let client = again().await;
        let producer = producer(&client).await;
        // The broker says so in its answer, the producer before it sends anything.
        let refused = match producer.send(ProduceRecord { topic: name.clone(), ..wrong }).await {
            Ok(delivery) => delivery.await.expect_err("refused by the broker"),
            Err(refused) => refused,
        };
        assert_eq!(refused.code(), Some(ErrorCode::InvalidRecord), "{refused}");
        let expected = format!("headwater.stream.kind={}", kind.name());
        assert!(refused.to_string().contains(words) && refused.to_string().contains(&expected), "{refused}");
        let key = (kind != StreamKind::Unkeyed).then_some("ada");
        producer.send(record(&name, key, Some("fits"))).await.expect("it fits").await.expect("appended");
        let read = read_all(&client, &name, Isolation::Uncommitted).await;
        assert_eq!(values(&read), ["fits"], "nothing that was refused is there");
        client.delete_topic(&name).await.expect("deleted");
    }
}

#[tokio::test]
async fn a_tombstone_fits_an_entity_and_a_kind_may_be_taken_back() {
    let Some(client) = client().await else { return };
    let name = topic(&client, 1).await;
    client.announce_kind(&name, StreamKind::Entity).await.expect("announced");
    let first = producer(&client).await;
    first.send(record(&name, Some("ada"), None)).await.expect("a tombstone").await.expect("appended");
    client.withdraw_kind(&name).await.expect("withdrawn");
    assert_eq!(client.kind_of(&name).await.expect("read"), StreamKind::Unspecified);
    let free = producer(&client).await;
    free.send(record(&name, None, Some("anything"))).await.expect("nobody says").await.expect("appended");
    client.announce_kind(&name, StreamKind::Keyed).await.expect("announced again");
    let config = ProducerConfig { keeps_kinds: false, ..ProducerConfig::default() };
    let told_not_to = Producer::new(&client, config).await.expect("a producer");
    told_not_to
        .send(record(&name, None, Some("anything")))
        .await
        .expect("told not to")
        .await
        .expect("appended");
    client.delete_topic(&name).await.expect("deleted");
    // The next topic by that name is nobody's entity.
    client.withdraw_kind(&name).await.expect("withdrawn");
    client.create_topic(NewTopic::new(&name, 1)).await.expect("created");
    assert_eq!(client.kind_of(&name).await.expect("read"), StreamKind::Unspecified);
    client.delete_topic(&name).await.expect("deleted");
}
