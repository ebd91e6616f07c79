//! `cargo xtask test`: what `.ci/run` calls and what a newcomer types.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{differential, kafka};

/// A red run must be our change; other seeds are for `cargo xtask faults log`.
const FAULTS_SEED: &str = "99";
/// The planted mistakes are in the broker that `build --all-targets` makes, and in no other.
const FAULTS: [&str; 6] = ["log", "wire", "transactions", "groups", "history", "planted"];
/// Client libraries that are not ours, and an S3 server; versions pinned so that a red run is our change.
const FOREIGN_CLIENTS: [&str; 5] = [
    "kafka-python==3.0.12",
    "confluent-kafka[avro,schemaregistry]==2.16.1",
    "moto[s3]==5.1.14",
    "flask==3.1.3",
    "flask-cors==6.0.5",
];

pub fn run(filter: Option<&str>) -> Result<()> {
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    cargo(&["fmt", "--all", "--check"], &[])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"], &[])?;
    // Built apart from running, so that the Apache Kafka below does not wait for it.
    // With all targets, as `cargo test` alone leaves out programs that have no tests of their own.
    cargo(&["build", "--workspace", "--all-targets", "--quiet"], &[])?;

    let mut environment = Vec::new();
    match python_clients() {
        Ok(python) => environment.push(("HEADWATER_TEST_PYTHON", python.display().to_string())),
        Err(error) if ci => return Err(error),
        Err(error) => eprintln!("skipped: kafka-python, confluent-kafka and moto: {error:#}"),
    }
    match kafka::tools() {
        Ok(jars) => environment.push(("HEADWATER_TEST_KAFKA_TOOLS", jars.display().to_string())),
        Err(error) if ci => return Err(error),
        Err(error) => eprintln!("skipped: kafka-acls: {error:#}"),
    }
    match kafka::streams() {
        Ok(jars) => environment.push(("HEADWATER_TEST_STREAMS_JARS", jars.display().to_string())),
        Err(error) if ci => return Err(error),
        Err(error) => eprintln!("skipped: Kafka Streams: {error:#}"),
    }
    for (program, package) in
        [("kcat", "kcat"), ("chromium", "chromium"), ("chromedriver", "chromium-driver")]
    {
        if which(program).is_none() {
            let line = format!("{program} is not installed (Debian: apt-get install {package})");
            if ci {
                bail!("{line}");
            }
            eprintln!("skipped: tests with {line}");
        }
    }
    let kafka_dir = std::env::temp_dir().join(format!("headwater-kafka-test-{}", std::process::id()));
    match kafka::missing() {
        None => {
            let bootstrap = kafka::start_for_tests(&kafka_dir, 0)?;
            eprintln!("xtask: Apache Kafka serves on {bootstrap}");
            environment.push(("HEADWATER_TEST_BOOTSTRAP", bootstrap));
            environment.push(("HEADWATER_TEST_TRANSACTION_VERSION", "2".to_owned()));
            environment.push(("HEADWATER_TEST_KAFKA_JARS", kafka::jars().display().to_string()));
        }
        Some(reason) if ci => bail!("{reason}"),
        Some(reason) => eprintln!("skipped: tests on Apache Kafka: {reason}"),
    }

    let mut arguments = vec!["test", "--workspace", "--no-fail-fast"];
    if let Some(filter) = filter {
        arguments.push(filter);
    }
    let tested = cargo(&arguments, &environment);
    let tested = match filter {
        None => tested
            .and_then(|()| guarded(ci))
            .and_then(|()| old_transactions(ci))
            .and_then(|()| streams_differential(ci))
            .and_then(|()| faults(ci, &environment))
            .and_then(|()| cluster(ci))
            .and_then(|()| eos(ci))
            .and_then(|()| foreign(ci)),
        Some(_) => tested,
    };
    kafka::stop(&kafka_dir)?;
    if tested.is_ok() {
        let _ = std::fs::remove_dir_all(&kafka_dir);
    } else {
        eprintln!("xtask: Apache Kafka's log of this run is in {}", kafka_dir.display());
    }
    tested
}

/// Our client and the word count on an Apache Kafka that lets in nobody it does not know, by each way in.
fn guarded(ci: bool) -> Result<()> {
    if let Some(reason) = kafka::missing() {
        // With CI the tests before have failed.
        anyhow::ensure!(!ci, "{reason}");
        return Ok(());
    }
    let dir = std::env::temp_dir().join(format!("headwater-kafka-secure-{}", std::process::id()));
    let bootstrap = kafka::start_secured(&dir, 0)?;
    eprintln!("xtask: Apache Kafka with TLS, SASL and an authorizer serves on {bootstrap}");
    let tested = kafka::secure::WAYS.iter().try_for_each(|way| {
        let file = dir.join(format!("{way}.properties"));
        let text = std::fs::read_to_string(&file)?;
        let address = text.lines().find_map(|line| line.strip_prefix("bootstrap.servers="));
        let address = address.context("the file names its address")?.to_owned();
        eprintln!("xtask: the client's tests by {way}");
        let environment = [
            ("HEADWATER_TEST_BOOTSTRAP", address),
            ("HEADWATER_TEST_TRANSACTION_VERSION", "2".to_owned()),
            ("HEADWATER_TEST_COMMAND_CONFIG", file.display().to_string()),
        ];
        let client = cargo(&["test", "--workspace", "--no-fail-fast", "--test", "kafka"], &environment);
        // A filter counts for all binaries of a command, so these have one of their own.
        let service = cargo(&["test", "--workspace", "--test", "it", "word_count::"], &environment);
        client.and(service)
    });
    kafka::stop(&dir)?;
    if tested.is_ok() {
        let _ = std::fs::remove_dir_all(&dir);
    }
    tested
}

/// Our client's transactions on an Apache Kafka that has not finalized those of KIP-890.
fn old_transactions(ci: bool) -> Result<()> {
    if let Some(reason) = kafka::missing() {
        anyhow::ensure!(!ci, "{reason}");
        return Ok(());
    }
    let dir = std::env::temp_dir().join(format!("headwater-kafka-old-{}", std::process::id()));
    let bootstrap = kafka::start_with_old_transactions(&dir, 0)?;
    eprintln!("xtask: Apache Kafka with transaction.version 1 serves on {bootstrap}");
    let environment =
        [("HEADWATER_TEST_BOOTSTRAP", bootstrap), ("HEADWATER_TEST_TRANSACTION_VERSION", "1".to_owned())];
    let test =
        |filter, environment: &[_]| cargo(&["test", "--workspace", "--test", "kafka", filter], environment);
    let alone = [environment[0].clone(), ("HEADWATER_TEST_CHANGES_FEATURES", "true".to_owned())];
    let tested = test("transaction", &environment).and_then(|()| test("changes_of_the_feature", &alone));
    kafka::stop(&dir)?;
    if tested.is_ok() {
        let _ = std::fs::remove_dir_all(&dir);
    }
    tested
}

/// Topologies of ours beside Kafka Streams' (docs/streams-differential.md), about a minute and a half.
fn streams_differential(ci: bool) -> Result<()> {
    let Some(line) = differential::missing() else { return differential::suite(&built()?) };
    anyhow::ensure!(!ci, "{line}");
    eprintln!("skipped: cargo xtask differential: {line}");
    Ok(())
}

/// The quick part of other people's suites (docs/suites.md), about three minutes once it is built.
fn foreign(ci: bool) -> Result<()> {
    let missing = [("cc", "gcc"), ("c++", "g++"), ("make", "make"), ("python3", "python3")]
        .into_iter()
        .find_map(|(program, package)| which(program).is_none().then_some(package))
        .or_else(|| (!Path::new("/usr/include/zlib.h").exists()).then_some("zlib1g-dev"))
        .map(|package| format!("librdkafka's tests cannot be built (Debian: apt-get install {package})"));
    let Some(line) = missing.or_else(|| kafka::missing().map(str::to_owned)) else {
        // The one that the tests had: another build would make every dependency anew, with other features.
        return crate::suites::quick(Some(built()?.join("headwater")));
    };
    anyhow::ensure!(!ci, "{line}");
    eprintln!("skipped: foreign suites: {line}");
    Ok(())
}

/// One seed of the faults that are put to a real node (docs/reliability.md), in the build the tests made.
fn faults(ci: bool, environment: &[(&str, String)]) -> Result<()> {
    let missing = ["strace", "mkfs.xfs"].into_iter().find(|program| which(program).is_none());
    if let Some(program) = missing {
        let line = format!("{program} is not installed (Debian: apt-get install strace xfsprogs)");
        if ci {
            bail!("{line}");
        }
        eprintln!("skipped: cargo xtask faults: {line}");
        return Ok(());
    }
    let built = built()?;
    let (harness, headwater) = (built.join("headwater-faults"), built.join("headwater"));
    for suite in FAULTS {
        eprintln!("xtask: {} {suite} --seed {FAULTS_SEED}", harness.display());
        let mut command = Command::new(&harness);
        command.args([suite, "--seed", FAULTS_SEED, "--headwater"]).arg(&headwater);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        if !command.status().context("running headwater-faults")?.success() {
            bail!("faults {suite}: a promise was broken; the lines above name the seed and the fault");
        }
    }
    Ok(())
}

/// On a cluster of Apache Kafka, in the build the tests made: an unclean election, and one round of losing each node
/// under load (docs/cluster.md).
fn cluster(ci: bool) -> Result<()> {
    if let Some(reason) = kafka::missing() {
        if ci {
            bail!("{reason}");
        }
        eprintln!("skipped: cargo xtask faults cluster: {reason}");
        return Ok(());
    }
    let built = built()?;
    // The build of the tests has put another one in the place of the one that runs.
    let (harness, xtask) = (built.join("headwater-faults"), built.join("headwater-xtask"));
    for arguments in [&["--unclean"][..], &["--seed", FAULTS_SEED]] {
        eprintln!("xtask: {} cluster {}", harness.display(), arguments.join(" "));
        let mut command = Command::new(&harness);
        command.arg("cluster").args(arguments).arg("--xtask").arg(&xtask);
        if !command.status().context("running headwater-faults")?.success() {
            bail!(
                "our clients or services lost or repeated something on a cluster; the lines above say what"
            );
        }
    }
    Ok(())
}

/// A round of exactly-once under fire on our broker and one on a cluster of Apache Kafka, in the build the tests made
/// (docs/reliability.md).
fn eos(ci: bool) -> Result<()> {
    let built = built()?;
    let (harness, headwater, xtask) =
        (built.join("headwater-faults"), built.join("headwater"), built.join("headwater-xtask"));
    let play = |arguments: &[&str]| {
        eprintln!("xtask: {} eos {}", harness.display(), arguments.join(" "));
        let mut command = Command::new(&harness);
        command.arg("eos").args(["--seed", FAULTS_SEED]).args(arguments);
        command.arg("--headwater").arg(&headwater).arg("--xtask").arg(&xtask);
        if !command.status().context("running headwater-faults")?.success() {
            bail!(
                "a streams service lost or repeated something; the lines above say what, and how to replay it"
            );
        }
        Ok(())
    };
    play(&["--seconds", "30"])?;
    match kafka::missing() {
        None => play(&["--seconds", "15", "--cluster"]),
        Some(reason) if ci => bail!("{reason}"),
        Some(reason) => {
            eprintln!("skipped: cargo xtask eos --cluster: {reason}");
            Ok(())
        }
    }
}

/// Where the programs are that the tests built.
fn built() -> Result<PathBuf> {
    std::env::current_exe()?.parent().map(Path::to_owned).context("xtask has no directory")
}

fn cargo(arguments: &[&str], environment: &[(&str, String)]) -> Result<()> {
    eprintln!("xtask: cargo {}", arguments.join(" "));
    let status = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .status()
        .context("running cargo")?;
    if !status.success() {
        bail!("cargo {} failed", arguments.join(" "));
    }
    Ok(())
}

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// A Python with the foreign clients, in a virtual environment beside the build.
fn python_clients() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let venv = std::path::absolute(target.join("xtask/python"))?;
    let python = venv.join("bin/python");
    let wanted = FOREIGN_CLIENTS.join(" ");
    let stamp = venv.join("installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let hint = "python3 with venv is needed (Debian: apt-get install python3-venv) and pip must reach PyPI";
    quietly(Command::new("python3").args(["-m", "venv"]).arg(&venv), hint)?;
    quietly(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(FOREIGN_CLIENTS), hint)?;
    std::fs::write(&stamp, wanted)?;
    Ok(python)
}

fn quietly(command: &mut Command, hint: &str) -> Result<()> {
    let program = Path::new(command.get_program()).display().to_string();
    let status = command.stdout(Stdio::null()).status().with_context(|| format!("{program}: {hint}"))?;
    if !status.success() {
        bail!("{program} failed: {hint}");
    }
    Ok(())
}
