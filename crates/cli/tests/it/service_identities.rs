//! The commands that ask a service, of one that wants to know who asks.

use std::path::Path;
use std::time::{Duration, Instant};

use headwater_runtime::{AppConfig, HttpAccess, StreamsApp};
use headwater_streams::serdes::string;
use headwater_streams::{Consumed, Produced, StreamsBuilder};

use crate::certificates::Authority;
use crate::common::Node;

const PATIENCE: Duration = Duration::from_secs(60);

async fn service(node: &Node, ca: &Authority, directory: &Path) -> StreamsApp {
    let users = directory.join("users");
    std::fs::write(&users, "alice=wonderland\nbob=builder\n").expect("a file");
    let keystore = ca.issue("service", &["127.0.0.1"]);
    let access = format!(
        "ssl.keystore.location={}\nheadwater.sasl.users.file={}\nheadwater.http.readers=User:alice\n",
        keystore.display(),
        users.display()
    );
    let builder = StreamsBuilder::new("copies");
    builder
        .stream("words", Consumed::with(string(), string()))
        .to("copied", Produced::with(string(), string()));
    let mut config = AppConfig::new(node.kafka.as_str(), "copies");
    config.state_dir = directory.join("state");
    config.http = Some("127.0.0.1:0".parse().expect("an address"));
    config.http_access = HttpAccess::parse(&access).expect("settings");
    let app = StreamsApp::start(builder.build().expect("a topology"), config).await.expect("it starts");
    let begun = Instant::now();
    while !app.ready() {
        assert!(begun.elapsed() < PATIENCE, "it runs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    app
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_asked_as_whom_the_command_config_says() {
    let directory = tempfile::tempdir().expect("a directory");
    let ca = Authority::new(directory.path(), "company");
    let node = Node::start(&directory.path().join("data"));
    for topic in ["words", "copied"] {
        node.done(&["topic", "create", topic], "");
    }
    // So that there is something to process again.
    node.done(&["group", "reset", "copies", "--topic", "words", "--to-earliest", "--execute"], "");
    let app = service(&node, &ca, directory.path()).await;
    let address = format!("https://{}", app.http().expect("it listens"));
    let settings = |user: &str, password: &str| {
        let file = directory.path().join(format!("{user}.properties"));
        let text = format!(
            "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nsasl.username={user}\nsasl.password={password}\n\
             ssl.truststore.type=PEM\nssl.truststore.location={}\n",
            ca.trust("company").display()
        );
        std::fs::write(&file, text).expect("a file");
        file.display().to_string()
    };
    let (alice, bob) = (settings("alice", "wonderland"), settings("bob", "builder"));
    let told = node.done(&["topology", "describe", &address, "--command-config", &alice], "");
    assert!(told.contains("words") && told.contains("copied"), "{told}");
    node.done(&["topology", "diff", &address, &address, "--command-config", &alice], "");
    node.done(&["quarantine", "list", &address, "--command-config", &alice], "");
    for (arguments, said) in [
        (&["topology", "describe", &address, "--command-config", &bob][..], "headwater.http.readers"),
        (&["quarantine", "list", &address, "--command-config", &bob][..], "headwater.http.readers"),
        (&["topology", "describe", &address][..], "ssl.truststore.location"),
    ] {
        let output = node.run(arguments, "");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(said), "{arguments:?}: {text}");
    }
    // The broker asks nobody who they are; the service does.
    let file = directory.path().join("http.properties");
    let trust = ca.trust("company").display().to_string();
    let text =
        format!("schema.registry.ssl.truststore.location={trust}\nbasic.auth.user.info=alice:wonderland\n");
    std::fs::write(&file, text).expect("a file");
    let file = file.display().to_string();
    let again = ["topology", "reprocess", "copies", "--instance", &address, "--command-config", &file];
    let output = node.run(&again, "");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("has processed nothing yet"), "{text}");
    app.stop().await.expect("it ends");
}
