//! Passing over what the reader does not want.

use crate::SchemaError;
use crate::binary::Cursor;
use crate::node::{Kind, NodeId, Types};

/// Passes over a value that the reader does not want.
pub fn skip(types: &Types, id: NodeId, cursor: &mut Cursor<'_>) -> Result<(), SchemaError> {
    match types.kind(id) {
        Kind::Null => Ok(()),
        Kind::Boolean => cursor.boolean().map(|_| ()),
        Kind::Int | Kind::Long => cursor.long().map(|_| ()),
        Kind::Float => cursor.take(4).map(|_| ()),
        Kind::Double => cursor.take(8).map(|_| ()),
        Kind::Bytes | Kind::String => cursor.bytes().map(|_| ()),
        Kind::Fixed(fixed) => cursor.take(fixed.size).map(|_| ()),
        Kind::Enum(symbols) => cursor.index("symbol", symbols.symbols.len()).map(|_| ()),
        Kind::Union(branches) => {
            let index = cursor.index("branch", branches.len())?;
            skip(types, branches[index], cursor)
        }
        Kind::Record(record) => {
            cursor.enter()?;
            record.fields.iter().try_for_each(|field| skip(types, field.node, cursor))?;
            cursor.leave();
            Ok(())
        }
        Kind::Array(items) => skip_blocks(types, *items, false, cursor),
        Kind::Map(values) => skip_blocks(types, *values, true, cursor),
    }
}

fn skip_blocks(types: &Types, items: NodeId, keys: bool, cursor: &mut Cursor<'_>) -> Result<(), SchemaError> {
    cursor.enter()?;
    loop {
        let block = cursor.block()?;
        if block.items == 0 {
            cursor.leave();
            return Ok(());
        }
        if let Some(size) = block.size {
            cursor.take(size)?;
            continue;
        }
        for _ in 0..block.items {
            if keys {
                cursor.bytes()?;
            }
            skip(types, items, cursor)?;
        }
    }
}
