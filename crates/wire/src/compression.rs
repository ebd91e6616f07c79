//! Compression of record batches, decompressed only under a cap.

use std::io::{self, BufRead, BufReader, Cursor, Read, Write};

use lz4_flex::frame::{FrameDecoder, FrameEncoder};
use thiserror::Error;

/// The codec in the low three bits of a batch's attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Debug, Error)]
pub enum CompressionError {
    #[error("decompress: codec {0} is not one of Kafka's five")]
    UnknownCodec(i16),
    #[error("decompress: the records are larger than the limit of {cap} bytes")]
    TooLarge { cap: usize },
    #[error("decompress: the batches of one request are larger than they may be together")]
    NoRoom,
    #[error("decompress or compress the records")]
    Io(#[from] io::Error),
    #[error("decompress: malformed snappy block")]
    Snappy,
    #[error("decompress: {0}")]
    Lz4(&'static str),
}

/// The frame that snappy-java (and so every Java client) puts around its blocks.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER: usize = 16;
/// 128 MiB: what zstd's readers allow by default, and so Kafka's. Levels from 20 on have windows of more than 8 MiB, which
/// are told by whoever does not know beforehand how much will come.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// What is unpacked at a time where the codec has no pieces of its own.
const PIECE: usize = 64 << 10;
/// The flag of an lz4 frame whose blocks do not depend on each other.
const LZ4_INDEPENDENT: u8 = 1 << 5;

impl Compression {
    pub fn from_attributes(attributes: i16) -> Result<Self, CompressionError> {
        Ok(match attributes & 0x07 {
            0 => Self::None,
            1 => Self::Gzip,
            2 => Self::Snappy,
            3 => Self::Lz4,
            4 => Self::Zstd,
            other => return Err(CompressionError::UnknownCodec(other)),
        })
    }

    pub fn attributes(self) -> i16 {
        self as i16
    }

    /// At the codec's usual level.
    pub fn compress(self, plain: &[u8]) -> Result<Vec<u8>, CompressionError> {
        self.compress_at(None, plain)
    }

    /// Gzip has levels from 1 to 9, zstd up to 22 and below 0; the other codecs have none.
    pub fn compress_at(self, level: Option<i32>, plain: &[u8]) -> Result<Vec<u8>, CompressionError> {
        Ok(match self {
            Self::None => plain.to_vec(),
            Self::Gzip => {
                let level = level.and_then(|level| u32::try_from(level).ok()).filter(|level| *level <= 9);
                let level = level.map_or_else(flate2::Compression::fast, flate2::Compression::new);
                let mut out = flate2::write::GzEncoder::new(Vec::new(), level);
                out.write_all(plain)?;
                out.finish()?
            }
            Self::Snappy => {
                snap::raw::Encoder::new().compress_vec(plain).map_err(|_| CompressionError::Snappy)?
            }
            Self::Lz4 => {
                let mut out = FrameEncoder::new(Vec::new());
                out.write_all(plain)?;
                out.finish().map_err(io::Error::other)?
            }
            // All at once: its tables are then as large as what is there, and not as the level's window, of which 22 takes most of a GiB.
            Self::Zstd => zstd::bulk::compress(plain, level.unwrap_or(3))?,
        })
    }

    /// Decompresses at most `cap` bytes; a larger result is an error, and at most `cap + 1` bytes
    /// are ever held.
    pub fn decompress(self, packed: &[u8], cap: usize) -> Result<Vec<u8>, CompressionError> {
        match self {
            Self::None if packed.len() > cap => Err(CompressionError::TooLarge { cap }),
            Self::None => Ok(packed.to_vec()),
            Self::Gzip => read_capped(flate2::read::MultiGzDecoder::new(packed), cap),
            Self::Snappy => snappy(packed, cap),
            Self::Lz4 => read_capped(FrameDecoder::new(packed), cap),
            Self::Zstd => read_capped(zstd_decoder(packed)?, cap),
        }
    }

    /// As [`Self::decompress`], of what a client has sent: as Kafka's own readers take it.
    pub fn decompress_received(self, packed: &[u8], cap: usize) -> Result<Vec<u8>, CompressionError> {
        match self {
            Self::Snappy => received_snappy(packed, cap),
            Self::Lz4 => read_capped(Lz4Frame::new(packed)?, cap),
            codec => codec.decompress(packed, cap),
        }
    }

    /// Gives what a client has sent a piece at a time, and nothing when it is over. How much comes in all is for the caller to
    /// bound; snappy has blocks of any size, and gives all at once, `cap` bytes at most.
    pub fn pieces(self, packed: &[u8], cap: usize) -> Result<Box<dyn BufRead + '_>, CompressionError> {
        let pieces: Box<dyn BufRead + '_> = match self {
            Self::None => Box::new(packed),
            Self::Gzip => {
                Box::new(BufReader::with_capacity(PIECE, flate2::bufread::MultiGzDecoder::new(packed)))
            }
            Self::Snappy => Box::new(Cursor::new(received_snappy(packed, cap)?)),
            Self::Lz4 => Box::new(Lz4Frame::new(packed)?),
            Self::Zstd => Box::new(BufReader::with_capacity(PIECE, zstd_decoder(packed)?)),
        };
        Ok(pieces)
    }
}

/// An lz4 frame as Kafka's own readers take it: of independent blocks, with its end, and nothing behind that. The decoder
/// takes what breaks off, or has a block of nothing, for what has ended.
struct Lz4Frame<'a> {
    decoder: FrameDecoder<Unread<'a>>,
    has_ended: bool,
}

impl<'a> Lz4Frame<'a> {
    fn new(packed: &'a [u8]) -> Result<Self, CompressionError> {
        let [0x04, 0x22, 0x4d, 0x18, flags, ..] = packed else {
            return Err(CompressionError::Lz4("no lz4 frame"));
        };
        if flags & LZ4_INDEPENDENT == 0 {
            return Err(CompressionError::Lz4(
                "an lz4 frame of blocks that depend on each other, which Kafka does not read: make them independent",
            ));
        }
        Ok(Self { decoder: FrameDecoder::new(Unread(packed)), has_ended: false })
    }
}

impl BufRead for Lz4Frame<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if !self.has_ended && self.decoder.fill_buf()?.is_empty() {
            self.has_ended = true;
            if !self.decoder.get_ref().0.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "bytes behind the end of an lz4 frame",
                ));
            }
        }
        match self.has_ended {
            true => Ok(&[]),
            false => self.decoder.fill_buf(),
        }
    }

    fn consume(&mut self, amount: usize) {
        self.decoder.consume(amount);
    }
}

impl Read for Lz4Frame<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut piece = self.fill_buf()?;
        let read = piece.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

/// What is left of a frame. Nobody reads on who has found the frame's end.
struct Unread<'a>(&'a [u8]);

impl Read for Unread<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an lz4 frame without its end"));
        }
        self.0.read(buffer)
    }
}

fn zstd_decoder(packed: &[u8]) -> io::Result<zstd::stream::read::Decoder<'static, &[u8]>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(decoder)
}

fn read_capped(reader: impl Read, cap: usize) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::new();
    reader.take(cap as u64 + 1).read_to_end(&mut out)?;
    if out.len() > cap {
        return Err(CompressionError::TooLarge { cap });
    }
    Ok(out)
}

fn snappy(packed: &[u8], cap: usize) -> Result<Vec<u8>, CompressionError> {
    if !packed.starts_with(XERIAL_MAGIC) {
        return snappy_block(packed, cap);
    }
    let mut rest = packed.get(XERIAL_HEADER..).ok_or(CompressionError::Snappy)?;
    let mut out = Vec::new();
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or(CompressionError::Snappy)?;
        let length = u32::from_be_bytes(*length) as usize;
        let block = after.get(..length).ok_or(CompressionError::Snappy)?;
        out.extend(snappy_block(block, cap - out.len())?);
        rest = &after[length..];
    }
    Ok(out)
}

/// Java's readers know of no version of the frame before the first.
fn received_snappy(packed: &[u8], cap: usize) -> Result<Vec<u8>, CompressionError> {
    let version = packed.strip_prefix(XERIAL_MAGIC).and_then(|behind| behind.first_chunk::<4>());
    if version.is_some_and(|version| i32::from_be_bytes(*version) < 1) {
        return Err(CompressionError::Snappy);
    }
    snappy(packed, cap)
}

fn snappy_block(block: &[u8], cap: usize) -> Result<Vec<u8>, CompressionError> {
    let length = snap::raw::decompress_len(block).map_err(|_| CompressionError::Snappy)?;
    if length > cap {
        return Err(CompressionError::TooLarge { cap });
    }
    snap::raw::Decoder::new().decompress_vec(block).map_err(|_| CompressionError::Snappy)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    #[test]
    fn every_codec_returns_what_it_was_given() {
        let plain: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        for codec in ALL {
            let packed = codec.compress(&plain).unwrap();
            assert_eq!(codec.decompress(&packed, plain.len()).unwrap(), plain, "{codec:?}");
        }
    }

    #[test]
    fn snappy_is_taken_with_its_frame_of_the_first_version_and_without_one() {
        let plain = [7; 1000];
        let block = Compression::Snappy.compress(&plain).unwrap();
        let framed = |version: i32| {
            let (version, length) = (version.to_be_bytes(), (block.len() as u32).to_be_bytes());
            [XERIAL_MAGIC, &version[..], &version[..], &length[..], &block[..], &length[..], &block[..]]
                .concat()
        };
        let received = |packed: &[u8]| Compression::Snappy.decompress_received(packed, 2000);
        assert_eq!(received(&block).unwrap(), plain);
        assert_eq!(received(&framed(1)).unwrap(), [7; 2000]);
        assert!(received(&framed(0)).is_err());
        assert!(Compression::Snappy.pieces(&framed(0), 2000).is_err());
    }

    /// Kafka's producers write so under levels from 20 on.
    #[test]
    fn the_largest_window_of_zstd_is_read() {
        let plain: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&plain).unwrap();
        let packed = encoder.finish().unwrap();
        assert_eq!(Compression::Zstd.decompress(&packed, plain.len()).unwrap(), plain);
    }

    #[test]
    fn a_bomb_is_refused_at_the_cap() {
        let plain = vec![0u8; 1 << 20];
        for codec in ALL {
            let packed = codec.compress(&plain).unwrap();
            let error = codec.decompress(&packed, 1000).unwrap_err();
            assert!(matches!(error, CompressionError::TooLarge { cap: 1000 }), "{codec:?}: {error}");
        }
    }
}
