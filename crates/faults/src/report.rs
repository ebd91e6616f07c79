//! The table at the end, for people and as JSON.

use serde_json::{Value, json};

use crate::case::{Context, Report, Verdict};

fn word(report: &Report, context: &Context) -> &'static str {
    match &report.verdict {
        Verdict::Passed => "passed",
        Verdict::Failed(_) => "FAILED",
        Verdict::Skipped(_) if context.ci => "FAILED (missing)",
        Verdict::Skipped(_) => "skipped",
    }
}

/// Under CI what cannot be run has failed.
pub fn has_failed(report: &Report, context: &Context) -> bool {
    match &report.verdict {
        Verdict::Passed => false,
        Verdict::Failed(_) => true,
        Verdict::Skipped(_) => context.ci,
    }
}

/// What is known when a case is over.
pub fn print_details(report: &Report) {
    match &report.verdict {
        Verdict::Passed => {}
        Verdict::Skipped(reason) => eprintln!("  skipped: {reason}"),
        Verdict::Failed(failures) => {
            for failed in failures {
                failed.what.iter().for_each(|line| eprintln!("  {line}"));
                eprintln!("  replay: {}", failed.replay);
                eprintln!("  kept:   {}", failed.directory.display());
            }
        }
    }
    if !report.tallies.is_empty() {
        let counts: Vec<String> =
            report.tallies.iter().map(|(what, count)| format!("{what}: {count}")).collect();
        eprintln!("  {}", counts.join(", "));
    }
    report.notes.iter().for_each(|note| eprintln!("  note: {note}"));
}

pub fn print_table(reports: &[Report], context: &Context) {
    println!("{:<22} {:<8} {:>5}  {:<18} {:>7}", "fault", "promise", "runs", "verdict", "seconds");
    for report in reports {
        println!(
            "{:<22} {:<8} {:>5}  {:<18} {:>7.1}",
            report.name,
            report.promise,
            report.runs,
            word(report, context),
            report.took.as_secs_f64()
        );
    }
}

pub fn print_json(reports: &[Report], context: &Context) {
    for report in reports {
        let failures: Vec<Value> = match &report.verdict {
            Verdict::Failed(failures) => failures
                .iter()
                .map(|failed| {
                    json!({
                        "what": failed.what, "replay": failed.replay, "directory": failed.directory,
                    })
                })
                .collect(),
            _ => Vec::new(),
        };
        let skipped = match &report.verdict {
            Verdict::Skipped(reason) => Some(reason),
            _ => None,
        };
        let line = json!({
            "fault": report.name, "promise": report.promise, "runs": report.runs,
            "verdict": word(report, context), "seconds": report.took.as_secs_f64(),
            "failures": failures, "skipped": skipped, "notes": report.notes,
            "counts": report.tallies,
        });
        println!("{line}");
    }
}
