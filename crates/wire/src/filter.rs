//! Looking at the records of a batch without copying them, and writing the batch again with fewer.
//!
//! A batch is opened only when its checksum and its counts are right: what is written again gets a new
//! checksum, and damage must not be sealed under it. Offsets, producer, sequence, codec and the last
//! offset stay what they were; so a reader or a producer's state cannot tell that records are missing.

use std::borrow::Cow;

use bytes::Bytes;
use headwater_model::{Offset, TimestampMs};

use crate::batch::{
    BatchError, BatchHeader, CODEC, CONTROL, DELETE_HORIZON, HEADER_LEN, LENGTH_PREFIX, LOG_APPEND_TIME,
    MAX_DECOMPRESSED, NO_TIMESTAMP, TRANSACTIONAL, put_varlong, seal,
};
use crate::compression::{Compression, CompressionError};

/// Most bytes of a number of 32 bits.
pub(crate) const MOST_VARINT: usize = 5;
/// Most bytes a record grows by when its timestamp is counted from another base.
const REBASE_ROOM: usize = 11;

/// Where a record is in the decompressed batch, and when it was written.
#[derive(Debug, Clone, Copy)]
pub struct RecordSpan {
    start: u32,
    end: u32,
    timestamp: TimestampMs,
}

/// What a filter may judge a record by.
#[derive(Debug, Clone, Copy)]
pub struct RecordView<'a> {
    pub offset: Offset,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// The headers' count and bytes, unread: see [`RecordView::check_headers`].
    pub headers: &'a [u8],
    pub span: RecordSpan,
}

/// When the records of a batch were written, as their producer has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Of those that are stamped.
    pub earliest: Option<TimestampMs>,
    pub latest: TimestampMs,
}

/// A batch whose checksum was right, with its records decompressed.
#[derive(Debug)]
pub struct OpenBatch<'a> {
    pub header: BatchHeader,
    head: &'a [u8],
    body: Cow<'a, [u8]>,
}

/// Reads the header at the start of `bytes`, and checks the checksum and that offsets and counts can be.
pub fn read_checked(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::read(bytes)?;
    header.verify(bytes)?;
    let last = header.base_offset.checked_add(i64::from(header.last_offset_delta));
    if header.base_offset < 0 || header.last_offset_delta < 0 || last.is_none_or(|last| last == i64::MAX) {
        return Err(BatchError::Invalid("offsets that no log can hold"));
    }
    if header.record_count < 0 || i64::from(header.record_count) > i64::from(header.last_offset_delta) + 1 {
        return Err(BatchError::Invalid("record count and last offset delta disagree"));
    }
    Ok(header)
}

/// The batch without any record: it still tells its offsets and its producer's sequence.
///
/// `bytes` is the batch that `header` was read from.
pub fn emptied(header: &BatchHeader, bytes: &[u8]) -> Bytes {
    let mut out = bytes[..HEADER_LEN].to_vec();
    let attributes = header.attributes & (LOG_APPEND_TIME | TRANSACTIONAL | CONTROL);
    patch(&mut out, attributes, -1, header.max_timestamp, 0);
    out.into()
}

impl<'a> OpenBatch<'a> {
    pub fn open(bytes: &'a [u8]) -> Result<Self, BatchError> {
        Self::decompress(read_checked(bytes)?, bytes)
    }

    /// Opens a batch whose header came from [`read_checked`].
    pub fn decompress(header: BatchHeader, bytes: &'a [u8]) -> Result<Self, BatchError> {
        Self::unpack(header, bytes, |codec, packed| codec.decompress(packed, MAX_DECOMPRESSED))
    }

    /// The same with a batch that a client has sent: what Kafka's own readers do not unpack is refused.
    pub fn received(header: BatchHeader, bytes: &'a [u8]) -> Result<Self, BatchError> {
        Self::unpack(header, bytes, |codec, packed| codec.decompress_received(packed, MAX_DECOMPRESSED))
    }

    fn unpack(
        header: BatchHeader,
        bytes: &'a [u8],
        decompress: impl Fn(Compression, &[u8]) -> Result<Vec<u8>, CompressionError>,
    ) -> Result<Self, BatchError> {
        let (head, packed) = bytes[..header.size].split_at(HEADER_LEN);
        let body = match header.compression()? {
            Compression::None => Cow::Borrowed(packed),
            _ if header.record_count == 0 && packed.is_empty() => Cow::Borrowed(packed),
            codec => Cow::Owned(decompress(codec, packed)?),
        };
        Ok(Self { header, head, body })
    }

    /// Bytes of its records.
    pub fn unpacked(&self) -> usize {
        self.body.len()
    }

    /// Shows every record in offset order. Headers are stepped over.
    pub fn visit<'s>(&'s self, mut look: impl FnMut(RecordView<'s>)) -> Result<(), BatchError> {
        let (mut at, mut previous) = (0, -1);
        for _ in 0..self.header.record_count {
            let start = at;
            let length = take_length(&self.body, &mut at)?;
            let record = &self.body[..at + length];
            let view = view(&self.header, record, start, at)?;
            previous = place(&self.header, view.offset.wrapping_sub(self.header.base_offset), previous)?;
            look(view);
            at = record.len();
        }
        if at != self.body.len() {
            return Err(BatchError::Invalid("bytes after the last record"));
        }
        Ok(())
    }

    /// Checks every record to its last byte, and tells when they were written.
    pub fn check(&self) -> Result<Times, BatchError> {
        let (mut checked, mut times) = (Ok(()), Times::default());
        self.visit(|record| {
            times.add(record.timestamp());
            if checked.is_ok() {
                checked = record.check_headers();
            }
        })?;
        checked.map(|()| times)
    }

    /// The batch with only the records in `kept`, which are spans of this batch in their order.
    ///
    /// A `horizon` becomes the base timestamp and is marked as the delete horizon (KIP-534); records keep
    /// their times. Without one the base timestamp stays, so that records are copied as they are.
    pub fn rewrite(&self, kept: &[RecordSpan], horizon: Option<TimestampMs>) -> Result<Bytes, BatchError> {
        let mut out = Vec::with_capacity(HEADER_LEN + self.room(kept, horizon));
        out.extend_from_slice(self.head);
        match self.header.compression()? {
            Compression::None => self.copy_records(kept, horizon, &mut out)?,
            codec => {
                let mut plain = Vec::with_capacity(self.room(kept, horizon));
                self.copy_records(kept, horizon, &mut plain)?;
                out.extend_from_slice(&codec.compress(&plain)?);
            }
        }
        if i32::try_from(out.len()).is_err() {
            return Err(BatchError::Invalid("larger than a batch can be once its timestamps are rebased"));
        }
        let mark = if horizon.is_some() { DELETE_HORIZON } else { 0 };
        let base = horizon.unwrap_or(self.header.base_timestamp);
        let max = self.max_timestamp(kept);
        patch(&mut out, self.header.attributes | mark, base, max, kept.len() as i32);
        Ok(out.into())
    }

    /// The batch with its records under another codec; nothing else of it changes.
    pub fn recompress(&self, codec: Compression, level: Option<i32>) -> Result<Bytes, BatchError> {
        // What gets a new checksum must be right.
        self.visit(|_| ())?;
        let body = codec.compress_at(level, &self.body)?;
        let mut out = Vec::with_capacity(HEADER_LEN + body.len());
        out.extend_from_slice(self.head);
        out.extend_from_slice(&body);
        if i32::try_from(out.len()).is_err() {
            return Err(BatchError::Invalid("larger than a batch can be under the topic's codec"));
        }
        let header = &self.header;
        let attributes = header.attributes & !CODEC | codec.attributes();
        patch(&mut out, attributes, header.base_timestamp, header.max_timestamp, header.record_count);
        Ok(out.into())
    }

    fn max_timestamp(&self, kept: &[RecordSpan]) -> TimestampMs {
        if self.header.is_log_append_time() {
            return self.header.max_timestamp;
        }
        kept.iter().map(|span| span.timestamp).max().unwrap_or(self.header.max_timestamp)
    }

    fn room(&self, kept: &[RecordSpan], horizon: Option<TimestampMs>) -> usize {
        let plain: usize = kept.iter().map(|span| (span.end - span.start) as usize).sum();
        plain + if horizon.is_some() { kept.len() * REBASE_ROOM } else { 0 }
    }

    fn copy_records(
        &self,
        kept: &[RecordSpan],
        horizon: Option<TimestampMs>,
        out: &mut Vec<u8>,
    ) -> Result<(), BatchError> {
        if let Some(base) = horizon {
            return kept.iter().try_for_each(|span| self.rebase_record(span, base, out));
        }
        // Neighbours are copied at once.
        let mut kept = kept.iter().copied();
        let Some(mut run) = kept.next() else { return Ok(()) };
        for span in kept {
            if span.start == run.end {
                run.end = span.end;
            } else {
                out.extend_from_slice(&self.body[run.start as usize..run.end as usize]);
                run = span;
            }
        }
        out.extend_from_slice(&self.body[run.start as usize..run.end as usize]);
        Ok(())
    }

    fn rebase_record(
        &self,
        span: &RecordSpan,
        base: TimestampMs,
        out: &mut Vec<u8>,
    ) -> Result<(), BatchError> {
        let record = &self.body[span.start as usize..span.end as usize];
        let mut at = 0;
        take_varlong(record, &mut at)?;
        let attributes = at;
        at += 1;
        take_varlong(record, &mut at)?;
        let rest = &record[at..];
        let delta = span.timestamp.wrapping_sub(base);
        put_varlong(out, (1 + varlong_len(delta) + rest.len()) as i64);
        out.push(record[attributes]);
        put_varlong(out, delta);
        out.extend_from_slice(rest);
        Ok(())
    }
}

impl Default for Times {
    fn default() -> Self {
        Self { earliest: None, latest: NO_TIMESTAMP }
    }
}

impl Times {
    pub fn add(&mut self, time: TimestampMs) {
        self.latest = self.latest.max(time);
        if time != NO_TIMESTAMP {
            self.earliest = Some(self.earliest.map_or(time, |earliest| earliest.min(time)));
        }
    }
}

/// Views the record whose length prefix starts at `start` and whose body runs from `at` to the end.
impl RecordView<'_> {
    /// When it was written, as its producer has it: the broker's own time is in the batch's header.
    pub fn timestamp(&self) -> TimestampMs {
        self.span.timestamp
    }

    /// A count, so many pairs of key and value, and nothing after them.
    pub fn check_headers(&self) -> Result<(), BatchError> {
        let mut at = 0;
        let count = take_varint(self.headers, &mut at)?;
        if count < 0 {
            return Err(BatchError::Invalid("a negative count of headers"));
        }
        for _ in 0..count {
            if take_bytes(self.headers, &mut at)?.is_none() {
                return Err(BatchError::Invalid("a header without a key"));
            }
            take_bytes(self.headers, &mut at)?;
        }
        if at != self.headers.len() {
            return Err(BatchError::Invalid("bytes after the last header of a record"));
        }
        Ok(())
    }
}

#[inline]
pub(crate) fn view<'a>(
    header: &BatchHeader,
    record: &'a [u8],
    start: usize,
    mut at: usize,
) -> Result<RecordView<'a>, BatchError> {
    at += 1; // The record's own attributes: none is defined.
    let timestamp = header.base_timestamp.wrapping_add(take_varlong(record, &mut at)?);
    let offset = header.base_offset.wrapping_add(take_varint(record, &mut at)?);
    let key = take_bytes(record, &mut at)?;
    let value = take_bytes(record, &mut at)?;
    // A body is below 2 GiB, so its positions fit.
    let span = RecordSpan { start: start as u32, end: record.len() as u32, timestamp };
    Ok(RecordView { offset, key, value, headers: &record[at..], span })
}

/// A record's place in its batch, which must be behind the one before.
#[inline]
pub(crate) fn place(header: &BatchHeader, delta: i64, previous: i64) -> Result<i64, BatchError> {
    if delta <= previous || delta > i64::from(header.last_offset_delta) {
        return Err(BatchError::Invalid("record offsets that do not ascend within their batch"));
    }
    Ok(delta)
}

fn patch(out: &mut [u8], attributes: i16, base: TimestampMs, max: TimestampMs, count: i32) {
    let length = (out.len() - LENGTH_PREFIX) as i32;
    out[8..12].copy_from_slice(&length.to_be_bytes());
    out[21..23].copy_from_slice(&attributes.to_be_bytes());
    out[27..35].copy_from_slice(&base.to_be_bytes());
    out[35..43].copy_from_slice(&max.to_be_bytes());
    out[57..61].copy_from_slice(&count.to_be_bytes());
    seal(out);
}

/// Bytes that a variable-length integer takes.
fn varlong_len(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    (70 - (zigzag | 1).leading_zeros() as usize) / 7
}

#[inline]
fn take_varlong(bytes: &[u8], at: &mut usize) -> Result<i64, BatchError> {
    let mut value = 0u64;
    for (index, &byte) in bytes.get(*at..).unwrap_or_default().iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *at += index + 1;
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err(BatchError::Invalid("malformed variable-length integer"))
}

/// Kafka's own readers take no more than five bytes for any number but a time.
#[inline]
pub(crate) fn take_varint(bytes: &[u8], at: &mut usize) -> Result<i64, BatchError> {
    let start = *at;
    let value = take_varlong(bytes, at)?;
    if *at - start > MOST_VARINT {
        return Err(BatchError::Invalid("a count, a length or an offset of more than five bytes"));
    }
    Ok(value)
}

/// The length at `at`, after which so many bytes are present.
#[inline]
fn take_length(bytes: &[u8], at: &mut usize) -> Result<usize, BatchError> {
    let length =
        usize::try_from(take_varint(bytes, at)?).map_err(|_| BatchError::Invalid("negative length"))?;
    let present = bytes.len() - *at;
    if length > present {
        return Err(BatchError::Truncated { present, needed: length });
    }
    Ok(length)
}

#[inline]
fn take_bytes<'a>(bytes: &'a [u8], at: &mut usize) -> Result<Option<&'a [u8]>, BatchError> {
    if bytes.get(*at) == Some(&1) {
        // Minus one: there is none.
        *at += 1;
        return Ok(None);
    }
    let length = take_length(bytes, at)?;
    let taken = &bytes[*at..*at + length];
    *at += length;
    Ok(Some(taken))
}

#[cfg(test)]
mod tests {
    use headwater_model::{Header, Record};

    use super::*;
    use crate::batch::{BatchBuilder, Producer, assign_append_time, assign_offset, decode};

    const CODECS: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    fn sample(codec: Compression) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        let headers = [Header { key: "h".into(), value: None }];
        builder.push(1000, Some(b"a"), Some(b"one"), &headers);
        builder.push(1900, Some(b"b"), None, &[]);
        builder.push(990, None, Some(&[7; 300]), &[]);
        builder.push(1200, Some(b""), Some(b""), &[]);
        let producer = Producer { id: 7, epoch: 1, base_sequence: 5 };
        let mut batch = builder.build(codec, Some(producer), true).unwrap().to_vec();
        assign_offset(&mut batch, 40, 3);
        batch
    }

    fn keep(
        batch: &[u8],
        horizon: Option<TimestampMs>,
        mut choose: impl FnMut(&RecordView<'_>) -> bool,
    ) -> Bytes {
        let open = OpenBatch::open(batch).unwrap();
        let mut kept = Vec::new();
        open.visit(|record| kept.extend(choose(&record).then_some(record.span))).unwrap();
        open.rewrite(&kept, horizon).unwrap()
    }

    fn records(batch: &Bytes) -> Vec<Record> {
        decode(&read_checked(batch).unwrap(), batch).unwrap()
    }

    #[test]
    fn what_is_wrong_within_a_record_is_found() {
        for codec in CODECS {
            let times = OpenBatch::open(&sample(codec)).unwrap().check().unwrap();
            assert_eq!(times, Times { earliest: Some(990), latest: 1900 }, "{codec:?}");
        }
        let batch = sample(Compression::None);
        let header = read_checked(&batch).unwrap();
        // The first record ends with its one header: count, length of the key, the key, no value.
        let end = HEADER_LEN + 1 + usize::from(batch[HEADER_LEN] >> 1);
        assert_eq!(batch[end - 4..end], [2, 2, b'h', 1]);
        let changes = [
            (end - 4, 1, "a negative count of headers"),
            (end - 4, 0, "bytes after the last header of a record"),
            (end - 3, 1, "a header without a key"),
        ];
        for (at, byte, expected) in changes {
            let mut batch = batch.clone();
            batch[at] = byte;
            let error = OpenBatch::decompress(header, &batch).unwrap().check().unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        for (at, byte) in [(end - 4, 4), (end - 3, 8), (end - 1, 9)] {
            let mut batch = batch.clone();
            batch[at] = byte;
            OpenBatch::decompress(header, &batch).unwrap().check().unwrap_err();
        }
    }

    #[test]
    fn every_subset_keeps_its_records_under_every_codec_with_and_without_a_horizon() {
        for codec in CODECS {
            let batch = sample(codec);
            let all = records(&Bytes::from(batch.clone()));
            for (mask, horizon) in (0..16).flat_map(|mask| [(mask, None), (mask, Some(86_400_000))]) {
                let rewritten = keep(&batch, horizon, |r| mask >> (r.offset - 40) & 1 == 1);
                let expected: Vec<_> =
                    all.iter().filter(|r| mask >> (r.offset - 40) & 1 == 1).cloned().collect();
                assert_eq!(records(&rewritten), expected, "{codec:?} {mask:b} {horizon:?}");
                let header = read_checked(&rewritten).unwrap();
                assert_eq!(header.delete_horizon(), horizon);
                assert_eq!(header.compression().unwrap(), codec);
                assert_eq!((header.last_offset(), header.last_sequence()), (43, 8));
                assert_eq!((header.leader_epoch, header.producer_id), (3, 7));
                assert!(header.is_transactional());
                if let Some(max) = expected.iter().map(|r| r.timestamp).max() {
                    assert_eq!(header.max_timestamp, max);
                }
            }
        }
    }

    #[test]
    fn a_batch_under_another_codec_is_the_same_but_for_its_bytes() {
        for (from, to) in CODECS.iter().flat_map(|from| CODECS.map(|to| (*from, to))) {
            let batch = sample(from);
            let before = read_checked(&batch).unwrap();
            let again = OpenBatch::open(&batch).unwrap().recompress(to, Some(1)).unwrap();
            let after = read_checked(&again).unwrap();
            assert_eq!(after.compression().unwrap(), to, "{from:?}");
            let plain = |header| BatchHeader { attributes: 0, size: 0, crc: 0, ..header };
            assert_eq!(plain(after), plain(before), "{from:?} {to:?}");
            assert_eq!(records(&again), records(&Bytes::from(batch)), "{from:?} {to:?}");
        }
    }

    #[test]
    fn a_horizon_outlives_the_next_rewrite() {
        let marked = keep(&sample(Compression::None), Some(5000), |_| true);
        let again = keep(&marked, None, |record| record.value.is_some());
        assert_eq!(read_checked(&again).unwrap().delete_horizon(), Some(5000));
        assert_eq!(records(&again)[1].timestamp, 990);
    }

    #[test]
    fn append_time_stays_the_time_of_every_record() {
        let mut batch = sample(Compression::None);
        assign_append_time(&mut batch, 77_000);
        let rewritten = keep(&batch, Some(90_000), |record| record.offset == 40);
        assert_eq!(records(&rewritten)[0].timestamp, 77_000);
    }

    #[test]
    fn an_emptied_batch_tells_offsets_and_sequence() {
        for codec in CODECS {
            let batch = sample(codec);
            let empty = emptied(&read_checked(&batch).unwrap(), &batch);
            let header = read_checked(&empty).unwrap();
            assert_eq!((header.base_offset, header.last_offset(), header.last_sequence()), (40, 43, 8));
            assert_eq!((header.record_count, header.max_timestamp, header.size), (0, 1900, HEADER_LEN));
            assert!(records(&empty).is_empty());
            OpenBatch::open(&empty).unwrap().visit(|_| panic!("no record is left")).unwrap();
        }
    }

    #[test]
    fn the_length_of_a_varlong_is_what_is_written() {
        let edges = (0..63).flat_map(|bit| [(1i64 << bit) - 1, 1 << bit, -(1 << bit)]);
        for value in edges.chain([i64::MIN, i64::MAX]) {
            let mut out = Vec::new();
            put_varlong(&mut out, value);
            assert_eq!(varlong_len(value), out.len(), "{value}");
        }
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic_even_under_a_right_checksum() {
        for codec in [Compression::None, Compression::Lz4] {
            let good = sample(codec);
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                let outside_checksum = bit / 8 < 8 || (12..16).contains(&(bit / 8));
                assert!(outside_checksum || OpenBatch::open(&bad).is_err(), "bit {bit}");
                seal(&mut bad);
                let Ok(open) = OpenBatch::open(&bad) else { continue };
                let mut spans = Vec::new();
                if open.visit(|record| spans.push(record.span)).is_ok() {
                    let _ = open.rewrite(&spans, Some(1));
                }
            }
        }
    }
}
