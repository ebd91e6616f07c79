//! Handles from before a side came back: what is written through them does not reach that side.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

/// How often each side had come back when a file was opened.
pub type Generation = [u32; 2];

#[derive(Default)]
pub struct Generations([AtomicU32; 2]);

impl Generations {
    pub fn now(&self) -> Generation {
        self.0.each_ref().map(|side| side.load(Ordering::Acquire))
    }

    /// Whether a handle of that generation reaches the side, if it ever did.
    pub fn is_now(&self, side: usize, generation: Generation) -> bool {
        self.0[side].load(Ordering::Acquire) == generation[side]
    }

    pub fn begin(&self, side: usize) {
        self.0[side].fetch_add(1, Ordering::AcqRel);
    }
}

/// Files that were written past a side, and the handles that may do it again.
#[derive(Default)]
pub struct Past {
    writes: HashMap<String, u64>,
    handles: HashMap<String, Vec<Weak<()>>>,
    total: u64,
}

impl Past {
    pub fn note(&mut self, name: &str, handle: &Arc<()>) {
        self.total += 1;
        *self.writes.entry(name.to_owned()).or_default() += 1;
        let handles = self.handles.entry(name.to_owned()).or_default();
        handles.retain(|known| known.strong_count() > 0);
        let handle = Arc::downgrade(handle);
        if !handles.iter().any(|known| known.ptr_eq(&handle)) {
            handles.push(handle);
        }
    }

    /// A number that changes with every write to the file; a copy is one only if it did not.
    pub fn writes(&self, name: &str) -> u64 {
        self.writes.get(name).copied().unwrap_or_default()
    }

    /// The same over all files.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether the file may be written past the side again.
    pub fn goes_on(&self, name: &str) -> bool {
        let alive = |handles: &Vec<Weak<()>>| handles.iter().any(|handle| handle.strong_count() > 0);
        self.handles.get(name).is_some_and(alive)
    }

    pub fn any_goes_on(&self) -> bool {
        self.going_on().next().is_some()
    }

    /// Files that may be written past the side again.
    pub fn going_on(&self) -> impl Iterator<Item = &str> {
        self.handles.keys().map(String::as_str).filter(|name| self.goes_on(name))
    }

    /// The side holds everything.
    pub fn clear(&mut self) {
        self.writes.clear();
        self.handles.clear();
    }
}
