//! Python's clients of Kafka, each with a program that uses it as services do, and kafka-python's own tests.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::ledger::Outcome;
use super::{Choice, Ran, programs, servers};
use crate::bench::process::{self, Owned};
use crate::kafka;

const SUITE: &str = "python";
/// Pinned, so that a red run is our change.
const PACKAGES: [&str; 3] = ["kafka-python==3.0.12", "confluent-kafka==2.16.1", "aiokafka==0.14.0"];
/// Name, and where the program is in the workspace.
const PROGRAMS: [(&str, &str); 3] = [
    ("aiokafka", "crates/xtask/python/aiokafka_client.py"),
    ("confluent-kafka", "crates/cli/tests/python/confluent_kafka_client.py"),
    ("kafka-python", "crates/cli/tests/python/kafka_python_client.py"),
];

const OWN_SUITE: &str = "kafka-python";
/// What kafka-python's own tests are run by, beside its source with them.
const OWN_PACKAGES: [&str; 5] =
    ["pytest==9.2.0", "pytest-timeout==2.4.0", "lz4==4.4.5", "zstandard==0.25.0", "python-snappy==0.7.3"];
/// Those that need nothing but a broker: the others start their own, with TLS or SASL.
const OWN_TESTS: [&str; 3] = ["admin", "consumer", "producer"];
/// The source that is published lacks it: how a test learns that its broker is there already.
const OWN_SERVICE: &str =
    "class ExternalService:\n    def __init__(self, host, port):\n        pass\n\n\nSpawnedService = None\n";
const LIMIT: Duration = Duration::from_secs(600);

pub fn run(choice: &Choice) -> Result<Vec<Ran>> {
    let python = environment("suites-python", &PACKAGES)?;
    let dir = servers::work(SUITE, choice.side())?;
    let server = servers::start(choice, &dir, &[("num.partitions", "4")])?;
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut ran = Vec::new();
    for (name, program) in PROGRAMS.iter().filter(|(name, _)| choice.wants(name)) {
        let mut command = process::tied(&python.to_string_lossy());
        command.arg(workspace.join(program)).arg(&server.bootstrap);
        ran.push(programs::one(name, command, &dir)?);
    }
    server.stop()?;
    Ok(ran)
}

/// kafka-python's own tests, all in one process, each judged by itself.
pub fn own_tests(choice: &Choice) -> Result<Vec<Ran>> {
    let python = environment("suites-kafka-python", &OWN_PACKAGES)?;
    let source = source(&python)?;
    let dir = servers::work(OWN_SUITE, choice.side())?;
    // Theirs lets members be silent for less than Kafka does by default, and says where it is.
    let settings = [("num.partitions", "4"), ("group.min.session.timeout.ms", "1000")];
    let mut recipe = servers::recipe(choice, &dir, &settings)?;
    let bootstrap = recipe.bootstrap.clone();
    recipe.properties.push(("advertised.listeners".to_owned(), format!("PLAINTEXT://{bootstrap}")));
    recipe.properties.push(("group.initial.rebalance.delay.ms".to_owned(), "0".to_owned()));
    let server = recipe.start()?;
    let log = dir.join("tests.log");
    let output = File::create(&log)?;
    let mut tests = process::tied(&python.to_string_lossy());
    tests.args(["-m", "pytest", "-v", "-p", "no:cacheprovider", "--timeout=120"]);
    tests.args(OWN_TESTS.map(|of| format!("test/integration/test_{of}_integration.py")));
    // They look whether Kafka is there, and do not start it.
    tests.env("KAFKA_VERSION", kafka::VERSION).env("KAFKA_ROOT", &dir).env("PYTHONPATH", ".");
    tests.env("KAFKA_URI", format!("kafka://{bootstrap}")).current_dir(&source);
    tests.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    eprintln!("suites: kafka-python's own tests, less than a minute; see {}", log.display());
    let _code = Owned::spawn(&mut tests)?.finish(LIMIT);
    server.stop()?;
    let ran = outcomes(&fs::read_to_string(&log)?);
    Ok(ran.into_iter().filter(|ran| choice.wants(&ran.test)).collect())
}

/// What pytest says of each test: `test/integration/test_admin_integration.py::test_x PASSED [ 1%]`.
fn outcomes(said: &str) -> Vec<Ran> {
    let one = |line: &str| {
        let (test, rest) = line.strip_prefix("test/integration/test_")?.split_once(' ')?;
        let (file, test) = test.split_once("_integration.py::test_")?;
        let outcome = match rest.split_whitespace().next()? {
            "PASSED" => Outcome::Passed,
            "FAILED" | "ERROR" => Outcome::Failed,
            "SKIPPED" => Outcome::Skipped,
            _ => return None,
        };
        Some(Ran { test: format!("{file}::{test}"), outcome, seconds: 0 })
    };
    said.lines().filter_map(one).collect()
}

/// kafka-python's published source, which has its tests, unpacked once in the cache.
fn source(python: &Path) -> Result<PathBuf> {
    let (name, version) = PACKAGES[0].split_once("==").context("a version")?;
    let home = kafka::cache().join(format!("suites-{name}-{version}"));
    let unpacked = format!("{}-{version}", name.replace('-', "_"));
    let source = home.join(&unpacked);
    if source.join("test/service.py").exists() {
        return Ok(source);
    }
    fs::create_dir_all(&home)?;
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest"]);
    pip.arg(&home).arg(PACKAGES[0]);
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(home.join(format!("{unpacked}.tar.gz"))).arg("-C").arg(&home);
    for command in [&mut pip, &mut tar] {
        if !command.status().with_context(|| format!("running {}", process::shown(command)))?.success() {
            bail!("{} failed; pip must reach PyPI", process::shown(command));
        }
    }
    fs::write(source.join("test/__init__.py"), "")?;
    fs::write(source.join("test/service.py"), OWN_SERVICE)?;
    Ok(source)
}

/// A Python with these packages, made once in the cache.
fn environment(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let venv = kafka::cache().join(name);
    let (python, stamp) = (venv.join("bin/python"), venv.join("installed"));
    let wanted = packages.join(" ");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let made = Command::new("python3").args(["-m", "venv"]).arg(&venv).status();
    let installed = Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(packages).status();
    if !made.is_ok_and(|status| status.success()) || !installed.is_ok_and(|status| status.success()) {
        bail!("python3 with venv is needed (Debian: apt-get install python3-venv), and pip must reach PyPI");
    }
    fs::write(&stamp, wanted)?;
    Ok(python)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_pytests_tests_is_judged_by_itself() {
        let said = "test/integration/test_admin_integration.py::test_a PASSED [  1%]\n\
                    test/integration/test_consumer_integration.py::test_b[gzip] FAILED [ 50%]\n\
                    FAILED test/integration/test_consumer_integration.py::test_b[gzip] - why\n\
                    test/integration/test_producer_integration.py::test_c SKIPPED (Requires) [100%]\n";
        let ran: Vec<_> = outcomes(said).into_iter().map(|ran| (ran.test, ran.outcome)).collect();
        let row = |test: &str, outcome| (test.to_owned(), outcome);
        let wanted = [
            row("admin::a", Outcome::Passed),
            row("consumer::b[gzip]", Outcome::Failed),
            row("producer::c", Outcome::Skipped),
        ];
        assert_eq!(ran, wanted);
    }
}
