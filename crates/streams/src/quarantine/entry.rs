//! How held records are kept in their store and its changelog.
//!
//! ```text
//! key    00 | sequence u64                          a record without a key
//!        01 | length u32 | key | sequence u64       one with a key
//!        02                                         the version that was deployed last
//! value  00 | version, UTF-8
//!        01 | topic | partition i32 | offset i64 | timestamp i64 | key | value | node | message
//!           | header count u32 | (name | value)*
//! ```
//! Integers are big endian. Texts and bytes have their length before them as i32; null has -1. The sequence counts what
//! a task has ever held, so that it is the order in which a key's records came. Node and message are null but for a record that failed.

use std::sync::Arc;

use headwater_model::{Bytes, Header, Record};

use super::Failure;
use crate::serdes::{Serde, SerdeError, SerdeRef};

/// What each record takes beside its bytes.
const OVERHEAD: u64 = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub topic: String,
    pub partition: i32,
    pub record: Record,
    /// `None`: it waits for one before it.
    pub failure: Option<Failure>,
}

impl Held {
    pub fn bytes(&self) -> u64 {
        let of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.record.headers.iter().map(|h| h.key.len() + of(&h.value)).sum();
        (of(&self.record.key) + of(&self.record.value) + headers) as u64 + OVERHEAD
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    Version(String),
    Held(Box<Held>),
}

pub(crate) const VERSION_KEY: &[u8] = &[2];

pub(crate) fn store_key(key: Option<&Bytes>, sequence: u64) -> Bytes {
    let mut bytes = Vec::with_capacity(13 + key.map_or(0, Bytes::len));
    match key {
        None => bytes.push(0),
        Some(key) => {
            bytes.push(1);
            bytes.extend_from_slice(&(key.len() as u32).to_be_bytes());
            bytes.extend_from_slice(key);
        }
    }
    bytes.extend_from_slice(&sequence.to_be_bytes());
    Bytes::from(bytes)
}

/// The sequence of an entry; `None` of what is no held record's.
pub(crate) fn sequence(store_key: &[u8]) -> Option<u64> {
    if store_key == VERSION_KEY {
        return None;
    }
    store_key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}

pub(crate) struct EntrySerde;

pub(crate) fn serde() -> SerdeRef<Entry> {
    Arc::new(EntrySerde)
}

pub(crate) fn put(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
        Some(bytes) => {
            out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
            out.extend_from_slice(bytes);
        }
    }
}

impl Serde<Entry> for EntrySerde {
    fn serialize(&self, _topic: &str, entry: &Entry) -> Result<Bytes, SerdeError> {
        let held = match entry {
            Entry::Version(version) => return Ok(Bytes::from([&[0], version.as_bytes()].concat())),
            Entry::Held(held) => held,
        };
        let record = &held.record;
        let mut out = vec![1];
        put(&mut out, Some(held.topic.as_bytes()));
        out.extend_from_slice(&held.partition.to_be_bytes());
        out.extend_from_slice(&record.offset.to_be_bytes());
        out.extend_from_slice(&record.timestamp.to_be_bytes());
        put(&mut out, record.key.as_deref());
        put(&mut out, record.value.as_deref());
        put(&mut out, held.failure.as_ref().map(|failure| failure.node.as_bytes()));
        put(&mut out, held.failure.as_ref().map(|failure| failure.message.as_bytes()));
        out.extend_from_slice(&(record.headers.len() as u32).to_be_bytes());
        for header in &record.headers {
            put(&mut out, Some(header.key.as_bytes()));
            put(&mut out, header.value.as_deref());
        }
        Ok(Bytes::from(out))
    }

    fn deserialize(&self, _topic: &str, bytes: &Bytes) -> Result<Entry, SerdeError> {
        let wrong = || SerdeError::new("no entry of a quarantine: cut short, or of a later version");
        let mut reader = Reader { bytes, at: 1 };
        match bytes.first() {
            Some(0) => Ok(Entry::Version(String::from_utf8_lossy(&bytes[1..]).into_owned())),
            Some(1) => reader.held().map(|held| Entry::Held(Box::new(held))).ok_or_else(wrong),
            _ => Err(wrong()),
        }
    }
}

/// What is written in that way, read piece by piece.
pub(crate) struct Reader<'a> {
    pub bytes: &'a Bytes,
    pub at: usize,
}

impl Reader<'_> {
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let found = self.bytes.get(self.at..)?.first_chunk::<N>()?;
        self.at += N;
        Some(*found)
    }

    /// `Some(None)` is null.
    pub fn bytes(&mut self) -> Option<Option<Bytes>> {
        let length = i32::from_be_bytes(self.array()?);
        let Ok(length) = usize::try_from(length) else { return Some(None) };
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let found = self.bytes.slice(self.at..end);
        self.at = end;
        Some(Some(found))
    }

    fn text(&mut self) -> Option<Option<String>> {
        Some(self.bytes()?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn held(&mut self) -> Option<Held> {
        let topic = self.text()??;
        let partition = i32::from_be_bytes(self.array()?);
        let offset = i64::from_be_bytes(self.array()?);
        let timestamp = i64::from_be_bytes(self.array()?);
        let (key, value) = (self.bytes()?, self.bytes()?);
        let (node, message) = (self.text()?, self.text()?);
        let count = u32::from_be_bytes(self.array()?);
        let header = |reader: &mut Self| Some(Header { key: reader.text()??, value: reader.bytes()? });
        let headers = (0..count).map(|_| header(self)).collect::<Option<Vec<_>>>()?;
        let failure = node.map(|node| Failure { node, message: message.unwrap_or_default() });
        Some(Held { topic, partition, record: Record { offset, timestamp, key, value, headers }, failure })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_cut_ones_are_refused() {
        let header = |value: Option<&'static [u8]>| Header {
            key: "h".to_owned(),
            value: value.map(Bytes::from_static),
        };
        let record = Record {
            offset: 7,
            timestamp: -3,
            key: None,
            value: Some(Bytes::from_static(b"")),
            headers: vec![header(None), header(Some(b"\xff"))],
        };
        let failure = Some(Failure { node: "parse".to_owned(), message: String::new() });
        let held = Entry::Held(Box::new(Held { topic: "t".to_owned(), partition: 2, record, failure }));
        for entry in [held, Entry::Version("v".to_owned())] {
            let bytes = EntrySerde.serialize("", &entry).unwrap();
            assert_eq!(EntrySerde.deserialize("", &bytes).unwrap(), entry);
            let shorter = bytes.slice(..bytes.len() - 1);
            assert!(EntrySerde.deserialize("", &shorter).is_ok_and(|e| e != entry) || bytes[0] == 1);
            assert!(bytes[0] == 0 || EntrySerde.deserialize("", &shorter).is_err());
        }
    }

    #[test]
    fn the_entries_of_a_key_are_together_in_their_order() {
        let (a, ab) = (Bytes::from_static(b"a"), Bytes::from_static(b"ab"));
        let mut keys = [
            store_key(Some(&ab), 0),
            store_key(Some(&a), 300),
            store_key(None, 9),
            store_key(Some(&a), 2),
            Bytes::from_static(VERSION_KEY),
        ];
        keys.sort();
        let sequences: Vec<_> = keys.iter().map(|key| sequence(key)).collect();
        assert_eq!(sequences, [Some(9), Some(2), Some(300), Some(0), None]);
    }
}
