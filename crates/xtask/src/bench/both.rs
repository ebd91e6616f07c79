//! Headwater beside a peer other than Apache Kafka, which brings its own load generator and may be missing here. Both
//! servers run all the time.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::context::Context;
use super::flushes::Counter;
use super::outcome::{Outcome, Sample};
use super::pairs::{Case, Entry};
use super::process;
use super::server::{Server, Side};

/// A server that does not speak Kafka's protocol.
pub trait Peer: Sized {
    /// The benchmark that it takes part in.
    const BENCH: &'static str;

    /// Builds what is not there yet, and starts the server on an empty `dir`.
    fn start(dir: &Path) -> Result<Self>;

    fn pid(&self) -> u32;

    /// With what its configuration files say.
    fn command(&self) -> &str;

    fn stop(self) -> Result<()>;
}

pub struct Both<'a, P> {
    pub context: &'a Context,
    /// Where both keep their files.
    pub dir: PathBuf,
    pub ours: Server,
    pub theirs: P,
}

impl<'a, P: Peer> Both<'a, P> {
    /// Nothing if the peer cannot be had here: what was measured earlier or elsewhere stays as it is.
    pub fn start(context: &'a Context) -> Result<Option<Self>> {
        let dir = context.work.join(P::BENCH);
        let theirs = match P::start(&dir.join(P::BENCH)) {
            Ok(theirs) => theirs,
            Err(missing) => {
                eprintln!("bench: {} is skipped: {missing:#}", P::BENCH);
                return Ok(None);
            }
        };
        let ours = context.recipe(Side::Ours, &dir, &[])?.start()?;
        Ok(Some(Self { context, dir, ours, theirs }))
    }

    pub fn stop(self) -> Result<()> {
        let Self { dir, ours, theirs, .. } = self;
        ours.stop()?;
        theirs.stop()?;
        fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))
    }

    pub fn pid(&self, entry: &Entry) -> u32 {
        if entry.side == Side::Ours { self.ours.pid() } else { self.theirs.pid() }
    }

    fn command(&self, entry: &Entry) -> &str {
        if entry.side == Side::Ours { &self.ours.command } else { self.theirs.command() }
    }

    /// Measures all pairs; after each run the server comes to rest.
    pub fn pairs(
        &self,
        case: &Case<'_>,
        flushes: [Result<String>; 2],
        once: impl Fn(&Entry) -> Result<Sample>,
    ) -> Result<Outcome> {
        let mut outcome = case.run(self.context, |entry| {
            let sample = once(entry)?;
            process::settle(self.pid(entry))?;
            Ok((sample, self.command(entry).to_owned()))
        })?;
        for (contestant, counted) in outcome.contestants.iter_mut().zip(flushes) {
            contestant.flushes = Some(counted.unwrap_or_else(|error| format!("not counted: {error:#}")));
        }
        Ok(outcome)
    }

    /// A short run under `strace`, which is not timed; `records` is the figure that says how many there were.
    pub fn count_flushes(
        &self,
        case: &str,
        entry: &Entry,
        records: &str,
        once: impl FnOnce() -> Result<Sample>,
    ) -> Result<String> {
        eprintln!("bench: {case}: counting flushes of {}", entry.name());
        let counter = Counter::attach(self.pid(entry), &self.context.work)?;
        let sample = once();
        let flushes = counter.detach()?;
        process::settle(self.pid(entry))?;
        Ok(flushes.describe(sample?.values[records]))
    }
}
