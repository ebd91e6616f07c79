//! `compression.type`: a topic that asks for a codec of its own has its batches packed again.

use bytes::Bytes;
use headwater_coordinator::{CompressionType, TopicSettings};
use headwater_wire::filter::OpenBatch;
use headwater_wire::{BatchError, BatchHeader, Compression};

/// The batch as the topic keeps it. One that comes in the topic's codec stays as it is, whatever its level.
pub fn repack(settings: &TopicSettings, header: &BatchHeader, bytes: Bytes) -> Result<Bytes, BatchError> {
    let (codec, level) = match settings.compression {
        CompressionType::Producer => return Ok(bytes),
        CompressionType::Uncompressed => (Compression::None, None),
        CompressionType::Gzip(level) => (Compression::Gzip, Some(level)),
        CompressionType::Snappy => (Compression::Snappy, None),
        CompressionType::Lz4 => (Compression::Lz4, None),
        CompressionType::Zstd(level) => (Compression::Zstd, Some(level)),
    };
    if header.compression()? == codec {
        return Ok(bytes);
    }
    OpenBatch::decompress(*header, &bytes)?.recompress(codec, level)
}
