//! A real Kafka Streams application over TLS and SASL where access rules count, by both of its group protocols: it has
//! what its rules give it and no more.

use std::path::PathBuf;
use std::process::Command;

use crate::certificates::Authority;
use crate::common::{HEADWATER, Node, jars};
use crate::java::Java;

const USERS: [(&str, &str); 3] = [("alice", "wonderland"), ("counter", "one two"), ("eve", "eve")];

/// SASL_SSL and nothing else; alice may do everything, the others what rules say.
struct Guarded {
    node: Node,
    ca: Authority,
    directory: tempfile::TempDir,
}

impl Guarded {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let ca = Authority::new(directory.path(), "company");
        let keystore = ca.issue("server", &["127.0.0.1"]);
        let users = directory.path().join("users");
        let lines: String = USERS.iter().map(|(user, password)| format!("{user}={password}\n")).collect();
        std::fs::write(&users, lines).expect("a file");
        let text = format!(
            "listeners=SASL_SSL://127.0.0.1:0\nssl.keystore.location={}\nheadwater.sasl.users.file={}\n\
             authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\nsuper.users=User:alice\n\
             group.initial.rebalance.delay.ms=0\ngroup.streams.initial.rebalance.delay.ms=0\n",
            keystore.display(),
            users.display()
        );
        let properties = directory.path().join("server.properties");
        std::fs::write(&properties, text).expect("a file");
        let data = directory.path().join("data").display().to_string();
        let mut command = Command::new(HEADWATER);
        let file = properties.display().to_string();
        let node = Node::start_with_arguments(&mut command, &["--data-dir", &data, "--config-file", &file]);
        Self { node, ca, directory }
    }

    /// A file of settings of a user, which Java's clients and our own understand, and `more`.
    fn settings(&self, name: &str, user: &str, more: &str) -> String {
        let (_, password) = USERS.iter().find(|(known, _)| *known == user).expect("a user");
        let text = format!(
            "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nssl.truststore.type=PEM\nssl.truststore.location={}\n\
             sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \
             username=\"{user}\" password=\"{password}\";\n{more}",
            self.ca.trust("company").display()
        );
        let file = self.directory.path().join(format!("{name}.properties"));
        std::fs::write(&file, text).expect("a file");
        file.display().to_string()
    }

    fn as_alice(&self, arguments: &[&str]) -> String {
        let alice = self.settings("alice", "alice", "");
        let mut all = arguments.to_vec();
        all.extend(["--command-config", &alice]);
        self.node.done(&all, "")
    }

    fn allow(&self, user: &str, on: &[&str], operations: &[&str]) {
        let principal = format!("User:{user}");
        let mut all = vec!["acl", "add"];
        all.extend(on);
        all.extend(["--principal", &principal]);
        all.extend(operations.iter().flat_map(|operation| ["-o", operation]));
        self.as_alice(&all);
    }
}

fn counts_by(protocol: &str) {
    let Some(jars) = jars("HEADWATER_TEST_STREAMS_JARS") else { return };
    let guarded = Guarded::start();
    for topic in ["lines", "counts"] {
        guarded.as_alice(&["topic", "create", topic, "--partitions", "2"]);
    }
    let group = format!("group.protocol={protocol}\n");
    let state = |name: &str| -> PathBuf { guarded.directory.path().join(format!("state-{name}")) };
    let application = |user: &str| {
        let settings = guarded.settings(user, user, &group);
        Java::start(&jars, &["app", &guarded.node.kafka, &state(user).display().to_string(), &settings])
    };

    let stranger = application("eve");
    let why = stranger.wait("a stranger is refused", |line| line.starts_with("failed "));
    assert!(why.contains("AuthorizationException"), "{why}");
    drop(stranger);
    assert!(!guarded.as_alice(&["topic", "list"]).contains("wordcount-"), "a stranger has made nothing");

    guarded.allow("counter", &["--topic", "lines"], &["read"]);
    guarded.allow("counter", &["--topic", "counts"], &["write"]);
    // Its repartition topic is emptied behind it, which is DELETE.
    let own = ["read", "write", "create", "delete"];
    guarded.allow("counter", &["--topic", "wordcount-", "--prefix"], &own);
    guarded.allow("counter", &["--group", "wordcount"], &["read"]);
    guarded.allow("counter", &["--transactional-id", "wordcount-", "--prefix"], &["write"]);
    let counter = application("counter");
    counter.wait("it runs", |line| line == "state RUNNING");
    let driver =
        Java::start(&jars, &["drive", &guarded.node.kafka, "400", &guarded.settings("driver", "alice", "")]);
    let verdict =
        driver.wait("every count is exact", |line| line.starts_with("exact ") || line.starts_with("wrong: "));
    assert!(verdict.starts_with("exact "), "{verdict}");
    let said = counter.said();
    assert!(!said.iter().any(|line| line.starts_with("failed ")), "{said:#?}");
    counter.close();
}

#[test]
fn an_application_of_the_streams_protocol_counts_exactly_with_the_rights_it_needs() {
    counts_by("streams");
}

#[test]
fn an_application_of_the_classic_protocol_counts_exactly_with_the_rights_it_needs() {
    counts_by("classic");
}
