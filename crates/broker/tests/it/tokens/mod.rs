//! OAUTHBEARER end to end: keys by https that change and go away, tokens from an endpoint, sessions that end.

mod issuer;

use std::path::Path;
use std::time::{Duration, Instant};

use headwater_broker::Broker;
use headwater_client::{
    Client, ClientConfig, ClientError, NewTopic, ProduceRecord, Producer, ProducerConfig, Security,
};
use issuer::{Issuer, Key};

use crate::common::certificates::Authority;
use crate::common::config;

async fn start(directory: &Path, settings: &[&str]) -> Broker {
    let mut config = config(&directory.join("data"));
    let users = directory.join("users");
    std::fs::write(&users, "alice=wonderland\n").expect("a file");
    let users = format!("headwater.sasl.users.file={}", users.display());
    let common = [
        "listeners=SASL_PLAINTEXT://127.0.0.1:0",
        &users,
        "sasl.oauthbearer.expected.audience=kafka",
        "sasl.oauthbearer.jwks.endpoint.refresh.ms=100",
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms=10",
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms=50",
        "sasl.login.connect.timeout.ms=500",
    ];
    for setting in common.iter().chain(settings) {
        config.set(setting).expect("a setting");
    }
    Broker::start(config).await.expect("the broker starts")
}

async fn connect(broker: &Broker, security: &str) -> Result<Client, ClientError> {
    let security = Security::parse(security).expect("settings");
    Client::connect(ClientConfig::new(broker.bootstrap(), "test").security(security)).await
}

/// Whether a token lets its subject in.
async fn is_accepted(broker: &Broker, directory: &Path, token: &str) -> bool {
    let file = directory.join("token");
    std::fs::write(&file, token).expect("a file");
    let settings = format!(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=OAUTHBEARER\nsasl.oauthbearer.token.endpoint.url=file://{}\n",
        file.display()
    );
    connect(broker, &settings).await.is_ok()
}

async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(30), "not after {:?}: {what}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn keys_come_by_https_follow_a_rotation_and_stay_when_the_issuer_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "company");
    let (first, second) = (Key::new("k1"), Key::new("k2"));
    let issuer = Issuer::start(Some(&ca.issue("issuer", &["127.0.0.1"])), &[&first]).await;
    let keys = format!("sasl.oauthbearer.jwks.endpoint.url={}/keys", issuer.url);
    let trust = format!("ssl.truststore.location={}", ca.trust("company").display());
    let broker = start(dir.path(), &[&keys, &trust]).await;
    let accepted = async |token: &str| is_accepted(&broker, dir.path(), token).await;
    let (old, new) = (first.token(600), second.token(600));
    assert!(accepted(&old).await, "the issuer's certificate is of the truststore");
    assert!(!accepted(&new).await, "the key is not of the set");
    issuer.serve(&[&first, &second]);
    eventually("the new key counts", async || accepted(&new).await).await;
    issuer.serve(&[&second]);
    eventually("the old key counts no more", async || !accepted(&old).await).await;
    issuer.stop();
    let asked = Instant::now();
    while asked.elapsed() < Duration::from_millis(500) {
        assert!(accepted(&new).await, "keys that were good stay in use");
    }
}

#[tokio::test]
async fn without_the_issuer_a_broker_starts_and_takes_tokens_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let key = Key::new("k1");
    let issuer = Issuer::start(None, &[&key]).await;
    let keys = format!("sasl.oauthbearer.jwks.endpoint.url={}/keys", issuer.url);
    issuer.fail(true);
    let broker = start(dir.path(), &[&keys]).await;
    let by_password = "security.protocol=SASL_PLAINTEXT\nsasl.username=alice\nsasl.password=wonderland\n";
    connect(&broker, by_password).await.expect("passwords do not need the issuer");
    assert!(!is_accepted(&broker, dir.path(), &key.token(600)).await);
    issuer.fail(false);
    eventually("tokens count", async || is_accepted(&broker, dir.path(), &key.token(600)).await).await;
}

#[tokio::test]
async fn keys_in_a_file_that_is_not_there_are_an_error_of_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut wanted = config(&dir.path().join("data"));
    for setting in [
        "listeners=SASL_PLAINTEXT://127.0.0.1:0",
        "sasl.oauthbearer.expected.audience=kafka",
        "sasl.oauthbearer.jwks.endpoint.url=file:///nowhere/keys.json",
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms=0",
    ] {
        wanted.set(setting).unwrap();
    }
    let refused = Broker::start(wanted).await.err().unwrap().to_string();
    assert!(refused.contains("/nowhere/keys.json") && refused.contains("jwks.endpoint.url"), "{refused}");
}

#[tokio::test]
async fn our_client_fetches_tokens_renews_them_and_works_on_through_the_ends_of_its_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let key = Key::new("k1");
    let issuer = Issuer::start(None, &[&key]).await;
    issuer.lasting(2);
    let keys = format!("sasl.oauthbearer.jwks.endpoint.url={}/keys", issuer.url);
    let broker = start(dir.path(), &[&keys, "connections.max.reauth.ms=1000"]).await;
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "se cret\n").unwrap();
    let settings = |secret: &str| {
        format!(
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=OAUTHBEARER\nsasl.oauthbearer.token.endpoint.url={}/token\n\
             sasl.oauthbearer.client.credentials.client.id=billing\nsasl.oauthbearer.client.credentials.client.secret={secret}\n\
             sasl.oauthbearer.scope=kafka\nsasl.login.retry.backoff.ms=10\nsasl.login.retry.backoff.max.ms=2000\n",
            issuer.url
        )
    };
    let wrong = connect(&broker, &settings("guess")).await.err().unwrap().to_string();
    assert!(wrong.contains("/token") && wrong.contains("invalid_client"), "{wrong}");
    assert!(!wrong.contains("guess"), "{wrong}");

    issuer.hiccup(3);
    let client = connect(&broker, &settings(&format!("${{file:{}}}", secret.display()))).await.unwrap();
    client.create_topic(NewTopic::new("t", 1)).await.unwrap();
    let producer = Producer::new(&client, ProducerConfig::default()).await.unwrap();
    let begun = Instant::now();
    let mut written = 0;
    while begun.elapsed() < Duration::from_secs(5) {
        let record = ProduceRecord {
            topic: "t".to_owned(),
            value: Some(vec![b'v'; 10].into()),
            ..ProduceRecord::default()
        };
        let delivery = producer.send(record).await.unwrap();
        delivery.await.expect("a session that ends is no error");
        assert_eq!(client.topics().await.unwrap().len(), 1);
        written += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(written > 20, "{written}");
    let fetched = issuer.tokens();
    assert!((3..=30).contains(&fetched), "tokens are renewed, and not for each connection: {fetched}");
    broker.shutdown().await;
}
