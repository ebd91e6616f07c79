//! Notes events in memory, and in a file that outlives the run.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use headwater_history::{Event, EventKind, Step};

#[derive(Clone)]
pub struct Recorder {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    events: Vec<Event>,
    file: BufWriter<File>,
}

/// Nanoseconds since 1970, which other programs on this machine tell as well.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

impl Recorder {
    pub fn create(file: &Path) -> Result<Self> {
        let file = BufWriter::new(File::create(file).with_context(|| file.display().to_string())?);
        Ok(Self { inner: Arc::new(Mutex::new(Inner { events: Vec::new(), file })) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note(&self, process: &str, op: u64, kind: EventKind, steps: Vec<Step>) {
        let mut inner = self.lock();
        let event = Event { process: process.to_owned(), op, time: now(), kind, steps };
        if let Ok(line) = serde_json::to_string(&event) {
            // The file is for people; a full disk does not change what is judged.
            let _ = writeln!(inner.file, "{line}");
        }
        inner.events.push(event);
    }

    /// Adds what another program has noted.
    pub fn take_in(&self, events: Vec<Event>) {
        self.lock().events.extend(events);
    }

    pub fn events(&self) -> Vec<Event> {
        let mut inner = self.lock();
        let _ = inner.file.flush();
        inner.events.clone()
    }
}
