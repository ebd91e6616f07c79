//! Counts the entries of a Produce request without decoding it.
//!
//! Produce alone may be large, and an entry takes many times its smallest size when it is decoded. A request
//! of real batches has few entries for its bytes; one that is all entries is refused before it takes memory.

/// Topics, partitions and tagged fields may be this many bytes apart on average; a batch has at least 61.
const BYTES_PER_ENTRY: usize = 24;
const ALWAYS_FINE: usize = 4096;
const FLEXIBLE: i16 = 9;
const TOPIC_IDS: i16 = 13;
const UUID: usize = 16;

/// Whether decoding the request takes memory in proportion to its size. Malformed ones are the decoder's.
pub fn is_plausible(body: &[u8], version: i16) -> bool {
    let mut skim = Skim { rest: body, flexible: version >= FLEXIBLE, entries: 0 };
    // Where the bytes end early, the decoder stops, too.
    let _ = skim.request(version);
    skim.entries <= ALWAYS_FINE.max(body.len() / BYTES_PER_ENTRY)
}

struct Skim<'a> {
    rest: &'a [u8],
    flexible: bool,
    entries: usize,
}

impl Skim<'_> {
    fn request(&mut self, version: i16) -> Option<()> {
        self.string()?;
        self.skip(2 + 4)?;
        for _ in 0..self.count()? {
            self.entries += 1;
            if version >= TOPIC_IDS {
                self.skip(UUID)?
            } else {
                self.string()?
            }
            for _ in 0..self.count()? {
                self.entries += 1;
                self.skip(4)?;
                let records = self.count()?;
                self.skip(records)?;
                self.tags()?;
            }
            self.tags()?;
        }
        self.tags()
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.rest = self.rest.get(bytes..)?;
        Some(())
    }

    fn varint(&mut self) -> Option<usize> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = *self.rest.first()?;
            self.skip(1)?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// The length of an array or of bytes; nothing counts as empty.
    fn count(&mut self) -> Option<usize> {
        if self.flexible {
            return Some(self.varint()?.saturating_sub(1));
        }
        let length = i32::from_be_bytes(*self.rest.first_chunk()?);
        self.skip(4)?;
        Some(usize::try_from(length).unwrap_or(0))
    }

    fn string(&mut self) -> Option<()> {
        let length = match self.flexible {
            true => self.varint()?.saturating_sub(1),
            false => {
                let length = i16::from_be_bytes(*self.rest.first_chunk()?);
                self.skip(2)?;
                usize::try_from(length).unwrap_or(0)
            }
        };
        self.skip(length)
    }

    fn tags(&mut self) -> Option<()> {
        if !self.flexible {
            return Some(());
        }
        for _ in 0..self.varint()? {
            self.entries += 1;
            self.varint()?;
            let size = self.varint()?;
            self.skip(size)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use headwater_wire::messages::ProduceRequestData;
    use headwater_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};

    use super::*;

    fn request(topics: usize, partitions: usize, bytes: usize) -> ProduceRequestData {
        let records = Some(Bytes::from(vec![0; bytes]));
        let partition = PartitionProduceData::default().with_records(records);
        let topic = TopicProduceData::default().with_partition_data(vec![partition; partitions]);
        ProduceRequestData::default().with_topic_data(vec![topic; topics])
    }

    #[test]
    fn batches_are_plausible_and_mere_entries_are_not() {
        for version in 3..=13 {
            let judged = |request: &ProduceRequestData| {
                let mut body = BytesMut::new();
                request.write(&mut body, version).unwrap();
                is_plausible(&body, version)
            };
            assert!(judged(&request(10, 10, 100)), "v{version}");
            assert!(judged(&request(100, 100, 61)), "v{version}");
            assert!(!judged(&request(1, 100_000, 0)), "v{version}");
            assert!(!judged(&request(100_000, 0, 0)), "v{version}");
        }
    }
}
