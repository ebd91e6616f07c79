//! Registry and console behind the identities of the listeners, as the programs meet them that people have: the
//! command itself, curl, Confluent's serializers; and Java's client over TLS with keystores and tokens.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::certificates::Authority;
use crate::common::{HEADWATER, Node, kafka_jars, program, python};
use crate::tokens;

const RULES: &str = "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
                     super.users=User:alice\n";

struct Guarded {
    node: Node,
    ca: Authority,
    directory: tempfile::TempDir,
}

impl Guarded {
    /// SASL_SSL for Kafka and, by that, for HTTP; alice may do everything, bob and eve what the rules say.
    fn start(more: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let ca = Authority::new(directory.path(), "company");
        let keystore = ca.issue("server", &["127.0.0.1"]);
        let users = directory.path().join("users");
        std::fs::write(&users, "alice=wonderland\nbob=builder\neve=eve\n").expect("a file");
        let text = format!(
            "listeners=SASL_SSL://127.0.0.1:0\nssl.keystore.location={}\nheadwater.sasl.users.file={}\n{RULES}{more}",
            keystore.display(),
            users.display()
        );
        let properties = directory.path().join("server.properties");
        std::fs::write(&properties, text).expect("a file");
        let mut command = Command::new(HEADWATER);
        let data = directory.path().join("data").display().to_string();
        let file = properties.display().to_string();
        let node = Node::start_with_arguments(&mut command, &["--data-dir", &data, "--config-file", &file]);
        Self { node, ca, directory }
    }

    /// The settings of a user: one set of keys for the brokers and the registry.
    fn settings(&self, user: &str, password: &str) -> String {
        let file = self.directory.path().join(format!("{user}.properties"));
        let text = format!(
            "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nsasl.username={user}\nsasl.password={password}\n\
             ssl.truststore.type=PEM\nssl.truststore.location={}\n",
            self.ca.trust("company").display()
        );
        std::fs::write(&file, text).expect("a file");
        file.display().to_string()
    }

    fn allow(&self, arguments: &[&str]) {
        let alice = self.settings("alice", "wonderland");
        let mut all = vec!["acl", "add", "--command-config", &alice];
        all.extend(arguments);
        self.node.done(&all, "");
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.node.run(arguments, "");
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

#[test]
fn every_command_that_asks_the_registry_or_the_node_does_so_as_its_user() {
    let guarded = Guarded::start("");
    let node = &guarded.node;
    assert!(node.http.starts_with("https://"), "{}", node.http);
    let (alice, bob) = (guarded.settings("alice", "wonderland"), guarded.settings("bob", "builder"));
    let schema = guarded.directory.path().join("order.avsc");
    std::fs::write(&schema, r#"{"type":"record","name":"Order","fields":[{"name":"id","type":"int"}]}"#)
        .expect("a file");
    let schema = schema.display().to_string();
    let register = |config: &str| {
        ["schema", "register", "orders-value", &schema, "--command-config", config].map(str::to_owned)
    };
    let refused = guarded.refused(&register(&bob).each_ref().map(String::as_str));
    assert!(refused.contains("denied operation WRITE on TOPIC orders"), "{refused}");
    node.done(&["topic", "create", "orders", "--command-config", &alice], "");
    guarded.allow(&["--topic", "orders", "--principal", "User:bob", "-o", "read", "-o", "write"]);
    guarded.allow(&["--group", "*", "--principal", "User:bob", "-o", "read"]);
    node.done(&register(&bob).each_ref().map(String::as_str), "");
    assert_eq!(node.done(&["schema", "list", "--command-config", &bob], "").trim(), "orders-value");
    assert_eq!(node.done(&["schema", "list", "--command-config", &guarded.settings("eve", "eve")], ""), "");

    // The keys of Confluent's clients, for a program that asks nothing but the registry.
    let own = guarded.directory.path().join("registry.properties");
    let text = format!(
        "schema.registry.url={}\nschema.registry.ssl.truststore.location={}\nschema.registry.ssl.truststore.type=PEM\n\
         basic.auth.credentials.source=USER_INFO\nschema.registry.basic.auth.user.info=bob:builder\n",
        node.http,
        guarded.ca.trust("company").display()
    );
    std::fs::write(&own, text).expect("a file");
    let asked = Command::new(HEADWATER).args(["schema", "list", "--command-config"]).arg(&own).output();
    let asked = asked.expect("it ends");
    let said = String::from_utf8_lossy(&asked.stderr);
    assert_eq!(String::from_utf8_lossy(&asked.stdout).trim(), "orders-value", "{said}");

    let wrong = guarded.directory.path().join("wrong.properties");
    let text = std::fs::read_to_string(&bob).expect("a file") + "basic.auth.user.info=bob:guess\n";
    std::fs::write(&wrong, text).expect("a file");
    let wrong = wrong.display().to_string();
    let refused = guarded.refused(&["schema", "list", "--command-config", &wrong]);
    assert!(refused.contains("does not accept who this client says it is"), "{refused}");

    let refused = guarded.refused(&["doctor", "--command-config", &bob]);
    assert!(refused.contains("DESCRIBE on the cluster"), "{refused}");
    node.run(&["doctor", "--command-config", &alice, "--json"], "");
    let diagnosis = node.run(&["doctor", "--command-config", &alice, "--json"], "");
    let diagnosis: serde_json::Value = serde_json::from_slice(&diagnosis.stdout).expect("JSON");
    assert!(diagnosis["findings"].is_array(), "{diagnosis}");
}

#[test]
fn curl_meets_what_confluents_clients_expect() {
    let Some(curl) = program("curl") else { return };
    let guarded = Guarded::start("");
    let ca = guarded.ca.trust("company");
    let ask = |user: Option<&str>, path: &str| {
        let mut command = Command::new(&curl);
        command.args(["-s", "-w", "\n%{http_code}", "--cacert"]).arg(&ca);
        command.args(user.iter().flat_map(|user| ["-u", user]));
        let output = command.arg(format!("{}{path}", guarded.node.http)).output().expect("curl ends");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let refused = ask(None, "/subjects");
    assert!(refused.contains("\"error_code\":40101") && refused.ends_with("401"), "{refused}");
    assert!(ask(Some("bob:guess"), "/subjects").ends_with("401"));
    assert_eq!(ask(Some("bob:builder"), "/subjects"), "[]\n200");
    let refused = ask(Some("bob:builder"), "/subjects/orders-value/versions/latest");
    assert!(refused.contains("\"error_code\":40301") && refused.ends_with("403"), "{refused}");
    assert!(ask(Some("bob:builder"), "/metrics").ends_with("403"));
    assert!(ask(Some("alice:wonderland"), "/metrics").ends_with("200"));
    assert!(ask(None, "/health").ends_with("200"));
}

#[test]
fn confluents_serializer_registers_and_reads_schemas_by_user_and_password() {
    let Some(python) = python() else { return };
    let guarded = Guarded::start("");
    let alice = guarded.settings("alice", "wonderland");
    guarded.node.done(&["topic", "create", "orders", "--command-config", &alice], "");
    guarded.allow(&["--topic", "orders", "--principal", "User:bob", "-o", "read", "-o", "write"]);
    guarded.allow(&["--group", "readers", "--principal", "User:bob", "-o", "read"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/confluent_kafka_avro.py");
    let mut command = Command::new(python);
    command.arg(script).args([&guarded.node.kafka, &guarded.node.http]).arg(guarded.ca.trust("company"));
    let output = command.output().expect("it ends");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.lines().last() == Some("done"), "{out}\n{err}");
}

/// Java's client with the settings of a file.
fn java(jars: &Path, node: &Node, settings: &Path, seconds: &str, property: Option<&str>) -> (bool, String) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/java/SecureClient.java");
    let topic = settings.file_stem().and_then(|stem| stem.to_str()).expect("a name");
    let mut command = Command::new("java");
    command.arg(format!("-Dlog4j2.configurationFile={}", jars.join("log4j2.properties").display()));
    command.args(property).args(["-cp", &format!("{}/*", jars.display())]).arg(source);
    let output = command.arg(settings).args([&node.kafka, topic, seconds]).output().expect("java starts");
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// A keystore as keytool makes them, in a form.
fn keytool(arguments: &[&str]) {
    let output = Command::new("keytool").args(arguments).output().expect("keytool is Java's");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// The authority as a truststore that keytool made.
fn truststore(directory: &Path, ca: &Authority, form: &str) -> PathBuf {
    let file = directory.join(format!("trust.{}", form.to_lowercase()));
    let (name, ca) = (file.display().to_string(), ca.trust("company").display().to_string());
    keytool(&[
        "-importcert",
        "-noprompt",
        "-alias",
        "company",
        "-file",
        &ca,
        "-keystore",
        &name,
        "-storetype",
        form,
        "-storepass",
        "changeit",
    ]);
    file
}

/// A key and its chain as a keystore: openssl makes PKCS#12, keytool converts that.
fn keystore(pem: &Path, ca: &Authority) -> PathBuf {
    let file = pem.with_extension("p12");
    let mut openssl = Command::new("openssl");
    openssl.args(["pkcs12", "-export", "-passout", "pass:changeit", "-name", "own", "-in"]).arg(pem);
    openssl.arg("-certfile").arg(ca.trust("company")).arg("-out").arg(&file);
    let output = openssl.output().expect("openssl starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    file
}

#[test]
fn javas_client_comes_by_certificate_with_keystores_on_both_sides_and_jks_is_refused_with_the_way_out() {
    let (Some(jars), Some(_)) = (kafka_jars(), program("openssl")) else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let ca = Authority::new(directory.path(), "company");
    let trust = truststore(directory.path(), &ca, "PKCS12");
    let own = keystore(&ca.issue("server", &["127.0.0.1"]), &ca);
    let store = |own: &Path, trust: &Path, form: &str| {
        format!(
            "ssl.keystore.type={form}\nssl.keystore.location={}\nssl.keystore.password=changeit\nssl.key.password=changeit\n\
             ssl.truststore.type={form}\nssl.truststore.location={}\nssl.truststore.password=changeit\n",
            own.display(),
            trust.display()
        )
    };
    let start = |settings: &str| {
        std::fs::write(path("server.properties"), settings).expect("a file");
        let mut command = Command::new(HEADWATER);
        command.args(["up", "--json", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir"]);
        command.arg(path("data")).arg("--config-file").arg(path("server.properties"));
        command
    };
    let common = "listeners=SSL://127.0.0.1:0\nssl.client.auth=required\n";

    let jks = truststore(directory.path(), &ca, "JKS");
    let refused = start(&format!("{common}{}", store(&own, &jks, "PKCS12"))).output().expect("it ends");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("keytool -importkeystore"), "{said}");
    let wrong = store(&own, &trust, "PKCS12").replace("password=changeit", "password=guess");
    let refused = start(&format!("{common}{wrong}")).output().expect("it ends");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("is its password right?"), "{said}");

    let node = Node::start_as(&mut start(&format!("{common}{}", store(&own, &trust, "PKCS12"))));
    let client = keystore(&ca.issue("billing", &["127.0.0.1"]), &ca);
    let settings = format!("security.protocol=SSL\n{}", store(&client, &trust, "PKCS12"));
    std::fs::write(path("keystores.properties"), &settings).expect("a file");
    let (done, said) = java(&jars, &node, &path("keystores.properties"), "0", None);
    assert!(done && said.contains("done"), "{said}");
    // The same file leads our own client in.
    let file = path("keystores.properties").display().to_string();
    assert!(node.done(&["topic", "list", "--command-config", &file], "").contains("keystores"));
    node.terminate();
}

#[test]
fn javas_client_comes_by_a_token_over_tls_and_says_again_who_it_is() {
    let Some(jars) = kafka_jars() else { return };
    let issuer = tokens::Issuer::start();
    let guarded = Guarded::start(&format!(
        "sasl.oauthbearer.jwks.endpoint.url={}/keys\nsasl.oauthbearer.expected.audience=kafka\nconnections.max.reauth.ms=2000\n",
        issuer.url
    ));
    guarded.allow(&[
        "--topic",
        "token",
        "--principal",
        "User:billing",
        "-o",
        "read",
        "-o",
        "write",
        "-o",
        "create",
    ]);
    guarded.allow(&["--group", "java-token", "--principal", "User:billing", "-o", "read"]);
    let endpoint = format!("{}/token", issuer.url);
    let trust = format!(
        "ssl.truststore.type=PEM\nssl.truststore.location={}\n",
        guarded.ca.trust("company").display()
    );
    let text = format!(
        "security.protocol=SASL_SSL\nsasl.mechanism=OAUTHBEARER\n{trust}sasl.oauthbearer.token.endpoint.url={endpoint}\n\
         sasl.login.callback.handler.class=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler\n\
         sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
         clientId=\"billing\" clientSecret=\"se cret\";\n"
    );
    let file = guarded.directory.path().join("token.properties");
    std::fs::write(&file, text).expect("a file");
    let allowed = format!("-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={endpoint}");
    let (done, said) = java(&jars, &guarded.node, &file, "6", Some(&allowed));
    assert!(done && said.contains("done"), "{said}");

    // Our own client reads its keys from the same place, without Java's class names.
    let own = std::fs::read_to_string(&file).expect("a file");
    let own: String =
        own.lines().filter(|line| !line.contains("callback")).map(|line| format!("{line}\n")).collect();
    let ours = guarded.directory.path().join("own.properties");
    std::fs::write(&ours, own).expect("a file");
    let ours = ours.display().to_string();
    let read = ["tail", "token", "--from-beginning", "--no-follow", "--command-config", &ours];
    assert!(guarded.node.done(&read, "").contains("value 0"));
}

#[test]
fn the_demo_gets_the_same_answer_from_a_guarded_broker() {
    let guarded = Guarded::start("num.partitions=1\n");
    let alice = guarded.settings("alice", "wonderland");
    let arguments = ["demo", "--until", "2013-01-03", "--json", "--command-config", &alice];
    let output = guarded.node.run(&arguments, "");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && said.contains("\"verdict\":\"equal\""),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
