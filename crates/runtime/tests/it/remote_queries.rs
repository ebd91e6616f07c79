//! Whatever instance is asked, the answer is the same: by key, range, window, session and version, over HTTP and from Rust.

use std::time::Duration;

use headwater_runtime::{AppConfig, Queries, Role, Staleness, StateQueryError, StreamsApp};
use headwater_streams::serdes::string;
use headwater_streams::{
    Consumed, Grouped, Materialized, SessionWindows, StreamsBuilder, TimeWindows, Topology,
};
use serde_json::Value;

use crate::support::asking::{ask, config};
use crate::support::{self, Cluster, WordCount, eventually, unique};

async fn three(words: &WordCount, cluster: &Cluster, states: &[tempfile::TempDir]) -> Vec<StreamsApp> {
    let mut apps = Vec::new();
    for state in states {
        let config = config(words, cluster, state.path());
        apps.push(StreamsApp::start(words.topology(), config).await.unwrap());
    }
    eventually("each has tasks and copies", async || {
        apps.iter().all(|app| app.ready() && app.tasks().len() == 4 && app.standbys().len() == 2)
    })
    .await;
    apps
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_has_the_same_answer_at_every_instance() {
    let cluster = Cluster::start().await;
    let mut words = WordCount::new(&cluster, 6).await;
    let states: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let apps = three(&words, &cluster, &states).await;
    words.write(&cluster, 300).await;
    words.check(&cluster).await;

    let hosts: Vec<String> = apps.iter().map(|app| app.application_server().unwrap().to_owned()).collect();
    let instances = apps[0].instances();
    for (host, app) in hosts.iter().zip(&apps) {
        let mut told = instances[host].active.clone();
        told.sort();
        let own: Vec<String> = app.tasks().keys().map(ToString::to_string).collect();
        assert_eq!(told, own);
    }
    let mut owners = Vec::new();
    for (word, count) in &words.model {
        let known = apps[0].queries().query_metadata_for_key("counts", word).unwrap().unwrap();
        let owner = known.active_host.clone().unwrap();
        assert!(known.standby_hosts.len() == 1 && !known.standby_hosts.contains(&owner));
        for app in &apps {
            assert_eq!(app.queries().query_metadata_for_key("counts", word).unwrap().as_ref(), Some(&known));
            let told = ask(app, &format!("/stores/counts/metadata/{word}")).await;
            assert_eq!(told.body["active_host"], owner.as_str());
            let told = ask(app, &format!("/stores/counts/key/{word}")).await;
            assert_eq!((told.status, told.value()), (200, &Value::from(*count)), "{word}");
            assert_eq!((told.role(), told.header("headwater-host")), ("active", Some(owner.as_str())));
            assert_eq!(told.number("headwater-lag"), None);
            let told = app.queries().store::<String, i64>("counts").get(word).await.unwrap();
            assert_eq!(told.result.unwrap().value, *count);
        }
        owners.push(owner);
    }
    assert!(hosts.iter().all(|host| owners.contains(host)), "{owners:?}");
    for app in &apps {
        let told = ask(app, "/stores/counts/key/nobody").await;
        assert_eq!((told.status, told.title()), (404, "no such key"));
        pages(app, &words).await;
    }

    one_hop(&apps, &words).await;

    // A program that is no instance; the first address is nobody's.
    let addresses = ["127.0.0.1:1", hosts[2].as_str()];
    let counts = Queries::remote(&words.application_id, addresses).unwrap().store::<String, i64>("counts");
    for (word, count) in &words.model {
        assert_eq!(counts.get(word).await.unwrap().result.unwrap().value, *count);
    }
    let all = counts.range(None, None).await.unwrap();
    assert_eq!(all.result.len(), words.model.len());
    assert!(
        all.partition_results.len() == 6 && all.partition_results.values().all(|p| p.role == Role::Active)
    );
    let other = Queries::remote("another-application", [hosts[0].as_str()]).unwrap();
    let error = other.store::<String, i64>("counts").get(&"w1".to_owned()).await.unwrap_err();
    assert!(
        matches!(error, StateQueryError::Unreachable { .. } | StateQueryError::Refused { .. }),
        "{error}"
    );

    // A copy that is near enough answers where it is, without a hop.
    eventually("the copies are complete", async || {
        apps.iter().all(|app| app.standbys().values().all(|copy| copy.lag <= 1))
    })
    .await;
    for app in &apps {
        let counts = app.queries().store::<String, i64>("counts");
        let counts = counts.max_staleness(Staleness::time(Duration::from_secs(20)));
        let own = app.application_server();
        for (word, count) in &words.model {
            let holds = app.queries().query_metadata_for_key("counts", word).unwrap().unwrap();
            let told = counts.get(word).await.unwrap();
            let by = told.partition_results.values().next().unwrap();
            assert_eq!(told.result.unwrap().value, *count);
            if holds.standby_hosts.iter().any(|host| Some(host.as_str()) == own) {
                assert_eq!((by.role, by.host.as_deref()), (Role::Standby, own));
                assert!(by.staleness_ms.unwrap() <= 20_000);
            } else {
                assert_eq!((by.role, &by.host), (Role::Active, &holds.active_host));
            }
        }
    }
    for app in apps {
        app.stop().await.unwrap();
    }
    cluster.stop().await;
}

/// A question that was passed on goes no further: whoever does not have the task says so.
async fn one_hop(apps: &[StreamsApp], words: &WordCount) {
    let task = apps.iter().flat_map(|app| app.tasks().into_keys()).max().unwrap();
    let question = serde_json::json!({
        "store": "counts", "query": { "range": { "limit": 100 } }, "tasks": [task.to_string()],
    });
    for forwarded in [false, true] {
        let mut found = 0;
        for app in apps {
            let url = format!("http://{}/query", app.application_server().unwrap());
            let mut request = reqwest::Client::new().post(url).json(&question);
            request = request.header("headwater-group", &words.application_id);
            if forwarded {
                request = request.header("headwater-forwarded", "1");
            }
            let told: Value = request.send().await.unwrap().json().await.unwrap();
            let part = &told["parts"][task.to_string()];
            assert!(part["rows"].is_object() || (forwarded && part["unavailable"].is_object()), "{told}");
            found += usize::from(part["rows"].is_object());
        }
        assert_eq!(found, if forwarded { 1 } else { apps.len() });
    }
}

/// The pages of one instance are all rows, in order, each once.
async fn pages(app: &StreamsApp, words: &WordCount) {
    let mut rows = Vec::new();
    let mut after = String::new();
    let mut count = 0;
    loop {
        let told = ask(app, &format!("/stores/counts?limit=7{after}")).await;
        assert_eq!(told.status, 200, "{told:?}");
        rows.extend(
            told.rows()
                .iter()
                .map(|row| (row["key"].as_str().unwrap().to_owned(), row["value"].as_i64().unwrap())),
        );
        count += 1;
        match told.body["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(count, words.model.len().div_ceil(7));
    assert_eq!(rows, words.model.clone().into_iter().collect::<Vec<_>>());
    let told = ask(app, "/stores/counts?from=w1&to=w2").await;
    let expected = words.model.keys().filter(|word| ("w1".."w2").contains(&word.as_str()) || *word == "w2");
    assert_eq!(told.rows().len(), expected.count());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_is_told_with_what_to_do() {
    let cluster = Cluster::start().await;
    let mut words = WordCount::new(&cluster, 2).await;
    let state = tempfile::tempdir().unwrap();
    let mut settings = config(&words, &cluster, state.path());
    settings.num_standby_replicas = 0;
    let app = StreamsApp::start(words.topology(), settings).await.unwrap();
    words.write(&cluster, 20).await;
    words.check(&cluster).await;
    for (path, status, says) in [
        ("/stores/nothing", 404, "these can: counts"),
        ("/stores/nothing/key/w1", 404, ".json()"),
        ("/stores/counts/key/w1?as_of=1", 400, "keep versions"),
        ("/stores/counts/key/w1?from=1", 400, "windows, sessions and versions"),
        ("/stores/counts?as_of=1", 400, "one key"),
        ("/stores/counts/key/w1?color=red", 400, "max_staleness"),
        ("/stores/counts/key/12x", 404, "no row"),
        ("/stores/counts?limit=0", 400, "at least 1"),
        ("/stores/counts?after=xyz", 400, "next"),
        ("/stores/counts?after=00", 400, "next"),
        ("/stores/counts/key/w1?position=lines", 400, "topic:partition:offset"),
        ("/stores/counts/key/w1?position=other-topic:0:1", 400, "use positions of records in"),
        ("/stores/counts/key/w1?max_staleness=soon", 400, "500ms"),
        ("/stores/counts/key/w1?timeout=-1", 400, "500ms"),
        ("/storage", 404, "/stores/{store}/key/{key}"),
    ] {
        let told = ask(&app, path).await;
        assert_eq!(told.status, status, "{path}: {told:?}");
        assert!(told.detail().contains(says), "{path}: {told:?}");
        assert_eq!(told.header("content-type"), Some("application/problem+json"), "{path}");
    }
    let far = format!("/stores/counts/key/w1?position={}:7:1", words.lines);
    assert!(ask(&app, &far).await.detail().contains("has 2 partitions"));
    let counts = app.queries().store::<String, i64>("counts");
    let windows = counts.windows(None, 0, 1).await.unwrap_err();
    assert!(
        matches!(&windows, StateQueryError::Refused { detail } if detail.contains("KeyValue")),
        "{windows}"
    );
    let strings = app.queries().store::<String, String>("counts").range(None, None).await.unwrap_err();
    assert!(matches!(strings, StateQueryError::Unreadable { .. }), "{strings}");
    let numbers = app.queries().store::<i64, i64>("counts").get(&1).await;
    assert_eq!(numbers.unwrap().result, None, "1 is read as text, and is no word");
    let queries = app.queries();
    app.stop().await.unwrap();
    let stopped = queries.store::<String, i64>("counts").get(&"w1".to_owned()).await.unwrap_err();
    assert!(matches!(stopped, StateQueryError::Stopped | StateQueryError::Unavailable { .. }), "{stopped}");
    cluster.stop().await;
}

const HOUR: i64 = 3_600_000;

fn kinds(application_id: &str) -> Topology {
    let hour = Duration::from_secs(3600);
    let builder = StreamsBuilder::new(application_id);
    let events = builder.stream(&format!("{application_id}-in"), Consumed::with(string(), string()));
    let grouped = events.group_by_key(Grouped::with(string(), string()));
    let windows = TimeWindows::of(hour).grace(hour * 24);
    grouped.windowed_by(windows).count(Materialized::named("by-hour").json());
    let sessions = SessionWindows::with_gap(Duration::from_secs(60)).grace(hour * 24);
    grouped.windowed_by_session(sessions).count(Materialized::named("visits").json());
    let rows = format!("{application_id}-rows");
    builder.table(
        &rows,
        Consumed::with(string(), string()),
        Materialized::named("rows").json().versioned(hour * 24),
    );
    builder.global_table(
        &format!("{application_id}-places"),
        Consumed::with(string(), string()),
        Materialized::named("places").json(),
    );
    builder.build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_sessions_versions_and_global_tables_are_asked_for_anywhere() {
    let cluster = Cluster::start().await;
    let application_id = unique("kinds");
    for topic in ["in", "rows", "places"] {
        cluster.topic(&format!("{application_id}-{topic}"), 4).await;
    }
    let states: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut apps = Vec::new();
    for state in &states {
        let mut config = AppConfig::new(&cluster.bootstrap, &application_id);
        config.security = support::security();
        config.state_dir = state.path().to_owned();
        config.http = Some("127.0.0.1:0".parse().unwrap());
        config.commit_interval = Duration::from_millis(50);
        apps.push(StreamsApp::start(kinds(&application_id), config).await.unwrap());
    }
    eventually("each has half of the tasks", async || {
        apps.iter().all(|app| app.ready() && app.tasks().len() == 4)
    })
    .await;
    let keys = ["a", "b", "c", "d", "e", "f"];
    let at = |time: i64| keys.iter().map(|key| (*key, "x", time)).collect::<Vec<_>>();
    let events = [at(1), at(2), at(HOUR), at(3 * HOUR)].concat();
    cluster.produce(&format!("{application_id}-in"), &events).await;
    cluster.produce(&format!("{application_id}-places"), &at(1)).await;
    for (value, time) in [("one", 1000), ("two", 2000), ("three", 3000)] {
        let rows: Vec<_> = keys.iter().map(|key| (*key, value, time)).collect();
        cluster.produce(&format!("{application_id}-rows"), &rows).await;
    }
    for app in &apps {
        let row_count = async |path: &str| {
            let told = ask(app, path).await;
            if told.status == 200 { told.rows().len() } else { 0 }
        };
        eventually("all is there", async || {
            row_count("/stores/by-hour").await == 18
                && row_count("/stores/visits").await == 18
                && row_count("/stores/places").await == 6
                && row_count("/stores/rows").await == 6
                && ask(app, "/stores/rows/key/f").await.value() == "three"
        })
        .await;
        for key in keys {
            assert_eq!(row_count(&format!("/stores/by-hour/key/{key}")).await, 3);
            let hour = format!("/stores/by-hour/key/{key}?from={HOUR}&to=1970-01-01T01:30:00Z");
            let told = ask(app, &hour).await;
            assert_eq!((told.rows().len(), &told.rows()[0]["start"]), (1, &Value::from(HOUR)));
            let visit = ask(app, &format!("/stores/visits/key/{key}?from=0&to=1")).await;
            assert_eq!((visit.rows().len(), &visit.rows()[0]["value"]), (1, &Value::from(2)));
            assert_eq!(ask(app, &format!("/stores/rows/key/{key}?as_of=2500")).await.value(), "two");
            let versions = ask(app, &format!("/stores/rows/key/{key}?from=1000&to=2999&limit=1")).await;
            assert_eq!(versions.rows()[0]["value"], "two");
            let next = versions.body["next"].as_str().unwrap();
            let rest = ask(app, &format!("/stores/rows/key/{key}?from=1000&to=2999&after={next}")).await;
            assert_eq!((rest.rows().len(), &rest.rows()[0]["value"]), (1, &Value::from("one")));
            let place = ask(app, &format!("/stores/places/key/{key}")).await;
            assert_eq!((place.role(), place.value()), ("global", &Value::from("x")));
        }
        let rows = app.queries().store::<String, String>("rows");
        assert_eq!(rows.as_of(&"a".to_owned(), 1500).await.unwrap().result.unwrap().value, "one");
        let counts = app.queries().store::<String, i64>("visits");
        let visits = counts.sessions(Some(&"b".to_owned()), HOUR, i64::MAX).await.unwrap().result;
        assert_eq!(visits.iter().map(|row| row.start).collect::<Vec<_>>(), [Some(HOUR), Some(3 * HOUR)]);
    }
    for app in apps {
        app.stop().await.unwrap();
    }
    cluster.stop().await;
}
