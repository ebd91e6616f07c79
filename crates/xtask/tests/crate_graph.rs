//! The crate graph is the one that ARCHITECTURE.md shows, and cores stay pure.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Crates that hold no I/O: they may not depend on these, in any way.
const CORES: [&str; 8] = ["model", "wire", "log", "coordinator", "schema", "streams", "control", "history"];
const IMPURE: [&str; 8] = ["tokio", "axum", "hyper", "reqwest", "fjall", "rusqlite", "mio", "socket2"];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn short(name: &str) -> &str {
    name.strip_prefix("headwater-").unwrap_or(name)
}

/// Every crate of the workspace with its dependencies that are not for tests only.
fn edges() -> BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> {
    let mut all = BTreeMap::new();
    for package in metadata()["packages"].as_array().expect("packages") {
        let mut ours = BTreeSet::new();
        let mut others = BTreeSet::new();
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            if dependency["kind"] == "dev" {
                continue;
            }
            let name = dependency["name"].as_str().expect("a name");
            if dependency["path"].is_string() {
                ours.insert(short(name).to_owned());
            } else {
                others.insert(name.to_owned());
            }
        }
        all.insert(short(package["name"].as_str().expect("a name")).to_owned(), (ours, others));
    }
    all
}

/// The rows `| crate | … | may use |` of ARCHITECTURE.md.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let text = include_str!("../../../ARCHITECTURE.md");
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let names = |cell: &str| -> BTreeSet<String> {
            cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
        };
        let last = cells.last().expect("a cell");
        for name in names(cells[0]) {
            rows.insert(name, names(last));
        }
    }
    rows
}

#[test]
fn the_documented_graph_is_the_real_one() {
    let real: BTreeMap<String, BTreeSet<String>> =
        edges().into_iter().map(|(name, (ours, _))| (name, ours)).collect();
    let documented = documented();
    for (name, ours) in &real {
        let Some(allowed) = documented.get(name) else {
            panic!("crate `{name}` has no row in ARCHITECTURE.md")
        };
        assert_eq!(ours, allowed, "edges of `{name}`: left is Cargo.toml, right is ARCHITECTURE.md");
    }
    for name in documented.keys() {
        assert!(real.contains_key(name), "ARCHITECTURE.md has a row for `{name}`, which does not exist");
    }
}

#[test]
fn cores_hold_no_io() {
    let edges = edges();
    for core in CORES {
        let Some((ours, others)) = edges.get(core) else { continue };
        for crate_name in others {
            assert!(!IMPURE.contains(&crate_name.as_str()), "core `{core}` depends on `{crate_name}`");
        }
        for crate_name in ours {
            assert!(
                CORES.contains(&crate_name.as_str()),
                "core `{core}` depends on the shell `{crate_name}`"
            );
        }
    }
}
