//! The document: what is lost first, then every benchmark with its method, commands and table.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::cases::ALL;
use super::outcome::{Better, Compared, Outcome, Target};
use super::record::{self, Stored};

/// From six values on, an interval of order statistics reaches 95 %.
const ENOUGH_PAIRS: usize = 6;

/// Writes `docs/benchmarks.md` from the last full result of every benchmark, on whichever machine that was.
pub fn write() -> Result<()> {
    let mut stored = Vec::new();
    for benchmark in ALL {
        stored.extend(record::publish(benchmark.name)?);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/benchmarks.md");
    fs::write(&path, document(&stored)).with_context(|| format!("writing {}", path.display()))?;
    eprintln!("bench: wrote {}", path.display());
    Ok(())
}

fn document(stored: &[Stored]) -> String {
    let mut text = String::from(
        "# Benchmarks\n\n`cargo xtask bench --write` writes this file; nobody edits it.\n\n\
         Every figure stands beside a peer's, started by the same command on the same machine and measured in turns \
         (A B, B A, …). A ratio is ours over the peer's, the median over the pairs with its 95 % interval; what may be \
         claimed is the interval's worse end. Server CPU comes from `/proc/PID/stat`. *unsynced* means acknowledged \
         from the page cache, *synced* on disk before the acknowledgement; flushes were counted with strace in a run \
         of their own. *TLS*: the drivers come by TLS to both servers, which have certificates of one authority. The heap of Apache Kafka is fixed at 1 GiB, and it was warm: at least a minute and 2 million \
         records.\n\n",
    );
    losses(&mut text, stored);
    summary(&mut text, stored);
    for known in stored {
        benchmark(&mut text, known);
    }
    for missing in ALL.iter().filter(|benchmark| stored.iter().all(|known| known.bench != benchmark.name)) {
        let _ = writeln!(text, "## bench-{} {}\n\nNot measured.\n", missing.number, missing.title);
    }
    text
}

/// What the peer does better, and what could not be measured.
fn losses(text: &mut String, stored: &[Stored]) {
    text.push_str("## Cases we lose\n\n");
    let mut lines = Vec::new();
    for known in stored {
        for outcome in &known.outcomes {
            let prefix = format!("- {}, {}", known.bench, outcome.case);
            if let Some(why) = &outcome.failure {
                lines.push(format!("{prefix}: not measured ({why})"));
            }
            for compared in outcome.compared.iter().filter(|compared| compared.lost()) {
                let peer = compared.peer.map_or_else(String::new, number);
                let (ours, metric, unit) = (number(compared.ours), &compared.metric, &compared.unit);
                lines.push(format!("{prefix}: {metric} {ours} {unit} against {peer}"));
            }
        }
    }
    if lines.is_empty() {
        lines.push("- none of those measured".to_owned());
    }
    let _ = writeln!(text, "{}\n", lines.join("\n"));
}

/// Every figure that has a target.
fn summary(text: &mut String, stored: &[Stored]) {
    text.push_str(
        "## Targets\n\n| case | metric | ours | peer | claim | target |\n|---|---|---|---|---|---|\n",
    );
    for known in stored {
        for outcome in &known.outcomes {
            for compared in outcome.compared.iter().filter(|compared| compared.target.is_some()) {
                let ours = format!("{} {}", number(compared.ours), compared.unit);
                let peer = compared.peer.map_or_else(|| "—".to_owned(), number);
                let claim = compared.claim().map_or_else(|| "—".to_owned(), factor);
                let (bench, case, metric) = (&known.bench, &outcome.case, &compared.metric);
                let target = target(compared);
                let _ =
                    writeln!(text, "| {bench}: {case} | {metric} | {ours} | {peer} | {claim} | {target} |");
            }
        }
    }
    text.push('\n');
}

fn benchmark(text: &mut String, known: &Stored) {
    let Some(benchmark) = ALL.iter().find(|benchmark| benchmark.name == known.bench) else { return };
    let machine = &known.machine;
    let _ = writeln!(text, "## bench-{} {}\n", benchmark.number, benchmark.title);
    let _ = writeln!(text, "{}\n", benchmark.method);
    let versions: Vec<String> =
        known.versions.iter().map(|(name, version)| format!("{name}: {version}")).collect();
    let _ = writeln!(text, "Measured {}, seed {}; {}.\n", known.date, known.seed, versions.join("; "));
    let _ = writeln!(
        text,
        "Machine: {}, {} cores, {:.1} GiB; Linux {}; {}. Limits in the same run: {}.\n",
        machine.processor,
        machine.cores,
        machine.memory_gib,
        machine.kernel,
        machine.filesystem,
        machine
            .limits
            .iter()
            .map(|limit| format!("{}: {}", limit.name, limit.value))
            .collect::<Vec<_>>()
            .join("; ")
    );
    for outcome in &known.outcomes {
        text.push_str(&case(outcome));
        text.push('\n');
    }
}

/// One case, as the document and the terminal show it.
pub fn case(outcome: &Outcome) -> String {
    let mut text = format!("### {}\n\n", outcome.case);
    if let Some(why) = &outcome.failure {
        let _ = writeln!(text, "Not measured: {why}.");
        return text;
    }
    let names: Vec<String> = outcome.contestants.iter().map(name).collect();
    let ours = names.first().map_or("ours", String::as_str);
    let peer = names.get(1).map_or("peer", String::as_str);
    let pairs = outcome.pairs;
    let interval = if pairs < ENOUGH_PAIRS { "range (too few pairs for 95 %)" } else { "95 % interval" };
    let heading = format!("{pairs} pair{}", if pairs == 1 { "" } else { "s" });
    let _ = writeln!(text, "| {heading} | {ours} | {peer} | ratio | {interval} | claim | target |");
    text.push_str("|---|---|---|---|---|---|---|\n");
    for compared in &outcome.compared {
        row(&mut text, compared);
    }
    text.push('\n');
    for contestant in &outcome.contestants {
        if contestant.driver_bound {
            let _ =
                writeln!(text, "- {}: **driver-bound**, read the CPU and not the clock", name(contestant));
        }
        if let Some(flushes) = &contestant.flushes {
            let _ = writeln!(text, "- {}: {flushes}", name(contestant));
        }
    }
    for note in &outcome.notes {
        let _ = writeln!(text, "- {note}");
    }
    commands(&mut text, outcome);
    text
}

fn commands(text: &mut String, outcome: &Outcome) {
    text.push_str("\n<details><summary>commands</summary>\n\n");
    for contestant in &outcome.contestants {
        let _ = writeln!(text, "- {}: `{}`", name(contestant), contestant.server);
        if !contestant.driver.is_empty() {
            let _ = writeln!(text, "  - driver: `{}`", contestant.driver);
        }
    }
    text.push_str("\n</details>\n");
}

fn name(contestant: &super::outcome::Contestant) -> String {
    let class = contestant.durability.map(|durability| format!(", {}", durability.name()));
    format!("{}{}", contestant.name, class.unwrap_or_default())
}

fn row(text: &mut String, compared: &Compared) {
    let peer = compared.peer.map_or_else(|| "—".to_owned(), number);
    let (ratio, interval) = match compared.ratio {
        Some((median, low, high)) => (factor(median), format!("{} – {}", factor(low), factor(high))),
        None => ("—".to_owned(), "—".to_owned()),
    };
    let claim = compared.claim().map_or_else(|| "—".to_owned(), factor);
    let target = target(compared);
    let (metric, unit, ours) = (&compared.metric, &compared.unit, number(compared.ours));
    let _ =
        writeln!(text, "| {metric}, {unit} | {ours} | {peer} | {ratio} | {interval} | {claim} | {target} |");
}

fn target(compared: &Compared) -> String {
    let Some(target) = compared.target else { return String::new() };
    let sign = if compared.better == Better::Higher { "≥" } else { "≤" };
    let verdict = match compared.met() {
        Some(true) => "met",
        Some(false) => "**missed**",
        None => "unknown",
    };
    match target {
        Target::Ratio(bound) => format!("{sign} {}: {verdict}", factor(bound)),
        Target::Ours(bound) => format!("{sign} {} {}: {verdict}", number(bound), compared.unit),
    }
}

/// Three figures that matter.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        size if size >= 0.1 || size == 0.0 => format!("{value:.3}"),
        size if size >= 0.01 => format!("{value:.4}"),
        _ => format!("{value:.5}"),
    }
}

/// A ratio; a small one as a fraction of one.
fn factor(value: f64) -> String {
    match value {
        zero if zero <= 0.0 => "0".to_owned(),
        small if small < 0.2 => {
            let inverse = 1.0 / small;
            if inverse < 100.0 { format!("1/{inverse:.1}") } else { format!("1/{inverse:.0}") }
        }
        other => format!("{}×", number(other)),
    }
}
