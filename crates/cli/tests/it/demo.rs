//! The main job, end to end, on some weeks of the real year: alone, under SIGKILL, and on Apache Kafka.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{HEADWATER, kafka};

/// Runs `headwater demo` and returns its last line.
fn demo(data_dir: &Path, arguments: &[&str]) -> Value {
    let output = Command::new(HEADWATER)
        .args(["demo", "--json", "--data-dir"])
        .arg(data_dir)
        .args(arguments)
        .env_remove("HEADWATER_BOOTSTRAP")
        .env_remove("HEADWATER_REGISTRY")
        .stdin(Stdio::null())
        .output()
        .expect("headwater starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let line = out.lines().last().unwrap_or_else(|| panic!("nothing on standard output\n{err}"));
    let verdict: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {out}\n{err}"));
    assert_eq!(verdict["verdict"], "equal", "{verdict:#}\n{err}");
    assert_eq!(verdict["differences"], 0, "{verdict:#}");
    assert_eq!(output.status.code(), Some(0), "{err}");
    verdict
}

fn count(verdict: &Value, name: &str) -> u64 {
    verdict[name].as_u64().unwrap_or_else(|| panic!("{name} in {verdict:#}"))
}

#[test]
fn every_row_equals_the_oracles() {
    let dir = tempfile::tempdir().expect("a directory");
    let verdict = demo(dir.path(), &["--until", "2013-02-15"]);
    assert!(count(&verdict, "rows_compared") > 100_000, "{verdict:#}");
    assert!(count(&verdict, "events") > 100_000, "{verdict:#}");
    // Some departures are told days late, and the windows say so.
    assert!(count(&verdict, "dropped_late") > 0, "{verdict:#}");
    for table in ["enriched_flights", "departures_by_hour", "rotations", "worst_routes"] {
        assert!(verdict["tables"][table]["rows_compared"].as_u64() > Some(100), "{table}: {verdict:#}");
    }
}

#[test]
fn nothing_is_lost_and_nothing_twice_when_node_and_service_are_killed() {
    let dir = tempfile::tempdir().expect("a directory");
    let verdict = demo(dir.path(), &["--until", "2013-03-01", "--kill-every", "1s"]);
    assert!(count(&verdict, "kills") > 1, "{verdict:#}");
}

#[test]
fn the_same_on_apache_kafka() {
    let Some(bootstrap) = kafka() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let verdict =
        demo(dir.path(), &["--until", "2013-02-01", "--kill-every", "2s", "--bootstrap", &bootstrap]);
    assert!(count(&verdict, "rows_compared") > 50_000, "{verdict:#}");
}

#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_leaves_no_process_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().canonicalize().expect("it exists").display().to_string();
    let mut demo = Command::new(HEADWATER)
        .args(["demo", "--json", "--kill-every", "500ms", "--data-dir", &place])
        .env_remove("HEADWATER_BOOTSTRAP")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("headwater starts");
    let mut said = BufReader::new(demo.stderr.take().expect("stderr is piped")).lines();
    assert!(said.any(|line| line.expect("UTF-8").starts_with("queries")), "the service did not start");
    assert!(!processes_of(&place, demo.id()).is_empty(), "node and service are processes");
    let interrupted =
        Command::new("kill").args(["-INT", &demo.id().to_string()]).status().expect("kill runs");
    assert!(interrupted.success());
    let status = demo.wait().expect("it ends");
    assert_eq!(status.code(), Some(130), "{:?}", said.collect::<Vec<_>>());
    // A busy machine takes a moment to end what was killed.
    let begun = Instant::now();
    while !processes_of(&place, demo.id()).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", processes_of(&place, demo.id()));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The processes, but one, in whose command line or environment `place` occurs. A killed process has neither.
#[cfg(target_os = "linux")]
fn processes_of(place: &str, except: u32) -> Vec<String> {
    std::fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy() != except.to_string())
        .map(|entry| {
            let read = |name| std::fs::read(entry.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&[read("cmdline"), read("environ")].concat()).into_owned()
        })
        .filter(|words| words.contains(place))
        .collect()
}
