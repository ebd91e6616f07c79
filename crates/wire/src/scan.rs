//! Reading through the records of a batch once, as its codec gives them: nothing is kept, and no more than one piece of
//! the codec's is held, however long a record is.

use std::io::BufRead;

use headwater_model::TimestampMs;

use crate::batch::{BatchError, BatchHeader, HEADER_LEN, MAX_DECOMPRESSED};
use crate::compression::CompressionError;
use crate::filter::{MOST_VARINT, Times, place, take_varint, view};

/// Checks every record to its last byte, and tells when they were written; as [`OpenBatch::check`], for a batch that need
/// not be open.
///
/// `bytes` is the batch that `header` was read from, and whose checksum was right.
///
/// [`OpenBatch::check`]: crate::filter::OpenBatch::check
pub fn scan(header: &BatchHeader, bytes: &[u8]) -> Result<Times, BatchError> {
    let mut room = usize::MAX;
    scan_within(header, bytes, &mut room)
}

/// The same with so much room for what is unpacked, of which what is left is left for other batches.
pub fn scan_within(header: &BatchHeader, bytes: &[u8], room: &mut usize) -> Result<Times, BatchError> {
    let packed = &bytes[HEADER_LEN..header.size];
    let mut pieces = header.compression()?.pieces(packed, MAX_DECOMPRESSED)?;
    let mut unpacked = Unpacked { pieces: &mut *pieces, room: *room, taken: 0, left: 0 };
    let times = through(header, &mut unpacked);
    *room = unpacked.room;
    times
}

fn through(header: &BatchHeader, unpacked: &mut Unpacked<'_>) -> Result<Times, BatchError> {
    let mut scan = Scan { header, seen: 0, previous: -1, times: Times::default() };
    loop {
        let piece = unpacked.piece()?;
        if piece.is_empty() {
            return scan.end();
        }
        let whole = scan.whole(piece)?;
        let is_torn = whole < piece.len();
        unpacked.take(whole)?;
        if is_torn {
            scan.expect_one()?;
            let (delta, timestamp) = unpacked.torn(header)?;
            scan.see(delta, timestamp)?;
        }
    }
}

/// What is known of the records so far.
struct Scan<'a> {
    header: &'a BatchHeader,
    seen: i32,
    /// The place of the last record.
    previous: i64,
    times: Times,
}

impl Scan<'_> {
    /// Reads the records that are whole; returns where the first begins that is not.
    fn whole(&mut self, piece: &[u8]) -> Result<usize, BatchError> {
        let mut at = 0;
        while let Some((start, end)) = body(&piece[at..])?
            && let Some(record) = piece[at..].get(..end)
        {
            self.expect_one()?;
            let view = view(self.header, record, 0, start)?;
            view.check_headers()?;
            self.see(view.offset.wrapping_sub(self.header.base_offset), view.timestamp())?;
            at += end;
        }
        Ok(at)
    }

    #[inline]
    fn expect_one(&self) -> Result<(), BatchError> {
        match self.seen < self.header.record_count {
            true => Ok(()),
            false => Err(BatchError::Invalid("bytes after the last record")),
        }
    }

    #[inline]
    fn see(&mut self, delta: i64, timestamp: TimestampMs) -> Result<(), BatchError> {
        self.previous = place(self.header, delta, self.previous)?;
        self.times.add(timestamp);
        self.seen += 1;
        Ok(())
    }

    fn end(self) -> Result<Times, BatchError> {
        match self.seen == self.header.record_count {
            true => Ok(self.times),
            false => Err(BatchError::Invalid("fewer records than the header counts")),
        }
    }
}

/// Where the record at the start has its body, from and to; `None` when not even the length before it is all there.
#[inline]
fn body(bytes: &[u8]) -> Result<Option<(usize, usize)>, BatchError> {
    if bytes.len() < MOST_VARINT && bytes.iter().all(|byte| byte & 0x80 != 0) {
        return Ok(None);
    }
    let mut start = 0;
    let length = usize::try_from(take_varint(bytes, &mut start)?)
        .map_err(|_| BatchError::Invalid("negative record length"))?;
    Ok(Some((start, start.saturating_add(length))))
}

/// The bytes that come of a batch.
struct Unpacked<'r> {
    pieces: &'r mut dyn BufRead,
    /// So many more may come, of this batch and others.
    room: usize,
    taken: usize,
    /// So many belong to the record that is being read.
    left: usize,
}

impl Unpacked<'_> {
    /// What is there of the piece; nothing at the end.
    fn piece(&mut self) -> Result<&[u8], BatchError> {
        Ok(self.pieces.fill_buf().map_err(CompressionError::from)?)
    }

    fn take(&mut self, bytes: usize) -> Result<(), BatchError> {
        self.pieces.consume(bytes);
        self.taken += bytes;
        if self.taken > MAX_DECOMPRESSED {
            return Err(CompressionError::TooLarge { cap: MAX_DECOMPRESSED }.into());
        }
        if self.room < bytes {
            self.room = 0;
            return Err(CompressionError::NoRoom.into());
        }
        self.room -= bytes;
        Ok(())
    }

    /// Reads a record that ends in another piece than it begins in: its place and its time.
    fn torn(&mut self, header: &BatchHeader) -> Result<(i64, TimestampMs), BatchError> {
        self.left = MOST_VARINT;
        let length = self.varint()?;
        self.left = usize::try_from(length).map_err(|_| BatchError::Invalid("negative record length"))?;
        // Its attributes, of which none is defined.
        self.skip(1)?;
        let timestamp = header.base_timestamp.wrapping_add(self.varlong()?.0);
        let delta = self.varint()?;
        self.skip_bytes()?;
        self.skip_bytes()?;
        let headers = self.varint()?;
        if headers < 0 {
            return Err(BatchError::Invalid("a negative count of headers"));
        }
        for _ in 0..headers {
            if !self.skip_bytes()? {
                return Err(BatchError::Invalid("a header without a key"));
            }
            self.skip_bytes()?;
        }
        match self.left {
            0 => Ok((delta, timestamp)),
            _ => Err(BatchError::Invalid("bytes after the last header of a record")),
        }
    }

    fn skip(&mut self, bytes: usize) -> Result<(), BatchError> {
        let present = self.left;
        self.left = present.checked_sub(bytes).ok_or(BatchError::Truncated { present, needed: bytes })?;
        let mut needed = bytes;
        while needed > 0 {
            let present = self.piece()?.len().min(needed);
            if present == 0 {
                return Err(BatchError::Truncated { present, needed });
            }
            self.take(present)?;
            needed -= present;
        }
        Ok(())
    }

    /// The value, and of how many bytes it is.
    fn varlong(&mut self) -> Result<(i64, usize), BatchError> {
        let mut value = 0u64;
        for at in 0..10 {
            let byte = self.piece()?.first().copied().unwrap_or_default();
            self.skip(1)?;
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(((value >> 1) as i64 ^ -((value & 1) as i64), at + 1));
            }
        }
        Err(BatchError::Invalid("malformed variable-length integer"))
    }

    fn varint(&mut self) -> Result<i64, BatchError> {
        let (value, bytes) = self.varlong()?;
        if bytes > MOST_VARINT {
            return Err(BatchError::Invalid("a count, a length or an offset of more than five bytes"));
        }
        Ok(value)
    }

    /// Steps over a key or a value; whether there is one.
    fn skip_bytes(&mut self) -> Result<bool, BatchError> {
        // Minus one: there is none.
        if self.piece()?.first() == Some(&1) {
            return self.skip(1).map(|()| false);
        }
        let length = usize::try_from(self.varint()?).map_err(|_| BatchError::Invalid("negative length"))?;
        self.skip(length).map(|()| true)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write};

    use bytes::Bytes;
    use headwater_model::Header;
    use lz4_flex::frame::{BlockMode, FrameEncoder, FrameInfo};

    use super::*;
    use crate::batch::BatchBuilder;
    use crate::compression::Compression;
    use crate::filter::{OpenBatch, read_checked};

    const CODECS: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    fn all(header: &BatchHeader, pieces: &mut dyn BufRead) -> Result<Times, BatchError> {
        through(header, &mut Unpacked { pieces, room: usize::MAX, taken: 0, left: 0 })
    }

    fn small(codec: Compression) -> Bytes {
        let mut builder = BatchBuilder::new();
        let headers = [Header { key: "h".into(), value: Some(Bytes::from_static(b"v")) }];
        builder.push(1000, Some(b"a"), Some(b"one"), &headers);
        builder.push(1900, Some(b"b"), None, &[]);
        builder.push(990, None, Some(&[7; 200]), &headers);
        builder.build(codec, None, false).unwrap()
    }

    /// Records of all lengths, and one that is in many pieces of any codec.
    fn large(codec: Compression) -> Bytes {
        let mut builder = BatchBuilder::new();
        for at in 0..200_i64 {
            let value = vec![at as u8; (at * at % 700) as usize];
            builder.push(1000 + at % 7, (at % 3 > 0).then_some(b"key".as_slice()), Some(&value), &[]);
        }
        builder.push(990, None, Some(&vec![7; 300_000]), &[]);
        builder.push(991, None, None, &[]);
        builder.build(codec, None, false).unwrap()
    }

    #[test]
    fn every_codec_gives_all_records_in_its_pieces() {
        for codec in CODECS {
            for (batch, latest) in [(small(codec), 1900), (large(codec), 1006)] {
                let times = scan(&read_checked(&batch).unwrap(), &batch).unwrap();
                assert_eq!(times, Times { earliest: Some(990), latest }, "{codec:?}");
                assert_eq!(times, OpenBatch::open(&batch).unwrap().check().unwrap(), "{codec:?}");
            }
        }
    }

    #[test]
    fn records_are_found_wherever_a_piece_ends() {
        let batch = large(Compression::None);
        let header = read_checked(&batch).unwrap();
        for length in (1..40).chain([1_000, 100_000]) {
            let mut pieces = BufReader::with_capacity(length, &batch[HEADER_LEN..]);
            let times = all(&header, &mut pieces).unwrap();
            assert_eq!(times, Times { earliest: Some(990), latest: 1006 }, "{length}");
        }
    }

    #[test]
    fn what_is_wrong_in_an_open_batch_is_wrong_here() {
        for codec in [Compression::None, Compression::Lz4] {
            let good = small(codec);
            let header = read_checked(&good).unwrap();
            for bit in HEADER_LEN * 8..good.len() * 8 {
                let mut bad = good.to_vec();
                bad[bit / 8] ^= 1 << (bit % 8);
                let open = OpenBatch::received(header, &bad).and_then(|batch| batch.check());
                assert_eq!(scan(&header, &bad).ok(), open.ok(), "{codec:?}, bit {bit}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_found_in_records_that_are_torn_too() {
        let good = small(Compression::None);
        let header = read_checked(&good).unwrap();
        for bit in 0..(good.len() - HEADER_LEN) * 8 {
            let mut bad = good[HEADER_LEN..].to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            let whole = all(&header, &mut bad.as_slice()).ok();
            for length in [1, 3, 20] {
                let mut pieces = BufReader::with_capacity(length, bad.as_slice());
                assert_eq!(all(&header, &mut pieces).ok(), whole, "bit {bit} in pieces of {length}");
            }
        }
    }

    #[test]
    fn what_is_unpacked_is_counted_whether_it_is_taken_or_not() {
        for codec in CODECS {
            let batch = large(codec);
            let header = read_checked(&batch).unwrap();
            let mut room = usize::MAX;
            scan_within(&header, &batch, &mut room).unwrap();
            let needed = usize::MAX - room;
            assert_eq!(needed, large(Compression::None).len() - HEADER_LEN, "{codec:?}");
            room = 2 * needed;
            let more = BatchHeader { record_count: 203, ..header };
            assert!(scan_within(&more, &batch, &mut room).is_err(), "{codec:?}");
            scan_within(&header, &batch, &mut room).unwrap();
            assert_eq!(room, 0, "{codec:?}");
            let error = scan_within(&header, &batch, &mut room).unwrap_err();
            assert!(matches!(error, BatchError::Compression(CompressionError::NoRoom)), "{codec:?}: {error}");
        }
    }

    #[test]
    fn records_are_as_many_as_the_header_counts() {
        let batch = large(Compression::Lz4);
        let header = read_checked(&batch).unwrap();
        for (record_count, expected) in [(201, "bytes after the last record"), (203, "fewer records")] {
            let error = scan(&BatchHeader { record_count, ..header }, &batch).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn an_lz4_frame_is_taken_as_kafkas_own_readers_take_it() {
        let (plain, good) = (small(Compression::None), small(Compression::Lz4));
        let (header, body) = (read_checked(&good).unwrap(), &plain[HEADER_LEN..]);
        let framed = |info: FrameInfo, body: &[u8]| {
            let mut frame = FrameEncoder::with_frame_info(info, Vec::new());
            frame.write_all(body).unwrap();
            frame.finish().unwrap()
        };
        let scanned = |frame: &[u8]| {
            let bytes = [&good[..HEADER_LEN], frame].concat();
            scan(&BatchHeader { size: bytes.len(), ..header }, &bytes)
        };
        let rich = FrameInfo::new().block_checksums(true).content_checksum(true);
        for info in [FrameInfo::new(), rich.content_size(Some(body.len() as u64))] {
            assert_eq!(scanned(&framed(info, body)).unwrap().latest, 1900);
        }
        let (whole, none) = (framed(FrameInfo::new(), body), framed(FrameInfo::new(), &[]));
        let unended = &whole[..whole.len() - 4];
        let refused = [
            ("dependent blocks", framed(FrameInfo::new().block_mode(BlockMode::Linked), body)),
            ("no end", unended.to_vec()),
            ("half an end", whole[..whole.len() - 2].to_vec()),
            // One compressed block, of a token that stands for nothing.
            ("a block of nothing", [unended, &[1, 0, 0, 0, 0, 0, 0, 0, 0][..]].concat()),
            ("the same again", [&whole[..], &whole[..]].concat()),
            ("another of nothing", [&whole[..], &none[..]].concat()),
        ];
        for (what, frame) in refused {
            assert!(scanned(&frame).is_err(), "{what}");
        }
        for cut in 1..body.len() {
            let (one, other) = body.split_at(cut);
            let two = [framed(FrameInfo::new(), one), framed(FrameInfo::new(), other)].concat();
            assert!(scanned(&two).is_err(), "cut at {cut}");
        }
    }

    /// Java's readers refuse such a length, though it says what is right.
    #[test]
    fn a_length_takes_no_more_bytes_than_readers_take() {
        let batch = small(Compression::None);
        let header = read_checked(&batch).unwrap();
        let (length, rest) = (batch[HEADER_LEN], &batch[HEADER_LEN + 1..]);
        let with = |padding: usize| {
            let mut body = vec![length | 0x80];
            body.extend(std::iter::repeat_n(0x80, padding));
            body.push(0);
            body.extend_from_slice(rest);
            all(&header, &mut body.as_slice())
        };
        assert_eq!(with(3).unwrap().latest, 1900);
        let error = with(4).unwrap_err();
        assert!(error.to_string().contains("five bytes"), "{error}");
    }
}
