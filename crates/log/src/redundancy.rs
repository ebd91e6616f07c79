//! What a file has twice, put back where one of the two is damaged. No I/O: bytes go in, patches come out.
//!
//! A frame whose header or directory is damaged stands again by what the frame behind it repeats, and a
//! control batch by the copy in its directory. Two damaged frames in a row, and the last frame of a file,
//! have no second copy.

use headwater_wire::BatchHeader;

use crate::frame::{self, Entry, FrameHeader};
use crate::place::FileId;
use crate::planted::{self, Bug};
use crate::recovery::frames;

/// Bytes that belong at a place of a file and are not there.
#[derive(Debug, PartialEq, Eq)]
pub struct Patch {
    pub at: usize,
    pub bytes: Vec<u8>,
}

impl Patch {
    fn apply(&self, bytes: &mut [u8]) {
        bytes[self.at..self.at + self.bytes.len()].copy_from_slice(&self.bytes);
    }
}

/// Puts back what `bytes`, a file's from its beginning, have a second copy of. Returns what it changed.
pub fn restore(bytes: &mut [u8], from: usize, file: FileId) -> Vec<Patch> {
    if planted::is(Bug::LoseDirectories) {
        return Vec::new();
    }
    let mut patches = heads(bytes, from, file);
    patches.iter().for_each(|patch| patch.apply(bytes));
    let markers = markers(bytes, from, file);
    markers.iter().for_each(|patch| patch.apply(bytes));
    patches.extend(markers);
    patches
}

/// Headers and directories of frames that are not whole, by what the frames behind them repeat.
fn heads(bytes: &[u8], from: usize, file: FileId) -> Vec<Patch> {
    let mut end = from;
    let mut patches = Vec::new();
    for (at, header) in frames(bytes, from, file) {
        if at > end {
            patches.extend(before(bytes, end, at, &header, file));
        }
        end = at + header.len();
    }
    patches
}

/// The head of the frame before the one at `at`, if it fits behind `end`.
fn before(bytes: &[u8], end: usize, at: usize, header: &FrameHeader, file: FileId) -> Option<Patch> {
    let entries = frame::entries(&bytes[at..at + header.len()], header)?;
    let Some(Entry::Previous(previous)) = entries.last() else { return None };
    let start = at.checked_sub(previous.frame_len()?).filter(|start| *start >= end)?;
    let sequence = header.sequence.checked_sub(1)?;
    let head = previous.head(file, sequence, header.synced.min(sequence.saturating_sub(1)))?;
    Some(Patch { at: start, bytes: head })
}

fn markers(bytes: &[u8], from: usize, file: FileId) -> Vec<Patch> {
    let mut patches = Vec::new();
    for (at, header) in frames(bytes, from, file) {
        let frame = &bytes[at..at + header.len()];
        let mut of_run = Vec::new();
        for entry in frame::entries(frame, &header).unwrap_or_default() {
            match entry {
                Entry::Run { lines, .. } => of_run = lines,
                Entry::Copy(copy) => {
                    let Ok(marker) = BatchHeader::read(copy) else { continue };
                    let line = of_run.iter().find(|line| line.base_offset == marker.base_offset);
                    let damaged = line.filter(|line| {
                        line.check(frame, 0).is_none()
                            && line.size as usize == copy.len()
                            && line.crc == marker.crc
                            && marker.verify(copy).is_ok()
                    });
                    patches.extend(damaged.map(|line| Patch { at: at + line.at, bytes: copy.to_vec() }));
                }
                _ => {}
            }
        }
    }
    patches
}
