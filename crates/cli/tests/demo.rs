//! `headwater demo` as a stranger types it, on the first days of the year.

use std::process::{Command, Output};

use serde_json::Value;

fn demo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_headwater"))
        .arg("demo")
        .args(arguments)
        .env_remove("HEADWATER_BOOTSTRAP")
        .output()
        .expect("it runs")
}

#[test]
fn the_verdict_stays_equal_when_node_and_service_are_killed_again_and_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().join("demo");
    let place = place.to_str().expect("UTF-8");
    let output = demo(&["--until", "2013-01-15", "--kill-every", "1500ms", "--json", "--data-dir", place]);
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    let complaints = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().last().unwrap_or_else(|| panic!("nothing was printed: {complaints}"));
    let report: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
    assert_eq!(report["verdict"], "equal", "{said}\n{complaints}");
    assert_eq!((&report["differences"], output.status.code()), (&Value::from(0), Some(0)));
    assert!(report["kills"].as_u64() > Some(0), "{line}");
    assert!(report["rows_compared"].as_u64() > Some(20_000), "{line}");
}

#[test]
fn a_directory_of_somebody_else_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("thesis.tex"), "").expect("a file");
    let output = demo(&["--data-dir", dir.path().to_str().expect("UTF-8")]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("thesis.tex") && said.contains("--data-dir"), "{said}");
}

#[test]
fn a_date_that_is_none_is_refused_by_name() {
    let output = demo(&["--until", "yesterday"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("yesterday"), "{said}");
}
