//! `compression.type`: how a topic keeps its batches.

/// The codec of stored batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CompressionType {
    /// Whatever the producer chose.
    #[default]
    Producer,
    Uncompressed,
    /// With its level; −1 for the codec's own.
    Gzip(i32),
    Snappy,
    Lz4,
    Zstd(i32),
}

impl CompressionType {
    /// Reads a value that was checked when it was set; whatever else is the producer's.
    pub fn parse(value: &str, gzip_level: i64, zstd_level: i64) -> Self {
        let level = |level: i64| i32::try_from(level).unwrap_or(-1);
        match value {
            "uncompressed" => Self::Uncompressed,
            "gzip" => Self::Gzip(level(gzip_level)),
            "snappy" => Self::Snappy,
            "lz4" => Self::Lz4,
            "zstd" => Self::Zstd(level(zstd_level)),
            _ => Self::Producer,
        }
    }
}
