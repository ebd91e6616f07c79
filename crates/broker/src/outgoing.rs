//! A response on its way: its bytes, and the parts of the log's files that belong between them.
//!
//! Records are never in here: a response to Fetch names where they are, and they are sent from there.
//!
//! Invariant: the length in front counts both.

use crate::mirror::LogFile;
use bytes::{BufMut, BytesMut};
use headwater_log::FileRange;

/// The length and the correlation id.
const HEAD: usize = 8;
const LENGTH: usize = 4;

#[derive(Default)]
pub struct Outgoing {
    bytes: BytesMut,
    ranges: Vec<FileRange<LogFile>>,
    /// In their order.
    places: Vec<Place>,
}

/// Ranges up to `ranges`, from those of the place before on, come before the byte at `at`.
struct Place {
    at: usize,
    ranges: usize,
}

/// What is sent next.
pub enum Part<'a> {
    Bytes(&'a [u8]),
    Files(&'a [FileRange<LogFile>]),
}

impl Outgoing {
    /// A response with room for `body` bytes; `tagged` headers end with their tagged fields (KIP-482).
    pub fn begin(correlation_id: i32, tagged: bool, body: usize) -> Self {
        let mut bytes = BytesMut::with_capacity(HEAD + 1 + body);
        bytes.put_i32(0);
        bytes.put_i32(correlation_id);
        if tagged {
            bytes.put_u8(0);
        }
        Self { bytes, ..Self::default() }
    }

    /// A token of SASL without a response around it.
    pub fn raw(token: &[u8]) -> Self {
        let mut bytes = BytesMut::with_capacity(LENGTH + token.len());
        bytes.put_i32(0);
        bytes.put_slice(token);
        Self { bytes, ..Self::default() }
    }

    pub fn bytes_mut(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// What is written after this comes after it.
    pub fn insert(&mut self, range: FileRange<LogFile>) {
        self.ranges.push(range);
        let (at, ranges) = (self.bytes.len(), self.ranges.len());
        match self.places.last_mut() {
            Some(last) if last.at == at => last.ranges = ranges,
            _ => self.places.push(Place { at, ranges }),
        }
    }

    /// Writes the length; `None` when it is more than a frame can have.
    pub fn seal(mut self) -> Option<Self> {
        let files: usize = self.ranges.iter().map(|range| range.length).sum();
        let length = i32::try_from(self.bytes.len() - LENGTH + files).ok()?;
        self.bytes[..LENGTH].copy_from_slice(&length.to_be_bytes());
        Some(self)
    }

    /// What it takes in memory until it is sent.
    pub fn in_memory(&self) -> usize {
        self.bytes.len() + self.ranges.len() * size_of::<FileRange<LogFile>>()
    }

    /// All of it, when it has no part in a file.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        self.ranges.is_empty().then_some(&self.bytes[..])
    }

    pub fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let (mut at, mut ranges) = (0, 0);
        let before = self.places.iter().flat_map(move |place| {
            let bytes = &self.bytes[at..place.at];
            let files = &self.ranges[ranges..place.ranges];
            (at, ranges) = (place.at, place.ranges);
            [Part::Bytes(bytes), Part::Files(files)]
        });
        let last = self.places.last().map_or(0, |place| place.at);
        before.chain([Part::Bytes(&self.bytes[last..])])
    }
}

/// What a client would get.
#[cfg(test)]
pub fn gather(outgoing: &Outgoing) -> Vec<u8> {
    use headwater_log::DiskFile;
    let mut gathered = Vec::new();
    for part in outgoing.parts() {
        match part {
            Part::Bytes(bytes) => gathered.extend_from_slice(bytes),
            Part::Files(ranges) => {
                for range in ranges {
                    let mut read = vec![0; range.length];
                    range.file.read_exact_at(&mut read, range.position).expect("the file has it");
                    gathered.extend(read);
                }
            }
        }
    }
    gathered
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn parts_come_in_order_and_the_length_counts_them_all() {
        let file = crate::mirror::file_of(b"0123456789");
        let range = |position, length| FileRange {
            id: headwater_log::FileId::journal(1),
            file: Arc::clone(&file),
            position,
            length,
        };
        let mut outgoing = Outgoing::begin(7, true, 0);
        outgoing.bytes_mut().put_slice(b"ab");
        outgoing.insert(range(2, 3));
        outgoing.insert(range(8, 1));
        outgoing.bytes_mut().put_slice(b"c");
        outgoing.insert(range(0, 1));
        let outgoing = outgoing.seal().unwrap();
        assert_eq!(gather(&outgoing), b"\0\0\0\x0d\0\0\0\x07\0ab2348c0");
        assert!(outgoing.as_bytes().is_none());
    }
}
