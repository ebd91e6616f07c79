//! Record batches, version 2 (KIP-98): a view of the header, a validator, a builder, a decoder.
//!
//! ```text
//!  0 base offset i64      8 batch length i32 (bytes after this field)   12 leader epoch i32
//! 16 magic i8 = 2        17 crc32c u32 of everything after it           21 attributes i16
//! 23 last offset delta i32   27 base timestamp i64   35 max timestamp i64
//! 43 producer id i64     51 producer epoch i16       53 base sequence i32
//! 57 record count i32    61 records, compressed as the attributes say
//! ```
//! Attributes: bits 0–2 codec, 3 log-append time, 4 transactional, 5 control, 6 delete horizon.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use headwater_model::{Header, Offset, Record, TimestampMs};
use thiserror::Error;

use crate::compression::{Compression, CompressionError};

/// Bytes of a batch before its first record.
pub const HEADER_LEN: usize = 61;
/// Bytes before the part that the batch's own length counts.
pub(crate) const LENGTH_PREFIX: usize = 12;
const CRC_START: usize = 21;
pub(crate) const CODEC: i16 = 0x07;
pub(crate) const LOG_APPEND_TIME: i16 = 1 << 3;
pub(crate) const TRANSACTIONAL: i16 = 1 << 4;
pub(crate) const CONTROL: i16 = 1 << 5;
pub(crate) const DELETE_HORIZON: i16 = 1 << 6;
/// No batch decompresses to more than this.
pub const MAX_DECOMPRESSED: usize = 128 << 20;
/// The time of a record that nobody stamped.
pub const NO_TIMESTAMP: TimestampMs = -1;

#[derive(Debug, Error)]
pub enum BatchError {
    #[error("read a record batch: {present} bytes are present, {needed} needed")]
    Truncated { present: usize, needed: usize },
    #[error("read a record batch: magic {0}; only version 2 is written by Kafka since 0.11")]
    Magic(i8),
    #[error("read a record batch: checksum {stored:08x} stored, {computed:08x} computed")]
    Checksum { stored: u32, computed: u32 },
    #[error("read a record batch: {0}")]
    Invalid(&'static str),
    #[error(transparent)]
    Compression(#[from] CompressionError),
}

/// Who wrote a batch: what makes retries recognizable and transactions atomic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
    pub base_sequence: i32,
}

/// The fixed fields at the start of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: Offset,
    /// Whole size of the batch in bytes, header included.
    pub size: usize,
    pub leader_epoch: i32,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: TimestampMs,
    pub max_timestamp: TimestampMs,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the caller checked the length")
}

impl BatchHeader {
    /// Reads the header at the start of `bytes` and checks that the whole batch is present.
    /// The checksum is `verify`'s.
    pub fn read(bytes: &[u8]) -> Result<Self, BatchError> {
        let header = Self::peek(bytes)?;
        if bytes.len() < header.size {
            return Err(BatchError::Truncated { present: bytes.len(), needed: header.size });
        }
        Ok(header)
    }

    /// Reads the header alone; `bytes` may end before the records do.
    pub fn peek(bytes: &[u8]) -> Result<Self, BatchError> {
        if bytes.len() < HEADER_LEN {
            return Err(BatchError::Truncated { present: bytes.len(), needed: HEADER_LEN });
        }
        let magic = bytes[16] as i8;
        if magic != 2 {
            return Err(BatchError::Magic(magic));
        }
        let length = i32::from_be_bytes(array(bytes, 8));
        let size =
            usize::try_from(length).map_err(|_| BatchError::Invalid("negative length"))? + LENGTH_PREFIX;
        if size < HEADER_LEN {
            return Err(BatchError::Invalid("length shorter than a header"));
        }
        Ok(Self {
            base_offset: i64::from_be_bytes(array(bytes, 0)),
            size,
            leader_epoch: i32::from_be_bytes(array(bytes, 12)),
            crc: u32::from_be_bytes(array(bytes, 17)),
            attributes: i16::from_be_bytes(array(bytes, 21)),
            last_offset_delta: i32::from_be_bytes(array(bytes, 23)),
            base_timestamp: i64::from_be_bytes(array(bytes, 27)),
            max_timestamp: i64::from_be_bytes(array(bytes, 35)),
            producer_id: i64::from_be_bytes(array(bytes, 43)),
            producer_epoch: i16::from_be_bytes(array(bytes, 51)),
            base_sequence: i32::from_be_bytes(array(bytes, 53)),
            record_count: i32::from_be_bytes(array(bytes, 57)),
        })
    }

    /// Compares the stored checksum with that of the bytes; `bytes` starts where the batch does.
    pub fn verify(&self, bytes: &[u8]) -> Result<(), BatchError> {
        let computed = crc32c::crc32c(&bytes[CRC_START..self.size]);
        if computed != self.crc {
            return Err(BatchError::Checksum { stored: self.crc, computed });
        }
        Ok(())
    }

    pub fn last_offset(&self) -> Offset {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    pub fn compression(&self) -> Result<Compression, CompressionError> {
        Compression::from_attributes(self.attributes)
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// When the batch's tombstones, or its marker, may go (KIP-534); the base timestamp holds it.
    pub fn delete_horizon(&self) -> Option<TimestampMs> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    pub fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }

    /// The sequence number of the batch's last record; sequences wrap after `i32::MAX`.
    pub fn last_sequence(&self) -> i32 {
        let sum = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        (sum % (i64::from(i32::MAX) + 1)) as i32
    }

    /// What a broker checks of a batch from a client, beyond the checksum.
    pub fn check_from_client(&self) -> Result<(), BatchError> {
        if self.is_control() {
            return Err(BatchError::Invalid("a client may not write control batches"));
        }
        if self.delete_horizon().is_some() {
            return Err(BatchError::Invalid("a client may not set a delete horizon (attribute bit 6)"));
        }
        if self.record_count < 1 || self.last_offset_delta != self.record_count - 1 {
            return Err(BatchError::Invalid("record count and last offset delta disagree"));
        }
        if self.has_producer() && (self.producer_epoch < 0 || self.base_sequence < 0) {
            return Err(BatchError::Invalid("a producer id without epoch and sequence"));
        }
        if self.is_transactional() && !self.has_producer() {
            return Err(BatchError::Invalid("a transactional batch without a producer id"));
        }
        self.compression()?;
        Ok(())
    }
}

/// Patches what the broker decides, outside of the checksum: the base offset and the leader epoch.
pub fn assign_offset(batch: &mut [u8], base_offset: Offset, leader_epoch: i32) {
    batch[0..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Marks the batch as stamped by the broker at `now`, and renews its checksum.
pub fn assign_append_time(batch: &mut [u8], now: TimestampMs) {
    let attributes = i16::from_be_bytes(array(batch, 21)) | LOG_APPEND_TIME;
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    batch[35..43].copy_from_slice(&now.to_be_bytes());
    seal(batch);
}

/// Marks the batch as stamped by its producer, `latest` being the time of its latest record, and renews its checksum.
pub fn assign_create_time(batch: &mut [u8], latest: TimestampMs) {
    let attributes = i16::from_be_bytes(array(batch, 21)) & !LOG_APPEND_TIME;
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    batch[35..43].copy_from_slice(&latest.to_be_bytes());
    seal(batch);
}

/// Restamps a batch with another producer's id, epoch and sequence, and renews its checksum.
pub fn assign_producer(batch: &mut [u8], producer: Producer) {
    batch[43..51].copy_from_slice(&producer.id.to_be_bytes());
    batch[51..53].copy_from_slice(&producer.epoch.to_be_bytes());
    batch[53..57].copy_from_slice(&producer.base_sequence.to_be_bytes());
    seal(batch);
}

pub(crate) fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[CRC_START..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// Collects records into one batch whose first offset is 0, for the broker to assign.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    records: BytesMut,
    scratch: BytesMut,
    count: i32,
    base_timestamp: TimestampMs,
    max_timestamp: TimestampMs,
}

impl BatchBuilder {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn count(&self) -> i32 {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the batch if it were built without compression.
    pub fn size(&self) -> usize {
        HEADER_LEN + self.records.len()
    }

    pub fn push(
        &mut self,
        timestamp: TimestampMs,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) {
        if self.count == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let body = &mut self.scratch;
        body.clear();
        body.put_i8(0);
        put_varlong(body, timestamp - self.base_timestamp);
        put_varlong(body, i64::from(self.count));
        put_bytes(body, key);
        put_bytes(body, value);
        put_varlong(body, headers.len() as i64);
        for header in headers {
            put_bytes(body, Some(header.key.as_bytes()));
            put_bytes(body, header.value.as_deref());
        }
        put_varlong(&mut self.records, body.len() as i64);
        self.records.extend_from_slice(body);
        self.count += 1;
    }

    /// Builds the batch and leaves the builder empty.
    pub fn build(
        &mut self,
        compression: Compression,
        producer: Option<Producer>,
        transactional: bool,
    ) -> Result<Bytes, CompressionError> {
        let attributes = compression.attributes() | if transactional { TRANSACTIONAL } else { 0 };
        let batch = match compression {
            Compression::None => self.assemble(&self.records, attributes, producer),
            codec => self.assemble(&codec.compress(&self.records)?, attributes, producer),
        };
        self.records.clear();
        self.count = 0;
        Ok(batch)
    }

    fn assemble(&self, records: &[u8], attributes: i16, producer: Option<Producer>) -> Bytes {
        let producer = producer.unwrap_or(Producer { id: -1, epoch: -1, base_sequence: -1 });
        let mut out = BytesMut::with_capacity(HEADER_LEN + records.len());
        out.put_i64(0);
        out.put_i32((HEADER_LEN - LENGTH_PREFIX + records.len()) as i32);
        out.put_i32(-1);
        out.put_i8(2);
        out.put_u32(0);
        out.put_i16(attributes);
        out.put_i32(self.count - 1);
        out.put_i64(self.base_timestamp);
        out.put_i64(self.max_timestamp);
        out.put_i64(producer.id);
        out.put_i16(producer.epoch);
        out.put_i32(producer.base_sequence);
        out.put_i32(self.count);
        out.extend_from_slice(records);
        seal(&mut out);
        out.freeze()
    }
}

/// The control batch that ends a producer's transaction in a partition (KIP-98).
pub fn transaction_marker(
    producer_id: i64,
    producer_epoch: i16,
    commit: bool,
    coordinator_epoch: i32,
    now: TimestampMs,
) -> Bytes {
    let mut builder = BatchBuilder::new();
    let key = [0, 0, 0, u8::from(commit)];
    let mut value = [0u8; 6];
    value[2..].copy_from_slice(&coordinator_epoch.to_be_bytes());
    builder.push(now, Some(&key), Some(&value), &[]);
    let producer = Producer { id: producer_id, epoch: producer_epoch, base_sequence: -1 };
    builder.assemble(&builder.records, TRANSACTIONAL | CONTROL, Some(producer))
}

/// Whether a control batch is a commit marker; `None` when it is no end-of-transaction marker.
pub fn marker_is_commit(batch: &Bytes) -> Option<bool> {
    let header = BatchHeader::read(batch).ok().filter(BatchHeader::is_control)?;
    let records = decode(&header, batch).ok()?;
    match records.first()?.key.as_deref()? {
        [_, _, 0, 0] => Some(false),
        [_, _, 0, 1] => Some(true),
        _ => None,
    }
}

/// Decodes the records of the batch at the start of `bytes`; offsets and times are absolute.
pub fn decode(header: &BatchHeader, bytes: &Bytes) -> Result<Vec<Record>, BatchError> {
    if bytes.len() < header.size {
        return Err(BatchError::Truncated { present: bytes.len(), needed: header.size });
    }
    let packed = bytes.slice(HEADER_LEN..header.size);
    let mut rest = match header.compression()? {
        Compression::None => packed,
        codec => Bytes::from(codec.decompress(&packed, MAX_DECOMPRESSED)?),
    };
    // A record takes at least seven bytes, so a lying count cannot reserve more than is present.
    let count =
        usize::try_from(header.record_count).map_err(|_| BatchError::Invalid("negative record count"))?;
    let mut records = Vec::with_capacity(count.min(rest.len() / 7 + 1));
    for _ in 0..count {
        let length = take_length(&mut rest)?.ok_or(BatchError::Invalid("negative record length"))?;
        records.push(decode_record(header, &mut rest.split_to(length))?);
    }
    if !rest.is_empty() {
        return Err(BatchError::Invalid("bytes after the last record"));
    }
    Ok(records)
}

fn decode_record(header: &BatchHeader, body: &mut Bytes) -> Result<Record, BatchError> {
    if body.is_empty() {
        return Err(BatchError::Invalid("empty record"));
    }
    // Attributes, of which none are in use.
    body.advance(1);
    let timestamp = header.base_timestamp.wrapping_add(take_varlong(body)?);
    let offset = header.base_offset.wrapping_add(take_varlong(body)?);
    let key = take_bytes(body)?;
    let value = take_bytes(body)?;
    let count =
        usize::try_from(take_varlong(body)?).map_err(|_| BatchError::Invalid("negative header count"))?;
    let mut headers = Vec::with_capacity(count.min(body.len() / 2));
    for _ in 0..count {
        let name = take_bytes(body)?.ok_or(BatchError::Invalid("header without a key"))?;
        // As Kafka's own readers: nobody gets past a record that is refused here, and brokers take any bytes.
        let key = String::from_utf8_lossy(&name).into_owned();
        headers.push(Header { key, value: take_bytes(body)? });
    }
    let timestamp = if header.is_log_append_time() { header.max_timestamp } else { timestamp };
    Ok(Record { offset, timestamp, key, value, headers })
}

pub(crate) fn put_varlong(out: &mut impl BufMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

fn put_bytes(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varlong(out, -1),
        Some(bytes) => {
            put_varlong(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

fn take_varlong(bytes: &mut Bytes) -> Result<i64, BatchError> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            bytes.advance(at + 1);
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err(BatchError::Invalid("malformed variable-length integer"))
}

fn take_length(bytes: &mut Bytes) -> Result<Option<usize>, BatchError> {
    let length = take_varlong(bytes)?;
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| BatchError::Invalid("negative length"))?;
    if length > bytes.len() {
        return Err(BatchError::Truncated { present: bytes.len(), needed: length });
    }
    Ok(Some(length))
}

fn take_bytes(bytes: &mut Bytes) -> Result<Option<Bytes>, BatchError> {
    Ok(take_length(bytes)?.map(|length| bytes.split_to(length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(compression: Compression) -> Bytes {
        let mut builder = BatchBuilder::new();
        let headers = [Header { key: "h".into(), value: Some(Bytes::from_static(b"v")) }];
        builder.push(1000, Some(b"a"), Some(b"one"), &headers);
        builder.push(990, Some(b"b"), None, &[]);
        builder.build(compression, Some(Producer { id: 7, epoch: 1, base_sequence: 5 }), true).unwrap()
    }

    #[test]
    fn a_batch_returns_its_records_under_every_codec() {
        for codec in [Compression::None, Compression::Gzip, Compression::Lz4, Compression::Zstd] {
            let mut bytes = BytesMut::from(&sample(codec)[..]);
            assign_offset(&mut bytes, 40, 3);
            let bytes = bytes.freeze();
            let header = BatchHeader::read(&bytes).unwrap();
            header.verify(&bytes).unwrap();
            header.check_from_client().unwrap();
            let records = decode(&header, &bytes).unwrap();
            assert_eq!(records.len(), 2);
            assert_eq!((records[1].offset, records[1].timestamp, records[1].value.clone()), (41, 990, None));
            assert_eq!(records[0].headers[0].key, "h");
            assert_eq!(header.last_sequence(), 6);
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_an_error_and_never_a_panic() {
        let good = sample(Compression::None);
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            let bytes = Bytes::from(bad);
            let Ok(header) = BatchHeader::read(&bytes) else { continue };
            let _ = decode(&header, &bytes);
            let outside_checksum = bit / 8 < 8 || (12..16).contains(&(bit / 8));
            assert_eq!(header.verify(&bytes).is_ok(), outside_checksum, "bit {bit}");
        }
    }

    #[test]
    fn a_header_whose_name_is_no_text_keeps_nobody_from_its_record() {
        let mut bytes = sample(Compression::None).to_vec();
        let at = HEADER_LEN + bytes[HEADER_LEN..].iter().position(|byte| *byte == b'h').unwrap();
        bytes[at] = 0xff;
        seal(&mut bytes);
        let bytes = Bytes::from(bytes);
        let header = BatchHeader::read(&bytes).unwrap();
        header.verify(&bytes).unwrap();
        let records = decode(&header, &bytes).unwrap();
        assert_eq!((records.len(), records[0].headers[0].key.as_str()), (2, "\u{fffd}"));
    }

    #[test]
    fn markers_say_commit_or_abort() {
        assert_eq!(marker_is_commit(&transaction_marker(1, 0, true, 0, 5)), Some(true));
        assert_eq!(marker_is_commit(&transaction_marker(1, 0, false, 0, 5)), Some(false));
    }
}
