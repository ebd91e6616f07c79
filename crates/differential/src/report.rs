//! What a run found: lines for people on standard error, one line of JSON on standard output.

use std::collections::BTreeMap;

use anyhow::{Error, Result};
use serde::Serialize;

use crate::case::Case;
use crate::compare::{Compared, Verdict, shown};

/// The last line: three numbers that others read, and more for people.
#[derive(Serialize, Default)]
struct Sum {
    cases: u64,
    records_compared: u64,
    differences: u64,
    /// Cases that differ as the ledger says.
    explained: u64,
    explained_by: BTreeMap<&'static str, u64>,
    seed: u64,
}

pub struct Report {
    sum: Sum,
    /// The options that draw these cases again.
    replay: String,
    families: BTreeMap<&'static str, u64>,
    pub differing: Vec<u64>,
}

impl Report {
    pub fn new(seed: u64, family: Option<&str>) -> Self {
        let family = family.map(|family| format!(" --family {family}")).unwrap_or_default();
        let replay = format!("cargo xtask differential --seed {seed}{family} --case");
        let sum = Sum { seed, ..Sum::default() };
        Self { sum, replay, families: BTreeMap::new(), differing: Vec::new() }
    }

    pub fn add(&mut self, case: &Case, compared: &Compared) {
        self.sum.cases += 1;
        self.sum.records_compared += compared.theirs.len().max(compared.ours.len()) as u64;
        match &compared.verdict {
            Verdict::Same => (),
            Verdict::Explained(entry) => {
                self.sum.explained += 1;
                *self.sum.explained_by.entry(entry).or_default() += 1;
            }
            Verdict::Different => self.differs(case),
        }
    }

    fn differs(&mut self, case: &Case) {
        self.sum.differences += 1;
        self.differing.push(case.id);
        *self.families.entry(case.family).or_default() += 1;
    }

    /// A side that fails differs from one that does not.
    pub fn failed(&mut self, case: &Case, error: &Error) {
        self.sum.cases += 1;
        self.differs(case);
        eprintln!("case {} ({}): {error:#}; {} {}", case.id, case.family, self.replay, case.id);
    }

    /// Tells of the cases that were not shown.
    pub fn more(&self, shown: usize) {
        if self.differing.len() > shown {
            let families: Vec<String> =
                self.families.iter().map(|(family, count)| format!("{family} {count}")).collect();
            let some: Vec<&u64> = self.differing.iter().skip(shown).take(12).collect();
            let (all, families) = (self.differing.len(), families.join(", "));
            eprintln!("{all} cases differ ({families}), among them {some:?}");
        }
    }

    pub fn json(&self) -> Result<String> {
        Ok(serde_json::to_string(&self.sum)?)
    }

    /// All there is to know about one case.
    pub fn show(&self, case: &Case, compared: &Compared) {
        let verdict = match &compared.verdict {
            Verdict::Same => "is the same".to_owned(),
            Verdict::Explained(entry) => format!("is explained by {entry}"),
            Verdict::Different => "differs".to_owned(),
        };
        eprintln!("case {} ({}) {verdict}; {} {}", case.id, case.family, self.replay, case.id);
        for (place, step) in case.program.steps.iter().enumerate() {
            eprintln!("  step {place}: {step:?}");
        }
        for (place, event) in case.program.events.iter().enumerate() {
            eprintln!("  event {place}: {}", serde_json::to_string(event).unwrap_or_default());
        }
        eprint!("{}", shown(&compared.theirs, &compared.ours));
    }
}
