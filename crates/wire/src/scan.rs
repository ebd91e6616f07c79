//! Reading through the records of a batch once, as its codec gives them: nothing is kept.
//!
//! What is held is one piece of the codec's, and a record that lies in several of them.

use std::io::BufRead;

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
    let packed = &bytes[HEADER_LEN..header.size];
    let mut pieces = header.compression()?.pieces(packed, MAX_DECOMPRESSED)?;
    through(header, &mut *pieces)
}

fn through(header: &BatchHeader, pieces: &mut dyn BufRead) -> Result<Times, BatchError> {
    let mut scan = Scan { header, seen: 0, previous: -1, times: Times::default(), torn: Vec::new() };
    let mut unpacked = 0;
    loop {
        let piece = pieces.fill_buf().map_err(CompressionError::from)?;
        let length = piece.len();
        if length == 0 {
            return scan.end();
        }
        unpacked += length;
        if unpacked > MAX_DECOMPRESSED {
            return Err(CompressionError::TooLarge { cap: MAX_DECOMPRESSED }.into());
        }
        scan.piece(piece)?;
        pieces.consume(length);
    }
}

struct Scan<'a> {
    header: &'a BatchHeader,
    seen: i32,
    /// The place of the last record.
    previous: i64,
    times: Times,
    /// The beginning of a record whose end is in a piece to come.
    torn: Vec<u8>,
}

/// Where a record has its body, counted from the length before it.
struct Body {
    start: usize,
    end: usize,
}

/// `None` when not even the length is all there.
#[inline]
fn body(bytes: &[u8]) -> Result<Option<Body>, BatchError> {
    if bytes.len() < MOST_VARINT && bytes.iter().all(|byte| byte & 0x80 != 0) {
        return Ok(None);
    }
    let mut start = 0;
    let length = usize::try_from(take_varint(bytes, &mut start)?)
        .map_err(|_| BatchError::Invalid("negative record length"))?;
    Ok(Some(Body { start, end: start.saturating_add(length) }))
}

impl Scan<'_> {
    fn piece(&mut self, piece: &[u8]) -> Result<(), BatchError> {
        let mut rest = self.mend(piece)?;
        while let Some(Body { start, end }) = body(rest)?
            && let Some((record, after)) = rest.split_at_checked(end)
        {
            self.record(record, start)?;
            rest = after;
        }
        self.torn.extend_from_slice(rest);
        Ok(())
    }

    /// Takes of the piece what the torn record lacks; returns what is behind it.
    fn mend<'p>(&mut self, mut piece: &'p [u8]) -> Result<&'p [u8], BatchError> {
        while !self.torn.is_empty() && !piece.is_empty() {
            let body = body(&self.torn)?;
            let lacking = body.as_ref().map_or(1, |body| body.end.saturating_sub(self.torn.len()));
            let (more, after) = piece.split_at(lacking.min(piece.len()));
            self.torn.extend_from_slice(more);
            piece = after;
            if let Some(Body { start, end }) = body
                && end == self.torn.len()
            {
                let mut torn = std::mem::take(&mut self.torn);
                self.record(&torn, start)?;
                torn.clear();
                self.torn = torn;
            }
        }
        Ok(piece)
    }

    #[inline]
    fn record(&mut self, record: &[u8], start: usize) -> Result<(), BatchError> {
        if self.seen >= self.header.record_count {
            return Err(BatchError::Invalid("bytes after the last record"));
        }
        let view = view(self.header, record, 0, start)?;
        self.previous = place(self.header, &view, self.previous)?;
        view.check_headers()?;
        self.times.add(&view);
        self.seen += 1;
        Ok(())
    }

    fn end(self) -> Result<Times, BatchError> {
        if !self.torn.is_empty() {
            let present = self.torn.len();
            let needed = body(&self.torn)?.map_or(present + 1, |body| body.end);
            return Err(BatchError::Truncated { present, needed });
        }
        if self.seen != self.header.record_count {
            return Err(BatchError::Invalid("fewer records than the header counts"));
        }
        Ok(self.times)
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use bytes::Bytes;
    use headwater_model::Header;

    use super::*;
    use crate::batch::BatchBuilder;
    use crate::compression::Compression;
    use crate::filter::{OpenBatch, read_checked};

    const CODECS: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

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
            let times = through(&header, &mut pieces).unwrap();
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
                let open = OpenBatch::decompress(header, &bad).and_then(|batch| batch.check());
                assert_eq!(scan(&header, &bad).ok(), open.ok(), "{codec:?}, bit {bit}");
            }
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
            through(&header, &mut body.as_slice())
        };
        assert_eq!(with(3).unwrap().latest, 1900);
        let error = with(4).unwrap_err();
        assert!(error.to_string().contains("five bytes"), "{error}");
    }
}
