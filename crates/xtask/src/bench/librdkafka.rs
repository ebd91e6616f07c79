//! librdkafka and its `rdkafka_performance`, built once from the source that the crate `rdkafka-sys` carries, and the
//! open-loop client built on it. All of it lives in the cache, outside the repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::kafka::cache;

const CRATE: &str = "4.10.0";
pub const VERSION: &str = "2.12.1";
const OPEN_LOOP: &str = include_str!("openloop.c");
const REBALANCE: &str = include_str!("rebalance.c");
const TRANSACTIONS: &str = include_str!("transactions.c");
/// Nothing that the benchmarks do not use, so that no development package is needed.
pub const WITHOUT: [&str; 6] = [
    "--disable-gssapi",
    "--disable-curl",
    "--disable-zstd",
    "--disable-lz4-ext",
    "--disable-syslog",
    "--disable-zlib",
];

pub struct Drivers {
    pub performance: PathBuf,
    pub open_loop: PathBuf,
    pub rebalance: PathBuf,
    pub transactions: PathBuf,
}

/// With TLS they are a library of their own, which needs OpenSSL's headers.
pub fn build(tls: bool) -> Result<Drivers> {
    let tree = cache().join(format!("librdkafka-{VERSION}{}", if tls { "-tls" } else { "" }));
    let performance = tree.join("examples/rdkafka_performance");
    if !tree.join(".complete").exists() {
        eprintln!("bench: building librdkafka {VERSION} in {} (once, about a minute)", tree.display());
        copy_source(&source()?, &tree)?;
        let ssl = if tls { "--enable-ssl" } else { "--disable-ssl" };
        let configured = run(Command::new("./configure").args(WITHOUT).arg(ssl).current_dir(&tree));
        configured.with_context(|| {
            if tls {
                "TLS needs OpenSSL's headers (Debian: apt-get install libssl-dev)"
            } else {
                "configuring librdkafka"
            }
        })?;
        run(Command::new("make").args(["-j2", "-C", "src", "librdkafka.a"]).current_dir(&tree))?;
        run(Command::new("make").args(["-C", "examples", "rdkafka_performance"]).current_dir(&tree))?;
        fs::write(tree.join(".complete"), "")?;
    }
    let libraries: &[&str] = if tls { &["-lssl", "-lcrypto"] } else { &[] };
    let open_loop = program(&tree, "openloop", OPEN_LOOP, libraries)?;
    let rebalance = program(&tree, "rebalance", REBALANCE, libraries)?;
    let transactions = program(&tree, "transactions", TRANSACTIONS, libraries)?;
    Ok(Drivers { performance, open_loop, rebalance, transactions })
}

pub fn run(command: &mut Command) -> Result<()> {
    let done = command.stdin(Stdio::null()).output();
    let done = done.with_context(|| format!("running {:?}", command.get_program()))?;
    if !done.status.success() {
        let said = [done.stdout, done.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let last: Vec<&str> = said.lines().rev().take(15).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        bail!("{:?} failed with {}:\n{}", command, done.status, last.join("\n"));
    }
    Ok(())
}

/// Where cargo keeps the crate's source, after fetching it through a manifest of its own.
pub fn source() -> Result<PathBuf> {
    let scratch = cache().join("rdkafka-sys-fetch");
    fs::create_dir_all(scratch.join("src"))?;
    fs::write(scratch.join("src/lib.rs"), "")?;
    let manifest = scratch.join("Cargo.toml");
    let text = format!(
        "[package]\nname = \"fetch\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n\
         [dependencies]\nrdkafka-sys = \"={CRATE}\"\n"
    );
    fs::write(&manifest, text)?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    run(Command::new(&cargo).arg("fetch").arg("--manifest-path").arg(&manifest))?;
    let asked = Command::new(&cargo)
        .args(["metadata", "--format-version", "1", "--manifest-path"])
        .arg(&manifest)
        .output()?;
    let metadata: Value = serde_json::from_slice(&asked.stdout).context("reading cargo's metadata")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let found = packages.filter(|package| package["name"] == "rdkafka-sys");
    let manifest = found.filter_map(|package| package["manifest_path"].as_str()).next();
    let manifest = manifest.context("cargo did not fetch rdkafka-sys")?;
    Ok(Path::new(manifest).with_file_name("librdkafka"))
}

pub fn copy_source(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    run(Command::new("cp").arg("-r").arg(from).arg(to))
}

/// A client of our own, compiled when its source is not the one that was compiled last.
fn program(tree: &Path, name: &str, text: &str, libraries: &[&str]) -> Result<PathBuf> {
    let (source, program) = (tree.join(format!("{name}.c")), tree.join(name));
    let known = fs::read_to_string(&source).is_ok_and(|known| known == text);
    if !known || !program.exists() {
        fs::write(&source, text)?;
        run(Command::new("cc")
            .args(["-O2", "-Wall", "-I"])
            .arg(tree.join("src"))
            .arg(&source)
            .arg("-o")
            .arg(&program)
            .arg(tree.join("src/librdkafka.a"))
            .args(libraries)
            .args(["-lm", "-lpthread", "-ldl", "-lrt"]))?;
    }
    Ok(program)
}
