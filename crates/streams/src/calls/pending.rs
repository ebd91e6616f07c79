//! How a call that is under way is kept: its own key and value, and the record that it came from.
//!
//! The key is the sequence, u64 big endian. The value is `length u32 | key or null | value or null | timestamp i64` and then the
//! record as the quarantine keeps one (`quarantine/entry.rs`).

use std::sync::Arc;

use headwater_model::{Bytes, TimestampMs};

use crate::quarantine::entry::{Entry, EntrySerde, Held, Reader, put};
use crate::serdes::{Serde, SerdeError, SerdeRef};

/// A call to be made again after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub timestamp: TimestampMs,
    pub origin: Held,
}

struct PendingSerde;

pub(crate) fn serde() -> SerdeRef<Pending> {
    Arc::new(PendingSerde)
}

impl Serde<Pending> for PendingSerde {
    fn serialize(&self, topic: &str, pending: &Pending) -> Result<Bytes, SerdeError> {
        let mut out = Vec::new();
        put(&mut out, pending.key.as_deref());
        put(&mut out, pending.value.as_deref());
        out.extend_from_slice(&pending.timestamp.to_be_bytes());
        let origin = EntrySerde.serialize(topic, &Entry::Held(Box::new(pending.origin.clone())))?;
        out.extend_from_slice(&origin);
        Ok(Bytes::from(out))
    }

    fn deserialize(&self, topic: &str, bytes: &Bytes) -> Result<Pending, SerdeError> {
        let wrong = || SerdeError::new("no call that is under way: cut short");
        let mut reader = Reader { bytes, at: 0 };
        let (key, value) = (reader.bytes().ok_or_else(wrong)?, reader.bytes().ok_or_else(wrong)?);
        let timestamp = i64::from_be_bytes(reader.array().ok_or_else(wrong)?);
        match EntrySerde.deserialize(topic, &bytes.slice(reader.at..))? {
            Entry::Held(origin) => Ok(Pending { key, value, timestamp, origin: *origin }),
            Entry::Version(_) => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use headwater_model::Record;

    use super::*;

    #[test]
    fn a_call_comes_back_as_it_was_and_a_cut_one_is_refused() {
        let record = Record { offset: 4, timestamp: 9, key: Some("k".into()), ..Record::default() };
        let origin = Held { topic: "t".to_owned(), partition: 1, record, failure: None };
        let pending = Pending { key: None, value: Some("v".into()), timestamp: -1, origin };
        let bytes = PendingSerde.serialize("", &pending).unwrap();
        assert_eq!(PendingSerde.deserialize("", &bytes).unwrap(), pending);
        (0..bytes.len()).for_each(|end| assert!(PendingSerde.deserialize("", &bytes.slice(..end)).is_err()));
    }
}
