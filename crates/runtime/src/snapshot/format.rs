//! The bytes of a snapshot: docs/streams-state.md, "Snapshots".
//!
//! Eight bytes that say what it is, then blocks: `kind u8 | raw length u32 | length u32 | CRC-32C u32`, numbers big-endian,
//! and so many bytes of Zstandard, of which the checksum is. The first block is the header, the last one the trailer,
//! both JSON; those between hold entries as the store has them: `key length u32 | value length u32 | key | value`.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use headwater_model::{Offset, TimestampMs};
use serde::{Deserialize, Serialize};

use crate::state::Entry;

const MAGIC: &[u8; 8] = b"HWSTATE1";
const PREFIX: usize = 13;
/// A block is closed when it has so many bytes of entries.
const BLOCK: usize = 1 << 20;
/// No block is longer, whatever it says: one entry of the largest record that Kafka takes by far.
const LONGEST: usize = 256 << 20;
const LEVEL: i32 = 1;
/// Of the entries: keys of stores, and what is in them, as this version lays them out.
pub(super) const LAYOUT: u32 = 1;

const HEADER: u8 = b'h';
const ENTRIES: u8 = b'e';
const TRAILER: u8 = b't';

/// What a snapshot is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub application_id: String,
    pub store: String,
    pub layout: u32,
    pub changelog: String,
    pub partition: i32,
    /// In hexadecimal digits.
    pub topic_id: String,
    pub position: Offset,
    pub taken_at: TimestampMs,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Trailer {
    entries: u64,
}

/// Why bytes are not a snapshot, or not the one that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unusable(pub String);

fn unusable<T>(what: impl Into<String>) -> Result<T, Unusable> {
    Err(Unusable(what.into()))
}

/// Makes a snapshot, block by block.
pub(super) struct Writer {
    raw: Vec<u8>,
    entries: u64,
}

impl Writer {
    /// Also returns how it begins.
    pub fn begin(header: &Header) -> Result<(Self, Bytes), Unusable> {
        let mut out = BytesMut::from(&MAGIC[..]);
        out.extend_from_slice(&block(HEADER, &json(header)?)?);
        Ok((Self { raw: Vec::with_capacity(BLOCK + BLOCK / 4), entries: 0 }, out.freeze()))
    }

    /// Returns a block whenever one is full.
    pub fn entry(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Bytes>, Unusable> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).or_else(|_| unusable("an entry is too long"));
        self.raw.put_u32(length(key)?);
        self.raw.put_u32(length(value)?);
        self.raw.put_slice(key);
        self.raw.put_slice(value);
        self.entries += 1;
        if self.raw.len() < BLOCK {
            return Ok(None);
        }
        let full = block(ENTRIES, &self.raw)?;
        self.raw.clear();
        Ok(Some(full))
    }

    /// Returns how it ends, and how many entries it has.
    pub fn end(self) -> Result<(Bytes, u64), Unusable> {
        let mut out = BytesMut::new();
        if !self.raw.is_empty() {
            out.extend_from_slice(&block(ENTRIES, &self.raw)?);
        }
        out.extend_from_slice(&block(TRAILER, &json(&Trailer { entries: self.entries })?)?);
        Ok((out.freeze(), self.entries))
    }
}

fn json(of: &impl Serialize) -> Result<Vec<u8>, Unusable> {
    serde_json::to_vec(of).or_else(|error| unusable(error.to_string()))
}

fn block(kind: u8, raw: &[u8]) -> Result<Bytes, Unusable> {
    if raw.len() > LONGEST {
        return unusable("an entry is too long");
    }
    let packed = zstd::bulk::compress(raw, LEVEL).or_else(|error| unusable(error.to_string()))?;
    let mut out = BytesMut::with_capacity(PREFIX + packed.len());
    out.put_u8(kind);
    // Both are below LONGEST, or little above it.
    out.put_u32(raw.len() as u32);
    out.put_u32(packed.len() as u32);
    out.put_u32(crc32c::crc32c(&packed));
    out.put_slice(&packed);
    Ok(out.freeze())
}

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Header(Header),
    Entries(Vec<Entry>),
    End,
}

/// Reads a snapshot whose bytes come in any portions. Nothing of a block is handed out before its checksum is right.
#[derive(Default)]
pub(super) struct Reader {
    buffer: BytesMut,
    began: bool,
    headed: bool,
    entries: u64,
    ended: bool,
}

impl Reader {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// `None` until more bytes have come.
    pub fn next(&mut self) -> Result<Option<Piece>, Unusable> {
        if !self.began {
            if self.buffer.len() < MAGIC.len() {
                return Ok(None);
            }
            if self.buffer.split_to(MAGIC.len())[..] != MAGIC[..] {
                return unusable("it does not begin as a snapshot does, or a newer version wrote it");
            }
            self.began = true;
        }
        let Some((kind, raw)) = self.block()? else { return Ok(None) };
        match kind {
            _ if self.ended => unusable("it goes on behind its end"),
            HEADER if !self.headed => {
                self.headed = true;
                parse(&raw).map(|header| Some(Piece::Header(header)))
            }
            ENTRIES if self.headed => {
                let entries = entries(raw)?;
                self.entries += entries.len() as u64;
                Ok(Some(Piece::Entries(entries)))
            }
            TRAILER if self.headed => {
                let Trailer { entries } = parse(&raw)?;
                if entries != self.entries {
                    return unusable(format!("{} of its {entries} entries are there", self.entries));
                }
                self.ended = true;
                Ok(Some(Piece::End))
            }
            _ => unusable("its blocks are not in their order"),
        }
    }

    /// Asked when no bytes are left.
    pub fn is_whole(&self) -> bool {
        self.ended && self.buffer.is_empty()
    }

    fn block(&mut self) -> Result<Option<(u8, Bytes)>, Unusable> {
        let Some(mut prefix) = self.buffer.get(..PREFIX) else { return Ok(None) };
        let kind = prefix.get_u8();
        let (raw, packed, crc) = (prefix.get_u32() as usize, prefix.get_u32() as usize, prefix.get_u32());
        if raw > LONGEST || packed > LONGEST + LONGEST / 8 {
            return unusable(format!("a block says that it has {raw} bytes"));
        }
        if self.buffer.len() < PREFIX + packed {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        let packed = self.buffer.split_to(packed);
        if crc32c::crc32c(&packed) != crc {
            return unusable("a block's checksum is wrong");
        }
        let unpacked = zstd::bulk::decompress(&packed, raw).or_else(|error| unusable(error.to_string()))?;
        match unpacked.len() == raw {
            true => Ok(Some((kind, Bytes::from(unpacked)))),
            false => unusable("a block is shorter than it says"),
        }
    }
}

fn parse<'a, T: Deserialize<'a>>(raw: &'a [u8]) -> Result<T, Unusable> {
    serde_json::from_slice(raw).or_else(|error| unusable(error.to_string()))
}

fn entries(mut raw: Bytes) -> Result<Vec<Entry>, Unusable> {
    let mut found = Vec::new();
    while !raw.is_empty() {
        if raw.len() < 8 {
            return unusable("an entry is cut off");
        }
        let (key, value) = (raw.get_u32() as usize, raw.get_u32() as usize);
        if raw.len() < key.saturating_add(value) {
            return unusable("an entry is cut off");
        }
        let key = raw.split_to(key);
        found.push((key, Some(raw.split_to(value))));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            application_id: "app".to_owned(),
            store: "counts".to_owned(),
            layout: LAYOUT,
            changelog: "app-counts-changelog".to_owned(),
            partition: 3,
            topic_id: "00".repeat(16),
            position: 42,
            taken_at: 7,
        }
    }

    fn entry(number: u32) -> (Vec<u8>, Vec<u8>) {
        (number.to_be_bytes().to_vec(), vec![number as u8; number as usize % 300])
    }

    fn snapshot(count: u32) -> Vec<u8> {
        let (mut writer, mut bytes) = Writer::begin(&header()).map(|(w, b)| (w, b.to_vec())).unwrap();
        for (key, value) in (0..count).map(entry) {
            bytes.extend(writer.entry(&key, &value).unwrap().unwrap_or_default());
        }
        let (end, entries) = writer.end().unwrap();
        assert_eq!(entries, u64::from(count));
        bytes.extend(end);
        bytes
    }

    /// The entries of a snapshot that comes in portions of `step` bytes.
    fn read(bytes: &[u8], step: usize) -> Result<Vec<Entry>, Unusable> {
        let (mut reader, mut found, mut headers) = (Reader::default(), Vec::new(), 0);
        for portion in bytes.chunks(step) {
            reader.push(portion);
            while let Some(piece) = reader.next()? {
                match piece {
                    Piece::Header(read) => {
                        assert_eq!(read, header());
                        headers += 1;
                    }
                    Piece::Entries(entries) => found.extend(entries),
                    Piece::End => {}
                }
            }
        }
        match reader.is_whole() && headers == 1 {
            true => Ok(found),
            false => unusable("it ends early"),
        }
    }

    #[test]
    fn what_was_written_is_read_in_whatever_portions_it_comes() {
        for count in [0, 1, 20_000] {
            let bytes = snapshot(count);
            let expected: Vec<Entry> =
                (0..count).map(entry).map(|(k, v)| (Bytes::from(k), Some(Bytes::from(v)))).collect();
            for step in [1 << 10, 100_003, bytes.len()] {
                assert_eq!(read(&bytes, step).unwrap(), expected);
            }
        }
    }

    #[test]
    fn a_flipped_bit_or_a_lost_end_anywhere_is_noticed() {
        let bytes = snapshot(300);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(read(&damaged, bytes.len()).is_err(), "a bit of byte {at}");
            assert!(read(&bytes[..at], bytes.len()).is_err(), "cut off at {at}");
        }
        assert!(read(&[&bytes[..], &bytes[8..]].concat(), bytes.len()).is_err());
    }
}
