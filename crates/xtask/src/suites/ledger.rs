//! What each foreign test came to, on Headwater and on Apache Kafka: a committed table.
//!
//! One line a test: suite, test, ours, Kafka's, seconds. Invariant: a pass of ours is never taken back by `take`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Ran;
use crate::bench::server::Side;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Outcome {
    Passed,
    Failed,
    /// It did not end within its limit.
    Endless,
    /// The test itself said that it cannot run here.
    Skipped,
    #[default]
    Unknown,
}

impl Outcome {
    const ALL: [Outcome; 5] =
        [Outcome::Passed, Outcome::Failed, Outcome::Endless, Outcome::Skipped, Outcome::Unknown];

    pub fn word(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Failed => "failed",
            Outcome::Endless => "endless",
            Outcome::Skipped => "skipped",
            Outcome::Unknown => "-",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Outcome::ALL.into_iter().find(|outcome| outcome.word() == word)
    }
}

#[derive(Clone, Copy, Default, Debug)]
pub struct Row {
    pub ours: Outcome,
    pub kafkas: Outcome,
    /// How long the last run took, so that long ones are begun last.
    pub seconds: u64,
}

impl Row {
    fn side(&mut self, side: Side) -> &mut Outcome {
        match side {
            Side::Ours => &mut self.ours,
            Side::Peer => &mut self.kafkas,
        }
    }
}

#[derive(Default)]
pub struct Ledger {
    /// By suite and test.
    pub rows: BTreeMap<(String, String), Row>,
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("suites/outcomes.txt")
}

impl Ledger {
    pub fn read() -> Result<Self> {
        let path = path();
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut rows = BTreeMap::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
            let row = parse_row(line).with_context(|| format!("line {} of the outcomes: {line}", number + 1));
            let (key, row) = row?;
            rows.insert(key, row);
        }
        Ok(Self { rows })
    }

    pub fn write(&self) -> Result<()> {
        let path = path();
        fs::write(&path, self.to_string()).with_context(|| format!("writing {}", path.display()))
    }

    pub fn row(&self, suite: &str, test: &str) -> Row {
        self.rows.get(&(suite.to_owned(), test.to_owned())).copied().unwrap_or_default()
    }

    /// Compares a run with what is known.
    pub fn judge(&self, suite: &str, side: Side, ran: &[Ran]) -> Verdict {
        let mut verdict = Verdict::default();
        for Ran { test, outcome, .. } in ran {
            let mut row = self.row(suite, test);
            let passed_before = *row.side(side) == Outcome::Passed;
            match (outcome, passed_before) {
                (Outcome::Passed, true) => verdict.kept += 1,
                (Outcome::Passed, false) => verdict.gained.push(test.clone()),
                (outcome, true) => verdict.lost.push((test.clone(), *outcome)),
                (outcome, false) => {
                    let beside = if side == Side::Ours { row.kafkas } else { row.ours };
                    verdict.open.push(format!("{test}: {} (the other: {})", outcome.word(), beside.word()));
                }
            }
        }
        verdict
    }

    /// Takes over what a run came to; a pass stays a pass.
    pub fn take(&mut self, suite: &str, side: Side, ran: &[Ran]) {
        for Ran { test, outcome, seconds } in ran {
            let row = self.rows.entry((suite.to_owned(), test.clone())).or_default();
            let known = row.side(side);
            if *known != Outcome::Passed {
                *known = *outcome;
            }
            if side == Side::Ours {
                row.seconds = *seconds;
            }
        }
    }
}

fn parse_row(line: &str) -> Result<((String, String), Row)> {
    let mut words = line.split_whitespace();
    let mut word = || words.next().context("a line is: suite test ours kafkas seconds");
    let key = (word()?.to_owned(), word()?.to_owned());
    let ours = Outcome::parse(word()?).context("an outcome that is not known")?;
    let kafkas = Outcome::parse(word()?).context("an outcome that is not known")?;
    Ok((key, Row { ours, kafkas, seconds: word()?.parse()? }))
}

impl fmt::Display for Ledger {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "# suite test ours Kafka's seconds; written by `cargo xtask suites … --write`")?;
        for ((suite, test), row) in &self.rows {
            let (ours, kafkas) = (row.ours.word(), row.kafkas.word());
            writeln!(out, "{suite} {test} {ours} {kafkas} {}", row.seconds)?;
        }
        Ok(())
    }
}

/// A run beside what is known.
#[derive(Default)]
pub struct Verdict {
    kept: usize,
    gained: Vec<String>,
    lost: Vec<(String, Outcome)>,
    /// Neither passed before nor now.
    open: Vec<String>,
}

impl Verdict {
    pub fn is_worse(&self) -> bool {
        !self.lost.is_empty()
    }

    pub fn lost_tests(&self) -> Vec<String> {
        self.lost.iter().map(|(test, _)| test.clone()).collect()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost = self.lost.iter().map(|(test, outcome)| format!("{test}: {}", outcome.word())).collect();
        for (word, tests) in [("open", &self.open), ("new pass", &self.gained), ("LOST", &lost)] {
            for test in tests {
                writeln!(out, "{word:9} {test}")?;
            }
        }
        let (gained, lost, open) = (self.gained.len(), self.lost.len(), self.open.len());
        writeln!(out, "{} as before, {gained} new, {lost} lost, {open} open", self.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(test: &str, outcome: Outcome) -> Ran {
        Ran { test: test.to_owned(), outcome, seconds: 3 }
    }

    #[test]
    fn a_pass_that_fails_now_is_lost_and_stays_on_the_list() {
        let mut ledger =
            Ledger::parse("# head\nrd 0001 passed passed 1\nrd 0002 failed passed 1\n").expect("read");
        let run = [ran("0001", Outcome::Failed), ran("0002", Outcome::Failed), ran("0003", Outcome::Passed)];
        let verdict = ledger.judge("rd", Side::Ours, &run);
        assert!(verdict.is_worse());
        assert_eq!((verdict.lost.len(), verdict.open.len(), verdict.gained.len()), (1, 1, 1));
        ledger.take("rd", Side::Ours, &run);
        assert_eq!(ledger.row("rd", "0001").ours, Outcome::Passed);
        assert_eq!(ledger.row("rd", "0003").ours, Outcome::Passed);
    }

    #[test]
    fn the_table_reads_back_what_it_wrote() {
        let text = "# suite test ours Kafka's seconds; written by `cargo xtask suites … --write`\n\
                    rd 0001 passed endless 7\nrd 0002 skipped - 1\n";
        assert_eq!(Ledger::parse(text).expect("read").to_string(), text);
        assert!(Ledger::parse("rd 0001 maybe - 1\n").is_err());
    }
}
