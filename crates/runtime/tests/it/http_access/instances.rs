//! Instances that ask each other: as who they are, and only those whom they know.

use headwater_runtime::{HttpAccess, StreamsApp};
use serde_json::Value;

use super::company::{Company, answer, start, url};
use crate::support::{Cluster, WordCount, eventually};

const REQUIRED: &[&str] = &["ssl.client.auth=required", "headwater.http.readers=User:reader"];

struct Two {
    cluster: Cluster,
    company: Company,
    words: WordCount,
    apps: Vec<StreamsApp>,
    _states: Vec<tempfile::TempDir>,
}

/// Two instances with a certificate each, and tasks on both.
async fn two(names: [&str; 2], more: &[&str]) -> Two {
    let (cluster, company) = (Cluster::start().await, Company::new());
    let mut words = WordCount::new(&cluster, 4).await;
    let states = vec![tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut apps = Vec::new();
    for (name, state) in names.iter().zip(&states) {
        let more: Vec<&str> = REQUIRED.iter().chain(more).copied().collect();
        apps.push(start(&words, &cluster, state.path(), company.access(name, &more)).await);
    }
    eventually("both have tasks", async || {
        apps.iter()
            .all(|app| app.ready() && app.tasks().keys().filter(|task| task.subtopology == 1).count() == 2)
    })
    .await;
    words.write(&cluster, 100).await;
    words.check(&cluster).await;
    Two { cluster, company, words, apps, _states: states }
}

impl Two {
    async fn stop(self) {
        for app in self.apps {
            app.stop().await.unwrap();
        }
        self.cluster.stop().await;
    }

    /// Of every key at every instance: status, body, and whether another instance had it.
    async fn ask_all(&self) -> Vec<(u16, Value, bool)> {
        let reader = self.company.client("reader");
        let mut told = Vec::new();
        for app in &self.apps {
            for word in self.words.model.keys() {
                let known = app.queries().query_metadata_for_key("counts", word).unwrap().unwrap();
                let elsewhere = known.active_host.as_deref() != app.application_server();
                let (status, body) =
                    answer(reader.get(url(app, &format!("/stores/counts/key/{word}")))).await;
                told.push((status, body, elsewhere));
            }
        }
        told
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_of_one_principal_ask_each_other_by_certificate() {
    let two = two(["words", "words"], &[]).await;
    let told = two.ask_all().await;
    let counts: Vec<i64> = two.apps.iter().flat_map(|_| two.words.model.values().copied()).collect();
    let answers: Vec<i64> = told.iter().map(|(_, body, _)| body["value"].as_i64().unwrap_or(-1)).collect();
    assert_eq!(answers, counts);
    for app in &two.apps {
        let queries = app.queries().store::<String, i64>("counts");
        assert_eq!(queries.range(None, None).await.unwrap().result.len(), two.words.model.len());
    }
    assert!(told.iter().any(|(.., elsewhere)| *elsewhere), "some were passed on");
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_of_other_names_are_listed() {
    let listed = ["headwater.http.instances=User:words-1;User:words-2"];
    let two = two(["words-1", "words-2"], &listed).await;
    let told = two.ask_all().await;
    assert!(told.iter().all(|(status, ..)| *status == 200), "{told:?}");
    assert!(told.iter().any(|(.., elsewhere)| *elsewhere), "some were passed on");
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_of_the_company_and_no_instance_is_not_believed() {
    let two = two(["words", "mallory"], &[]).await;
    let told = two.ask_all().await;
    for (status, body, elsewhere) in &told {
        if !elsewhere {
            assert_eq!(*status, 200, "{body}");
            continue;
        }
        let detail = body["detail"].as_str().unwrap();
        assert!(*status == 503 && detail.contains("which is no instance of this application"), "{body}");
    }
    assert!(told.iter().any(|(.., elsewhere)| *elsewhere), "some were asked of the other");
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_name_is_not_believed() {
    let (cluster, company) = (Cluster::start().await, Company::new());
    let mut words = WordCount::new(&cluster, 4).await;
    let states = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    // The same principal, on another machine.
    let away = company.directory.path().join("away.pem");
    std::fs::rename(company.ca.issue("words", &["elsewhere.example"]), &away).unwrap();
    let settings = company.settings("words", REQUIRED);
    let elsewhere = HttpAccess::parse(&settings.replace("words.pem", "away.pem")).unwrap();
    let own = start(&words, &cluster, states[0].path(), HttpAccess::parse(&settings).unwrap()).await;
    let other = start(&words, &cluster, states[1].path(), elsewhere).await;
    words.write(&cluster, 100).await;
    words.check(&cluster).await;
    let reader = company.client("reader");
    eventually("a question to the other is refused for its name", async || {
        for word in words.model.keys() {
            let known = own.queries().query_metadata_for_key("counts", word).unwrap().unwrap();
            if known.active_host.as_deref() == other.application_server() {
                let (status, body) =
                    answer(reader.get(url(&own, &format!("/stores/counts/key/{word}")))).await;
                let detail = body["detail"].as_str().unwrap_or_default();
                return status == 503 && detail.contains("not valid for name");
            }
        }
        false
    })
    .await;
    own.stop().await.unwrap();
    other.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_taken_into_use_without_a_restart() {
    let two = two(["words", "words"], &[]).await;
    // Another company takes over: its authority, its certificates, in the same files.
    let file = two.company.ca.trust("company");
    let before = two.company.client("reader");
    let taken_over = crate::certificates::Authority::new(two.company.directory.path(), "company");
    taken_over.issue("words", &["127.0.0.1"]);
    let reader = super::company::http(&taken_over, Some(&taken_over.issue("reader", &["127.0.0.1"])));
    assert!(file.exists());
    for app in &two.apps {
        eventually("every key is known to the new company, at whichever instance", async || {
            for word in two.words.model.keys() {
                let asked = reader.get(url(app, &format!("/stores/counts/key/{word}"))).send().await;
                if asked.map(|answer| answer.status().as_u16()).ok() != Some(200) {
                    return false;
                }
            }
            true
        })
        .await;
        assert!(before.get(url(app, "/stores")).send().await.is_err(), "the old authority is not trusted");
    }
    two.stop().await;
}
