//! What the two sides of a foreign-key join write to each other.
//!
//! ```text
//! subscription, keyed by the foreign key:  version u8 = 1 | wish u8 | left partition i32 | hash u64 | key
//! answer, keyed by the left key:           version u8 = 1 | flags u8 | token u64 | row
//! ```
//!
//! Big endian. Wish: 0 subscribe, 1 ask, 2 unsubscribe; 128 is added if an answer is wanted although there is no row, or
//! although the subscription ends. Flags:
//! 1 the token is the hash of the foreign key (else of the left value), 2 there is a row.

use headwater_model::Bytes;

use crate::serdes::{Serde, SerdeError, SerdeRef};

const VERSION: u8 = 1;
const ALWAYS: u8 = 128;
const BY_FOREIGN_KEY: u8 = 1;
const HAS_ROW: u8 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Answer now and at every change of the row.
    Subscribe,
    /// Answer now; the subscription exists.
    Ask,
    /// Answer no more.
    Unsubscribe,
}

/// From the left side to the right one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscription {
    pub wish: Wish,
    /// A missing row is worth an answer: there may be a result to delete.
    pub always_answer: bool,
    /// Where the answer goes.
    pub partition: i32,
    /// Of the left value that asks.
    pub hash: u64,
    /// The left key.
    pub key: Bytes,
}

pub(super) struct SubscriptionSerde;

impl Serde<Subscription> for SubscriptionSerde {
    fn serialize(&self, _topic: &str, value: &Subscription) -> Result<Bytes, SerdeError> {
        let wish = match value.wish {
            Wish::Subscribe => 0,
            Wish::Ask => 1,
            Wish::Unsubscribe => 2,
        };
        let mut out = Vec::with_capacity(14 + value.key.len());
        out.extend_from_slice(&[VERSION, if value.always_answer { wish | ALWAYS } else { wish }]);
        out.extend_from_slice(&value.partition.to_be_bytes());
        out.extend_from_slice(&value.hash.to_be_bytes());
        out.extend_from_slice(&value.key);
        Ok(Bytes::from(out))
    }

    fn deserialize(&self, _topic: &str, bytes: &Bytes) -> Result<Subscription, SerdeError> {
        let short = || SerdeError::new("a subscription shorter than 14 bytes");
        let wish = head(bytes, "subscription")?;
        let partition = bytes.get(2..).and_then(<[u8]>::first_chunk::<4>).ok_or_else(short)?;
        let hash = bytes.get(6..).and_then(<[u8]>::first_chunk::<8>).ok_or_else(short)?;
        Ok(Subscription {
            wish: match wish & !ALWAYS {
                0 => Wish::Subscribe,
                1 => Wish::Ask,
                2 => Wish::Unsubscribe,
                other => return Err(SerdeError::new(format!("a subscription with unknown wish {other}"))),
            },
            always_answer: wish & ALWAYS != 0,
            partition: i32::from_be_bytes(*partition),
            hash: u64::from_be_bytes(*hash),
            key: bytes.slice(14..),
        })
    }
}

/// The byte after a known version.
fn head(bytes: &Bytes, what: &str) -> Result<u8, SerdeError> {
    match bytes.get(..2) {
        Some([VERSION, second]) => Ok(*second),
        Some([version, _]) => {
            Err(SerdeError::new(format!("a {what} of version {version}; this program reads {VERSION}")))
        }
        _ => Err(SerdeError::new(format!("a {what} shorter than 2 bytes"))),
    }
}

/// What the left side compares with its current row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// Hash of the left value that asked.
    Value(u64),
    /// Hash of the foreign key whose row changed.
    ForeignKey(u64),
}

/// From the right side to the left one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer<VO> {
    pub token: Token,
    pub row: Option<VO>,
}

/// An answer on the wire, around a row that is encoded already.
pub(super) fn answer_bytes(token: Token, row: Option<&Bytes>) -> Bytes {
    let (by_foreign_key, token) = match token {
        Token::Value(hash) => (0, hash),
        Token::ForeignKey(hash) => (BY_FOREIGN_KEY, hash),
    };
    let mut out = Vec::with_capacity(10 + row.map_or(0, Bytes::len));
    out.extend_from_slice(&[VERSION, by_foreign_key | if row.is_some() { HAS_ROW } else { 0 }]);
    out.extend_from_slice(&token.to_be_bytes());
    out.extend_from_slice(row.map_or(&[], |row| &row[..]));
    Bytes::from(out)
}

pub(super) struct AnswerSerde<VO>(pub SerdeRef<VO>);

impl<VO> Serde<Answer<VO>> for AnswerSerde<VO> {
    fn serialize(&self, topic: &str, answer: &Answer<VO>) -> Result<Bytes, SerdeError> {
        let row = answer.row.as_ref().map(|row| self.0.serialize(topic, row)).transpose()?;
        Ok(answer_bytes(answer.token, row.as_ref()))
    }

    fn deserialize(&self, topic: &str, bytes: &Bytes) -> Result<Answer<VO>, SerdeError> {
        let flags = head(bytes, "join answer")?;
        let token = bytes.get(2..).and_then(<[u8]>::first_chunk::<8>);
        let token =
            u64::from_be_bytes(*token.ok_or_else(|| SerdeError::new("a join answer shorter than 10 bytes"))?);
        let token = if flags & BY_FOREIGN_KEY == 0 { Token::Value(token) } else { Token::ForeignKey(token) };
        let row =
            (flags & HAS_ROW != 0).then(|| self.0.deserialize(topic, &bytes.slice(10..))).transpose()?;
        Ok(Answer { token, row })
    }
}

/// Austin Appleby's MurmurHash64A: it is stored, so it must never change.
pub(super) fn hash64(bytes: &[u8]) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    let mix = |k: u64| {
        let k = k.wrapping_mul(M);
        (k ^ (k >> 47)).wrapping_mul(M)
    };
    let mut hash = (bytes.len() as u64).wrapping_mul(M);
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        hash = (hash ^ mix(u64::from_le_bytes(*word))).wrapping_mul(M);
    }
    if !tail.is_empty() {
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 47)).wrapping_mul(M);
    hash ^ (hash >> 47)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serdes::string;

    #[test]
    fn messages_read_back_and_short_or_foreign_ones_are_refused() {
        for (wish, always_answer) in [(Wish::Subscribe, true), (Wish::Ask, false), (Wish::Unsubscribe, true)]
        {
            let key = Bytes::from_static(b"k");
            let subscription = Subscription { wish, always_answer, partition: 3, hash: u64::MAX - 1, key };
            let bytes = SubscriptionSerde.serialize("t", &subscription).unwrap();
            assert_eq!(SubscriptionSerde.deserialize("t", &bytes).unwrap(), subscription);
            for end in 0..14 {
                assert!(SubscriptionSerde.deserialize("t", &bytes.slice(..end)).is_err());
            }
        }
        let serde = AnswerSerde(string());
        for (token, row) in [(Token::Value(7), Some("row".to_owned())), (Token::ForeignKey(9), None)] {
            let answer = Answer { token, row };
            let bytes = serde.serialize("t", &answer).unwrap();
            assert_eq!(serde.deserialize("t", &bytes).unwrap(), answer);
            for end in 0..10 {
                assert!(serde.deserialize("t", &bytes.slice(..end)).is_err());
            }
        }
        let unknown = Bytes::from_static(&[9; 20]);
        assert!(SubscriptionSerde.deserialize("t", &unknown).unwrap_err().message.contains("version 9"));
        assert!(serde.deserialize("t", &unknown).is_err());
    }

    /// Values of the reference algorithm (smhasher's `MurmurHash64A`), seed 0.
    #[test]
    fn the_hash_is_murmur_64a() {
        assert_eq!(hash64(b""), 0);
        assert_eq!(hash64(b"hello"), 0x1e68_d17c_457b_f117);
        assert_eq!(hash64(b"hello, world"), 0x9659_ad06_99a8_465f);
    }
}
