//! Confluent's wire format: a zero byte, the schema's id (big-endian), then the Avro body.

use bytes::{BufMut, Bytes, BytesMut};

use crate::SchemaError;

const MAGIC: u8 = 0;
const HEADER: usize = 5;

/// Puts the id of the writer's schema before a body.
pub fn frame(id: u32, body: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(HEADER + body.len());
    framed.put_u8(MAGIC);
    framed.put_u32(id);
    framed.put_slice(body);
    framed.freeze()
}

/// The id of the writer's schema, and the body, which shares the bytes it is given.
pub fn unframe(bytes: &Bytes) -> Result<(u32, Bytes), SchemaError> {
    let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(SchemaError::NotFramed { reason: "it is shorter than the 5 bytes of a schema id" });
    };
    let [MAGIC, id @ ..] = *header else {
        return Err(SchemaError::NotFramed { reason: "its first byte is not 0" });
    };
    Ok((u32::from_be_bytes(id), bytes.slice(HEADER..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_as_confluent_does() {
        let framed = frame(258, b"body");
        assert_eq!(&framed[..], b"\0\0\0\x01\x02body");
        assert_eq!(unframe(&framed), Ok((258, Bytes::from_static(b"body"))));
    }

    #[test]
    fn what_is_not_framed_is_refused() {
        assert!(unframe(&Bytes::from_static(b"\0\0\0\x01")).is_err());
        assert!(unframe(&Bytes::from_static(b"{\"a\":1}")).is_err());
    }
}
