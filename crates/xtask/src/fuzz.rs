//! `cargo xtask fuzz TARGET`: builds the programs of `fuzz/` with coverage and runs one.
//!
//! libFuzzer needs the counters that LLVM's SanitizerCoverage pass puts in; the stable compiler has the pass, so neither
//! a nightly compiler nor cargo-fuzz is needed. There is no address sanitizer: the workspace forbids unsafe code.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

const COVERAGE: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];
/// More is a promise broken.
const MEMORY_MIB: u32 = 1024;
const SECONDS_EACH: u32 = 10;
const LONGEST_INPUT: u32 = 8192;

#[derive(clap::Args)]
pub struct Options {
    /// `request`, `batch`, `sasl` or `groups`
    target: String,
    /// How long; without it until something is found
    #[arg(long)]
    seconds: Option<u64>,
    /// So many inputs
    #[arg(long)]
    runs: Option<u64>,
    /// Where its randomness comes from [default: the time]
    #[arg(long)]
    seed: Option<u32>,
    /// An input that was found: only this
    #[arg(long)]
    input: Option<PathBuf>,
}

pub fn run(options: &Options) -> Result<()> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let program = build(&root, &options.target)?;
    let seeds = root.join("crates/fuzz/corpus").join(&options.target);
    if !seeds.is_dir() {
        bail!("there is no target {:?}: request, batch, sasl or groups", options.target);
    }
    let mut command = Command::new(program);
    match &options.input {
        Some(input) => drop(command.arg(input)),
        None => {
            // What it finds on its way; what is worth keeping goes from here to the corpus by hand.
            let found = root.join("fuzz/found").join(&options.target);
            std::fs::create_dir_all(&found).with_context(|| found.display().to_string())?;
            command.arg(&found).arg(seeds);
            command.arg(format!("-artifact_prefix={}/", root.join("fuzz").display()));
            command.arg(format!("-max_len={LONGEST_INPUT}"));
        }
    }
    command.args([format!("-rss_limit_mb={MEMORY_MIB}"), format!("-timeout={SECONDS_EACH}")]);
    command.args(options.seconds.map(|seconds| format!("-max_total_time={seconds}")));
    command.args(options.runs.map(|runs| format!("-runs={runs}")));
    command.args(options.seed.map(|seed| format!("-seed={seed}")));
    if !command.status().context("running the fuzzer")?.success() {
        bail!("{}: the lines above name the input; --input FILE runs it again", options.target);
    }
    Ok(())
}

fn build(root: &std::path::Path, target: &str) -> Result<PathBuf> {
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args(["build", "--release", "--message-format", "json", "--bin", target, "--manifest-path"])
        .arg(root.join("fuzz/Cargo.toml"))
        .args((target == "sasl").then_some("--features=sasl"))
        // Flags for the programs, and not for what builds them.
        .args(["--target", &host()?])
        .env("RUSTFLAGS", COVERAGE.join(" "))
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("running cargo build")?;
    if !output.status.success() {
        bail!("the fuzzer's program was not built (it needs a C++ compiler; Debian: apt-get install g++)");
    }
    let lines = String::from_utf8_lossy(&output.stdout);
    let built = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let executable =
        built.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back();
    executable.context("cargo named no executable")
}

/// The compiler's own platform.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("running rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(host.to_owned())
}
