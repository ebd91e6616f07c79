//! Go's clients of Kafka, each with a program that uses it as services do, and franz-go's own tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Choice, Ran, programs};
use crate::bench::process;
use crate::kafka;

const PROGRAMS: [&str; 3] = ["franz", "sarama", "segmentio"];
/// franz-go's own tests that talk to a broker; what they produce and consume is this many records.
const RECORDS: &str = "20000";
const OF_A_BROKER: &str =
    "Test(Txn|Group|Share|Consume|Issue|Ping|Client_|Pause|Direct|AddRemove|848|Pooling)";

pub fn run(choice: &Choice) -> Result<Vec<Ran>> {
    let home = build()?;
    let program = |name: &str, bootstrap: &str| {
        let mut command = process::tied(&home.join(name).to_string_lossy());
        command.arg(bootstrap);
        command
    };
    let franz = |bootstrap: &str| program("franz", bootstrap);
    let sarama = |bootstrap: &str| program("sarama", bootstrap);
    let segmentio = |bootstrap: &str| program("segmentio", bootstrap);
    let own = |bootstrap: &str| {
        let mut command = process::tied(&home.join("kgo.test").to_string_lossy());
        command.args(["-test.v", "-test.parallel=4", "-test.timeout=170s", "-test.run", OF_A_BROKER]);
        command.env("KGO_SEEDS", bootstrap).env("KGO_TEST_RF", "1").env("KGO_TEST_RECORDS", RECORDS);
        command.env("KGO_LOG_LEVEL", "none");
        command
    };
    let all: [programs::Program<'_>; 4] =
        [("franz", &franz), ("sarama", &sarama), ("segmentio", &segmentio), ("kgo-own-tests", &own)];
    let quick = &all[..PROGRAMS.len()];
    programs::run("go", choice, if choice.quick { quick } else { &all })
}

/// Why this machine cannot run the suite; `None` when it can.
pub fn missing() -> Option<String> {
    let mod_file = include_str!("../../go/go.mod");
    let wanted = mod_file.lines().find_map(|line| line.strip_prefix("go ")).unwrap_or_default();
    let output = Command::new("go").arg("version").env("GOTOOLCHAIN", "local").output().ok();
    let output = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let found = output.as_deref().and_then(|text| text.split(" go").nth(1)?.split(' ').next());
    match found {
        Some(found) if version(found) >= version(wanted) => None,
        Some(found) => Some(format!("go {found} is too old: {wanted} or newer is needed")),
        None => Some(format!("go {wanted} or newer is needed, in PATH")),
    }
}

fn version(text: &str) -> Vec<u32> {
    text.split('.').map_while(|part| part.parse().ok()).collect()
}

/// The programs and the tests, built in the cache; Go knows what is up to date.
fn build() -> Result<PathBuf> {
    if let Some(missing) = missing() {
        bail!("{missing}");
    }
    let home = kafka::cache().join("suites-go");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("go");
    for program in PROGRAMS {
        go(&source, &["build", "-o"], &home.join(program), &format!("./{program}"))?;
    }
    let tests = "github.com/twmb/franz-go/pkg/kgo";
    go(&source, &["test", "-c", "-o"], &home.join("kgo.test"), tests)?;
    Ok(home)
}

fn go(source: &Path, what: &[&str], to: &Path, package: &str) -> Result<()> {
    let mut go = Command::new("go");
    go.args(what).arg(to).arg(package).current_dir(source).env("GOTOOLCHAIN", "local");
    if !go.status().context("running go")?.success() {
        bail!("go could not build {package}: see what it said above");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(version("1.26.8") > version("1.9") && version("1.26") < version("1.26.0"));
        assert!(version("1.19.8") < version("1.26.0"));
    }
}
