//! What two copies of a file have to give each other. No I/O: bytes go in, patches come out.
//!
//! Both were written by the same stream of frames, so where one has a frame of the file, whole by its
//! checksum, that is what belongs there on both; and where a frame's directory says what a batch looks like,
//! the copy that matches is right. What neither copy can prove is left as it is on both.

use std::collections::BTreeMap;

use crate::frame::{self, Entry, FrameHeader};
use crate::place::FileId;
use crate::planted::{self, Bug};
use crate::recovery;

/// Bytes that one copy takes from the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patch {
    pub to: usize,
    pub at: usize,
    pub length: usize,
}

/// The patches that make both copies as good as they can be.
pub fn patches(copies: [&[u8]; 2], file: FileId) -> Vec<Patch> {
    if planted::is(Bug::CopyUnlooked) {
        return vec![Patch { to: 1, at: 0, length: copies[0].len() }];
    }
    let mut found = Vec::new();
    for (at, header) in together(copies, file) {
        let Some(from) = header.iter().position(Option::is_some) else { continue };
        let Some(known) = header[from] else { continue };
        let lacks = |side: usize| header[side].is_none();
        if let Some(to) = (0..2).find(|side| lacks(*side)) {
            found.push(Patch { to, at, length: known.body_at() });
        }
        found.extend(batches(copies, from, at, &known));
    }
    found
}

/// Where whole frames begin in either copy, without those that cannot both be true.
fn together(copies: [&[u8]; 2], file: FileId) -> BTreeMap<usize, [Option<FrameHeader>; 2]> {
    let mut all: BTreeMap<usize, [Option<FrameHeader>; 2]> = BTreeMap::new();
    let first = copies.iter().filter_map(|bytes| frame::first(bytes, file)).min_by_key(|(at, _)| *at);
    let Some((_, first)) = first else { return all };
    for (side, bytes) in copies.iter().enumerate() {
        for (at, header) in recovery::frames(bytes, 0, file, first.salt) {
            all.entry(at).or_default()[side] = Some(header);
        }
    }
    let conflict = |headers: &[Option<FrameHeader>; 2]| matches!(headers, [Some(a), Some(b)] if a != b);
    let mut end = 0;
    all.retain(|at, headers| {
        let length = headers.iter().flatten().map(FrameHeader::len).max().unwrap_or(0);
        let fits = *at >= end && !conflict(headers);
        end = end.max(at + length);
        fits
    });
    all
}

fn batches(copies: [&[u8]; 2], from: usize, at: usize, header: &FrameHeader) -> Vec<Patch> {
    let of = |side: usize| {
        let end = copies[side].len().min(at + header.len());
        copies[side].get(at..end).unwrap_or_default()
    };
    let mut found = Vec::new();
    for entry in frame::entries(of(from), header).unwrap_or_default() {
        let Entry::Run { lines, .. } = entry else { continue };
        for line in lines {
            let good = [0, 1].map(|side| line.check(of(side), at as u64).is_some());
            if good[0] != good[1] {
                let to = usize::from(good[0]);
                found.push(Patch { to, at: at + line.at, length: line.size as usize });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use headwater_wire::{BatchBuilder, BatchHeader, Compression};

    use super::*;
    use crate::PartitionId;
    use crate::frame::{Directory, FrameOf, put_batch};

    const FILE: u64 = 3;

    fn file_of(batches: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for sequence in 0..batches as u64 {
            let mut builder = BatchBuilder::new();
            builder.push(0, None, Some(format!("value {sequence}").as_bytes()), &[]);
            let bytes = builder.build(Compression::None, None, false).unwrap();
            let mut header = BatchHeader::read(&bytes).unwrap();
            header.base_offset = sequence as i64;
            let mut directory = Directory::default();
            directory.run(PartitionId { topic_id: [1; 16], partition: 0 }, [header].iter());
            let of = FrameOf { file: FileId::journal(FILE), salt: 7, sequence, synced: sequence };
            directory.write(of, &mut out);
            put_batch(&mut out, &bytes, sequence as i64);
        }
        out
    }

    fn healed(mut copies: [Vec<u8>; 2]) -> [Vec<u8>; 2] {
        for patch in patches([&copies[0], &copies[1]], FileId::journal(FILE)) {
            let from = copies[1 - patch.to][patch.at..patch.at + patch.length].to_vec();
            let to = &mut copies[patch.to];
            to.resize(to.len().max(patch.at + patch.length), 0);
            to[patch.at..patch.at + patch.length].copy_from_slice(&from);
        }
        copies
    }

    #[test]
    fn any_flipped_bit_of_either_copy_is_taken_from_the_other() {
        let whole = file_of(3);
        for bit in 0..whole.len() * 8 {
            for side in 0..2 {
                let mut copies = [whole.clone(), whole.clone()];
                copies[side][bit / 8] ^= 1 << (bit % 8);
                assert_eq!(healed(copies), [whole.clone(), whole.clone()], "bit {bit} of copy {side}");
            }
        }
    }

    #[test]
    fn a_copy_that_ends_early_is_completed() {
        let whole = file_of(3);
        for length in 0..whole.len() {
            assert_eq!(healed([whole[..length].to_vec(), whole.clone()])[0], whole, "cut at {length}");
        }
    }

    #[test]
    fn what_is_damaged_in_both_copies_is_left_alone() {
        let whole = file_of(2);
        let mut damaged = whole.clone();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        let copies = [damaged.clone(), damaged.clone()];
        assert!(patches([&copies[0], &copies[1]], FileId::journal(FILE)).is_empty());
        assert_eq!(healed([damaged, whole.clone()])[0], whole);
    }
}
