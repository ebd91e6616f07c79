//! What is made of tables of windows.

use headwater_streams::serdes::string;
use headwater_streams::{Grouped, Windowed};

use super::{Build, Handle, joins, tables, texts};
use crate::case::Step;
use crate::functions::{self, Text};

pub fn add(build: &mut Build, step: &Step) -> bool {
    match *step {
        Step::WindowedFilter { of, modulus, rest } => {
            let keep = move |window: &Windowed<Text>, value: &String| {
                functions::keeps(modulus, rest, &window.key, Some(value))
            };
            let table = build.windowed(of).filter(keep);
            build.made(Handle::Windowed(table))
        }
        Step::WindowedMapValues { of, function } => {
            let map = move |window: &Windowed<Text>, value: String| {
                functions::value(function, &window.key, Some(&value)).unwrap_or_default()
            };
            let table = build.windowed(of).map_values_with_key(map);
            build.made(Handle::Windowed(table))
        }
        Step::WindowedGroup { of, how } => {
            let select = |window: &Windowed<Text>, value: &String| (window.key.clone(), value.clone());
            let options = Grouped::with(texts(), string()).named(build.name("g"));
            let table = tables::aggregated(build, &build.windowed(of).group_by(select, options), how);
            build.tables(table)
        }
        Step::JoinWindowed { left, right, kind } => {
            let table = joins::of_tables(&build.windowed(left), &build.windowed(right), kind);
            build.made(Handle::Windowed(table))
        }
        _ => false,
    }
}
