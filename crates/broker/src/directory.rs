//! The data directory: whose it is, who uses it now, and which cluster it belongs to.
//!
//! ```text
//! headwater.json   {"format": 3, "cluster_id": "…", "begun": true}: what makes the directory ours
//! headwater.lock   held with flock(2) as long as a broker runs; its text is the holder's pid
//! log/             the write-ahead log
//! ```
//! A directory with other contents and without the marker is left as it is.
//!
//! A first start makes `log/`, then the marker, then the first journal, and then notes in the marker that the log has
//! begun. So at each of these steps it can be told from a directory that has lost its log, or its marker: that one is
//! refused, as what it held would be forgotten without a word.
//!
//! One of an older format keeps its number until a start has judged what it holds and is about to write: a
//! start that is refused leaves the way back to the older build open.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use headwater_log::{FORMAT, FileId, OLDEST_FORMAT};
use headwater_wire::KafkaUuid;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::StartError;

pub const MARKER: &str = "headwater.json";
const UNFINISHED_MARKER: &str = "headwater.json.new";
const LOCK: &str = "headwater.lock";
const LOG: &str = "log";
const LOST: &str = "lost+found";
/// What a first start that was cut short may leave, and what a file system puts into its root.
const HARMLESS: [&str; 4] = [UNFINISHED_MARKER, LOCK, LOG, LOST];

#[derive(Serialize, Deserialize)]
struct Marker {
    format: u32,
    cluster_id: String,
    /// There was a journal.
    #[serde(default)]
    begun: bool,
}

/// A directory that is ours until this is dropped.
#[derive(Debug)]
pub struct Directory {
    pub log: PathBuf,
    pub cluster_id: String,
    path: PathBuf,
    format: u32,
    begun: bool,
    _lock: File,
}

impl Directory {
    /// Refuses a directory that has lost its log, or what says whose it is.
    pub fn claim(path: &Path) -> Result<Self, StartError> {
        fs::create_dir_all(path).map_err(|error| StartError::io(path, error))?;
        refuse_foreign(path)?;
        refuse_halved(path)?;
        Self::claim_for(path, None)
    }

    /// Of one directory of two, which may have lost what the other one has; one that belongs to no cluster becomes one
    /// of `cluster`.
    pub fn claim_for(path: &Path, cluster: Option<&str>) -> Result<Self, StartError> {
        fs::create_dir_all(path).map_err(|error| StartError::io(path, error))?;
        refuse_foreign(path)?;
        let lock = lock(path)?;
        let log = path.join(LOG);
        fs::create_dir_all(&log).map_err(|error| StartError::io(&log, error))?;
        sync(path)?;
        let marker = match read_marker(path)? {
            Some(marker) => marker,
            None => write_marker(path, new_marker(cluster))?,
        };
        let Marker { format, cluster_id, begun } = marker;
        Ok(Self { log, cluster_id, path: path.to_owned(), format, begun, _lock: lock })
    }

    /// Whether [`Self::mark`] has something to say.
    pub fn is_older(&self) -> bool {
        self.format < FORMAT
    }

    /// Durably says that the directory may hold what this build writes. An older build refuses it from then
    /// on, instead of taking new frames for a torn end.
    pub fn mark(&mut self) -> Result<(), StartError> {
        if self.is_older() {
            self.write(FORMAT, self.begun)?;
            self.format = FORMAT;
        }
        Ok(())
    }

    /// Durably says that the log has a journal, so that a start that finds none does not begin an empty one.
    pub fn note_begun(&mut self) -> Result<(), StartError> {
        if !self.begun {
            self.write(self.format, true)?;
            self.begun = true;
        }
        Ok(())
    }

    fn write(&self, format: u32, begun: bool) -> Result<(), StartError> {
        let marker = Marker { format, cluster_id: self.cluster_id.clone(), begun };
        write_marker(&self.path, marker).map(drop)
    }
}

/// Of a directory whose log, or whose marker, is gone.
pub fn refuse_halved(path: &Path) -> Result<(), StartError> {
    let log = log_of(path);
    let there = match names(&log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        listed => Some(listed.map_err(|error| StartError::io(&log, error))?),
    };
    let Some(marker) = read_marker(path)? else {
        return match there.into_iter().flatten().find(|name| name != LOST) {
            Some(found) => Err(StartError::NoMarker { directory: path.to_owned(), found }),
            None => Ok(()),
        };
    };
    let is_journal = |name: &String| FileId::parse(name).is_some_and(|file| !file.is_run());
    match there {
        Some(names) if !marker.begun || names.iter().any(is_journal) => Ok(()),
        _ => Err(StartError::NoLog { directory: path.to_owned(), cluster: marker.cluster_id }),
    }
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn refuse_foreign(path: &Path) -> Result<(), StartError> {
    let mut names = names(path).map_err(|error| StartError::io(path, error))?;
    if names.iter().any(|name| name == MARKER) {
        return Ok(());
    }
    names.sort_unstable();
    match names.into_iter().find(|name| !HARMLESS.contains(&name.as_str())) {
        Some(foreign) => Err(StartError::Foreign { directory: path.to_owned(), foreign }),
        None => Ok(()),
    }
}

fn lock(directory: &Path) -> Result<File, StartError> {
    let path = directory.join(LOCK);
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = opened.map_err(|error| StartError::io(&path, error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            // Who holds the lock has written its pid, unless it got the lock this very moment.
            let _ = file.read_to_string(&mut pid);
            let pid = if pid.trim().is_empty() { "unknown".to_owned() } else { pid.trim().to_owned() };
            return Err(StartError::Locked { directory: directory.to_owned(), pid });
        }
        Err(error) => return Err(StartError::io(&path, error.into())),
    }
    let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(|error| StartError::io(&path, error))?;
    Ok(file)
}

/// Where in a data directory the log is.
pub fn log_of(path: &Path) -> PathBuf {
    path.join(LOG)
}

/// The cluster that a directory belongs to; `None` when it belongs to none or does not exist.
pub fn cluster_of(path: &Path) -> Result<Option<String>, StartError> {
    Ok(read_marker(path)?.map(|marker| marker.cluster_id))
}

fn read_marker(directory: &Path) -> Result<Option<Marker>, StartError> {
    let file = directory.join(MARKER);
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StartError::io(&file, error)),
    };
    let marker: Marker = serde_json::from_slice(&text)
        .map_err(|error| StartError::Marker { file, reason: error.to_string() })?;
    if !(OLDEST_FORMAT..=FORMAT).contains(&marker.format) {
        return Err(StartError::Format {
            directory: directory.to_owned(),
            found: marker.format,
            supported: FORMAT,
        });
    }
    Ok(Some(marker))
}

/// Of a directory that belongs to nobody. What becomes part of a cluster that is there may lie beside a
/// directory of an older format, so it is marked with that one.
fn new_marker(cluster: Option<&str>) -> Marker {
    match cluster {
        Some(cluster) => Marker { format: OLDEST_FORMAT, cluster_id: cluster.to_owned(), begun: false },
        None => {
            let drawn = KafkaUuid::from_uuid(uuid::Uuid::new_v4()).to_string();
            Marker { format: FORMAT, cluster_id: drawn, begun: false }
        }
    }
}

/// The marker appears under its name only when all of it is on disk.
fn write_marker(directory: &Path, marker: Marker) -> Result<Marker, StartError> {
    let unfinished = directory.join(UNFINISHED_MARKER);
    let write = || -> io::Result<()> {
        let mut file = File::create(&unfinished)?;
        file.write_all(serde_json::to_string_pretty(&marker)?.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&unfinished, directory.join(MARKER))
    };
    write().map_err(|error| StartError::io(&unfinished, error))?;
    sync(directory)?;
    Ok(marker)
}

fn sync(directory: &Path) -> Result<(), StartError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| StartError::io(directory, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_cluster_id() {
        let dir = tempfile::tempdir().unwrap();
        let first = Directory::claim(dir.path()).unwrap().cluster_id;
        assert_eq!(first.len(), 22);
        assert_eq!(Directory::claim(dir.path()).unwrap().cluster_id, first);
    }

    #[test]
    fn a_directory_of_the_format_before_is_marked_as_this_builds_when_it_is_to_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let format = || read_marker(dir.path()).unwrap().unwrap().format;
        fs::write(dir.path().join(MARKER), r#"{"format": 2, "cluster_id": "kept"}"#).unwrap();
        fs::create_dir(dir.path().join(LOG)).unwrap();
        let mut claimed = Directory::claim(dir.path()).unwrap();
        assert_eq!((claimed.cluster_id.as_str(), format()), ("kept", 2));
        claimed.mark().unwrap();
        assert_eq!(format(), FORMAT);
    }

    #[test]
    fn a_new_mirror_of_an_older_directory_is_no_newer_than_it() {
        let dir = tempfile::tempdir().unwrap();
        drop(Directory::claim_for(dir.path(), Some("theirs")).unwrap());
        assert_eq!(read_marker(dir.path()).unwrap().unwrap().format, OLDEST_FORMAT);
    }

    #[test]
    fn a_held_directory_names_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let _held = Directory::claim(dir.path()).unwrap();
        let refused = Directory::claim(dir.path()).unwrap_err().to_string();
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        assert!(refused.contains(&dir.path().display().to_string()), "{refused}");
    }

    #[test]
    fn foreign_contents_are_named_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "precious").unwrap();
        let refused = Directory::claim(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("thesis.tex"), "{refused}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_first_start_that_was_cut_short_is_ours() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(UNFINISHED_MARKER), "{").unwrap();
        fs::create_dir(dir.path().join(LOG)).unwrap();
        Directory::claim(dir.path()).unwrap();
    }

    #[test]
    fn a_first_start_can_be_cut_short_at_any_step() {
        let dir = tempfile::tempdir().unwrap();
        let log = log_of(dir.path());
        fs::create_dir(&log).unwrap();
        let mut claimed = Directory::claim(dir.path()).unwrap();
        let cluster = claimed.cluster_id.clone();
        drop(claimed);
        claimed = Directory::claim(dir.path()).unwrap();
        fs::write(log.join(FileId::journal(1).name()), "").unwrap();
        drop(claimed);
        claimed = Directory::claim(dir.path()).unwrap();
        claimed.note_begun().unwrap();
        drop(claimed);
        assert_eq!(Directory::claim(dir.path()).unwrap().cluster_id, cluster);
    }

    #[test]
    fn a_directory_that_has_lost_its_log_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let journal = log_of(dir.path()).join(FileId::journal(1).name());
        let mut claimed = Directory::claim(dir.path()).unwrap();
        fs::write(&journal, "").unwrap();
        claimed.note_begun().unwrap();
        drop(claimed);
        fs::remove_file(journal).unwrap();
        let refused = || Directory::claim(dir.path()).unwrap_err().to_string();
        assert!(refused().contains("headwater restore"), "{}", refused());
        fs::remove_dir(log_of(dir.path())).unwrap();
        assert!(refused().contains("begin empty"), "{}", refused());
        assert!(!log_of(dir.path()).exists(), "a refused directory stays as it is");
        fs::remove_file(dir.path().join(MARKER)).unwrap();
        Directory::claim(dir.path()).unwrap();
    }

    #[test]
    fn a_log_without_a_marker_is_not_anybodys() {
        let dir = tempfile::tempdir().unwrap();
        drop(Directory::claim(dir.path()).unwrap());
        fs::write(log_of(dir.path()).join(FileId::journal(1).name()), "").unwrap();
        fs::remove_file(dir.path().join(MARKER)).unwrap();
        assert!(matches!(Directory::claim(dir.path()), Err(StartError::NoMarker { .. })));
        // One of two takes over whose it is from the other.
        Directory::claim_for(dir.path(), Some("theirs")).unwrap();
    }

    #[test]
    fn a_file_is_no_directory() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below")] {
            let refused = Directory::claim(&path).unwrap_err().to_string();
            assert!(refused.contains("no directory") && refused.contains("--data-dir DIR"), "{refused}");
        }
    }

    #[test]
    fn another_format_and_a_broken_marker_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(MARKER), r#"{"format": 9, "cluster_id": "x"}"#).unwrap();
        assert!(matches!(Directory::claim(dir.path()), Err(StartError::Format { found: 9, .. })));
        fs::write(dir.path().join(MARKER), "{").unwrap();
        assert!(matches!(Directory::claim(dir.path()), Err(StartError::Marker { .. })));
    }
}
