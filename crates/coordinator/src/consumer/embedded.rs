//! The bytes inside the classic protocol: `ConsumerProtocolSubscription` and `ConsumerProtocolAssignment`, v0 to v3.
//!
//! ```text
//! subscription  version:i16 topics:[string] user_data:bytes
//!               v1: owned:[topic:string partitions:[i32]]  v2: generation:i32  v3: rack:nullable string
//! assignment    version:i16 assigned:[topic:string partitions:[i32]] user_data:bytes
//! ```
//! Lengths are big-endian and −1 is null. Nothing is believed beyond the bytes that are there.

use bytes::{BufMut, Bytes, BytesMut};

const NEWEST: i16 = 3;

/// What a classic consumer asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Subscription {
    pub version: i16,
    pub topics: Vec<String>,
    pub owned: Vec<(String, Vec<i32>)>,
    pub rack: Option<String>,
}

/// What a classic leader gave to a member.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Assignment {
    pub partitions: Vec<(String, Vec<i32>)>,
    pub has_user_data: bool,
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn i16(&mut self) -> Option<i16> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i16::from_be_bytes(*bytes))
    }

    fn i32(&mut self) -> Option<i32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i32::from_be_bytes(*bytes))
    }

    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn string(&mut self) -> Option<String> {
        let length = usize::try_from(self.i16()?).ok()?;
        Some(std::str::from_utf8(self.take(length)?).ok()?.to_owned())
    }

    /// The number of bytes, 0 for null.
    fn skip_bytes(&mut self) -> Option<usize> {
        let length = usize::try_from(self.i32()?.max(0)).ok()?;
        Some(self.take(length)?.len())
    }

    fn many<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        (0..self.i32()?.max(0)).map(|_| one(self)).collect()
    }

    fn partitions(&mut self) -> Option<Vec<(String, Vec<i32>)>> {
        self.many(|reader| Some((reader.string()?, reader.many(Self::i32)?)))
    }
}

/// `None` for bytes that are no subscription.
pub(super) fn read_subscription(bytes: &[u8]) -> Option<Subscription> {
    let mut reader = Reader(bytes);
    let version = reader.i16().filter(|version| *version >= 0)?;
    let topics = reader.many(Reader::string)?;
    reader.skip_bytes()?;
    let owned = if version >= 1 { reader.partitions()? } else { Vec::new() };
    if version >= 2 {
        reader.i32()?;
    }
    // The rack is the last of the fields and null for most.
    let rack = if version >= 3 { reader.string() } else { None };
    Some(Subscription { version, topics, owned, rack })
}

/// `None` for bytes that are no assignment; no bytes are an empty one.
pub(super) fn read_assignment(bytes: &[u8]) -> Option<Assignment> {
    if bytes.is_empty() {
        return Some(Assignment::default());
    }
    let mut reader = Reader(bytes);
    reader.i16().filter(|version| *version >= 0)?;
    let partitions = reader.partitions()?;
    Some(Assignment { partitions, has_user_data: reader.skip_bytes()? > 0 })
}

/// An assignment in a version that the reader of `version` subscriptions reads.
pub(super) fn write_assignment<'a>(
    version: i16,
    topics: impl ExactSizeIterator<Item = (&'a str, &'a [i32])>,
) -> Bytes {
    let length = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let mut bytes = BytesMut::new();
    bytes.put_i16(version.clamp(0, NEWEST));
    bytes.put_i32(length(topics.len()));
    for (topic, partitions) in topics {
        // Topic names are at most 249 bytes long.
        bytes.put_i16(i16::try_from(topic.len()).unwrap_or(i16::MAX));
        bytes.put_slice(topic.as_bytes());
        bytes.put_i32(length(partitions.len()));
        partitions.iter().for_each(|partition| bytes.put_i32(*partition));
    }
    bytes.put_i32(-1);
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(version: i16) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        bytes.put_i16(version);
        bytes.put_slice(b"\0\0\0\x01\0\x01t\xff\xff\xff\xff");
        if version >= 1 {
            bytes.put_slice(b"\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x05");
        }
        if version >= 2 {
            bytes.put_i32(7);
        }
        if version >= 3 {
            bytes.put_slice(b"\0\x02r1");
        }
        bytes.to_vec()
    }

    #[test]
    fn every_version_of_a_subscription_is_read_and_a_cut_one_refused() {
        for version in 0..=4 {
            let bytes = subscription(version);
            let read = read_subscription(&bytes).unwrap();
            assert_eq!(read.topics, ["t"]);
            assert_eq!(read.owned.len(), usize::from(version >= 1));
            assert_eq!(read.rack.is_some(), version >= 3);
            let needed = bytes.len() - if version >= 3 { 4 } else { 0 };
            assert!((0..needed).all(|end| read_subscription(&bytes[..end]).is_none()), "v{version}");
        }
        assert_eq!(read_subscription(b"\0\0\x7f\xff\xff\xff"), None);
    }

    #[test]
    fn an_assignment_is_read_as_it_was_written() {
        let topics: [(&str, &[i32]); 2] = [("a", &[0, 2]), ("b", &[])];
        let read = read_assignment(&write_assignment(9, topics.into_iter())).unwrap();
        assert_eq!(read.partitions, [("a".to_owned(), vec![0, 2]), ("b".to_owned(), vec![])]);
        assert!(!read.has_user_data);
        assert_eq!(read_assignment(b""), Some(Assignment::default()));
        assert_eq!(read_assignment(b"\0\x01\xff"), None);
    }
}
