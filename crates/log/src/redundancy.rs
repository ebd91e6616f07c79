//! What a file has twice, found where one of the two is damaged. No I/O: bytes go in, patches come out.
//!
//! A frame whose header or directory is damaged can be read by what the frame behind it repeats, and a
//! control batch by the copy in its directory. Two damaged frames in a row, and the last frame of a file,
//! have no second copy.

use std::borrow::Cow;

use headwater_wire::BatchHeader;

use crate::frame::{self, Entry, FrameHeader, FrameOf, Line};
use crate::place::FileId;
use crate::planted::{self, Bug};
use crate::recovery::frames;

/// Bytes that belong at a place of a file and are not there.
#[derive(Debug, PartialEq, Eq)]
pub struct Patch {
    pub at: usize,
    pub bytes: Vec<u8>,
}

fn apply(patches: &[Patch], bytes: &mut [u8]) {
    for patch in patches {
        bytes[patch.at..patch.at + patch.bytes.len()].copy_from_slice(&patch.bytes);
    }
}

/// A file's bytes with headers and directories that were damaged put together again. They serve as the lost
/// ones did and are not the same bytes, so they are never written.
pub fn with_heads(bytes: &[u8], file: FileId, salt: u64) -> Cow<'_, [u8]> {
    let heads = heads(bytes, 0, file, salt);
    if heads.is_empty() {
        return Cow::Borrowed(bytes);
    }
    let mut bytes = bytes.to_vec();
    apply(&heads, &mut bytes);
    Cow::Owned(bytes)
}

/// As [`with_heads`], with damaged control batches that have a copy put back: the file as a start has it.
pub fn with_all(bytes: &[u8], file: FileId, salt: u64) -> Cow<'_, [u8]> {
    let mut bytes = with_heads(bytes, file, salt);
    let markers = markers(&bytes, 0, file, salt);
    if !markers.is_empty() {
        apply(&markers, bytes.to_mut());
    }
    bytes
}

/// The control batch that belongs at `position` and is not there as it was, if there is a copy.
pub fn marker_at(bytes: &[u8], position: usize, file: FileId, salt: u64) -> Option<Patch> {
    let bytes = with_heads(bytes, file, salt);
    markers(&bytes, 0, file, salt).into_iter().find(|marker| marker.at == position)
}

/// As [`with_heads`], in place, from `from` on. Returns what it changed.
pub fn restore_heads(bytes: &mut [u8], from: usize, file: FileId, salt: u64) -> Vec<Patch> {
    let heads = heads(bytes, from, file, salt);
    apply(&heads, bytes);
    heads
}

/// Puts control batches back that are damaged, byte by byte as they were. Returns what it changed.
pub fn restore_markers(bytes: &mut [u8], from: usize, file: FileId, salt: u64) -> Vec<Patch> {
    let markers = markers(bytes, from, file, salt);
    apply(&markers, bytes);
    markers
}

/// Headers and directories of frames that are not whole, by what the frames behind them repeat.
fn heads(bytes: &[u8], from: usize, file: FileId, salt: u64) -> Vec<Patch> {
    if planted::is(Bug::LoseDirectories) {
        return Vec::new();
    }
    let mut end = from;
    let mut heads = Vec::new();
    for (at, header) in frames(bytes, from, file, salt) {
        if at > end {
            heads.extend(before(bytes, end, at, &header, file));
        }
        end = at + header.len();
    }
    heads
}

/// The head of the frame before the one at `at`, if it fits behind `end`.
fn before(bytes: &[u8], end: usize, at: usize, header: &FrameHeader, file: FileId) -> Option<Patch> {
    let entries = frame::entries(&bytes[at..at + header.len()], header)?;
    let Some(Entry::Previous(previous)) = entries.last() else { return None };
    let start = at.checked_sub(previous.frame_len()?).filter(|start| *start >= end)?;
    let sequence = header.sequence.checked_sub(1)?;
    // What it knew to be on disk is not repeated; the frame behind it knows no less.
    let synced = header.synced.min(sequence.saturating_sub(1));
    let head = previous.head(FrameOf { file, salt: header.salt, sequence, synced })?;
    Some(Patch { at: start, bytes: head })
}

fn markers(bytes: &[u8], from: usize, file: FileId, salt: u64) -> Vec<Patch> {
    if planted::is(Bug::LoseDirectories) {
        return Vec::new();
    }
    let mut patches = Vec::new();
    for (at, header) in frames(bytes, from, file, salt) {
        let frame = &bytes[at..at + header.len()];
        // Copies follow their run in the order of its batches.
        let mut of_run = Vec::new().into_iter();
        for entry in frame::entries(frame, &header).unwrap_or_default() {
            match entry {
                Entry::Run { lines, .. } => of_run = lines.into_iter(),
                Entry::Copy(copy) => {
                    let Ok(marker) = BatchHeader::read(copy) else { continue };
                    let line = of_run.find(|line: &Line| line.base_offset == marker.base_offset);
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
