//! Who comes in, by a certificate or by a password, and what they may.

use std::process::Command;
use std::time::Duration;

use headwater_client::Security;
use headwater_runtime::{Queries, StateQueryError};

use super::company::{Company, answer, http, start, url};
use crate::certificates::Authority;
use crate::support::{Cluster, WordCount, eventually};

const REQUIRED: &[&str] = &[
    "ssl.client.auth=required",
    "headwater.http.readers=User:reader; User:dashboard",
    "headwater.http.metrics=User:prometheus",
    "headwater.http.commands=User:operator",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_lets_in_whom_the_lists_name_and_nobody_else() {
    let (cluster, company) = (Cluster::start().await, Company::new());
    let mut words = WordCount::new(&cluster, 2).await;
    let state = tempfile::tempdir().unwrap();
    let app = start(&words, &cluster, state.path(), company.access("words", REQUIRED)).await;
    words.write(&cluster, 50).await;
    words.check(&cluster).await;
    let stores = url(&app, "/stores");

    let elsewhere = tempfile::tempdir().unwrap();
    let other = Authority::new(elsewhere.path(), "company");
    let strange = http(&company.ca, Some(&other.issue("reader", &["127.0.0.1"])));
    let expired = http(&company.ca, Some(&company.ca.issue_until("reader", &["127.0.0.1"], 2020)));
    let nobody = http(&company.ca, None);
    for (who, client) in [("without", nobody), ("of another authority", strange), ("expired", expired)] {
        let refused = client.get(&stores).send().await;
        assert!(refused.is_err(), "{who}: {refused:?}");
    }
    let deceived = http(&other, Some(&company.ca.issue("reader", &["127.0.0.1"])));
    assert!(deceived.get(&stores).send().await.is_err(), "who trusts another authority does not believe it");

    let [reader, prometheus, operator, eve] =
        ["reader", "prometheus", "operator", "eve"].map(|name| company.client(name));
    let (word, count) = words.model.first_key_value().unwrap();
    let (status, told) = answer(reader.get(url(&app, &format!("/stores/counts/key/{word}")))).await;
    assert_eq!((status, &told["value"]), (200, &(*count).into()));
    for (client, path, key) in [
        (&eve, "/stores/counts", "headwater.http.readers"),
        (&eve, "/topology", "headwater.http.readers"),
        (&eve, "/quarantine", "headwater.http.readers"),
        (&eve, "/no-such-page", "headwater.http.readers"),
        (&prometheus, "/stores/counts", "headwater.http.readers"),
        (&reader, "/metrics", "headwater.http.metrics"),
        (&eve, "/metrics", "headwater.http.metrics"),
    ] {
        let response = client.get(url(&app, path)).send().await.unwrap();
        assert_eq!(response.status(), 403, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
        let problem: serde_json::Value = response.json().await.unwrap();
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(key) && detail.starts_with("User:"), "{path}: {detail}");
    }
    let (status, metrics) = answer(prometheus.get(url(&app, "/metrics"))).await;
    assert!(status == 200 && metrics.as_str().unwrap().contains("headwater_streams_tasks_running"));

    let release = url(&app, "/quarantine/release");
    assert_eq!(answer(reader.post(&release)).await.0, 403);
    assert_eq!(answer(operator.post(&release)).await.0, 202);
    let from_a_page = operator.post(&release).header("origin", "https://evil.example");
    assert_eq!(answer(from_a_page).await.0, 403);

    // Details are for those who may know more.
    let (status, told) = answer(eve.get(url(&app, "/health"))).await;
    assert!(status == 200 && told["application_id"].is_null() && told["phase"].is_string(), "{told}");
    let (_, told) = answer(reader.get(url(&app, "/health"))).await;
    assert_eq!(told["application_id"], words.application_id.as_str());
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_come_by_password_and_curl_asks_as_they_do() {
    let (cluster, company) = (Cluster::start().await, Company::new());
    let mut words = WordCount::new(&cluster, 2).await;
    let (state, users) = (tempfile::tempdir().unwrap(), company.directory.path().join("users"));
    std::fs::write(&users, "alice=wonderland\nbob=builder\n").unwrap();
    let users_file = format!("headwater.sasl.users.file={}", users.display());
    let more = [
        "ssl.client.auth=requested",
        "headwater.http.readers=User:alice;User:reader",
        "headwater.http.metrics=User:*",
        &users_file,
    ];
    let app = start(&words, &cluster, state.path(), company.access("words", &more)).await;
    words.write(&cluster, 20).await;
    words.check(&cluster).await;
    let (word, count) = words.model.first_key_value().unwrap();
    let path = format!("/stores/counts/key/{word}");

    let ca = company.ca.trust("company");
    let curl = |arguments: &[&str], path: &str| {
        let mut command = Command::new("curl");
        command.args(["-sS", "-i", "--max-time", "30", "--cacert"]).arg(&ca).args(arguments);
        let output = command.arg(url(&app, path)).output().expect("curl is there");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let told = curl(&[], &path);
    assert!(told.starts_with("HTTP/1.1 401 "), "{told}");
    let lower = told.to_lowercase();
    assert!(lower.contains("www-authenticate: basic realm=") && lower.contains("application/problem+json"));
    assert!(told.contains("say who you are") && !told.contains(&words.application_id), "{told}");
    let told = curl(&["-u", "alice:wonderland"], &path);
    assert!(told.starts_with("HTTP/1.1 200 ") && told.contains(&format!("\"value\":{count}")), "{told}");
    for wrong in ["alice:guess", "nobody:wonderland"] {
        let told = curl(&["-u", wrong], &path);
        assert!(told.starts_with("HTTP/1.1 401 ") && !told.contains(&words.application_id), "{told}");
    }
    let told = curl(&["-u", "bob:builder"], &path);
    assert!(told.starts_with("HTTP/1.1 403 ") && told.contains("User:bob may not"), "{told}");
    let own = company.ca.issue("reader", &["127.0.0.1"]).display().to_string();
    assert!(curl(&["--cert", &own], &path).starts_with("HTTP/1.1 200 "));
    assert!(curl(&["--cert", &own, "-u", "bob:builder"], &path).starts_with("HTTP/1.1 403 "));
    // Open to everybody by the star, and how it is by itself.
    assert!(curl(&[], "/metrics").starts_with("HTTP/1.1 200 "));
    assert!(curl(&[], "/ready").starts_with("HTTP/1.1 200 "));

    // By HTTP to an address that speaks TLS.
    let plain = format!("http://{}{path}", app.http().unwrap());
    let (status, told) = answer(reqwest::Client::new().get(plain)).await;
    assert!(status == 400 && told["detail"].as_str().unwrap().contains("https://"), "{told}");

    // Whoever is struck from the file stays out.
    std::fs::write(&users, "bob=builder\n").unwrap();
    eventually("alice is struck", async || {
        curl(&["-u", "alice:wonderland"], &path).starts_with("HTTP/1.1 401 ")
    })
    .await;
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_asks_by_its_certificate_from_rust() {
    let (cluster, company) = (Cluster::start().await, Company::new());
    let mut words = WordCount::new(&cluster, 2).await;
    let state = tempfile::tempdir().unwrap();
    let app = start(&words, &cluster, state.path(), company.access("words", REQUIRED)).await;
    words.write(&cluster, 20).await;
    words.check(&cluster).await;
    let (word, count) = words.model.first_key_value().unwrap();
    let host = app.application_server().unwrap();
    let ask = async |name: &str| {
        let own = company.ca.issue(name, &["127.0.0.1"]);
        let text = format!(
            "ssl.ca={}\nssl.keystore.location={}",
            company.ca.trust("company").display(),
            own.display()
        );
        let security = Security::parse(&text).unwrap();
        let queries = Queries::remote_by(&words.application_id, [host], &security).unwrap();
        let counts = queries.store::<String, i64>("counts").timeout(Duration::from_secs(30));
        counts.get(word).await.map(|told| told.result.map(|row| row.value))
    };
    assert_eq!(ask("reader").await, Ok(Some(*count)));
    let refused = ask("eve").await.unwrap_err();
    assert!(matches!(&refused, StateQueryError::Refused { detail } if detail.contains("User:eve may not")));
    app.stop().await.unwrap();
    cluster.stop().await;
}
