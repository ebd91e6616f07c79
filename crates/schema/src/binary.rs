//! Avro's primitives as bytes: zigzag varints, lengths, blocks.
//!
//! A [`Cursor`] believes nothing: lengths are checked against what is left, and what takes no bytes at
//! all (an array of nulls, a record that contains itself) is paid for from a budget.

use crate::SchemaError;

/// Deeper values are refused, so that bytes cannot use up the stack.
pub const MAX_DEPTH: u32 = 128;
/// Items and records without a byte of their own that one value may have on top of its size.
const FREE_ITEMS: usize = 65_536;

pub fn put_long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

pub struct Cursor<'d> {
    rest: &'d [u8],
    depth: u32,
    budget: usize,
}

impl<'d> Cursor<'d> {
    pub fn new(bytes: &'d [u8]) -> Self {
        Self { rest: bytes, depth: 0, budget: bytes.len() + FREE_ITEMS }
    }

    /// As [`Self::new`], with another budget.
    pub fn within(bytes: &'d [u8], budget: usize) -> Self {
        Self { rest: bytes, depth: 0, budget }
    }

    /// What is left of it.
    pub fn budget(&self) -> usize {
        self.budget
    }

    /// For bytes of a default inside of a value: it is as deep as the value is there.
    pub fn nested<'o>(&self, bytes: &'o [u8]) -> Cursor<'o> {
        Cursor { rest: bytes, depth: self.depth, budget: self.budget }
    }

    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub fn finish(self) -> Result<(), SchemaError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(SchemaError::decode(format_args!("{left} bytes are left over after the value"))),
        }
    }

    /// Goes one level deeper; the caller leaves again when the value is read.
    pub fn enter(&mut self) -> Result<(), SchemaError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(SchemaError::decode(format_args!(
                "the value is nested deeper than {MAX_DEPTH} levels"
            )));
        }
        self.spend(1)
    }

    pub fn leave(&mut self) {
        self.depth -= 1;
    }

    pub fn spend(&mut self, items: usize) -> Result<(), SchemaError> {
        let left = self.budget.checked_sub(items);
        self.budget = left.ok_or_else(|| SchemaError::decode("it claims more items than its size allows"))?;
        Ok(())
    }

    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'d [u8], SchemaError> {
        match self.rest.split_at_checked(count) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.short(count)),
        }
    }

    #[cold]
    fn short(&self, needed: usize) -> SchemaError {
        SchemaError::decode(format_args!("{needed} bytes are needed, {} are left", self.rest.len()))
    }

    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], SchemaError> {
        match self.rest.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => Err(self.short(N)),
        }
    }

    #[inline]
    pub fn long(&mut self) -> Result<i64, SchemaError> {
        let mut value = 0_u64;
        for (place, byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                if place == 9 && *byte > 1 {
                    break;
                }
                self.rest = &self.rest[place + 1..];
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(if self.rest.len() < 10 {
            self.short(self.rest.len() + 1)
        } else {
            SchemaError::decode("an integer is too long")
        })
    }

    #[inline]
    pub fn int(&mut self) -> Result<i32, SchemaError> {
        let value = self.long()?;
        i32::try_from(value)
            .map_err(|_| SchemaError::decode(format_args!("{value} is out of the range of int")))
    }

    pub fn boolean(&mut self) -> Result<bool, SchemaError> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(SchemaError::decode(format_args!("a boolean is 0 or 1, not {other}"))),
        }
    }

    pub fn float(&mut self) -> Result<f32, SchemaError> {
        self.array().map(f32::from_le_bytes)
    }

    pub fn double(&mut self) -> Result<f64, SchemaError> {
        self.array().map(f64::from_le_bytes)
    }

    #[inline]
    pub fn bytes(&mut self) -> Result<&'d [u8], SchemaError> {
        let length = self.long()?;
        match usize::try_from(length) {
            Ok(length) => self.take(length),
            Err(_) => Err(SchemaError::decode(format_args!("a length is {length}"))),
        }
    }

    #[inline]
    pub fn string(&mut self) -> Result<&'d str, SchemaError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| SchemaError::decode("a string is not UTF-8"))
    }

    /// The index of an enum's symbol or a union's branch.
    #[inline]
    pub fn index(&mut self, what: &str, count: usize) -> Result<usize, SchemaError> {
        let index = self.long()?;
        match usize::try_from(index) {
            Ok(valid) if valid < count => Ok(valid),
            _ => Err(SchemaError::decode(format_args!("{what} {index} of {count}"))),
        }
    }

    /// The number of items in the next block, 0 at the end. With a negative count comes the block's size
    /// in bytes, which `skip` uses to jump.
    pub fn block(&mut self) -> Result<Block, SchemaError> {
        let count = self.long()?;
        let size = if count < 0 { Some(self.long()?) } else { None };
        let items = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        let size = match size.map(usize::try_from) {
            Some(Ok(size)) if size <= self.rest.len() => Some(size),
            Some(_) => return Err(SchemaError::decode("a block claims more bytes than there are")),
            None => None,
        };
        self.spend(items)?;
        Ok(Block { items, size })
    }
}

pub struct Block {
    pub items: usize,
    pub size: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longs_survive() {
        for value in [0, -1, 1, 63, -64, 64, i64::from(i32::MIN), i64::MAX, i64::MIN, 1_700_000_000_000] {
            let mut out = Vec::new();
            put_long(&mut out, value);
            let mut cursor = Cursor::new(&out);
            assert_eq!(cursor.long(), Ok(value));
            assert_eq!(cursor.finish(), Ok(()));
        }
    }

    #[test]
    fn hostile_lengths_are_refused() {
        assert!(Cursor::new(&[0xff; 20]).long().is_err());
        assert!(Cursor::new(&[0xfe, 0xff, 0xff, 0xff, 0x0f]).bytes().is_err());
        assert!(Cursor::new(&[0x01]).bytes().is_err());
        let mut huge = Vec::new();
        put_long(&mut huge, i64::MAX);
        assert!(Cursor::new(&huge).block().is_err());
    }
}
