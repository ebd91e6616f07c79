//! Which offset is the last of each key, in memory that was fixed beforehand.
//!
//! Keys are known by a 128-bit keyed hash alone, so a key takes 24 bytes whatever its length; with a
//! quarter of the slots left free to keep searches short, 32.

use headwater_model::Offset;

use super::CompactError;
use super::hash::siphash128;

/// `[hash, hash, offset + 1]`; zero in the last word is an empty slot. Plain words, because fresh zeroed
/// memory costs nothing until it is touched: a small partition pays for its own keys only.
type Slot = [u64; 3];

const SLOT_BYTES: usize = size_of::<Slot>();

/// Stands for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHash([u64; 2]);

#[derive(Debug)]
pub struct OffsetMap {
    secret: [u64; 2],
    slots: Vec<Slot>,
    keys: usize,
    limit: usize,
}

impl OffsetMap {
    /// A map that never takes more than `bytes`. The secret is the caller's random number, another one
    /// each time, so that nobody can choose keys that meet.
    pub fn with_memory(bytes: usize, secret: [u64; 2]) -> Result<Self, CompactError> {
        let slots = bytes / SLOT_BYTES;
        if slots < 2 {
            return Err(CompactError::MapTooSmall { bytes, needed: 2 * SLOT_BYTES });
        }
        Ok(Self { secret, slots: vec![[0; 3]; slots], keys: 0, limit: (slots / 4 * 3).max(1) })
    }

    #[inline]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        KeyHash(siphash128::<1, 3>(self.secret, key))
    }

    pub fn len(&self) -> usize {
        self.keys
    }

    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// How many keys fit.
    pub fn capacity(&self) -> usize {
        self.limit
    }

    /// Remembers that the key's last record is at `offset`; false when the key is new and the map full.
    #[inline]
    #[must_use]
    pub fn insert(&mut self, key: KeyHash, offset: Offset) -> bool {
        let at = self.find(key);
        if self.slots[at][2] == 0 {
            if self.keys == self.limit {
                return false;
            }
            self.keys += 1;
        }
        self.slots[at] = [key.0[0], key.0[1], offset as u64 + 1];
        true
    }

    /// The last offset of the key, when the map knows it.
    #[inline]
    pub fn last_offset(&self, key: KeyHash) -> Option<Offset> {
        self.slots[self.find(key)][2].checked_sub(1).map(|offset| offset as Offset)
    }

    /// The key's slot, or the empty one where it belongs; one is always free.
    #[inline]
    fn find(&self, key: KeyHash) -> usize {
        let mut at = ((u128::from(key.0[0]) * self.slots.len() as u128) >> 64) as usize;
        loop {
            let slot = &self.slots[at];
            if slot[2] == 0 || (slot[0] == key.0[0] && slot[1] == key.0[1]) {
                return at;
            }
            at += 1;
            if at == self.slots.len() {
                at = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_offset_of_a_key_wins_until_the_map_is_full() {
        let mut map = OffsetMap::with_memory(100 * SLOT_BYTES, [1, 2]).unwrap();
        assert_eq!(map.capacity(), 75);
        for offset in 0..150 {
            let key = map.hash(&(offset % 75i64).to_be_bytes());
            assert!(map.insert(key, offset));
        }
        let stranger = map.hash(b"another");
        assert!(!map.insert(stranger, 150));
        assert_eq!(map.last_offset(stranger), None);
        for key in 0..75i64 {
            assert_eq!(map.last_offset(map.hash(&key.to_be_bytes())), Some(75 + key));
        }
    }

    #[test]
    fn memory_for_no_key_is_refused() {
        assert!(matches!(OffsetMap::with_memory(47, [0, 0]), Err(CompactError::MapTooSmall { .. })));
        assert_eq!(OffsetMap::with_memory(48, [0, 0]).unwrap().capacity(), 1);
    }
}
