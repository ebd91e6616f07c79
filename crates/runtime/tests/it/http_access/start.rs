//! What a service refuses to start with.

use headwater_control::Manifest;
use headwater_runtime::{AppConfig, HttpAccess, StreamsApp};

use super::company::Company;
use crate::support::{Cluster, WordCount};

async fn refused(words: &WordCount, config: AppConfig) -> String {
    match StreamsApp::start(words.topology(), config).await {
        Err(error) => error.to_string(),
        Ok(app) => {
            app.stop().await.unwrap();
            String::new()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_this_machine_a_service_needs_tls_and_identities_or_the_word_insecure() {
    let (cluster, company) = (Cluster::start().await, Company::new());
    let words = WordCount::new(&cluster, 1).await;
    let state = tempfile::tempdir().unwrap();
    let everywhere = |access: HttpAccess| {
        let mut config = words.config(&cluster, state.path());
        config.http = Some("0.0.0.0:0".parse().unwrap());
        config.http_access = access;
        config
    };
    let told = refused(&words, everywhere(HttpAccess::default())).await;
    for part in
        ["0.0.0.0:0", "neither TLS nor authentication", "HEADWATER_HTTP_CONFIG", "headwater.insecure=true"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    let told = refused(&words, everywhere(company.access("words", &[]))).await;
    assert!(told.contains("does not ask who its clients are"), "{told}");
    for fine in [HttpAccess::insecure(), company.access("words", &["ssl.client.auth=required"])] {
        assert_eq!(refused(&words, everywhere(fine)).await, "");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_told_with_the_file_and_the_key() {
    let (cluster, company) = (Cluster::start().await, Company::new());
    let words = WordCount::new(&cluster, 1).await;
    let state = tempfile::tempdir().unwrap();
    let file = company.directory.path().join("http.properties");
    let manifest = "[service]\nname = \"words\"\nteam = \"t\"\n[runtime]\nhttp = \"127.0.0.1:0\"\n";
    let manifest = Manifest::parse(manifest, "headwater.toml").unwrap();
    let at = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let named = |name: &str| (name == "HEADWATER_HTTP_CONFIG").then(|| file.display().to_string());
        AppConfig::from_manifest_and(&manifest, &named)
    };
    let path = file.display().to_string();
    for (text, part) in [
        ("headwater.http.reader=User:a", "headwater.http.reader"),
        ("ssl.client.auth=required", "ssl.client.auth"),
        ("headwater.http.readers=User:a", "headwater.http.readers"),
    ] {
        let told = at(text).unwrap_err().to_string();
        assert!(told.contains(&path) && told.contains(part), "{told}");
        assert!(told.contains("environment variable HEADWATER_HTTP_CONFIG"), "{told}");
    }
    // What only the files show is told at the start.
    let own = company.settings("words", &["ssl.client.auth=required"]);
    let missing = own.replace("company-ca.pem", "no-such.pem");
    let nobody = own.replace("RULE:^CN=(.*?),.*$/$1/", "RULE:^CN=other$/x/");
    let commands = format!("{own}\nheadwater.http.readers=User:a");
    for (text, part, is_commanded) in [
        (missing, "no-such.pem", false),
        (nobody, "ssl.principal.mapping.rules makes nobody", false),
        (commands, "headwater.http.commands", true),
    ] {
        let mut config = words.config(&cluster, state.path());
        config.http_access = at(&text).unwrap().http_access;
        config.http_commands = is_commanded;
        let told = refused(&words, config).await;
        assert!(told.contains(&path) && told.contains(part), "{part}: {told}");
    }
    cluster.stop().await;
}
