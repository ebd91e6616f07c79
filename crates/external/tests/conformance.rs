//! What each database has to do, whichever it is; the runtime relies on no more than this.

mod support;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use headwater_client::Committed;
use headwater_external::open;
use headwater_model::{Bytes, TopicPartition};
use headwater_runtime::external::{
    Application, External, ExternalDatabase, ExternalError, ExternalSession, Taken, TaskCommit,
};
use headwater_streams::{ColumnType, ExternalTable, TaskId};
use support::{PostgresServer, RedisServer};

const TASK: TaskId = TaskId { subtopology: 0, partition: 1 };

fn application(id: &str, table: &ExternalTable) -> Application {
    let stores = BTreeMap::from([(format!("{id}-store"), table.clone())]);
    Application { id: id.to_owned(), stores, patience: Duration::from_secs(2) }
}

fn input() -> TopicPartition {
    TopicPartition::new("moves", 1)
}

fn position(offset: i64) -> Committed {
    Committed { offset, metadata: format!("hw3;{offset}"), leader_epoch: Some(7) }
}

/// As stores have it.
fn stored(timestamp: i64, value: &[u8]) -> Bytes {
    [&timestamp.to_be_bytes()[..], value].concat().into()
}

type Change<'a> = (&'a [u8], Option<Bytes>);

fn commit(table: &ExternalTable, taken: &Taken, changes: &[Change<'_>], offset: i64) -> Vec<TaskCommit> {
    let rows = changes.iter().map(|(key, value)| (Bytes::copy_from_slice(key), value.clone())).collect();
    let positions = vec![(input(), position(offset))];
    vec![TaskCommit { task: TASK, epoch: taken.epoch, rows: vec![(table.clone(), rows)], positions }]
}

fn get(session: &mut dyn ExternalSession, table: &ExternalTable, key: &[u8]) -> Option<Bytes> {
    let mut found = session.get(table, 1, &[Bytes::copy_from_slice(key), Bytes::from("absent")]).unwrap();
    assert!(found.len() <= 1);
    found.pop().map(|(_, value)| value)
}

/// A key and two values of each type of column.
fn samples() -> Vec<(ExternalTable, Vec<u8>, [Vec<u8>; 2])> {
    let table = |name: &str, key, value| ExternalTable::named(name).key(key).value(value);
    let number = |n: i64| n.to_be_bytes().to_vec();
    vec![
        (table("bytes", ColumnType::Bytes, ColumnType::Bytes), vec![0, 255], [vec![], vec![1, 0]]),
        (table("words", ColumnType::Text, ColumnType::BigInt), "tée".into(), [number(-1), number(i64::MAX)]),
        (table("numbers", ColumnType::BigInt, ColumnType::Text), number(-9), ["'\\".into(), "".into()]),
        (
            table("objects", ColumnType::Text, ColumnType::Json),
            "".into(),
            ["1".into(), r#"{"a": [null]}"#.into()],
        ),
    ]
}

/// All that is asked of a database.
fn check(database: &dyn ExternalDatabase) {
    for (table, key, values) in samples() {
        rows_come_back(database, &table, &key, &values);
    }
    let table = ExternalTable::named("fenced");
    who_took_it_last_commits(database, &table);
    a_session_that_ends_leaves_nothing(database, &ExternalTable::named("left"));
    a_reset_empties_and_fences(database, &ExternalTable::named("reset"));
    a_table_is_one_stores(database, &ExternalTable::named("owned"));
}

fn rows_come_back(database: &dyn ExternalDatabase, table: &ExternalTable, key: &[u8], values: &[Vec<u8>; 2]) {
    let app = application(&format!("app-{}", table.name), table);
    let mut session = database.open(&app).unwrap();
    let taken = session.take(TASK, "one").unwrap();
    assert!(taken.positions.is_empty());
    let first = stored(5, &values[0]);
    session.prepare(&commit(table, &taken, &[(key, Some(first.clone()))], 10)).unwrap();
    assert_eq!(get(&mut *session, table, key).as_ref(), Some(&first), "what is prepared is read");
    assert!(database.open(&app).unwrap().rows(table, 1).unwrap().is_empty(), "by nobody else");
    session.commit().unwrap();
    let mut other = database.open(&app).unwrap();
    assert_eq!(other.rows(table, 1).unwrap(), [(Bytes::copy_from_slice(key), first)]);
    assert!(other.rows(table, 0).unwrap().is_empty(), "of another partition");
    let second = stored(-6, &values[1]);
    session.prepare(&commit(table, &taken, &[(key, Some(second.clone()))], 20)).unwrap();
    session.commit().unwrap();
    assert_eq!(get(&mut *other, table, key), Some(second));
    assert_eq!(database.positions(&app.id).unwrap(), HashMap::from([(input(), position(20))]));
    session.prepare(&commit(table, &taken, &[(key, None), (key, None)], 30)).unwrap();
    assert_eq!(get(&mut *session, table, key), None, "deleted is gone for who deletes it");
    session.commit().unwrap();
    assert_eq!(get(&mut *other, table, key), None);
    let again = other.take(TASK, "two").unwrap();
    assert_eq!(again.positions, HashMap::from([(input(), position(30))]));
    let sizes = database.sizes(&app.id).unwrap();
    assert_eq!((sizes.len(), sizes[0].table.as_str()), (1, table.name.as_str()));
}

fn who_took_it_last_commits(database: &dyn ExternalDatabase, table: &ExternalTable) {
    let app = application("app-fenced", table);
    let (mut zombie, mut heir) = (database.open(&app).unwrap(), database.open(&app).unwrap());
    let old = zombie.take(TASK, "zombie").unwrap();
    zombie.prepare(&commit(table, &old, &[(b"k", Some(stored(1, b"one")))], 1)).unwrap();
    zombie.commit().unwrap();
    let new = heir.take(TASK, "the heir").unwrap();
    assert_eq!(new.positions, HashMap::from([(input(), position(1))]));
    let changes = commit(table, &old, &[(b"k", Some(stored(2, b"zombie's")))], 9);
    let refused = zombie.prepare(&changes).and_then(|()| zombie.commit()).unwrap_err();
    assert!(matches!(&refused, ExternalError::Fenced { task, .. } if *task == TASK), "{refused}");
    let told = refused.to_string();
    assert!(told.contains("the heir") && told.contains("0_1") && told.contains("nothing is lost"), "{told}");
    drop(zombie);
    assert_eq!(get(&mut *heir, table, b"k"), Some(stored(1, b"one")));
    heir.prepare(&commit(table, &new, &[(b"k", Some(stored(3, b"heir's")))], 2)).unwrap();
    heir.commit().unwrap();
    assert_eq!(database.positions(&app.id).unwrap()[&input()].offset, 2);
}

fn a_session_that_ends_leaves_nothing(database: &dyn ExternalDatabase, table: &ExternalTable) {
    let app = application("app-left", table);
    let mut session = database.open(&app).unwrap();
    let taken = session.take(TASK, "one").unwrap();
    session.prepare(&commit(table, &taken, &[(b"k", Some(stored(1, b"v")))], 1)).unwrap();
    drop(session);
    let mut next = database.open(&app).unwrap();
    assert!(next.take(TASK, "two").unwrap().positions.is_empty());
    assert!(next.rows(table, 1).unwrap().is_empty());
}

fn a_reset_empties_and_fences(database: &dyn ExternalDatabase, table: &ExternalTable) {
    let app = application("app-reset", table);
    let mut session = database.open(&app).unwrap();
    let taken = session.take(TASK, "one").unwrap();
    session.prepare(&commit(table, &taken, &[(b"k", Some(stored(1, b"v")))], 50)).unwrap();
    session.commit().unwrap();
    let other = TopicPartition::new("more", 0);
    let positions = HashMap::from([(input(), position(3)), (other, position(4))]);
    database.reset(&app.id, &positions).unwrap();
    assert_eq!(database.positions(&app.id).unwrap(), positions);
    assert!(session.rows(table, 1).unwrap().is_empty());
    let changes = commit(table, &taken, &[(b"k", Some(stored(1, b"v")))], 60);
    let refused = session.prepare(&changes).and_then(|()| session.commit()).unwrap_err();
    assert!(refused.to_string().contains("a reset"), "{refused}");
    let mut next = database.open(&app).unwrap();
    assert_eq!(next.take(TASK, "two").unwrap().positions[&input()], position(3));
}

fn a_table_is_one_stores(database: &dyn ExternalDatabase, table: &ExternalTable) {
    database.open(&application("first", table)).unwrap();
    let refused = database.open(&application("second", table)).err().unwrap().to_string();
    assert!(
        refused.contains("owned") && refused.contains("\"first\"") && refused.contains("name another"),
        "{refused}"
    );
}

fn opened(url: &str) -> External {
    open(url).unwrap()
}

fn refused(database: &External, app: &Application) -> String {
    match database.database().open(app) {
        Err(error @ ExternalError::Refused { .. }) => error.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was opened"),
    }
}

/// Sessions need a runtime around them, and a thread of their own.
fn within(work: impl FnOnce()) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    work();
}

#[test]
fn postgresql_does_what_the_runtime_relies_on() {
    let Some(server) = PostgresServer::start() else { return };
    within(|| {
        check(opened(&server.url()).database());
        let sums = server.sql("SELECT relname FROM pg_class WHERE relname = 'words'");
        assert_eq!(sums, ["words"]);
    });
}

#[test]
fn redis_does_what_the_runtime_relies_on() {
    let Some(server) = RedisServer::start() else { return };
    within(|| check(opened(&server.url()).database()));
}

#[test]
fn what_is_wrong_in_redis_is_told_and_nothing_is_half_written() {
    let Some(mut server) = RedisServer::start() else { return };
    within(|| {
        let table = ExternalTable::named("levels").key(ColumnType::Text).value(ColumnType::BigInt);
        let app = application("app", &table);
        let told = refused(&opened(&server.url_with("wrong")), &app);
        assert!(
            told.contains("connect in Redis database 0 at 127.0.0.1") && told.contains("HEADWATER_EXTERNAL"),
            "{told}"
        );
        let database = opened(&server.url());
        let mut session = database.database().open(&app).unwrap();
        let taken = session.take(TASK, "one").unwrap();
        let level = Some(stored(1, &5_i64.to_be_bytes()));
        session.prepare(&commit(&table, &taken, &[(b"tea", level.clone())], 1)).unwrap();
        session.commit().unwrap();
        assert_eq!(server.command(&["HGET", "levels:1", "tea"]), ["5"], "others can read it");
        // Somebody writes what is not his.
        server.command(&["DEL", "levels:1:timestamps"]);
        server.command(&["SET", "levels:1:timestamps", "mine"]);
        session
            .prepare(&commit(&table, &taken, &[(b"tea", Some(stored(2, &6_i64.to_be_bytes())))], 2))
            .unwrap();
        let told = session.commit().unwrap_err().to_string();
        assert!(told.contains("levels:1:timestamps is a string"), "{told}");
        assert_eq!(server.command(&["HGET", "levels:1", "tea"]), ["5"]);
        assert_eq!(database.database().positions("app").unwrap()[&input()].offset, 1);
        let other = application("app", &table.clone().value(ColumnType::Text));
        assert!(refused(&database, &other).contains("has columns Text and BigInt"));
        server.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
        assert!(refused(&database, &app).contains("maxmemory-policy noeviction"));
        server.end();
        let Err(gone) = database.database().open(&app) else { panic!("it is away") };
        assert!(matches!(gone, ExternalError::Unavailable { .. }), "{gone}");
    });
    assert!(open("redis://host:port").err().unwrap().to_string().contains("write redis://"));
}

#[test]
fn postgresql_tells_what_is_wrong_where_and_what_to_do() {
    let Some(mut server) = PostgresServer::start() else { return };
    within(|| {
        let table = ExternalTable::named("levels").key(ColumnType::Text).value(ColumnType::BigInt);
        let app = application("app", &table);
        let told = refused(&opened(&server.url_with("wrong")), &app);
        assert!(
            told.contains("password authentication failed") && told.contains("HEADWATER_EXTERNAL"),
            "{told}"
        );
        assert!(!told.contains("wrong@"), "{told}");
        let told = refused(&opened(&server.url().replace("/postgres", "/absent")), &app);
        assert!(told.contains("absent") && told.contains("createdb"), "{told}");
        let database = opened(&server.url());
        for (made, what) in [
            ("key text, partition int, value text, timestamp_ms bigint", "its column value is of type text"),
            ("key text, value bigint, timestamp_ms bigint", "no column partition of type integer"),
            (
                "key text primary key, partition int, value bigint, timestamp_ms bigint",
                "its primary key is (key)",
            ),
        ] {
            server.sql(&format!("DROP TABLE IF EXISTS levels; CREATE TABLE levels ({made})"));
            let told = refused(&database, &app);
            assert!(
                told.contains(what) && told.contains("table levels") && told.contains("DROP TABLE"),
                "{told}"
            );
        }
        server.sql("DROP TABLE levels");
        let mut session = database.database().open(&app).unwrap();
        let taken = session.take(TASK, "one").unwrap();
        let wrong = commit(&table, &taken, &[(b"k", Some(stored(1, b"5")))], 1);
        let told = session.prepare(&wrong).unwrap_err().to_string();
        assert!(told.contains("does not fit its column, bigint: it has not eight bytes"), "{told}");
        server.end();
        let Err(gone) = database.database().open(&app) else { panic!("it is away") };
        assert!(matches!(gone, ExternalError::Unavailable { .. }), "{gone}");
        let told = gone.to_string();
        assert!(
            told.contains("PostgreSQL database postgres at 127.0.0.1") && told.contains("tried again"),
            "{told}"
        );
    });
    for (url, what) in [
        ("mysql://host/db", "use postgres://"),
        ("postgres://host:port/db", "write postgres://"),
        ("postgres://host/db?sslmode=require&sslrootcert=/absent", "read sslrootcert /absent"),
    ] {
        assert!(open(url).err().unwrap().to_string().contains(what), "{url}");
    }
}

#[test]
fn tls_is_to_a_server_whose_certificate_is_trusted_and_for_its_name() {
    let names = ["127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let Some(server) = PostgresServer::start_with(Some((&certificate, &key))) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, pem: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, pem).unwrap();
        file.display().to_string()
    };
    let stranger = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap().cert.pem();
    let (own, strange) = (file("own.pem", &certificate), file("strange.pem", &stranger));
    within(|| {
        let app = application("app", &ExternalTable::named("secured"));
        let url = |file: &str| format!("{}?sslmode=verify-full&sslrootcert={file}", server.url());
        let opened_by = |url: &str| opened(url).database().open(&app).map(drop);
        opened_by(&url(&own)).unwrap();
        let held = opened(&url(&own)).database().open(&app).unwrap();
        let ours = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'headwater'";
        assert_eq!(server.sql(ours), ["t"]);
        drop(held);
        for wrong in [url(&strange), url(&own).replace("127.0.0.1", "localhost")] {
            let error = opened_by(&wrong).unwrap_err();
            let told = error.to_string();
            assert!(matches!(error, ExternalError::Refused { .. }) && told.contains("sslrootcert"), "{told}");
        }
    });
}

#[test]
fn who_hangs_within_a_commit_blocks_the_next_one_for_a_while_only() {
    let Some(server) = PostgresServer::start() else { return };
    within(|| {
        let table = ExternalTable::named("hung");
        let (database, app) = (opened(&server.url()), application("app", &table));
        let mut hung = database.database().open(&app).unwrap();
        let taken = hung.take(TASK, "hung").unwrap();
        hung.prepare(&commit(&table, &taken, &[(b"k", Some(stored(1, b"v")))], 1)).unwrap();
        let mut heir = database.database().open(&app).unwrap();
        let took = loop {
            match heir.take(TASK, "the heir") {
                Ok(taken) => break taken,
                Err(error) => {
                    assert!(matches!(error, ExternalError::Unavailable { .. }), "{error}");
                    heir = database.database().open(&app).unwrap();
                }
            }
        };
        assert!(took.positions.is_empty());
        assert!(hung.commit().is_err(), "its transaction was given up");
        assert!(heir.rows(&table, 1).unwrap().is_empty());
    });
}
