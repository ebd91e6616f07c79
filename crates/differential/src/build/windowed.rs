//! Windows of all kinds, told at every update, or once.

use headwater_streams::{KGroupedStream, SessionWindows, SlidingWindows, TimeWindows};

use super::aggregations::{counts, kept, last, millis, without_nulls};
use super::{Build, Handle, WindowedTable};
use crate::case::{How, Step, Tell, Windows};
use crate::functions::{self, Text};

type Grouped = KGroupedStream<Text, String>;

pub fn add(build: &mut Build, step: &Step) -> bool {
    let Step::Windowed { of, key, how, windows, tell } = *step else { return false };
    let grouped = without_nulls(build, of, key);
    let table = match windows {
        Windows::Fixed { size, advance, grace } => {
            fixed(build, &grouped, how, tell, fixed_windows(size, advance, grace))
        }
        Windows::Sliding { difference, grace } => {
            sliding(build, &grouped, how, tell, sliding_windows(difference, grace))
        }
        Windows::Sessions { gap, grace } => sessions(build, &grouped, how, tell, session_windows(gap, grace)),
    };
    build.made(Handle::Windowed(table))
}

pub fn fixed_windows(size: u64, advance: u64, grace: u64) -> TimeWindows {
    TimeWindows::of(millis(size)).advance(millis(advance)).grace(millis(grace))
}

pub fn sliding_windows(difference: u64, grace: u64) -> SlidingWindows {
    SlidingWindows::of_time_difference_and_grace(millis(difference), millis(grace))
}

pub fn session_windows(gap: u64, grace: u64) -> SessionWindows {
    SessionWindows::with_gap(millis(gap)).grace(millis(grace))
}

fn reduced(sum: String, value: String) -> String {
    functions::reduce(&sum, &value)
}

fn added(_: &Text, value: String, sum: String) -> String {
    functions::add(Some(&value), &sum)
}

/// Fixed and sliding windows have the same methods, and no trait in common.
macro_rules! aggregated {
    ($build:expr, $windowed:expr, $how:expr, $tell:expr, $($merge:expr)?) => {{
        let windowed = $windowed;
        let windowed = if $tell == Tell::Closed { windowed.emit_on_close() } else { windowed };
        let wanted = $tell == Tell::Last;
        match $how {
            How::Count => last(wanted, windowed.count(counts($build))).map_values(|count| count.to_string()),
            How::Reduce => last(wanted, windowed.reduce(reduced, kept($build))),
            How::Aggregate => last(wanted, windowed.aggregate(String::new, added, $($merge,)? kept($build))),
        }
    }};
}

fn fixed(build: &Build, grouped: &Grouped, how: How, tell: Tell, windows: TimeWindows) -> WindowedTable {
    aggregated!(build, grouped.windowed_by(windows), how, tell,)
}

fn sliding(build: &Build, grouped: &Grouped, how: How, tell: Tell, windows: SlidingWindows) -> WindowedTable {
    aggregated!(build, grouped.windowed_by_sliding(windows), how, tell,)
}

fn sessions(
    build: &Build,
    grouped: &Grouped,
    how: How,
    tell: Tell,
    windows: SessionWindows,
) -> WindowedTable {
    let merge = |_: &Text, earlier: String, later: String| functions::reduce(&earlier, &later);
    aggregated!(build, grouped.windowed_by_session(windows), how, tell, merge)
}
