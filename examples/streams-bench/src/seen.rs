//! What passed by.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Counts records, and remembers the last output of each key where outputs are to be compared.
pub struct Seen {
    processed: AtomicU64,
    last: Option<Mutex<HashMap<String, u32>>>,
}

impl Seen {
    pub fn new(verify: bool) -> Self {
        Self { processed: AtomicU64::new(0), last: verify.then(Mutex::default) }
    }

    pub fn record(&self) {
        self.processed.fetch_add(1, Ordering::Relaxed);
    }

    pub fn processed(&self) -> u64 {
        self.processed.load(Ordering::Relaxed)
    }

    pub fn output(&self, key: impl FnOnce() -> String, value: impl FnOnce() -> u32) {
        if let Some(last) = &self.last {
            last.lock().unwrap_or_else(PoisonError::into_inner).insert(key(), value());
        }
    }

    /// Of all keys' last outputs, in any order. Arithmetic is Java's on ints.
    pub fn digest(&self) -> Option<i32> {
        let last = self.last.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let entries =
            last.iter().map(|(key, value)| hash(key.as_bytes()).wrapping_mul(31).wrapping_add(*value));
        Some(entries.fold(0u32, u32::wrapping_add).cast_signed())
    }
}

/// As `java.util.Arrays.hashCode(byte[])`.
pub fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(1u32, |hash, byte| {
        hash.wrapping_mul(31).wrapping_add(i32::from(byte.cast_signed()).cast_unsigned())
    })
}

/// As `Long.hashCode`.
pub fn hash_of(number: i64) -> u32 {
    let bits = number.cast_unsigned();
    (bits ^ (bits >> 32)) as u32
}
