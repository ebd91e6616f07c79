//! Programs of ours in Java that are more than one file: `java/SUITE`, compiled once beside the jars that they use.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::kafka;

const COMPILER: &str = "a Java compiler is needed (Debian: apt-get install default-jdk-headless)";

/// Fails where a suite of such programs cannot run, before anything is fetched or started.
pub fn ensure_java() -> Result<()> {
    if let Some(missing) = kafka::missing() {
        bail!("{missing}");
    }
    let mut javac = Command::new("javac");
    javac.arg("-version").stdout(Stdio::null()).stderr(Stdio::null());
    if !javac.status().is_ok_and(|status| status.success()) {
        bail!("{COMPILER}");
    }
    Ok(())
}

/// Where the compiled program is; compiled anew when its source or its libraries are others.
pub fn compiled(suite: &str, jars: &Path) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("java").join(suite);
    let mut files: Vec<PathBuf> = fs::read_dir(&source)
        .with_context(|| format!("reading {}", source.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    files.sort();
    let mut hash = DefaultHasher::new();
    jars.hash(&mut hash);
    for file in &files {
        fs::read(file)?.hash(&mut hash);
    }
    let classes = kafka::cache().join(format!("suites-{suite}")).join(format!("{:016x}", hash.finish()));
    if classes.join("compiled").exists() {
        return Ok(classes);
    }
    fs::create_dir_all(&classes)?;
    let mut javac = Command::new("javac");
    javac.args(["-nowarn", "-cp"]).arg(format!("{}/*", jars.display())).arg("-d").arg(&classes).args(&files);
    let output = javac.output().context(COMPILER)?;
    if !output.status.success() {
        bail!("compiling {}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
    }
    fs::write(classes.join("compiled"), "")?;
    Ok(classes)
}
