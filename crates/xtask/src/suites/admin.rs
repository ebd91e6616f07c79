//! Every method of Kafka's Java AdminClient, called rightly and wrongly; a test is a method, and passes when each of its
//! answers is Apache Kafka's.
//!
//! What Apache Kafka answered is in `suites/admin-kafka.txt` (written by `--kafka --write`), what is meant to differ, with
//! the reason, in `suites/admin-differs.txt`.

mod answers;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::ledger::Outcome;
use super::{Choice, Ran, classes, servers};
use crate::bench::process::{self, Owned};
use crate::bench::server::Side;
use crate::kafka;
use answers::{Answers, Meant};

const SUITE: &str = "admin";
const CLASS: &str = "AdminMethods";
const LIMIT: Duration = Duration::from_secs(300);
/// The same for both; groups need not wait for members that do not come.
const SETTINGS: [(&str, &str); 6] = [
    ("num.partitions", "4"),
    ("offsets.topic.num.partitions", "4"),
    ("transaction.state.log.num.partitions", "4"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.streams.initial.rebalance.delay.ms", "0"),
    ("log.segment.delete.delay.ms", "0"),
];

fn home() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn recorded() -> PathBuf {
    home().join("suites/admin-kafka.txt")
}

pub fn run(choice: &Choice) -> Result<Vec<Ran>> {
    classes::ensure_java()?;
    let jars = kafka::streams()?;
    let classes = classes::compiled(SUITE, &jars)?;
    let dir = servers::work(SUITE, choice.side())?;
    servers::build(choice)?;
    let begun = Instant::now();
    let server = servers::start(choice, &dir, &SETTINGS)?;
    let answers = asked(&jars, &classes, &server.bootstrap, &dir)?;
    server.stop()?;
    let seconds = begun.elapsed().as_secs();
    if choice.side() == Side::Peer && choice.write {
        let head = format!(
            "# What Apache Kafka {} answers to each case: METHOD, CASE, ANSWER; written by `cargo xtask suites admin --kafka --write`\n",
            kafka::VERSION
        );
        fs::write(recorded(), head + &answers.text())?;
    }
    judge(choice, &answers, seconds)
}

fn judge(choice: &Choice, answers: &Answers, seconds: u64) -> Result<Vec<Ran>> {
    let read =
        |path: PathBuf| fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()));
    let expected = Answers::parse(&read(recorded())?)?;
    // Apache Kafka must answer as it did.
    let meant = match choice.side() {
        Side::Ours => Meant::parse(&read(home().join("suites/admin-differs.txt"))?)?,
        Side::Peer => Meant::default(),
    };
    let mut ran = Vec::new();
    for test in answers.methods(&expected).into_iter().filter(|method| choice.wants(method)) {
        let differences = answers.differences(&test, &expected, &meant);
        differences.iter().for_each(|line| eprintln!("{line}"));
        let outcome = if differences.is_empty() { Outcome::Passed } else { Outcome::Failed };
        ran.push(Ran { test, outcome, seconds });
    }
    Ok(ran)
}

/// What the program tells of a broker.
fn asked(jars: &Path, classes: &Path, bootstrap: &str, dir: &Path) -> Result<Answers> {
    let (said, log) = (dir.join("answers.txt"), dir.join("program.log"));
    let mut java = process::tied("java");
    java.arg("-Xmx512m").arg("-cp").arg(format!("{}:{}/*", classes.display(), jars.display()));
    java.arg(CLASS).arg(bootstrap).arg(dir.join("state"));
    java.stdin(Stdio::null()).stdout(File::create(&said)?).stderr(File::create(&log)?);
    let code = Owned::spawn(&mut java)?.finish(LIMIT);
    let text = fs::read_to_string(&said)?;
    match (code, text.strip_suffix("done\n")) {
        // The client's own log goes the same way, without tabs.
        (Ok(0), Some(text)) => {
            let told = text.lines().filter(|line| !line.starts_with('\t') && line.matches('\t').count() == 2);
            Answers::parse(&told.collect::<Vec<_>>().join("\n"))
        }
        (code, _) => bail!("the program ended with {code:?}; see {} and {}", said.display(), log.display()),
    }
}
