//! Kafka's primitive types as its coordinators write them: fixed lengths for the old records, compact ones and tagged
//! fields for those since KIP-482.

use bytes::BufMut;

/// A length or a number as an unsigned varint.
pub fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A string with two bytes of length; what is longer than that allows is cut.
pub fn string(out: &mut Vec<u8>, text: &str) {
    let text = &text[..text.floor_char_boundary(i16::MAX as usize)];
    out.put_i16(text.len() as i16);
    out.extend_from_slice(text.as_bytes());
}

/// What [`string`] has written, and the rest.
pub fn read_string(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = usize::try_from(i16::from_be_bytes(*length)).ok()?;
    let (text, rest) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

pub fn nullable_string(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => string(out, text),
        None => out.put_i16(-1),
    }
}

pub fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_i32(bytes.len() as i32);
    out.extend_from_slice(bytes);
}

/// A compact string or byte array: its length and one, then itself; 0 for null.
pub fn compact(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            compact_length(out, bytes.len());
            out.extend_from_slice(bytes);
        }
        None => out.push(0),
    }
}

pub fn compact_length(out: &mut Vec<u8>, length: usize) {
    varint(out, length as u64 + 1);
}

pub fn no_tags(out: &mut Vec<u8>) {
    out.push(0);
}

/// The only tagged field of a structure.
pub fn one_tag(out: &mut Vec<u8>, tag: u8, field: &[u8]) {
    varint(out, 1);
    out.push(tag);
    varint(out, field.len() as u64);
    out.extend_from_slice(field);
}
