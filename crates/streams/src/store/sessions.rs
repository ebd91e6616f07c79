//! How long the longest session of a store is, which says how far ahead one that a record touches may end.
//!
//! It is kept in the store and changes in the same write as the entries. It never shrinks: it is a bound.

use std::ops::Bound;

use headwater_model::Bytes;

use super::keys::{INDEX, Layout, META};
use super::typed::Batch;
use super::{StoreBackend, StoreError, StoreKind};

#[derive(Default)]
pub(super) struct Longest {
    /// Of all that the backend has, once that was looked up.
    kept: Option<Kept>,
    /// Of what was written here.
    written: i64,
    /// Something was written since the last commit.
    dirty: bool,
}

#[derive(Clone, Copy)]
struct Kept {
    longest: i64,
    /// It is written there, too.
    noted: bool,
}

impl Kept {
    /// Stores of earlier versions do not have it: all of their keys are looked at, once.
    fn load(layout: Layout, backend: &dyn StoreBackend) -> Result<Self, StoreError> {
        if let Some(noted) =
            backend.get(&META)?.and_then(|noted| Some(i64::from_be_bytes(*noted.first_chunk()?)))
        {
            return Ok(Self { longest: noted, noted: true });
        }
        let entries = backend.range(Bound::Unbounded, Bound::Excluded(&INDEX))?;
        let longest = entries.iter().filter_map(|(key, _)| layout.session_length(key)).max();
        Ok(Self { longest: longest.unwrap_or(0), noted: false })
    }
}

/// An entry for a backend.
type Note = Option<(Bytes, Option<Bytes>)>;

fn note(longest: i64) -> Note {
    Some((Bytes::from_static(&META), Some(Bytes::copy_from_slice(&longest.to_be_bytes()))))
}

impl Longest {
    /// Takes note of a write.
    pub fn wrote(&mut self, layout: Layout, store_key: &[u8]) {
        if let Some(length) = layout.session_length(store_key) {
            self.written = self.written.max(length);
            self.dirty = true;
        }
    }

    /// In milliseconds.
    pub fn get(&mut self, layout: Layout, backend: &dyn StoreBackend) -> Result<i64, StoreError> {
        let kept = match self.kept {
            Some(kept) => kept,
            None => *self.kept.insert(Kept::load(layout, backend)?),
        };
        Ok(kept.longest.max(self.written))
    }

    /// What is to be written with the entries of this commit, if it has grown.
    pub fn flush(&mut self, layout: Layout, backend: &dyn StoreBackend) -> Result<Note, StoreError> {
        if !std::mem::take(&mut self.dirty) {
            return Ok(None);
        }
        let longest = self.get(layout, backend)?;
        let now = Kept { longest, noted: true };
        let before = self.kept.replace(now);
        let noted = before.is_some_and(|before| before.noted && before.longest == longest);
        Ok(if noted { None } else { note(longest) })
    }

    /// What is to be written with restored entries.
    pub fn restored(layout: Layout, entries: &Batch, backend: &dyn StoreBackend) -> Result<Note, StoreError> {
        if layout.kind != StoreKind::Session || entries.is_empty() {
            return Ok(None);
        }
        let lengths =
            entries.iter().filter_map(|(key, value)| value.as_ref().and(layout.session_length(key)));
        let longest = lengths.max().unwrap_or(0);
        let kept = Kept::load(layout, backend)?;
        Ok(if kept.noted && longest <= kept.longest { None } else { note(longest.max(kept.longest)) })
    }
}
