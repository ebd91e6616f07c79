//! The bytes that members of a consumer group exchange through the broker (Kafka's ConsumerProtocol).
//!
//! ```text
//! subscription  i16 version, [string] topics, bytes? user data,
//!               v1: [string topic, [i32] partitions] owned, v2: i32 generation, v3: string? rack
//! assignment    i16 version, [string topic, [i32] partitions], bytes? user data
//! ```
//! Written by other people's clients, so every length is checked; versions after these begin the same.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use headwater_model::TopicPartition;
use thiserror::Error;

use crate::assignor::{Assignment, MemberSubscription};

pub(crate) const PROTOCOL_TYPE: &str = "consumer";
const SUBSCRIPTION_VERSION: i16 = 3;
const ASSIGNMENT_VERSION: i16 = 1;

#[derive(Debug, Error, PartialEq, Eq)]
#[error("read a member's {what}: {reason}")]
pub(crate) struct Unreadable {
    what: &'static str,
    reason: &'static str,
}

/// What a member subscribes to, beside its ids, which travel outside of these bytes.
pub(crate) fn encode_subscription(
    topics: &[String],
    user_data: Option<&Bytes>,
    owned: &[TopicPartition],
    generation: i32,
) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(SUBSCRIPTION_VERSION);
    out.put_i32(topics.len() as i32);
    topics.iter().for_each(|topic| put_string(&mut out, topic));
    put_bytes(&mut out, user_data);
    put_partitions(&mut out, owned);
    out.put_i32(generation);
    out.put_i16(-1);
    out.freeze()
}

pub(crate) fn decode_subscription(mut from: &[u8]) -> Result<MemberSubscription, Unreadable> {
    let mut bytes = Reader { left: &mut from, what: "subscription" };
    let version = bytes.i16()?;
    let topics = (0..bytes.count(2)?).map(|_| bytes.string()).collect::<Result<_, _>>()?;
    let user_data = bytes.bytes()?;
    let owned = if version >= 1 { bytes.partitions()? } else { Vec::new() };
    Ok(MemberSubscription { topics, owned, user_data, ..MemberSubscription::default() })
}

pub(crate) fn encode_assignment(assignment: &Assignment) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(ASSIGNMENT_VERSION);
    put_partitions(&mut out, &assignment.partitions);
    put_bytes(&mut out, assignment.user_data.as_ref());
    out.freeze()
}

/// A member that is given nothing may be given no bytes at all.
pub(crate) fn decode_assignment(mut from: &[u8]) -> Result<Assignment, Unreadable> {
    if from.is_empty() {
        return Ok(Assignment::default());
    }
    let mut bytes = Reader { left: &mut from, what: "assignment" };
    bytes.i16()?;
    let partitions = bytes.partitions()?;
    Ok(Assignment { partitions, user_data: bytes.bytes()? })
}

fn put_string(out: &mut BytesMut, text: &str) {
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

fn put_bytes(out: &mut BytesMut, bytes: Option<&Bytes>) {
    match bytes {
        None => out.put_i32(-1),
        Some(bytes) => {
            out.put_i32(bytes.len() as i32);
            out.put_slice(bytes);
        }
    }
}

fn put_partitions(out: &mut BytesMut, partitions: &[TopicPartition]) {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    partitions.iter().for_each(|at| topics.entry(&at.topic).or_default().push(at.partition));
    out.put_i32(topics.len() as i32);
    for (topic, list) in topics {
        put_string(out, topic);
        out.put_i32(list.len() as i32);
        list.into_iter().for_each(|partition| out.put_i32(partition));
    }
}

struct Reader<'a, 'b> {
    left: &'a mut &'b [u8],
    what: &'static str,
}

impl Reader<'_, '_> {
    fn bad(&self, reason: &'static str) -> Unreadable {
        Unreadable { what: self.what, reason }
    }

    fn need(&self, length: usize) -> Result<(), Unreadable> {
        if self.left.len() < length { Err(self.bad("it ends too early")) } else { Ok(()) }
    }

    fn i16(&mut self) -> Result<i16, Unreadable> {
        self.need(2)?;
        Ok(self.left.get_i16())
    }

    fn i32(&mut self) -> Result<i32, Unreadable> {
        self.need(4)?;
        Ok(self.left.get_i32())
    }

    /// The length of an array whose entries take at least `least` bytes each.
    fn count(&mut self, least: usize) -> Result<usize, Unreadable> {
        let count = usize::try_from(self.i32()?).map_err(|_| self.bad("negative count"))?;
        self.need(count.saturating_mul(least))?;
        Ok(count)
    }

    fn take(&mut self, length: usize) -> Result<&[u8], Unreadable> {
        self.need(length)?;
        let (taken, left) = self.left.split_at(length);
        *self.left = left;
        Ok(taken)
    }

    fn string(&mut self) -> Result<String, Unreadable> {
        let length = usize::try_from(self.i16()?).map_err(|_| self.bad("negative length"))?;
        let bytes = self.take(length)?.to_vec();
        String::from_utf8(bytes).map_err(|_| self.bad("a name is not UTF-8"))
    }

    fn bytes(&mut self) -> Result<Option<Bytes>, Unreadable> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| self.bad("negative length"))?;
                Ok(Some(Bytes::copy_from_slice(self.take(length)?)))
            }
        }
    }

    fn partitions(&mut self) -> Result<Vec<TopicPartition>, Unreadable> {
        let mut partitions = Vec::new();
        for _ in 0..self.count(6)? {
            let topic = self.string()?;
            for _ in 0..self.count(4)? {
                partitions.push(TopicPartition::new(topic.as_str(), self.i32()?));
            }
        }
        Ok(partitions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned() -> Vec<TopicPartition> {
        vec![TopicPartition::new("t", 1), TopicPartition::new("t", 2)]
    }

    #[test]
    fn a_subscription_has_the_bytes_that_java_clients_read() {
        let bytes = encode_subscription(&["t".into()], Some(&Bytes::from_static(b"u")), &owned(), 7);
        let expected: &[u8] = &[
            0, 3, // version
            0, 0, 0, 1, 0, 1, b't', // topics
            0, 0, 0, 1, b'u', // user data
            0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, // owned
            0, 0, 0, 7, // generation
            0xff, 0xff, // rack
        ];
        assert_eq!(&bytes[..], expected);
    }

    #[test]
    fn subscriptions_of_every_version_are_read() {
        let bytes = encode_subscription(&["t".into(), "u".into()], None, &owned(), 7);
        let read = decode_subscription(&bytes).unwrap();
        assert_eq!((read.topics, read.owned), (vec!["t".into(), "u".into()], owned()));
        let v0 = [0, 0, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff];
        let read = decode_subscription(&v0).unwrap();
        assert_eq!((read.topics, read.owned, read.user_data), (vec!["t".into()], vec![], None));
    }

    #[test]
    fn an_assignment_returns_what_it_was_given() {
        let given = Assignment { partitions: owned(), user_data: Some(Bytes::from_static(b"x")) };
        assert_eq!(decode_assignment(&encode_assignment(&given)), Ok(given));
        assert_eq!(decode_assignment(&[]), Ok(Assignment::default()));
    }

    #[test]
    fn bytes_cut_off_anywhere_are_an_error_and_never_a_panic() {
        let bytes = encode_assignment(&Assignment { partitions: owned(), user_data: None });
        for length in 1..bytes.len() {
            assert!(decode_assignment(&bytes[..length]).is_err(), "{length}");
        }
        assert!(decode_assignment(&[0, 0, 0x7f, 0xff, 0xff, 0xff]).is_err());
    }
}
