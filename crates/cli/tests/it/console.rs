//! The console in a real browser: Chromium, driven over WebDriver (W3C).

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use headwater_client::{Client, ClientConfig, NewTopic, ProduceRecord, Producer, ProducerConfig};
use serde_json::{Value, json};

use crate::common::{Node, program};

struct Browser {
    driver: Child,
    session: String,
    http: reqwest::Client,
}

impl Browser {
    async fn open(profile: &Path) -> Option<Self> {
        program("chromium")?;
        let chromedriver = program("chromedriver")?;
        let mut driver = Command::new(chromedriver)
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let lines = BufReader::new(driver.stdout.take().expect("stdout is piped")).lines();
        let port = lines.map_while(Result::ok).find_map(|line| {
            let port = line.strip_prefix("ChromeDriver was started successfully on port ")?;
            Some(port.trim_end_matches('.').to_owned())
        });
        let base = format!("http://127.0.0.1:{}", port.expect("chromedriver says its port"));
        let mut browser = Self { driver, session: format!("{base}/session"), http: reqwest::Client::new() };
        let profile = format!("--user-data-dir={}", profile.display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1400,1500",
            &profile,
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments }, "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let opened = browser.post("", wanted).await;
        browser.session = format!("{base}/session/{}", opened["sessionId"].as_str().expect("a session"));
        Some(browser)
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.http.post(format!("{}{path}", self.session)).json(&body).send().await;
        let answer: Value = answer.expect("chromedriver answers").json().await.expect("JSON");
        assert!(answer["value"]["error"].is_null(), "{answer:#}");
        answer["value"].clone()
    }

    async fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// Asks until the script returns true.
    async fn wait_for(&self, script: &str) {
        let begun = Instant::now();
        while self.run(script).await != true {
            let page = self.run("return document.body.innerText").await;
            assert!(begun.elapsed() < Duration::from_secs(30), "{script} is not true of\n{page}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends the browser, too, which outlives its driver.
    async fn close(self) {
        self.http.delete(&self.session).send().await.expect("chromedriver answers");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// In memory, where there is a file system for it: a disk that is nearly full or slow is told on the page, too.
fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a directory")
}

#[tokio::test]
async fn the_overview_is_live_and_events_are_never_markup() {
    let dir = directory();
    let Some(browser) = Browser::open(&dir.path().join("profile")).await else { return };
    // Little of the memory is taken.
    let small = ["headwater.log.segment.bytes=1048576"];
    let node = Node::start_set(&dir.path().join("node"), "127.0.0.1:0", &small);
    node.done(&["topic", "create", "orders"], "");
    node.done(&["topic", "create", "_headwater.catalog", "--config", "cleanup.policy=compact"], "");
    let service = json!({ "team": "sales", "reads": ["orders"], "writes": ["invoices"] });
    let announced = format!("service/billing={service}\n");
    node.done(&["produce", "_headwater.catalog", "--key-separator", "="], &announced);
    node.done(&["produce", "orders"], "<img src=x onerror='document.title=1'>\n");

    browser.post("/url", json!({ "url": node.http })).await;
    browser.wait_for("return document.querySelector('#health').textContent.includes('all is well')").await;
    browser.wait_for("return document.querySelector('#streams').innerText.includes('orders')").await;
    browser
        .wait_for("return document.querySelector('hw-topology svg')?.textContent.includes('billing')")
        .await;
    // Drawn, and not only there.
    browser
        .wait_for(
            "return document.querySelector('hw-topology .service rect').getBoundingClientRect().width > 20",
        )
        .await;
    browser.wait_for("return document.querySelector('hw-events').innerText.includes('<img src=x')").await;
    assert_eq!(browser.run("return document.querySelector('hw-events img')").await, Value::Null);
    assert_eq!(browser.run("return document.title").await, "Headwater");

    // A second event comes to the page without reloading it.
    node.done(&["produce", "orders"], "another\n");
    browser.wait_for("return document.querySelector('hw-events').innerText.includes('another')").await;
    // A number with more digits than a browser's have is shown with all of them.
    let number = "12345678901234567890123";
    node.done(&["produce", "orders"], &format!("{{\"id\":{number}}}\n"));
    let shows =
        format!("return document.querySelector('hw-events').innerText.includes('{{\"id\":{number}}}')");
    browser.wait_for(&shows).await;

    // The table shows what is looked for by a part of its name.
    let find = async |part: &str| {
        let typed = format!("const find = document.querySelector('#find'); find.value = '{part}';");
        browser.run(&format!("{typed} find.dispatchEvent(new Event('input'));")).await;
    };
    find("nothing").await;
    browser.wait_for("return document.querySelector('#streams').tBodies[0].rows.length === 0").await;
    find("ORD").await;
    browser.wait_for("return document.querySelector('#streams').innerText.includes('orders')").await;

    let log = browser.post("/se/log", json!({ "type": "browser" })).await;
    let severe: Vec<&Value> =
        log.as_array().expect("a log").iter().filter(|line| line["level"] == "SEVERE").collect();
    assert!(severe.is_empty(), "the browser complains: {severe:#?}");

    // What is refused is not shown as the events of another stream.
    browser.post("/url", json!({ "url": format!("{}/?stream=nope", node.http) })).await;
    browser.wait_for("return document.querySelector('#health').textContent.includes('all is well')").await;
    browser.wait_for("return document.querySelector('hw-events').innerText.includes('no stream nope')").await;

    // All is not well where the figures say nothing of it, either.
    node.done(&["topic", "delete", "_schemas", "--yes", "--internal"], "");
    browser
        .wait_for("return document.querySelector('#health').textContent.includes('_schemas was deleted')")
        .await;

    node.kill();
    browser
        .wait_for(
            "return document.querySelector('#health').textContent.includes('connection lost; stale since')",
        )
        .await;
    browser.close().await;
}

#[tokio::test]
async fn the_first_answer_has_the_services_of_the_catalog() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(directory.path());
    let client = Client::connect(ClientConfig::new(&node.kafka, "console-test")).await.expect("connected");
    let topic = "_headwater.catalog";
    client.ensure_topic(NewTopic::new(topic, 1).config("cleanup.policy", "compact")).await.expect("created");
    let producer = Producer::new(&client, ProducerConfig::default()).await.expect("a producer");
    let record = ProduceRecord {
        topic: topic.to_owned(),
        key: Some("service/flights".into()),
        value: Some(json!({ "team": "tower" }).to_string().into()),
        ..ProduceRecord::default()
    };
    producer.send(record).await.expect("sent").await.expect("acknowledged");
    // Nobody has looked before.
    let ask = |path: &str| reqwest::get(format!("{}{path}", node.http));
    let refused = ask("/api/v1/services/flights/stores/status").await.expect("an answer");
    let said: Value = refused.json().await.expect("JSON");
    assert!(said["detail"].as_str().is_some_and(|detail| detail.contains("serves no queries")), "{said}");
    let overview: Value = ask("/api/v1/overview").await.expect("an answer").json().await.expect("JSON");
    assert_eq!(overview["services"][0]["name"], "flights", "{overview}");
}

/// The first event of the live page, asked for as its script does.
async fn live(node: &Node, table: &str) -> Value {
    let mut feed = reqwest::get(format!("{}/console/live?{table}", node.http)).await.expect("an answer");
    let mut told = Vec::new();
    while !told.ends_with(b"\n\n") {
        told.extend_from_slice(&feed.chunk().await.expect("it goes on").expect("it goes on for ever"));
    }
    let told = String::from_utf8(told).expect("UTF-8");
    let data = told.lines().find_map(|line| line.strip_prefix("data: ")).expect("an event");
    serde_json::from_str(data).expect("JSON")
}

#[tokio::test]
async fn the_live_page_is_told_of_as_many_streams_as_it_has_room_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(directory.path());
    let client = Client::connect(ClientConfig::new(&node.kafka, "console-test")).await.expect("connected");
    for number in 0..105 {
        client.create_topic(NewTopic::new(format!("stream-{number:03}"), 1)).await.expect("created");
    }
    let names = |overview: &Value| -> Vec<String> {
        let rows = overview["streams"].as_array().expect("rows").iter();
        rows.map(|row| row["name"].as_str().expect("a name").to_owned()).collect()
    };
    let all = reqwest::get(format!("{}/api/v1/overview", node.http)).await.expect("an answer");
    let all: Value = all.json().await.expect("JSON");
    assert!(names(&all).len() > 105, "the internal ones, too: {all}");
    let told = live(&node, "").await;
    assert_eq!((names(&told["overview"]).len(), &told["more_streams"]), (100, &json!(5)), "{told}");
    let told = live(&node, "internal=false&find=-104&stream=stream-103").await;
    assert_eq!((names(&told["overview"]), &told["more_streams"]), (vec!["stream-104".to_owned()], &json!(0)));
    assert_eq!(told["chosen"]["name"], "stream-103", "{told}");
    let told = live(&node, "internal=true&find=_SCHEMAS").await;
    assert_eq!(names(&told["overview"]), ["_schemas"], "{told}");
}
