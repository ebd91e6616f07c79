//! TLS and SASL: those who belong in come in with our client, and nobody else does with anything.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use headwater_broker::Broker;
use headwater_client::{
    Client, ClientConfig, ClientError, Consumer, ConsumerConfig, NewTopic, ProduceRecord, Producer,
    ProducerConfig, Secret, Security,
};
use headwater_security::ScramMechanism;
use headwater_security::scram::ScramClient;
use headwater_wire::ErrorCode;
use headwater_wire::messages::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::certificates::Authority;
use crate::common::{self, Raw, batch, config};

async fn start(directory: &Path, settings: &[&str]) -> Broker {
    let mut config = config(&directory.join("data"));
    config.set("headwater.security.reload.interval.ms=20").expect("a setting");
    for setting in settings {
        config.set(setting).expect("a setting");
    }
    Broker::start(config).await.expect("the broker starts")
}

fn users(directory: &Path) -> String {
    let file = directory.join("users");
    std::fs::write(&file, "# first users\nalice=wonder land\nbob=builder\n").expect("a file");
    format!("headwater.sasl.users.file={}", file.display())
}

async fn sasl(directory: &Path, settings: &[&str]) -> Broker {
    let users = users(directory);
    let mut all = vec!["listeners=SASL_PLAINTEXT://127.0.0.1:0", users.as_str()];
    all.extend(settings);
    start(directory, &all).await
}

fn login(protocol: &str, mechanism: &str, user: &str, password: &str) -> String {
    format!(
        "security.protocol={protocol}\nsasl.mechanism={mechanism}\nsasl.username={user}\nsasl.password={password}\n"
    )
}

async fn connect(broker: &Broker, security: &str) -> Result<Client, ClientError> {
    let security = Security::parse(security).expect("settings");
    Client::connect(ClientConfig::new(broker.bootstrap(), "test").security(security)).await
}

/// Writes and reads enough for several TLS records and for what sendfile would send.
async fn write_and_read(client: &Client) {
    client.create_topic(NewTopic::new("t", 1)).await.expect("a topic");
    let producer = Producer::new(client, ProducerConfig::default()).await.expect("a producer");
    let value = Bytes::from(vec![b'v'; 100_000]);
    for _ in 0..20 {
        let record =
            ProduceRecord { topic: "t".to_owned(), value: Some(value.clone()), ..ProduceRecord::default() };
        drop(producer.send(record).await.expect("a delivery"));
    }
    producer.flush().await.expect("all is written");
    let mut consumer = Consumer::new(client, ConsumerConfig::default());
    let at = headwater_model::TopicPartition::new("t", 0);
    consumer.assign(vec![(at, 0)]);
    let mut read = 0;
    while read < 20 {
        for fetched in consumer.poll(Duration::from_secs(5)).await.expect("records") {
            assert!(fetched.records.iter().all(|record| record.value.as_ref() == Some(&value)));
            read += fetched.records.len();
        }
    }
}

/// Messages of the raw client that only SASL needs.
mod tokens {
    use super::*;

    pub async fn agree(raw: &mut Raw, mechanism: &str) -> i16 {
        let request = SaslHandshakeRequestData::default().with_mechanism(mechanism.to_owned().into());
        raw.call(&request, 1).await.error_code
    }

    pub async fn give(raw: &mut Raw, token: &[u8]) -> SaslAuthenticateResponseData {
        let request = SaslAuthenticateRequestData::default().with_auth_bytes(Bytes::copy_from_slice(token));
        raw.call(&request, 2).await
    }
}

#[tokio::test]
async fn our_client_writes_and_reads_over_tls_and_strangers_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "company");
    let keystore = format!("ssl.keystore.location={}", ca.issue("server", &["127.0.0.1"]).display());
    let broker = start(dir.path(), &["listeners=SSL://127.0.0.1:0", &keystore]).await;
    let trust = |name: &str, ca: &Authority| {
        format!("security.protocol=SSL\nssl.truststore.location={}\n", ca.trust(name).display())
    };
    write_and_read(&connect(&broker, &trust("company", &ca)).await.unwrap()).await;
    let other = Authority::new(dir.path(), "other");
    let refused = connect(&broker, &trust("other", &other)).await.err().unwrap();
    assert!(matches!(refused, ClientError::Tls { .. }), "{refused}");
    // Plaintext to a TLS port.
    let mut plain = Raw::connect(&broker).await;
    plain.stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff]).await.unwrap();
    let mut rest = Vec::new();
    let _ = plain.stream.read_to_end(&mut rest).await;
    assert!(rest.len() < 16, "an alert at most: {rest:?}");
    broker.shutdown().await;
}

#[tokio::test]
async fn a_name_that_is_not_the_servers_is_refused_unless_names_do_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "company");
    let keystore = format!("ssl.keystore.location={}", ca.issue("server", &["kafka.example"]).display());
    let broker = start(dir.path(), &["listeners=SSL://127.0.0.1:0", &keystore]).await;
    let settings = format!("security.protocol=SSL\nssl.ca={}\n", ca.trust("company").display());
    let refused = connect(&broker, &settings).await.err().unwrap();
    assert!(matches!(refused, ClientError::Tls { .. }), "{refused}");
    connect(&broker, &(settings + "ssl.endpoint.identification.algorithm=\n")).await.unwrap();
}

#[tokio::test]
async fn a_required_certificate_lets_its_owner_in_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "company");
    let keystore = format!("ssl.keystore.location={}", ca.issue("server", &["127.0.0.1"]).display());
    let truststore = format!("ssl.truststore.location={}", ca.trust("company").display());
    let settings =
        ["listeners=SSL://127.0.0.1:0", keystore.as_str(), truststore.as_str(), "ssl.client.auth=required"];
    let broker = start(dir.path(), &settings).await;
    let without = format!("security.protocol=SSL\n{truststore}\n");
    assert!(connect(&broker, &without).await.is_err());
    let foreign = Authority::new(dir.path(), "other").issue("mallory", &["127.0.0.1"]);
    assert!(
        connect(&broker, &format!("{without}ssl.keystore.location={}\n", foreign.display())).await.is_err()
    );
    let own = ca.issue("billing", &["127.0.0.1"]);
    write_and_read(
        &connect(&broker, &format!("{without}ssl.keystore.location={}\n", own.display())).await.unwrap(),
    )
    .await;
}

#[tokio::test]
async fn a_new_certificate_is_taken_into_use_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let old = Authority::new(dir.path(), "old");
    let file = old.issue("server", &["127.0.0.1"]);
    let keystore = format!("ssl.keystore.location={}", file.display());
    let broker = start(dir.path(), &["listeners=SSL://127.0.0.1:0", &keystore]).await;
    let new = Authority::new(dir.path(), "new");
    let trust =
        |ca: &Authority, name| format!("security.protocol=SSL\nssl.ca={}\n", ca.trust(name).display());
    connect(&broker, &trust(&old, "old")).await.unwrap();
    assert!(connect(&broker, &trust(&new, "new")).await.is_err());
    std::fs::write(&file, "half a certificate").unwrap();
    new.issue("server", &["127.0.0.1"]);
    let begun = std::time::Instant::now();
    while connect(&broker, &trust(&new, "new")).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the new certificate is not in use");
    }
    assert!(connect(&broker, &trust(&old, "old")).await.is_err());
}

#[tokio::test]
async fn every_mechanism_lets_a_user_of_the_file_in() {
    let dir = tempfile::tempdir().unwrap();
    let broker = sasl(dir.path(), &["headwater.sasl.plain.insecure=true"]).await;
    write_and_read(
        &connect(&broker, &login("SASL_PLAINTEXT", "SCRAM-SHA-256", "alice", "wonder land")).await.unwrap(),
    )
    .await;
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        connect(&broker, &login("SASL_PLAINTEXT", mechanism, "bob", "builder")).await.unwrap();
        for (user, password) in [("bob", "wrong"), ("nobody", "builder")] {
            let refused = connect(&broker, &login("SASL_PLAINTEXT", mechanism, user, password)).await;
            let refused = refused.err().unwrap().to_string();
            assert!(refused.contains("the user, the password or the token is not accepted"), "{refused}");
        }
    }
}

#[tokio::test]
async fn plain_is_not_offered_without_tls() {
    let dir = tempfile::tempdir().unwrap();
    let broker = sasl(dir.path(), &[]).await;
    let refused = connect(&broker, &login("SASL_PLAINTEXT", "PLAIN", "bob", "builder")).await.err().unwrap();
    assert!(refused.to_string().contains("offers SCRAM-SHA-256, SCRAM-SHA-512"), "{refused}");
    let mut wanted = config(&dir.path().join("other"));
    wanted.set("listeners=SASL_PLAINTEXT://127.0.0.1:0").unwrap();
    wanted.set("sasl.enabled.mechanisms=PLAIN").unwrap();
    let refused = Broker::start(wanted).await.err().unwrap().to_string();
    assert!(refused.contains("headwater.sasl.plain.insecure"), "{refused}");
}

#[tokio::test]
async fn users_that_the_broker_keeps_come_back_with_it_and_go_when_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let as_alice = login("SASL_PLAINTEXT", "SCRAM-SHA-256", "alice", "wonder land");
    let carol = |mechanism| login("SASL_PLAINTEXT", mechanism, "carol", "s=e,c");
    let broker = sasl(dir.path(), &[]).await;
    let admin = connect(&broker, &as_alice).await.unwrap();
    admin.set_password("carol", &Secret::new("s=e,c")).await.unwrap();
    connect(&broker, &carol("SCRAM-SHA-512")).await.unwrap();
    broker.shutdown().await;

    let broker = sasl(dir.path(), &[]).await;
    let admin = connect(&broker, &as_alice).await.unwrap();
    let users = admin.users().await.unwrap();
    assert_eq!(users.len(), 1);
    assert_eq!((users[0].name.as_str(), users[0].mechanisms.len()), ("carol", 2));
    connect(&broker, &carol("SCRAM-SHA-256")).await.unwrap();
    admin.delete_user("carol").await.unwrap();
    assert!(connect(&broker, &carol("SCRAM-SHA-256")).await.is_err());
    assert!(admin.delete_user("carol").await.is_err());
}

#[tokio::test]
async fn a_changed_file_of_users_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let broker = sasl(dir.path(), &[]).await;
    let dave = login("SASL_PLAINTEXT", "SCRAM-SHA-256", "dave", "new");
    assert!(connect(&broker, &dave).await.is_err());
    std::fs::write(dir.path().join("users"), "dave=new\n").unwrap();
    let begun = std::time::Instant::now();
    while connect(&broker, &dave).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the new user is not known");
    }
}

#[tokio::test]
async fn nothing_is_served_to_a_stranger() {
    let dir = tempfile::tempdir().unwrap();
    let broker = sasl(dir.path(), &[]).await;
    let mut early = Raw::connect(&broker).await;
    assert_eq!(early.call(&ApiVersionsRequestData::default(), 0).await.error_code, 0);
    early.send(&MetadataRequestData::default(), 9).await;
    assert!(early.is_closed().await, "metadata before authentication");

    let mut between = Raw::connect(&broker).await;
    assert_eq!(tokens::agree(&mut between, "SCRAM-SHA-256").await, 0);
    between.send(&common::produce(None, "t", 0, batch(&["v"])), 9).await;
    assert!(between.is_closed().await, "produce within an exchange");

    let mut late = Raw::connect(&broker).await;
    assert_eq!(tokens::agree(&mut late, "SCRAM-SHA-256").await, 0);
    let answer = late.call(&ApiVersionsRequestData::default(), 0).await;
    assert_eq!((answer.error_code, answer.api_keys.len()), (ErrorCode::IllegalSaslState.code(), 0));
    assert!(late.is_closed().await, "ApiVersions within an exchange");

    let mut huge = Raw::connect(&broker).await;
    assert_eq!(tokens::agree(&mut huge, "SCRAM-SHA-256").await, 0);
    huge.stream.write_all(&(17_i32 << 10).to_be_bytes()).await.unwrap();
    huge.stream.write_all(&[0, 36]).await.unwrap();
    assert!(huge.is_closed().await, "a huge token");

    let mut unasked = Raw::connect(&broker).await;
    let answer = tokens::give(&mut unasked, b"n,,n=alice,r=x").await;
    assert_eq!(answer.error_code, ErrorCode::IllegalSaslState.code());
    assert!(unasked.is_closed().await);

    let mut unknown = Raw::connect(&broker).await;
    assert_eq!(tokens::agree(&mut unknown, "GSSAPI").await, ErrorCode::UnsupportedSaslMechanism.code());
    assert!(unknown.is_closed().await);
}

#[tokio::test]
async fn an_overheard_proof_opens_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let broker = sasl(dir.path(), &[]).await;
    let nonce = || "n".repeat(20);
    let client = || ScramClient::new(ScramMechanism::Sha256, "alice", Secret::new("wonder land"), nonce());
    let mut first = Raw::connect(&broker).await;
    tokens::agree(&mut first, "SCRAM-SHA-256").await;
    let challenge = tokens::give(&mut first, &client().first()).await.auth_bytes;
    let (_, proof) = client().prove(&challenge).unwrap();
    assert_eq!(tokens::give(&mut first, &proof).await.error_code, 0);

    let mut replay = Raw::connect(&broker).await;
    tokens::agree(&mut replay, "SCRAM-SHA-256").await;
    let other = tokens::give(&mut replay, &client().first()).await.auth_bytes;
    assert_ne!(other, challenge);
    let answer = tokens::give(&mut replay, &proof).await;
    assert_eq!(answer.error_code, ErrorCode::SaslAuthenticationFailed.code());
    assert!(replay.is_closed().await);
}

#[tokio::test]
async fn a_stranger_that_says_nothing_is_given_up_and_keeps_few_places() {
    let dir = tempfile::tempdir().unwrap();
    let limits = ["headwater.authentication.timeout.ms=300", "headwater.max.unauthenticated.connections=2"];
    let broker = sasl(dir.path(), &limits).await;
    // The places are taken in the order of the connections.
    let mut silent = [Raw::connect(&broker).await, Raw::connect(&broker).await];
    assert!(Raw::connect(&broker).await.is_closed().await, "a third stranger");
    for raw in &mut silent {
        assert!(raw.is_closed().await);
    }
    let alice = login("SASL_PLAINTEXT", "SCRAM-SHA-256", "alice", "wonder land");
    let begun = std::time::Instant::now();
    while connect(&broker, &alice).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the places do not come back");
    }
}

#[tokio::test]
async fn a_session_ends_unless_the_same_user_proves_itself_again() {
    let dir = tempfile::tempdir().unwrap();
    let limits = ["connections.max.reauth.ms=1500", "headwater.sasl.plain.insecure=true"];
    let broker = sasl(dir.path(), &limits).await;
    let mut late = Raw::connect(&broker).await;
    tokens::agree(&mut late, "PLAIN").await;
    tokens::give(&mut late, b"\0bob\0builder").await;
    let begun = std::time::Instant::now();

    let mut raw = Raw::connect(&broker).await;
    tokens::agree(&mut raw, "PLAIN").await;
    let answer = tokens::give(&mut raw, b"\0bob\0builder").await;
    assert_eq!((answer.error_code, answer.session_lifetime_ms), (0, 1500));
    assert_eq!(raw.call(&ListGroupsRequestData::default(), 2).await.error_code, 0);
    assert_eq!(tokens::agree(&mut raw, "PLAIN").await, 0);
    assert_eq!(tokens::give(&mut raw, b"\0bob\0builder").await.error_code, 0);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(tokens::agree(&mut raw, "PLAIN").await, 0);
    let answer = tokens::give(&mut raw, b"\0alice\0wonder land").await;
    assert_eq!(answer.error_code, ErrorCode::SaslAuthenticationFailed.code(), "another user");
    assert!(raw.is_closed().await);

    loop {
        late.send(&ListGroupsRequestData::default(), 2).await;
        match late.frame().await {
            Ok(_) => assert!(begun.elapsed() < Duration::from_secs(20), "the session never ends"),
            Err(_) => break,
        }
    }
    assert!(begun.elapsed() >= Duration::from_millis(1_400), "the session ended early");
}

/// As in Kafka: proofs cost the broker work, which is for those who are not known yet.
#[tokio::test]
async fn who_is_known_proves_itself_again_only_where_its_session_ends_and_once_a_second() {
    for (reauth, allowed) in [("connections.max.reauth.ms=0", 0), ("connections.max.reauth.ms=60000", 1)] {
        let dir = tempfile::tempdir().unwrap();
        let broker = sasl(dir.path(), &[reauth, "headwater.sasl.plain.insecure=true"]).await;
        let mut raw = Raw::connect(&broker).await;
        for _ in 0..=allowed {
            assert_eq!(tokens::agree(&mut raw, "PLAIN").await, 0, "{reauth}");
            assert_eq!(tokens::give(&mut raw, b"\0bob\0builder").await.error_code, 0, "{reauth}");
        }
        let refused = tokens::agree(&mut raw, "PLAIN").await;
        assert_eq!(refused, ErrorCode::IllegalSaslState.code(), "{reauth}");
        assert!(raw.is_closed().await, "{reauth}");
    }
}

#[tokio::test]
async fn tokens_of_the_old_handshake_come_without_a_request() {
    let dir = tempfile::tempdir().unwrap();
    let broker = sasl(dir.path(), &["headwater.sasl.plain.insecure=true"]).await;
    let mut raw = Raw::connect(&broker).await;
    let request = SaslHandshakeRequestData::default().with_mechanism("PLAIN".to_owned().into());
    assert_eq!(raw.call(&request, 0).await.error_code, 0);
    let token = b"\0bob\0builder";
    raw.stream.write_all(&(token.len() as i32).to_be_bytes()).await.unwrap();
    raw.stream.write_all(token).await.unwrap();
    assert!(raw.frame().await.unwrap().is_empty());
    assert_eq!(raw.call(&ListGroupsRequestData::default(), 2).await.error_code, 0);
}

#[tokio::test]
async fn credentials_that_are_too_weak_or_not_there_are_refused() {
    use headwater_wire::messages::alter_user_scram_credentials_request::*;
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), &[]).await;
    let mut raw = Raw::connect(&broker).await;
    let put = |name: &str, mechanism, iterations, length| {
        ScramCredentialUpsertion::default()
            .with_name(name.to_owned().into())
            .with_mechanism(mechanism)
            .with_iterations(iterations)
            .with_salt(Bytes::from_static(b"salt"))
            .with_salted_password(Bytes::from(vec![1; length]))
    };
    let upsertions = vec![
        put("weak", 1, 4095, 32),
        put("slow", 1, 20_000, 32),
        put("", 1, 4096, 32),
        put("odd", 9, 4096, 32),
        put("short", 2, 4096, 32),
        put("twice", 1, 4096, 32),
        put("twice", 1, 4096, 32),
        put("both", 1, 4096, 32),
        put("both", 2, 4096, 64),
        put("good", 1, 4096, 32),
    ];
    let gone = ScramCredentialDeletion::default().with_name("gone".to_owned().into()).with_mechanism(1);
    let request = AlterUserScramCredentialsRequestData::default()
        .with_upsertions(upsertions)
        .with_deletions(vec![gone]);
    let mut results: Vec<_> =
        raw.call(&request, 0).await.results.iter().map(|r| (r.user.to_string(), r.error_code)).collect();
    results.sort();
    let expected = [
        ("", 93),
        ("both", 92),
        ("gone", 91),
        ("good", 0),
        ("odd", 33),
        ("short", 93),
        ("slow", 93),
        ("twice", 92),
        ("weak", 93),
    ];
    assert_eq!(results, expected.map(|(user, code)| (user.to_owned(), code)));
    let described = raw.call(&DescribeUserScramCredentialsRequestData::default().with_users(None), 0).await;
    assert_eq!(described.results.len(), 1, "{described:?}");
    assert_eq!(described.results[0].credential_infos[0].iterations, 4096);
}

#[tokio::test]
async fn the_parts_of_the_process_come_by_a_listener_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let users = users(dir.path());
    let settings = [
        "listeners=PLAINTEXT://127.0.0.1:0,OUTSIDE://127.0.0.1:0",
        "listener.security.protocol.map=OUTSIDE:SASL_PLAINTEXT",
        "advertised.listeners=PLAINTEXT://inside.example:9092,OUTSIDE://outside.example:443",
        &users,
    ];
    let mut wanted = config(&dir.path().join("data"));
    settings.iter().for_each(|setting| wanted.set(setting).unwrap());
    let broker = Broker::start(wanted).await.unwrap();
    assert_eq!(broker.bootstrap(), "inside.example:9092");
    let (internal, user) = broker.internal().unwrap();
    let security = Security::scram(user.name, user.password.clone());
    let client = Client::connect(ClientConfig::new(internal, "inside").security(security)).await.unwrap();
    write_and_read(&client).await;
}

#[tokio::test]
async fn the_parts_of_the_process_come_in_whoever_has_taken_all_places() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        "max.connections=1",
        "max.connections.per.ip=1",
        "headwater.max.unauthenticated.connections=1",
        "headwater.authentication.timeout.ms=60000",
    ];
    let broker = sasl(dir.path(), &settings).await;
    let _silent = tokio::net::TcpStream::connect(broker.bootstrap()).await.unwrap();
    let (internal, user) = broker.internal().unwrap();
    let security = Security::scram(user.name, user.password.clone());
    let client = Client::connect(ClientConfig::new(internal, "inside").security(security)).await.unwrap();
    write_and_read(&client).await;
}

/// A token in the way of RFC 7515, signed by a key of which the broker has the public half.
mod bearer {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use jsonwebtoken::{Algorithm, EncodingKey, Header};
    use rcgen::KeyPair;

    pub fn keys(key: &KeyPair) -> String {
        let point = key.public_key_raw();
        let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let (x, y) = (text(&point[1..33]), text(&point[33..65]));
        serde_json::json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": "k1", "alg": "ES256", "x": x, "y": y }] })
            .to_string()
    }

    pub fn token(key: &KeyPair, claims: &serde_json::Value) -> String {
        let header = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::ES256) };
        let key = EncodingKey::from_ec_der(&key.serialize_der());
        jsonwebtoken::encode(&header, claims, &key).expect("a token")
    }
}

#[tokio::test]
async fn a_token_of_the_issuer_lets_its_subject_in_and_no_other_token_does() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (key, foreign) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    std::fs::write(path("keys.json"), bearer::keys(&key)).unwrap();
    let keys = format!("sasl.oauthbearer.jwks.endpoint.url=file://{}", path("keys.json").display());
    let settings = [
        &keys,
        "sasl.oauthbearer.expected.issuer=https://issuer",
        "sasl.oauthbearer.expected.audience=kafka",
    ];
    let broker = sasl(dir.path(), &settings).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = |issuer: &str, audience: &str, until: u64| serde_json::json!({ "sub": "billing", "iss": issuer, "aud": audience, "exp": until });
    let good = claims("https://issuer", "kafka", now + 600);
    let security = format!(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=OAUTHBEARER\nsasl.oauthbearer.token.endpoint.url=file://{}\n",
        path("token").display()
    );
    let mut parts_of_seconds = good.clone();
    parts_of_seconds["exp"] = serde_json::json!(now as f64 + 600.5);
    std::fs::write(path("token"), bearer::token(&key, &parts_of_seconds)).unwrap();
    connect(&broker, &security).await.expect("the end need not be a whole second");
    std::fs::write(path("token"), bearer::token(&key, &good)).unwrap();
    write_and_read(&connect(&broker, &security).await.unwrap()).await;
    let mut unsigned: Vec<String> = bearer::token(&key, &good).split('.').map(str::to_owned).collect();
    unsigned[2].clear();
    for (what, token) in [
        ("a foreign key", bearer::token(&foreign, &good)),
        ("another issuer", bearer::token(&key, &claims("https://other", "kafka", now + 600))),
        ("another audience", bearer::token(&key, &claims("https://issuer", "other", now + 600))),
        ("too old", bearer::token(&key, &claims("https://issuer", "kafka", now - 600))),
        ("no signature", unsigned.join(".")),
        ("no token", "nonsense".to_owned()),
    ] {
        std::fs::write(path("token"), token).unwrap();
        let refused = connect(&broker, &security).await.err().unwrap();
        assert!(matches!(refused, ClientError::Authentication { .. }), "{what}: {refused}");
    }
    // As in Kafka, who asks to be somebody must be whom the token names.
    for (name, code) in [("billing", ErrorCode::None), ("mallory", ErrorCode::SaslAuthenticationFailed)] {
        let mut raw = Raw::connect(&broker).await;
        tokens::agree(&mut raw, "OAUTHBEARER").await;
        let asked = format!("n,a={name},\x01auth=Bearer {}\x01\x01", bearer::token(&key, &good));
        assert_eq!(tokens::give(&mut raw, asked.as_bytes()).await.error_code, code.code(), "{name}");
    }
}
