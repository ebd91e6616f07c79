//! The oracle on a week of the year, with a sink that is filled by hand: first rightly, then wrongly.

use std::ops::ControlFlow;
use std::path::Path;

use headwater_demo::legacy::{self, Plan, Span};
use headwater_demo::oracle::{self, Verdict};
use rusqlite::Connection;

const SINK_TABLES: &str = "
    CREATE TABLE sink.enriched_flights AS SELECT * FROM (/*enriched*/);
    CREATE TABLE sink.departures_by_hour AS SELECT * FROM (/*hourly*/);
    CREATE TABLE sink.rotations AS SELECT * FROM (/*rotations*/);
    CREATE TABLE sink.worst_routes AS SELECT * FROM (/*routes*/);";

fn live(dir: &Path, span: Span) {
    let database = dir.join("legacy.sqlite");
    legacy::create(&database).unwrap();
    legacy::load_small_tables(&database).unwrap();
    let plan = Plan::of(span).unwrap();
    let lived = legacy::live(&database, &plan, |_| ControlFlow::Continue(())).unwrap();
    assert!(!lived.stopped);
}

/// Fills the sink with the oracle's own answers: only what differs from them is of interest here.
fn fill_sink(dir: &Path) {
    let database = Connection::open(dir.join("oracle.sqlite")).unwrap();
    database.execute("ATTACH ? AS sink", [dir.join("sink.sqlite").to_str().unwrap()]).unwrap();
    let tables = SINK_TABLES
        .replace("/*enriched*/", include_str!("../../src/oracle/sql/enriched_flights.sql"))
        .replace("/*hourly*/", include_str!("../../src/oracle/sql/departures_by_hour.sql"))
        .replace("/*rotations*/", include_str!("../../src/oracle/sql/rotations.sql"))
        .replace("/*routes*/", include_str!("../../src/oracle/sql/worst_routes.sql"));
    database.execute_batch(&tables).unwrap();
}

/// Changes a database, asks the oracle, and takes the change back.
fn after(dir: &Path, database: &str, change: &str, span: Span) -> Verdict {
    let file = dir.join(database);
    let before = std::fs::read(&file).unwrap();
    let connection = Connection::open(&file).unwrap();
    assert_eq!(connection.execute(change, []).unwrap(), 1, "{change}");
    drop(connection);
    let verdict = oracle::check(dir, span.until).unwrap();
    std::fs::write(&file, before).unwrap();
    verdict
}

#[test]
fn every_planted_difference_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let span = Span::until("2013-01-09").unwrap();
    live(dir.path(), span);
    Connection::open(dir.path().join("sink.sqlite"))
        .unwrap()
        .execute_batch("CREATE TABLE unrelated (a)")
        .unwrap();

    let empty = oracle::check(dir.path(), span.until).unwrap();
    assert!(empty.legacy.iter().all(|table| table.differences == 0), "{:#?}", empty.legacy);
    assert!(
        empty.answers.iter().all(|table| table.differences == table.rows_compared && table.differences > 100)
    );

    fill_sink(dir.path());
    let equal = oracle::check(dir.path(), span.until).unwrap();
    assert_eq!(equal.differences(), 0, "{:#?}", equal.answers);
    assert_eq!(equal.rows_compared(), empty.rows_compared());

    for (database, change, table, said) in [
        ("sink.sqlite", "DELETE FROM rotations WHERE rowid = 77", "rotations", "missing: "),
        (
            "sink.sqlite",
            "INSERT INTO worst_routes (_key, origin) VALUES ('EWR|XYZ', 'EWR')",
            "worst_routes",
            "not expected: _key=EWR|XYZ",
        ),
        (
            "sink.sqlite",
            "UPDATE departures_by_hour SET mean_dep_delay_minutes = mean_dep_delay_minutes * 1.0000000000000003 WHERE rowid = 50",
            "departures_by_hour",
            "mean_dep_delay_minutes is",
        ),
        (
            "sink.sqlite",
            "UPDATE enriched_flights SET airline = NULL WHERE id = 1545",
            "enriched_flights",
            "airline is NULL",
        ),
        (
            "legacy.sqlite",
            "UPDATE flights SET distance = distance + 1 WHERE id = 1545",
            "legacy flights",
            "distance is",
        ),
        ("legacy.sqlite", "DELETE FROM weather WHERE id = 5", "legacy weather", "missing: id=5"),
    ] {
        let verdict = after(dir.path(), database, change, span);
        let found: Vec<_> = verdict.tables().filter(|table| table.differences > 0).collect();
        assert_eq!(verdict.differences(), 1, "{change}: {found:#?}");
        assert_eq!(found[0].table, table, "{change}");
        assert!(found[0].first[0].to_string().contains(said), "{change}: {}", found[0].first[0]);
    }
}

#[test]
fn an_answer_that_could_be_either_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let span = Span::until("2013-01-04").unwrap();
    live(dir.path(), span);
    drop(Connection::open(dir.path().join("sink.sqlite")).unwrap());
    let legacy = Connection::open(dir.path().join("legacy.sqlite")).unwrap();
    // The last departure is typed in 13 hours after its hour: nothing happened since, so who knows?
    let last = "(SELECT id FROM flights WHERE departed_at IS NOT NULL ORDER BY departed_at DESC LIMIT 1)";
    legacy
        .execute(
            &format!(
                "UPDATE flights SET departure_recorded_at = departed_at + 14 * 3600000 WHERE id = {last}"
            ),
            [],
        )
        .unwrap();
    let refused = oracle::check(dir.path(), span.until).unwrap_err().to_string();
    assert!(refused.contains("not certain") && refused.contains("too few others"), "{refused}");
}
