//! What a person sees while it runs: lines, and on a terminal bars below them.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use jiff::Timestamp;

/// Where lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    Stdout,
    /// Standard output is for machines.
    Stderr,
}

/// The screen of one run; clones share it.
#[derive(Clone)]
pub struct Show {
    lines: Lines,
    bars: Option<Arc<Bars>>,
    year: Arc<Year>,
}

struct Bars {
    all: MultiProgress,
    year: ProgressBar,
    published: ProgressBar,
    sunk: ProgressBar,
}

/// How far the legacy program is; it writes, the screen reads.
#[derive(Default)]
pub struct Year {
    pub steps: AtomicU64,
    pub done: AtomicU64,
    pub clock: AtomicI64,
}

impl Show {
    pub fn new(lines: Lines, bars: bool) -> Self {
        Self { lines, bars: bars.then(|| Arc::new(Bars::new())), year: Arc::default() }
    }

    pub fn year(&self) -> Arc<Year> {
        Arc::clone(&self.year)
    }

    pub fn say(&self, line: &str) {
        let write = || {
            // A reader that has gone away does not end the run.
            let _ = match self.lines {
                Lines::Stdout => writeln!(std::io::stdout().lock(), "{line}"),
                Lines::Stderr => writeln!(std::io::stderr().lock(), "{line}"),
            };
        };
        match &self.bars {
            Some(bars) => bars.all.suspend(write),
            None => write(),
        }
    }

    /// Moves the bars.
    pub fn tick(&self, published: u64, sunk: u64) {
        let Some(bars) = &self.bars else { return };
        bars.year.set_length(self.year.steps.load(Ordering::Relaxed));
        bars.year.set_position(self.year.done.load(Ordering::Relaxed));
        if let Ok(clock) = Timestamp::from_millisecond(self.year.clock.load(Ordering::Relaxed)) {
            bars.year.set_message(clock.strftime("%-d %B %Y").to_string());
        }
        bars.published.set_position(published);
        bars.sunk.set_position(sunk);
    }

    pub fn clear(&self) {
        if let Some(bars) = &self.bars {
            // A terminal that has gone away does not end the run.
            let _ = bars.all.clear();
        }
    }
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::new();
        let add = |template: &str, bar: ProgressBar| {
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            all.add(bar.with_style(style))
        };
        Self {
            year: add("  legacy   {bar:40} {percent:>3} %  {msg}", ProgressBar::new(0)),
            published: add("  events   {human_pos} published, {per_sec}", ProgressBar::no_length()),
            sunk: add("  answers  {human_pos} sunk, {per_sec}", ProgressBar::no_length()),
            all,
        }
    }
}
