//! How the bytes that stores have become what a column has, and back.

use headwater_model::{Bytes, TimestampMs};
use headwater_streams::ColumnType;

/// A value of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    Bytes(Bytes),
    /// Text, and JSON.
    Text(String),
    BigInt(i64),
}

/// `None` if the bytes are not of that type: the reason.
pub(crate) fn cell(column: ColumnType, bytes: &[u8]) -> Result<Cell, &'static str> {
    match column {
        ColumnType::Bytes => Ok(Cell::Bytes(Bytes::copy_from_slice(bytes))),
        ColumnType::Text | ColumnType::Json => match std::str::from_utf8(bytes) {
            Ok(text) if text.contains('\0') => Err("it has a zero character, which text cannot have"),
            Ok(text) => Ok(Cell::Text(text.to_owned())),
            Err(_) => Err("it is not UTF-8"),
        },
        ColumnType::BigInt => {
            let eight: Result<[u8; 8], _> = bytes.try_into();
            eight.map(|eight| Cell::BigInt(i64::from_be_bytes(eight))).map_err(|_| "it has not eight bytes")
        }
    }
}

impl Cell {
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Text(text) => Bytes::from(text),
            Self::BigInt(number) => Bytes::copy_from_slice(&number.to_be_bytes()),
        }
    }
}

/// Stores have `timestamp | value`.
pub(crate) fn split(stored: &[u8]) -> Result<(TimestampMs, &[u8]), &'static str> {
    let (time, value) = stored.split_first_chunk::<8>().ok_or("it is shorter than a timestamp")?;
    Ok((i64::from_be_bytes(*time), value))
}

pub(crate) fn joined(timestamp: TimestampMs, value: &[u8]) -> Bytes {
    [&timestamp.to_be_bytes()[..], value].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let number = (-3_i64).to_be_bytes();
        for (column, bytes) in [
            (ColumnType::Bytes, &b"\xff\0"[..]),
            (ColumnType::Text, "tée".as_bytes()),
            (ColumnType::Json, &br#"{"a":1}"#[..]),
            (ColumnType::BigInt, &number[..]),
        ] {
            assert_eq!(cell(column, bytes).unwrap().into_bytes(), bytes);
        }
        let stored = joined(-5, b"v");
        assert_eq!(split(&stored), Ok((-5, &b"v"[..])));
    }

    #[test]
    fn bytes_of_another_type_are_refused() {
        assert_eq!(cell(ColumnType::BigInt, b"1"), Err("it has not eight bytes"));
        assert_eq!(cell(ColumnType::Text, b"\xff"), Err("it is not UTF-8"));
        assert!(cell(ColumnType::Json, b"a\0").is_err());
        assert!(split(b"short").is_err());
    }
}
