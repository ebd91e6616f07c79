//! A byte-wise editor of files that somebody else wrote; it knows names and sizes, no formats.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

/// Every file below a directory, by its name relative to it.
pub fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut left) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => left.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Files of one kind have names that differ in numbers only.
pub fn kind(name: &Path) -> String {
    let name = name.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut kind = String::new();
    for c in name.chars() {
        let c = if c.is_ascii_digit() { '#' } else { c };
        if c != '#' || !kind.ends_with('#') {
            kind.push(c);
        }
    }
    kind
}

pub fn by_kind(directory: &Path) -> Result<BTreeMap<String, Vec<PathBuf>>> {
    let mut kinds: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for file in files(directory)? {
        kinds.entry(kind(&file)).or_default().push(file);
    }
    Ok(kinds)
}

/// The files that hold the records, oldest first: those of the kind with the most bytes.
pub fn journals(directory: &Path) -> Result<Vec<PathBuf>> {
    let bytes = |files: &Vec<PathBuf>| files.iter().map(|file| data_end(file).unwrap_or(0)).sum::<u64>();
    let kinds = by_kind(directory)?;
    let files = kinds.into_values().max_by_key(bytes).context("an empty data directory")?;
    let changed = |file: &PathBuf| fs::metadata(file).and_then(|meta| meta.modified());
    let mut files: Vec<(SystemTime, PathBuf)> =
        files.into_iter().filter_map(|file| Some((changed(&file).ok()?, file))).collect();
    files.sort();
    // Files are numbered upwards; the clock decides only between kinds of numbering.
    let mut names: Vec<PathBuf> = files.into_iter().map(|(_, file)| file).collect();
    names.sort();
    Ok(names)
}

/// So many zeros at the end of a file are space that was taken ahead, fewer are data.
const ALLOCATED: u64 = 4096;
/// Data before such space may itself end with so many zeros.
const SLACK: u64 = 16;

/// Where the data of a file ends: at its end, or a little behind its last byte that is not zero.
pub fn data_end(file: &Path) -> Result<u64> {
    let bytes = fs::read(file).with_context(|| file.display().to_string())?;
    let (length, last) = (bytes.len() as u64, bytes.iter().rposition(|byte| *byte != 0));
    let end = last.map_or(0, |last| last as u64 + 1);
    Ok(if length - end < ALLOCATED { length } else { end + SLACK })
}

pub fn flip(file: &Path, bit: u64) -> Result<()> {
    let open = OpenOptions::new().read(true).write(true).open(file)?;
    let mut byte = [0];
    open.read_exact_at(&mut byte, bit / 8)?;
    byte[0] ^= 1 << (bit % 8);
    open.write_all_at(&byte, bit / 8)?;
    Ok(())
}

pub fn write_at(file: &Path, bytes: &[u8], position: u64) -> Result<()> {
    OpenOptions::new().write(true).open(file)?.write_all_at(bytes, position)?;
    Ok(())
}

pub fn truncate(file: &Path, length: u64) -> Result<()> {
    OpenOptions::new().write(true).open(file)?.set_len(length)?;
    Ok(())
}

/// Copies a directory as it is.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").args(["-a", "--sparse=always"]).arg(from).arg(to).status()?;
    if !status.success() {
        bail!("cp -a {} {}: {status}", from.display(), to.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_a_name_without_its_numbers() {
        assert_eq!(kind(Path::new("/a/00000001.wal")), kind(Path::new("/b/00042.wal")));
        assert_ne!(kind(Path::new("00000001.wal")), kind(Path::new("00000001.index")));
    }

    #[test]
    fn data_ends_before_space_that_was_taken_ahead() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), [1, 0, 2, 0, 0]).unwrap();
        assert_eq!(data_end(file.path()).unwrap(), 5);
        flip(file.path(), 17).unwrap();
        assert_eq!(fs::read(file.path()).unwrap(), [1, 0, 0, 0, 0]);
        truncate(file.path(), 1 << 20).unwrap();
        assert_eq!(data_end(file.path()).unwrap(), 1 + SLACK);
    }
}
