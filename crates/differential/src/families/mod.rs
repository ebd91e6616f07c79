//! Families of cases. A new one is a file here with a function that draws a plan, and a line in [`FAMILIES`].

mod aggregations;
mod behind_windows;
mod chains;
mod cogroup;
mod global;
mod lanes;
mod partitions;
mod plan;
mod processors;
mod stateless;
mod stream_joins;
mod table_joins;
mod tables;
mod topics;
mod versions;
mod windowed;
mod windowed_tables;
mod windows;

use crate::case::Case;
use crate::draw::Draw;
use crate::ledger;
use plan::Plan;

type Family = (&'static str, fn(&mut Plan<'_>));

const FAMILIES: &[Family] = &[
    ("stateless", stateless::stateless),
    ("extractors", stateless::extractors),
    ("aggregations", aggregations::aggregations),
    ("tumbling", windows::tumbling),
    ("hopping", windows::hopping),
    ("sessions", windows::sessions),
    ("tables", tables::tables),
    ("grouped-tables", tables::grouped),
    ("stream-table", table_joins::stream_table),
    ("stream-global", global::stream_global),
    ("table-table", table_joins::table_table),
    ("foreign-key", table_joins::foreign_key),
    ("stream-stream", stream_joins::stream_stream),
    ("process", processors::process),
    ("chains", chains::chains),
    ("lanes", lanes::lanes),
    ("sliding", windowed::sliding),
    ("closing", windowed::closing),
    ("cogroup", cogroup::cogroup),
    ("versions", versions::versions),
    ("joined-versions", versions::joined),
    ("held-back", versions::held_back),
    ("stream-itself", table_joins::stream_itself),
    ("partitions", partitions::partitions),
    ("self-join", stream_joins::self_join),
    ("process-versions", processors::process_versions),
    ("windowed-tables", windowed_tables::windowed_tables),
    ("topics", topics::topics),
    ("behind-windows", behind_windows::behind_windows),
];

/// The names, for the command line.
pub fn names() -> Vec<&'static str> {
    FAMILIES.iter().map(|(name, _)| *name).collect()
}

/// The case of this number: the families take turns, or it is of the one named.
pub fn draw(seed: u64, id: u64, only: Option<&str>) -> Case {
    let chosen: Vec<&Family> =
        FAMILIES.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)).collect();
    let (family, make) = *chosen[(id % chosen.len() as u64) as usize];
    let mut draw = Draw::new(seed, id);
    let mut plan = Plan::new(&mut draw);
    make(&mut plan);
    let program = plan.finish();
    let bare = ledger::initial::may_show(&program);
    Case { id, family, program, bare }
}
