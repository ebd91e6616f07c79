//! Whether bytes are a value of a schema, without making the value.

use crate::binary::Cursor;
use crate::node::{Kind, NodeId, Types};
use crate::{AvroSchema, SchemaError};

/// Parts that a value may have for each of its bytes.
const PARTS_A_BYTE: usize = 4;

impl AvroSchema {
    /// As [`Self::verify`], for many bodies of one request: `free` is how many parts without bytes of their own (nulls,
    /// records, empty fixed values) all of them may have together, and is used up here.
    ///
    /// # Errors
    /// As [`Self::verify`], and when `free` is used up.
    pub fn verify_within(&self, body: &[u8], free: &mut usize) -> Result<(), SchemaError> {
        let paid = body.len().saturating_mul(PARTS_A_BYTE);
        let mut cursor = Cursor::within(body, paid.saturating_add(*free));
        let verified = verify(self.types(), self.types().root, &mut cursor);
        *free = cursor.budget().min(*free);
        verified?;
        cursor.finish()
    }

    /// Whether the body is exactly one value of this schema: every number in its range, every string UTF-8, nothing left
    /// over.
    ///
    /// # Errors
    /// [`SchemaError`] that says where in the value it is not.
    pub fn verify(&self, body: &[u8]) -> Result<(), SchemaError> {
        let mut cursor = Cursor::new(body);
        verify(self.types(), self.types().root, &mut cursor)?;
        cursor.finish()
    }
}

fn verify(types: &Types, id: NodeId, cursor: &mut Cursor<'_>) -> Result<(), SchemaError> {
    cursor.spend(1)?;
    match types.kind(id) {
        Kind::Null => Ok(()),
        Kind::Boolean => cursor.boolean().map(drop),
        Kind::Int => cursor.int().map(drop),
        Kind::Long => cursor.long().map(drop),
        Kind::Float => cursor.float().map(drop),
        Kind::Double => cursor.double().map(drop),
        Kind::Bytes => cursor.bytes().map(drop),
        Kind::String => cursor.string().map(drop),
        Kind::Fixed(fixed) => cursor.take(fixed.size).map(drop),
        Kind::Enum(symbols) => cursor.index("symbol", symbols.symbols.len()).map(drop),
        Kind::Union(branches) => {
            let index = cursor.index("branch", branches.len())?;
            verify(types, branches[index], cursor)
        }
        Kind::Record(record) => {
            cursor.enter()?;
            for field in &record.fields {
                verify(types, field.node, cursor).map_err(|error| error.at(&field.name))?;
            }
            cursor.leave();
            Ok(())
        }
        Kind::Array(items) => blocks(types, *items, false, cursor),
        Kind::Map(values) => blocks(types, *values, true, cursor),
    }
}

fn blocks(types: &Types, items: NodeId, keys: bool, cursor: &mut Cursor<'_>) -> Result<(), SchemaError> {
    cursor.enter()?;
    loop {
        let block = cursor.block()?;
        if block.items == 0 {
            cursor.leave();
            return Ok(());
        }
        let before = cursor.remaining();
        for _ in 0..block.items {
            if keys {
                cursor.string()?;
            }
            verify(types, items, cursor)?;
        }
        let took = before - cursor.remaining();
        if let Some(size) = block.size.filter(|size| *size != took) {
            return Err(SchemaError::decode(format_args!("a block of {size} bytes takes {took}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::AvroCodec;

    const ORDER: &str = r#"{"type":"record","name":"Order","fields":[{"name":"id","type":"int"},
        {"name":"tags","type":{"type":"array","items":"string"}},{"name":"note","type":["null","string"]}]}"#;

    #[test]
    fn a_value_is_told_from_each_of_its_parts_and_from_more_than_it() {
        let schema = AvroSchema::parse(ORDER).unwrap();
        let body = AvroCodec::from_json(&schema, &json!({"id": 7, "tags": ["a", "b"], "note": "n"})).unwrap();
        assert_eq!(schema.verify(&body), Ok(()));
        for end in 0..body.len() {
            assert!(schema.verify(&body[..end]).is_err(), "{end} bytes");
        }
        assert!(schema.verify(&[&body[..], b"\0"].concat()).is_err());
    }

    #[test]
    fn what_has_no_bytes_is_paid_for_by_all_bodies_together() {
        let nulls: Vec<_> = (0..100).map(|at| json!({"name": format!("n{at}"), "type": "null"})).collect();
        let record = json!({"type": "record", "name": "Nulls", "fields": nulls});
        let schema = AvroSchema::parse(&json!({"type": "array", "items": record}).to_string()).unwrap();
        let body = [20, 0];
        let mut free = 1_800;
        assert_eq!(schema.verify_within(&body, &mut free), Ok(()));
        assert!((400..1_600).contains(&free), "{free}");
        assert!(schema.verify_within(&body, &mut free).is_err());
        assert_eq!(AvroSchema::parse(r#""string""#).unwrap().verify_within(b"\x02a", &mut free), Ok(()));
    }

    #[test]
    fn what_a_skipping_reader_would_pass_is_found() {
        let verify = |schema: &str, body: &[u8]| AvroSchema::parse(schema).unwrap().verify(body).is_err();
        assert!(verify(r#""string""#, b"\x02\xff"), "no UTF-8");
        assert!(verify(r#""boolean""#, b"\x02"), "neither true nor false");
        assert!(verify(r#""int""#, b"\xfe\xff\xff\xff\xff\x01"), "more than 32 bits");
        let strings = r#"{"type":"array","items":"string"}"#;
        assert!(verify(strings, b"\x01\x04\x02\xff\0"), "within a block that says its size");
        assert!(verify(strings, b"\x01\x02\x02a\0"), "a block of another size than it says");
        assert!(!verify(strings, b"\x01\x04\x02a\0"));
    }
}
