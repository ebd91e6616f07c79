//! Payloads from a seed: lines of printable text that compress to a stated ratio, never zeros, never one repeated.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

const LINES: usize = 10_000;
const PHRASES: usize = 64;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

pub struct Payloads {
    pub path: PathBuf,
    /// One line of the file, for a driver that sends one message again and again.
    pub one: String,
    /// Size before `gzip -1` over size after it.
    pub ratio: f64,
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn text(&mut self, length: usize) -> String {
        (0..length).map(|_| char::from(ALPHABET[(self.next() >> 58) as usize])).collect()
    }
}

/// Half of every line is one of 64 phrases of 32 characters, half is noise of 6 bits a character.
pub fn write(dir: &Path, seed: u64, size: usize) -> Result<Payloads> {
    let mut random = Random(seed ^ size as u64);
    let phrases: Vec<String> = (0..PHRASES).map(|_| random.text(32)).collect();
    let mut text = String::with_capacity(LINES * (size + 1));
    for _ in 0..LINES {
        let mut line = String::with_capacity(size + 64);
        while line.len() < size {
            line += &random.text(32);
            line += &phrases[(random.next() % PHRASES as u64) as usize];
        }
        line.truncate(size);
        text += &line;
        text.push('\n');
    }
    let path = dir.join(format!("payload-{size}-{seed}.txt"));
    fs::write(&path, &text).with_context(|| format!("writing {}", path.display()))?;
    let ratio = text.len() as f64 / gzipped(&text)? as f64;
    Ok(Payloads { path, one: text[..size].to_owned(), ratio })
}

fn gzipped(text: &str) -> Result<usize> {
    let mut gzip = Command::new("gzip");
    let mut child = gzip.args(["-1", "-c"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("gzip has no input")?;
    let text = text.to_owned();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output()?;
    writer.join().map_err(|_| anyhow::anyhow!("the writer to gzip panicked"))??;
    Ok(output.stdout.len())
}
