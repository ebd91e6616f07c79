//! Two streams in one aggregate.

use headwater_streams::CogroupedKStream;

use super::aggregations::{kept, named_without_nulls};
use super::windowed::{fixed_windows, session_windows, sliding_windows};
use super::{Build, Handle, WindowedTable};
use crate::case::{At, Step, Windows};
use crate::functions::{self, Text};

pub fn add(build: &mut Build, step: &Step) -> bool {
    match *step {
        Step::Cogroup { left, right } => {
            let table = cogrouped(build, left, right).aggregate(String::new, kept(build));
            build.tables(table)
        }
        Step::CogroupWindows { left, right, windows } => {
            let table = windowed(build, &cogrouped(build, left, right), windows);
            build.made(Handle::Windowed(table))
        }
        _ => false,
    }
}

fn cogrouped(build: &Build, left: At, right: At) -> CogroupedKStream<Text, String> {
    let left = named_without_nulls(build, "l", left, None);
    let right = named_without_nulls(build, "r", right, None);
    left.cogroup(|_, value: String, sum: String| functions::add(Some(&value), &sum))
        .cogroup(&right, |_, value: String, sum| functions::reduce(&sum, &value))
}

fn windowed(build: &Build, cogrouped: &CogroupedKStream<Text, String>, windows: Windows) -> WindowedTable {
    match windows {
        Windows::Fixed { size, advance, grace } => {
            cogrouped.windowed_by(fixed_windows(size, advance, grace)).aggregate(String::new, kept(build))
        }
        Windows::Sliding { difference, grace } => cogrouped
            .windowed_by_sliding(sliding_windows(difference, grace))
            .aggregate(String::new, kept(build)),
        Windows::Sessions { gap, grace } => {
            let merge = |_: &Text, earlier: String, later: String| functions::reduce(&earlier, &later);
            cogrouped.windowed_by_session(session_windows(gap, grace)).aggregate(
                String::new,
                merge,
                kept(build),
            )
        }
    }
}
