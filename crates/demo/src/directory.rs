//! The demo's directory: everything that a run leaves behind is in it, and nothing else is touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

/// Marks a directory as the demo's own.
const MARKER: &str = ".headwater-demo";
/// What a former run leaves in its directory; a new run in the same place begins by removing it.
const LEFT_BEHIND: [&str; 7] = ["legacy", "sink", "oracle", "node", "service", "node.log", "service.log"];

/// A directory that belongs to this run.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Takes `wanted`, which must be new, empty or a former run's; otherwise a new one under the system's
    /// directory for temporary files.
    pub fn prepare(wanted: Option<PathBuf>) -> Result<Self> {
        let path = match wanted {
            Some(path) => path,
            None => fresh()?,
        };
        fs::create_dir_all(&path)
            .with_context(|| format!("creating {}; choose another with --data-dir DIR", path.display()))?;
        let path = path.canonicalize().with_context(|| format!("reading {}", path.display()))?;
        let directory = Self { path };
        directory.claim()?;
        Ok(directory)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn legacy(&self) -> PathBuf {
        self.path.join("legacy.sqlite")
    }

    pub fn sink(&self) -> PathBuf {
        self.path.join("sink.sqlite")
    }

    /// Where the embedded broker keeps its log.
    pub fn node(&self) -> PathBuf {
        self.path.join("node")
    }

    /// Where the service keeps its stores.
    pub fn service(&self) -> PathBuf {
        self.path.join("service")
    }

    pub fn log_of(&self, process: &str) -> PathBuf {
        self.path.join(format!("{process}.log"))
    }

    fn claim(&self) -> Result<()> {
        let shown = self.path.display();
        let entries = fs::read_dir(&self.path).with_context(|| format!("reading {shown}"))?;
        let names: Vec<String> = entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_>>()
            .with_context(|| format!("reading {shown}"))?;
        let ours = names.iter().any(|name| name == MARKER);
        if let Some(stranger) = names.first().filter(|_| !ours) {
            bail!(
                "{shown} holds {stranger:?} and was not made by the demo, so nothing is written there; name an empty or a new directory with --data-dir DIR"
            );
        }
        for name in names.iter().filter(|name| left_behind(name)) {
            let path = self.path.join(name);
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.with_context(|| format!("removing a former run's {}", path.display()))?;
        }
        fs::write(self.path.join(MARKER), "headwater demo\n")
            .with_context(|| format!("writing to {shown}; choose another directory with --data-dir DIR"))
    }
}

/// A database has two companions while it is in use: `legacy.sqlite-wal` and `legacy.sqlite-shm`.
fn left_behind(name: &str) -> bool {
    LEFT_BEHIND.contains(&name)
        || name.split_once(".sqlite").is_some_and(|(base, _)| LEFT_BEHIND.contains(&base))
}

fn fresh() -> Result<PathBuf> {
    let base = std::env::temp_dir();
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let path = base.join(format!("headwater-demo-{seconds}-{}", std::process::id()));
    fs::create_dir(&path)
        .with_context(|| format!("creating {}; name another place with --data-dir DIR", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_former_run_is_replaced_and_a_strangers_directory_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let place = base.path().join("demo");
        let directory = Directory::prepare(Some(place.clone())).unwrap();
        fs::write(directory.legacy(), "old").unwrap();
        fs::write(directory.path().join("legacy.sqlite-wal"), "old").unwrap();
        fs::create_dir(directory.node()).unwrap();
        fs::write(directory.path().join("notes.txt"), "mine").unwrap();
        let again = Directory::prepare(Some(place)).unwrap();
        let left: Vec<_> =
            fs::read_dir(again.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");

        let stranger = base.path().join("stranger");
        fs::create_dir(&stranger).unwrap();
        fs::write(stranger.join("thesis.tex"), "").unwrap();
        let refused = Directory::prepare(Some(stranger.clone())).unwrap_err().to_string();
        assert!(refused.contains("thesis.tex") && refused.contains("--data-dir"), "{refused}");
        assert_eq!(fs::read_dir(stranger).unwrap().count(), 1);
    }
}
