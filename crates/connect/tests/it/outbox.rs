//! The outbox source tells each change of a table exactly once, in order, whoever is killed when.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use headwater_connect::SourceError;
use headwater_connect::sqlite::{OutboxSource, TableStream, outbox};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use serde_json::{Value, json};

use crate::support::{Cluster, Dice, eventually, never, unique};

const FLIGHTS: &str = "CREATE TABLE flights (id INTEGER PRIMARY KEY, carrier TEXT NOT NULL, delay INTEGER, \
     happened_at INTEGER NOT NULL, remark TEXT);";

fn flights(cluster: &Cluster) -> TableStream {
    TableStream::new(unique("flights"), cluster.path("legacy.sqlite"), "flights", unique("flights"))
        .record("Flight", "test")
        .columns(&["id", "carrier", "delay", "happened_at"])
        .event_time("happened_at")
        .timestamps(&["happened_at"])
}

/// A cluster, and a database whose flights are told.
async fn installed() -> (Cluster, Connection, TableStream) {
    let cluster = Cluster::start().await;
    let database = cluster.database("legacy.sqlite", FLIGHTS);
    let stream = flights(&cluster);
    outbox::install(&database, &stream).unwrap();
    (cluster, database, stream)
}

fn source(cluster: &Cluster, stream: &TableStream) -> OutboxSource {
    OutboxSource::new(stream.clone(), cluster.client.clone(), cluster.registry.clone())
}

/// Publishes what is there.
async fn drain(cluster: &Cluster, stream: &TableStream) -> u64 {
    let source = source(cluster, stream);
    source.handle().finish();
    source.run(never()).await.unwrap()
}

fn flight(id: i64, carrier: &str, delay: Option<i64>, happened_at: i64) -> Option<Value> {
    Some(json!({"id": id, "carrier": carrier, "delay": delay, "happened_at": happened_at}))
}

#[tokio::test(flavor = "multi_thread")]
async fn inserts_updates_deletes_and_key_changes_are_told_in_order() {
    let (cluster, database, stream) = installed().await;
    database
        .execute_batch(
            "INSERT INTO flights VALUES (1, 'UA', NULL, 1000, 'a');
             UPDATE flights SET delay = 7, happened_at = 2000 WHERE id = 1;
             UPDATE flights SET remark = 'not told' WHERE id = 1;
             UPDATE flights SET delay = 7 WHERE id = 1;
             UPDATE flights SET id = 2, happened_at = 3000 WHERE id = 1;
             DELETE FROM flights;",
        )
        .unwrap();
    assert_eq!(drain(&cluster, &stream).await, 5);
    let key = |key: &str| key.to_owned();
    let expected = [
        (key("1"), flight(1, "UA", None, 1000)),
        (key("1"), flight(1, "UA", Some(7), 2000)),
        (key("1"), None),
        (key("2"), flight(2, "UA", Some(7), 3000)),
        (key("2"), None),
    ];
    assert_eq!(cluster.read_json(&stream.topic).await, expected);
    let times: Vec<i64> = cluster.read(&stream.topic).await.iter().map(|record| record.timestamp).collect();
    assert_eq!(times, [1000, 2000, 3000, 3000, 3000]);
    let left: i64 =
        database.query_row("SELECT count(*) FROM _headwater_outbox_flights", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0, "published rows leave the outbox");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_a_collation_does_not_see_is_told() {
    let cluster = Cluster::start().await;
    let database = cluster.database(
        "legacy.sqlite",
        "CREATE TABLE people (login TEXT PRIMARY KEY COLLATE NOCASE, name TEXT NOT NULL COLLATE NOCASE)",
    );
    let (name, topic) = (unique("people"), unique("people"));
    let stream =
        TableStream::new(name, cluster.path("legacy.sqlite"), "people", topic).record("Person", "test");
    outbox::install(&database, &stream).unwrap();
    database
        .execute_batch(
            "INSERT INTO people VALUES ('bob', 'bob miller');
             UPDATE people SET name = 'Bob Miller';
             UPDATE people SET login = 'Bob';",
        )
        .unwrap();
    drain(&cluster, &stream).await;
    let person = |login: &str, name: &str| Some(json!({"login": login, "name": name}));
    let expected = [
        ("bob".to_owned(), person("bob", "bob miller")),
        ("bob".to_owned(), person("bob", "Bob Miller")),
        ("bob".to_owned(), None),
        ("Bob".to_owned(), person("Bob", "Bob Miller")),
    ];
    assert_eq!(cluster.read_json(&stream.topic).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_whose_keys_look_alike_when_joined_stay_apart() {
    let cluster = Cluster::start().await;
    let database = cluster.database(
        "legacy.sqlite",
        "CREATE TABLE parts (a TEXT, b TEXT, PRIMARY KEY (a, b));
         CREATE TABLE plain (a TEXT PRIMARY KEY);",
    );
    let stream = |table: &str| {
        let path = cluster.path("legacy.sqlite");
        TableStream::new(unique(table), path, table, unique(table)).record("Part", "test")
    };
    let (parts, plain) = (stream("parts"), stream("plain"));
    outbox::install(&database, &parts).unwrap();
    outbox::install(&database, &plain).unwrap();
    database
        .execute_batch(
            r"INSERT INTO parts VALUES ('x|y', 'z'), ('x', 'y|z'), ('x\', 'y');
              INSERT INTO plain VALUES ('x|y\z');",
        )
        .unwrap();
    let told = async |stream: &TableStream| {
        drain(&cluster, stream).await;
        cluster.read_json(&stream.topic).await.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(told(&parts).await, [r"x\|y|z", r"x|y\|z", r"x\\|y"]);
    assert_eq!(told(&plain).await, [r"x|y\z"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_leaves_nothing() {
    let (cluster, database, stream) = installed().await;
    database.execute_batch("BEGIN; INSERT INTO flights VALUES (1, 'UA', NULL, 1, NULL); ROLLBACK;").unwrap();
    database.execute_batch("INSERT INTO flights VALUES (2, 'UA', NULL, 1, NULL);").unwrap();
    assert_eq!(drain(&cluster, &stream).await, 1);
    assert_eq!(cluster.read_json(&stream.topic).await, [("2".to_owned(), flight(2, "UA", None, 1))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_of_the_owner_that_changes_the_row_again_does_not_leave_an_older_image_last() {
    let cluster = Cluster::start().await;
    let touch = "CREATE TRIGGER touch AFTER UPDATE OF delay ON flights BEGIN
                   UPDATE flights SET happened_at = 9000 WHERE id = NEW.id; END;";
    for owner_first in [true, false] {
        let name = format!("owner-first-{owner_first}.sqlite");
        let database = cluster.database(&name, FLIGHTS);
        let stream = TableStream { database: cluster.path(&name), ..flights(&cluster) };
        if owner_first {
            database.execute_batch(touch).unwrap();
        }
        outbox::install(&database, &stream).unwrap();
        if !owner_first {
            database.execute_batch(touch).unwrap();
        }
        database
            .execute_batch(
                "INSERT INTO flights VALUES (1, 'UA', NULL, 1, NULL); UPDATE flights SET delay = 5;",
            )
            .unwrap();
        drain(&cluster, &stream).await;
        let told = cluster.read_json(&stream.topic).await;
        assert_eq!(
            told.last(),
            Some(&("1".to_owned(), flight(1, "UA", Some(5), 9000))),
            "owner first: {owner_first}"
        );
    }
}

/// What happened to each key, in order.
type History = BTreeMap<String, Vec<Option<Value>>>;

fn by_key(told: Vec<(String, Option<Value>)>) -> History {
    let mut history = History::new();
    for (key, value) in told {
        history.entry(key).or_default().push(value);
    }
    history
}

fn assert_same(told: History, happened: History) {
    assert_eq!(told.keys().collect::<Vec<_>>(), happened.keys().collect::<Vec<_>>());
    for (key, happened) in happened {
        let told = &told[&key];
        let same = told.iter().zip(&happened).take_while(|(a, b)| a == b).count();
        let (count, expected) = (told.len(), happened.len());
        assert!(
            *told == happened,
            "key {key}: {count} changes told of {expected}; after {same}: {:?}, not {:?}",
            told.get(same),
            happened.get(same)
        );
    }
}

/// Random transactions, some rolled back; writes down what it commits. At about now: commit markers are of now, and
/// Apache Kafka rolls a segment, which may then be compacted, when its records are further apart than a week.
fn write_randomly(database: &Connection, dice: &mut Dice, transactions: usize, history: &mut History) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    for at in (now..).take(transactions) {
        let transaction = Transaction::new_unchecked(database, TransactionBehavior::Immediate).unwrap();
        let mut changes: Vec<(i64, Option<Value>)> = Vec::new();
        for _ in 0..=dice.below(20) {
            let (id, delay) = (dice.below(300) as i64, dice.below(1_000_000) as i64);
            let is_there = database
                .query_row("SELECT count(*) FROM flights WHERE id = ?1", [id], |row| row.get(0))
                .unwrap();
            let deletes = dice.below(5) == 0;
            let sql = match (is_there, deletes) {
                (false, true) => continue,
                (true, true) => "DELETE FROM flights WHERE id = ?1 AND ?2 = ?2 AND ?3 = ?3",
                (false, false) => "INSERT INTO flights VALUES (?1, 'UA', ?2, ?3, NULL)",
                (true, false) => "UPDATE flights SET delay = ?2, happened_at = ?3 WHERE id = ?1",
            };
            let before: Option<i64> = database
                .query_row("SELECT max(delay) FROM flights WHERE id = ?1", [id], |row| row.get(0))
                .unwrap();
            if is_there && !deletes && before == Some(delay) {
                continue;
            }
            database.execute(sql, (id, delay, at)).unwrap();
            changes.push((id, if deletes { None } else { flight(id, "UA", Some(delay), at) }));
        }
        if dice.below(10) == 0 {
            transaction.rollback().unwrap();
            continue;
        }
        transaction.commit().unwrap();
        for (id, change) in changes {
            history.entry(id.to_string()).or_default().push(change);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_dropped_again_and_again_tells_each_change_exactly_once() {
    let cluster = Cluster::start().await;
    let database = cluster.database("legacy.sqlite", FLIGHTS);
    let stream = flights(&cluster).partitions(3);
    outbox::install(&database, &stream).unwrap();
    let writer = tokio::task::spawn_blocking(move || {
        let (mut dice, mut history) = (Dice(0x5eed), History::new());
        write_randomly(&database, &mut dice, 4_000, &mut history);
        history
    });
    let mut dice = Dice(0xd1ce);
    let mut drops = 0;
    while !writer.is_finished() || drops < 5 {
        let source = source(&cluster, &stream);
        let handle = source.handle();
        let running = tokio::spawn(source.run(never()));
        let enough = dice.below(3_000);
        eventually("rows are published", || {
            handle.published() >= enough || handle.caught_up() || running.is_finished()
        })
        .await;
        assert!(!running.is_finished(), "{:?}", running.await);
        running.abort();
        assert!(running.await.is_err_and(|error| error.is_cancelled()));
        drops += 1;
    }
    drain(&cluster, &stream).await;
    let history = writer.await.unwrap();
    assert_same(by_key(cluster.read_json(&stream.topic).await), history);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_goes_and_comes_back_loses_and_doubles_nothing() {
    if std::env::var("HEADWATER_TEST_BOOTSTRAP").is_ok() {
        eprintln!("skipped: another's broker is not restarted");
        return;
    }
    let mut cluster = Cluster::start().await;
    let database = cluster.database("legacy.sqlite", FLIGHTS);
    let stream = flights(&cluster).partitions(3);
    outbox::install(&database, &stream).unwrap();
    let source = source(&cluster, &stream);
    let handle = source.handle();
    let running = tokio::spawn(source.run(never()));
    let mut history = History::new();
    let mut dice = Dice(0xb0b);
    for _ in 0..3 {
        let before = handle.published();
        write_randomly(&database, &mut dice, 300, &mut history);
        eventually("rows are published", || handle.published() > before).await;
        cluster.restart_broker().await;
    }
    handle.finish();
    running.await.unwrap().unwrap();
    assert_same(by_key(cluster.read_json(&stream.topic).await), history);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_does_not_fit_is_set_aside_and_told_once_it_is_corrected() {
    let (cluster, database, stream) = installed().await;
    database
        .execute_batch(
            "INSERT INTO flights VALUES (1, 'UA', 'soon', 1, NULL);
             INSERT INTO flights VALUES (2, 'UA', 3, 2, NULL);",
        )
        .unwrap();
    let first = source(&cluster, &stream);
    let handle = first.handle();
    handle.finish();
    assert_eq!(first.run(never()).await.unwrap(), 1);
    assert_eq!(handle.set_aside(), 1);
    let aside = "SELECT _reason FROM _headwater_set_aside_flights WHERE id = 1";
    let reason: String = database.query_row(aside, [], |row| row.get(0)).unwrap();
    assert_eq!(reason, "column \"delay\" holds text, long is needed");
    database.execute_batch("UPDATE flights SET delay = 15 WHERE id = 1").unwrap();
    drain(&cluster, &stream).await;
    let expected =
        [("2".to_owned(), flight(2, "UA", Some(3), 2)), ("1".to_owned(), flight(1, "UA", Some(15), 1))];
    assert_eq!(cluster.read_json(&stream.topic).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wider_definition_keeps_the_rows_that_wait() {
    let cluster = Cluster::start().await;
    let database = cluster.database("legacy.sqlite", FLIGHTS);
    let narrow = flights(&cluster).columns(&["id", "happened_at"]);
    outbox::install(&database, &narrow).unwrap();
    database.execute_batch("INSERT INTO flights VALUES (1, 'UA', 3, 1, 'a');").unwrap();
    let wide = narrow.clone().columns(&["id", "happened_at", "remark"]);
    outbox::install(&database, &wide).unwrap();
    outbox::install(&database, &wide).unwrap();
    database.execute_batch("UPDATE flights SET remark = 'b';").unwrap();
    drain(&cluster, &wide).await;
    let told = cluster.read_json(&wide.topic).await;
    let remarks: Vec<Value> = told.into_iter().map(|(_, value)| value.unwrap()["remark"].clone()).collect();
    assert_eq!(remarks, [json!(null), json!("b")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_database_under_the_same_name_is_refused() {
    let (cluster, database, stream) = installed().await;
    database.execute_batch("INSERT INTO flights VALUES (1, 'UA', 3, 1, 'a');").unwrap();
    drain(&cluster, &stream).await;
    cluster.database("other.sqlite", FLIGHTS);
    let other = TableStream { database: cluster.path("other.sqlite"), ..stream };
    let refused = source(&cluster, &other).run(never()).await.unwrap_err();
    assert!(matches!(refused, SourceError::ForeignPosition { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_not_there_is_an_error_that_names_the_nearest() {
    let cluster = Cluster::start().await;
    cluster.database("legacy.sqlite", FLIGHTS);
    for (stream, message) in [
        (TableStream { table: "flihgts".into(), ..flights(&cluster) }, "is \"flights\" meant?"),
        (flights(&cluster).columns(&["carier"]), "is \"carrier\" meant?"),
        (flights(&cluster).event_time("hapened_at"), "is \"happened_at\" meant?"),
        (
            TableStream { database: cluster.path("nowhere.sqlite"), ..flights(&cluster) },
            "there is no such database",
        ),
    ] {
        let error = source(&cluster, &stream).run(never()).await.unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    std::fs::write(cluster.path("letter.txt"), "Dear SQLite, this is no database, and longer than a header of one hundred bytes, so that it is read as far as that.").unwrap();
    let letter = TableStream { database: cluster.path("letter.txt"), ..flights(&cluster) };
    let error = source(&cluster, &letter).run(never()).await.unwrap_err().to_string();
    assert!(error.contains("it is not an SQLite database"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incompatible_change_of_the_table_is_refused_before_an_event_is_out() {
    let (cluster, database, stream) = installed().await;
    database.execute_batch("INSERT INTO flights VALUES (1, 'UA', 3, 1, 'a');").unwrap();
    drain(&cluster, &stream).await;
    database
        .execute_batch(
            "ALTER TABLE flights ADD COLUMN gate TEXT NOT NULL DEFAULT '-'; UPDATE flights SET gate = 'B';",
        )
        .unwrap();
    let changed = stream.clone().columns(&["id", "carrier", "delay", "happened_at", "gate"]);
    let refused = source(&cluster, &changed).run(never()).await.unwrap_err();
    assert!(matches!(refused, SourceError::Registry { .. }), "{refused}");
    assert!(refused.to_string().contains("add new ones as nullable"), "{refused}");
    assert_eq!(cluster.read(&stream.topic).await.len(), 1);
}
