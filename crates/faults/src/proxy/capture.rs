//! Keeps requests of real clients: seeds for the fuzzer.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

/// So many different requests of each API and version.
const EACH: usize = 3;
/// Larger ones teach a fuzzer nothing more.
const LARGEST: usize = 2048;

type Kept = Vec<Vec<u8>>;

pub struct Capture {
    directory: PathBuf,
    /// By API and version.
    kept: Mutex<HashMap<(i16, i16), Kept>>,
}

impl Capture {
    pub fn new(directory: PathBuf) -> Result<Self> {
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        Ok(Self { directory, kept: Mutex::default() })
    }

    /// The frame without its length, under `KEY-VERSION-NUMBER`.
    pub fn keep(&self, frame: &[u8]) {
        let Some(api) = super::frames::api(frame) else { return };
        let body = &frame[4..];
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.entry(api).or_default();
        // Requests of one length differ in numbers only, most of the time.
        let is_new = known.iter().all(|other| other.len() != body.len());
        if body.len() > LARGEST || known.len() >= EACH || !is_new {
            return;
        }
        let file = self.directory.join(format!("{:03}-{:02}-{}", api.0, api.1, known.len()));
        if let Err(error) = fs::write(&file, body) {
            eprintln!("faults: {}: {error}", file.display());
        }
        known.push(body.to_vec());
    }
}
