//! What a client proves itself by: a password, a token, a certificate.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use headwater_client::Secret;
use headwater_model::acl::{CLUSTER_NAME, Operation, ResourceType};
use serde_json::{Value, json};

use crate::certificates::Authority;
use crate::support::{Guarded, RULES, answer, http, start, tls};

#[tokio::test]
async fn a_password_counts_as_long_as_it_is_the_users() {
    let guarded = Guarded::start(&[]).await;
    let (status, refused) = answer(guarded.request("GET", "/subjects")).await;
    assert_eq!((status, &refused["error_code"]), (401, &json!(40101)), "{refused}");
    let response = guarded.request("GET", "/").send().await.unwrap();
    let asked = response.headers()["www-authenticate"].to_str().unwrap();
    assert!(response.status() == 401 && asked.starts_with("Basic realm="), "{asked}");

    let admin = guarded.kafka("root").await;
    admin.set_password("carol", &Secret::new("first")).await.unwrap();
    let as_carol = async |password: &str| {
        let request = guarded.request("GET", "/subjects").basic_auth("carol", Some(password));
        answer(request).await.0
    };
    assert_eq!((as_carol("first").await, as_carol("guess").await), (200, 401));
    assert_eq!(as_carol("first").await, 200, "what is remembered of a wrong password harms nobody");
    admin.set_password("carol", &Secret::new("second")).await.unwrap();
    assert_eq!((as_carol("first").await, as_carol("second").await), (401, 200));
    admin.delete_user("carol").await.unwrap();
    assert_eq!(as_carol("second").await, 401);
    let nobody = guarded.request("GET", "/subjects").basic_auth("nobody", Some("first"));
    assert_eq!(answer(nobody).await.0, 401);
    let line = guarded.audited(|line| line["resource"]["name"] == "nobody").await;
    assert_eq!((&line["operation"], &line["allowed"]), (&json!("AUTHENTICATE"), &json!(false)), "{line}");
    assert_eq!(line["api"], "HTTP GET");
    guarded.node.shutdown().await;
}

#[tokio::test]
async fn a_certificate_is_the_principal_that_the_mapping_makes_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let ca = Authority::new(directory.path(), "company");
    let mut settings = tls(directory.path(), &ca, "SSL");
    settings.extend([
        "ssl.client.auth=required".to_owned(),
        "ssl.principal.mapping.rules=RULE:^CN=(.*?),.*$/$1/,DEFAULT".to_owned(),
        RULES[0].to_owned(),
        "super.users=User:billing".to_owned(),
    ]);
    let node = start(directory.path(), "127.0.0.1:0", &settings).await.unwrap();
    let url = format!("{}/metrics", node.http());
    assert!(url.starts_with("https://"));
    let own = |name: &str| http(&ca, Some(&ca.issue(name, &["127.0.0.1"])));
    assert!(http(&ca, None).get(&url).send().await.is_err(), "no certificate, no connection");
    assert_eq!(own("billing").get(&url).send().await.unwrap().status(), 200);
    assert_eq!(own("other").get(&url).send().await.unwrap().status(), 403);
    node.shutdown().await;
}

#[tokio::test]
async fn a_token_of_the_issuer_is_its_subject() {
    let directory = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let point = key.public_key_raw();
    let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let (x, y) = (text(&point[1..33]), text(&point[33..65]));
    let keys =
        json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": "k1", "alg": "ES256", "x": x, "y": y }] });
    let file = directory.path().join("keys.json");
    std::fs::write(&file, keys.to_string()).unwrap();
    let keys = format!("sasl.oauthbearer.jwks.endpoint.url=file://{}", file.display());
    let guarded = Guarded::start(&[&keys, "sasl.oauthbearer.expected.audience=kafka"]).await;
    guarded.allow("billing", Operation::Describe, ResourceType::Cluster, CLUSTER_NAME).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let token_until = |audience: &str, exp: u64| {
        let header = jsonwebtoken::Header {
            kid: Some("k1".to_owned()),
            ..jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256)
        };
        let claims: Value = json!({ "sub": "billing", "aud": audience, "exp": exp });
        let key = jsonwebtoken::EncodingKey::from_ec_der(&key.serialize_der());
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    };
    let token = |audience: &str| token_until(audience, now + 600);
    let as_bearer =
        async |token: String| answer(guarded.request("GET", "/metrics").bearer_auth(token)).await.0;
    assert_eq!(as_bearer(token("kafka")).await, 200);
    assert_eq!(as_bearer(token("other")).await, 401);
    assert_eq!(as_bearer("nonsense".to_owned()).await, 401);

    // The live page goes on for ever, and its reader's proof does not.
    let live = guarded.request("GET", "/console/live").bearer_auth(token_until("kafka", now + 4));
    let mut live = live.send().await.unwrap();
    assert_eq!(live.status(), 200);
    let mut told = 0;
    while live.chunk().await.expect("it ends as it should").is_some() {
        told += 1;
    }
    let ended = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    assert!(told > 0 && (3.5..10.0).contains(&(ended - now as f64)), "{told} in {} s", ended - now as f64);
    guarded.node.shutdown().await;
}

/// As a Kafka connection's session (KIP-368).
#[tokio::test]
async fn a_live_page_ends_when_its_reader_must_say_again_who_it_is() {
    let guarded = Guarded::start(&["connections.max.reauth.ms=1500"]).await;
    let begun = Instant::now();
    let live = guarded.request("GET", "/console/live").basic_auth("bob", Some("bob"));
    let mut live = live.send().await.unwrap();
    while live.chunk().await.expect("it ends as it should").is_some() {}
    assert!((1.4..10.0).contains(&begun.elapsed().as_secs_f64()), "{:?}", begun.elapsed());
    guarded.node.shutdown().await;
}

#[tokio::test]
async fn a_new_certificate_is_taken_into_use_without_a_restart() {
    let guarded = Guarded::start(&[]).await;
    assert_eq!(guarded.get("root", "/subjects").await.0, 200);
    let new = tempfile::tempdir().unwrap();
    let other = Authority::new(new.path(), "company");
    std::fs::copy(other.issue("server", &["127.0.0.1"]), guarded.directory.path().join("server.pem"))
        .unwrap();
    let begun = Instant::now();
    let url = format!("{}/health", guarded.node.http());
    while http(&other, None).get(&url).send().await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the new certificate is not in use");
    }
    guarded.node.shutdown().await;
}
