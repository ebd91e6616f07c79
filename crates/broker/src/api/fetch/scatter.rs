//! The response to Fetch, written around its records.
//!
//! Every part of the message ends with the one field that holds the parts below it: the topics of a response,
//! the partitions of a topic, the records of a partition. So each is written by the codec with that field empty,
//! the empty field is taken back, and its length and contents follow; the contents of the records stay in their
//! files.
//!
//! Invariant: what a client reads is what the codec would have written of the same message with its records.

use bytes::{BufMut, Bytes, BytesMut};
use headwater_log::{FileRange, Isolation, Located, Offsets};
use headwater_wire::messages::fetch_response::{
    AbortedTransaction, FetchResponseData, FetchableTopicResponse, PartitionData,
};
use headwater_wire::{ErrorCode, ProtocolError};

use super::asked::Asked;
use crate::mirror::{LogDisk, LogFile};
use crate::outgoing::Outgoing;
use crate::planted::{self, Bug};

/// Lengths are varints and structures end with tagged fields from here on.
const FLEXIBLE: i16 = 12;
/// What a partition takes without aborted transactions, generously.
const PARTITION: usize = 64;

/// One partition's share of the response.
pub struct Answer {
    pub asked: Asked,
    /// All but the records.
    pub data: PartitionData,
    pub ranges: Vec<FileRange<LogFile>>,
    pub bytes: usize,
}

pub struct Response {
    pub code: ErrorCode,
    pub session_id: i32,
    pub answers: Vec<Answer>,
}

impl Answer {
    fn new(asked: Asked) -> Self {
        let data =
            PartitionData::default().with_partition_index(asked.index).with_records(Some(Bytes::new()));
        Self { asked, data, ranges: Vec::new(), bytes: 0 }
    }

    pub fn of_records(asked: Asked, located: Located<LogDisk>, isolation: Isolation) -> Self {
        let offsets = Offsets {
            log_start: located.log_start_offset,
            high_watermark: located.high_watermark,
            last_stable: located.last_stable_offset,
        };
        let mut answer = Self::of_offsets(asked, offsets, isolation);
        if let Some(aborted) = &mut answer.data.aborted_transactions
            && !planted::is(Bug::HideAborted)
        {
            aborted.extend(located.aborted.into_iter().map(|aborted| {
                AbortedTransaction::default()
                    .with_producer_id(aborted.producer_id)
                    .with_first_offset(aborted.first_offset)
            }));
        }
        let bytes = located.ranges.iter().map(|range| range.length).sum();
        Self { ranges: located.ranges, bytes, ..answer }
    }

    pub fn of_offsets(asked: Asked, offsets: Offsets, isolation: Isolation) -> Self {
        let mut answer = Self::new(asked);
        answer.data.high_watermark = offsets.high_watermark;
        answer.data.last_stable_offset = offsets.last_stable;
        answer.data.log_start_offset = offsets.log_start;
        answer.data.aborted_transactions = (isolation == Isolation::Committed).then(Vec::new);
        answer
    }

    pub fn of_error(asked: Asked, code: ErrorCode) -> Self {
        let mut answer = Self::new(asked);
        answer.data.error_code = code.code();
        answer.data.high_watermark = -1;
        answer.data.last_stable_offset = -1;
        answer.data.log_start_offset = -1;
        answer
    }
}

fn room(answers: usize) -> usize {
    PARTITION * (answers + 1)
}

/// The bytes that a response of these answers takes with their records, more or less.
pub fn size<'a>(answers: impl Iterator<Item = &'a Answer>) -> usize {
    let (count, records) = answers.fold((0, 0), |(count, records), one| (count + 1, records + one.bytes));
    room(count) + records
}

impl Response {
    /// The bytes it takes without records, more or less.
    pub fn room(&self) -> usize {
        room(self.answers.len())
    }

    /// Partitions of one topic that follow each other are one topic of the message.
    fn topics(&self) -> impl Iterator<Item = &[Answer]> {
        self.answers.chunk_by(|one, next| one.asked.topic == next.asked.topic)
    }

    pub fn scatter(self, outgoing: &mut Outgoing, version: i16, throttle: i32) -> Result<(), ProtocolError> {
        let head = FetchResponseData::default()
            .with_throttle_time_ms(throttle)
            .with_error_code(self.code.code())
            .with_session_id(self.session_id);
        let sizes: Vec<usize> = self.topics().map(<[Answer]>::len).collect();
        open(outgoing.bytes_mut(), version, sizes.len(), |buffer| head.write(buffer, version))?;
        let mut answers = self.answers.into_iter();
        for size in sizes {
            if let Some(first) = answers.as_slice().first() {
                let name = first.asked.topic.clone();
                let topic = FetchableTopicResponse::default().with_topic(name.name).with_topic_id(name.id);
                open(outgoing.bytes_mut(), version, size, |buffer| topic.write(buffer, version))?;
            }
            for answer in answers.by_ref().take(size) {
                answer.scatter(outgoing, version)?;
            }
            close(outgoing.bytes_mut(), version);
        }
        close(outgoing.bytes_mut(), version);
        Ok(())
    }
}

impl Answer {
    fn scatter(self, outgoing: &mut Outgoing, version: i16) -> Result<(), ProtocolError> {
        open(outgoing.bytes_mut(), version, self.bytes, |buffer| self.data.write(buffer, version))?;
        for range in self.ranges {
            outgoing.insert(range);
        }
        close(outgoing.bytes_mut(), version);
        Ok(())
    }
}

/// What the codec writes for an empty last field and no tagged fields after it.
fn empty(version: i16) -> &'static [u8] {
    if version >= FLEXIBLE { &[1, 0] } else { &[0; 4] }
}

/// Writes a structure up to the contents of its last field, which it has left empty.
fn open(
    buffer: &mut BytesMut,
    version: i16,
    length: usize,
    write: impl FnOnce(&mut BytesMut) -> Result<(), ProtocolError>,
) -> Result<(), ProtocolError> {
    write(buffer)?;
    let empty = empty(version);
    assert!(buffer.ends_with(empty), "the codec ends a part of Fetch v{version} with something else");
    buffer.truncate(buffer.len() - empty.len());
    match version >= FLEXIBLE {
        true => put_varint(buffer, length + 1),
        // Longer than a frame, it is refused with the frame.
        false => buffer.put_u32(length as u32),
    }
    Ok(())
}

fn close(buffer: &mut BytesMut, version: i16) {
    if version >= FLEXIBLE {
        buffer.put_u8(0);
    }
}

fn put_varint(buffer: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        buffer.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    buffer.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use headwater_wire::KafkaUuid;

    use super::super::asked::TopicName;
    use super::*;
    use crate::outgoing::gather;

    const THROTTLE: i32 = 1234;

    struct Content {
        file: Arc<LogFile>,
        bytes: Vec<u8>,
    }

    impl Content {
        fn new() -> Self {
            let bytes: Vec<u8> = (0..40_000_u32).map(|n| (n * 7 % 251) as u8).collect();
            Self { file: crate::mirror::file_of(&bytes), bytes }
        }

        fn answer(&self, topic: usize, index: i32, parts: &[(usize, usize)]) -> Answer {
            let mut answer = Answer::of_offsets(
                asked(topic, index),
                Offsets { log_start: 3, high_watermark: 1_000 + i64::from(index), last_stable: 999 },
                if index % 2 == 0 { Isolation::Committed } else { Isolation::Uncommitted },
            );
            let file = &self.file;
            answer.ranges = parts
                .iter()
                .map(|&(position, length)| FileRange {
                    id: headwater_log::FileId::journal(1),
                    file: Arc::clone(file),
                    position: position as u64,
                    length,
                })
                .collect();
            answer.bytes = parts.iter().map(|(_, length)| length).sum();
            if let Some(aborted) = &mut answer.data.aborted_transactions {
                aborted.extend(
                    (0..i64::from(index)).map(|n| {
                        AbortedTransaction::default().with_producer_id(n).with_first_offset(100 * n)
                    }),
                );
            }
            answer
        }

        /// The whole message with its records, by the codec.
        fn encoded(&self, response: &Response, version: i16) -> BytesMut {
            let partition = |answer: &Answer| {
                let records: Vec<u8> = answer
                    .ranges
                    .iter()
                    .flat_map(|range| &self.bytes[range.position as usize..][..range.length])
                    .copied()
                    .collect();
                answer.data.clone().with_records(Some(records.into()))
            };
            let topic = |answers: &[Answer]| {
                let TopicName { name, id } = answers[0].asked.topic.clone();
                FetchableTopicResponse::default()
                    .with_topic(name)
                    .with_topic_id(id)
                    .with_partitions(answers.iter().map(partition).collect())
            };
            let message = FetchResponseData::default()
                .with_throttle_time_ms(THROTTLE)
                .with_error_code(response.code.code())
                .with_session_id(response.session_id)
                .with_responses(response.topics().map(topic).collect());
            let mut encoded = BytesMut::new();
            message.write(&mut encoded, version).unwrap();
            encoded
        }
    }

    fn asked(topic: usize, index: i32) -> Asked {
        let id = KafkaUuid::from_uuid(uuid::Uuid::from_u128(topic as u128 + 1));
        let topic = TopicName { name: format!("topic-{topic}").into(), id };
        Asked { topic, index, offset: 0, max_bytes: 0, leader_epoch: -1 }
    }

    fn check(content: &Content, version: i16, response: Response) {
        let expected = content.encoded(&response, version);
        let mut outgoing = Outgoing::begin(5, version >= FLEXIBLE, response.room());
        let head = outgoing.bytes_mut().len();
        response.scatter(&mut outgoing, version, THROTTLE).unwrap();
        let gathered = gather(&outgoing.seal().unwrap());
        let length = i32::from_be_bytes(*gathered.first_chunk().unwrap()) as usize;
        assert_eq!(gathered.len(), length + 4, "v{version}");
        assert_eq!(gathered[head..], expected[..], "v{version}");
    }

    #[test]
    fn every_version_is_what_the_codec_writes() {
        let content = Content::new();
        for version in 4..=17 {
            let session_id = if version >= 7 { 12_345 } else { 0 };
            let response = |code, answers| Response { code, session_id, answers };
            check(&content, version, response(ErrorCode::None, Vec::new()));
            check(&content, version, response(ErrorCode::InvalidFetchSessionEpoch, Vec::new()));
            let answers = vec![
                content.answer(0, 0, &[]),
                content.answer(0, 1, &[(0, 100)]),
                content.answer(0, 2, &[(200, 126), (1_000, 1), (50, 20_000)]),
                Answer::of_error(asked(0, 3), ErrorCode::OffsetOutOfRange),
                Answer::of_error(asked(1, 0), ErrorCode::UnknownTopicOrPartition),
                content.answer(2, 4, &[(39_999, 1)]),
                content.answer(2, 7, &[(0, 126)]),
                content.answer(2, 8, &[(0, 127)]),
                content.answer(0, 200, &[(17, 16_383), (0, 16_384)]),
            ];
            check(&content, version, response(ErrorCode::None, answers));
            let many = (0..300).map(|index| content.answer(index / 2, index as i32 % 2, &[(index, 5)]));
            check(&content, version, response(ErrorCode::None, many.collect()));
        }
    }
}
