//! What a file has twice, found where one of the two is damaged. No I/O: bytes go in, patches come out.
//!
//! A frame whose header or directory is damaged can be read by what the frame behind it repeats, and so can two
//! small ones before that, and a control batch by the copy in its directory. The last frame of a file has no
//! second copy, nor has the first of four damaged ones in a row.

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

/// The copy of the control batch that belongs at `at` of a frame; `head` is the frame's, the body need not be there.
pub fn marker_in(head: &[u8], file: FileId, at: usize) -> Option<Vec<u8>> {
    if planted::is(Bug::LoseDirectories) {
        return None;
    }
    let header = FrameHeader::parse(head, file)?;
    let copies = copies(frame::entries(head, &header)?);
    copies.into_iter().find(|(line, _)| line.at == at).map(|(_, copy)| copy.to_vec())
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
            let behind = Found { at: at as u64, head: Cow::Borrowed(&bytes[at..at + header.len()]) };
            let found = before(behind, end as u64, file);
            heads.extend(found.map(|found| Patch { at: found.at as usize, bytes: found.head.into_owned() }));
        }
        end = at + header.len();
    }
    heads
}

/// A frame's head, and where it begins in its file. What is behind the head need not be there.
pub struct Found<'a> {
    pub at: u64,
    pub head: Cow<'a, [u8]>,
}

/// The heads of the frames before one, as far as it repeats them and they fit behind `end`; the last one first.
pub fn before(behind: Found<'_>, end: u64, file: FileId) -> impl Iterator<Item = Found<'static>> {
    let first = one_before(&behind, end, file);
    std::iter::successors(first, move |behind| one_before(behind, end, file))
}

fn one_before(behind: &Found<'_>, end: u64, file: FileId) -> Option<Found<'static>> {
    let header = FrameHeader::parse(&behind.head, file)?;
    let entries = frame::entries(&behind.head, &header)?;
    let Some(Entry::Previous(previous)) = entries.last() else { return None };
    let at = behind.at.checked_sub(previous.frame_len()? as u64).filter(|at| *at >= end)?;
    let sequence = header.sequence.checked_sub(1)?;
    // What it knew to be on disk is not repeated; the frame behind it knows no less.
    let synced = header.synced.min(sequence.saturating_sub(1));
    let head = previous.head(FrameOf { file, salt: header.salt, sequence, synced })?;
    Some(Found { at, head: Cow::Owned(head) })
}

/// The control batches that a directory repeats, with their lines.
fn copies(entries: Vec<Entry<'_>>) -> Vec<(Line, &[u8])> {
    let mut found = Vec::new();
    // Copies follow their run in the order of its batches.
    let mut of_run = Vec::new().into_iter();
    for entry in entries {
        match entry {
            Entry::Run { lines, .. } => of_run = lines.into_iter(),
            Entry::Copy(copy) => {
                let Ok(marker) = BatchHeader::read(copy) else { continue };
                let line = of_run.find(|line: &Line| line.base_offset == marker.base_offset);
                let is_whole = |line: &Line| {
                    line.size as usize == copy.len() && line.crc == marker.crc && marker.verify(copy).is_ok()
                };
                found.extend(line.filter(is_whole).map(|line| (line, copy)));
            }
            _ => {}
        }
    }
    found
}

fn markers(bytes: &[u8], from: usize, file: FileId, salt: u64) -> Vec<Patch> {
    if planted::is(Bug::LoseDirectories) {
        return Vec::new();
    }
    let mut patches = Vec::new();
    for (at, header) in frames(bytes, from, file, salt) {
        let frame = &bytes[at..at + header.len()];
        let copies = copies(frame::entries(frame, &header).unwrap_or_default()).into_iter();
        let damaged = copies.filter(|(line, _)| line.check(frame, 0).is_none());
        patches.extend(damaged.map(|(line, copy)| Patch { at: at + line.at, bytes: copy.to_vec() }));
    }
    patches
}
