//! Tables that keep their versions, and streams that are joined with them.

use headwater_streams::serdes::string;
use headwater_streams::{Consumed, Joined};

use super::aggregations::{kept, millis};
use super::joins::pair;
use super::{Build, Stream, texts};
use crate::case::{At, Kind, Step};

pub fn add(build: &mut Build, step: &Step) -> bool {
    match *step {
        Step::VersionedTable { topic, history } => {
            let options = kept(build).versioned(millis(history));
            let table = build.builder.table(topic, Consumed::with(texts(), string()), options);
            build.tables(table)
        }
        Step::JoinVersions { left, right, kind, grace } => {
            let stream = joined(build, left, right, kind, grace);
            build.streams(stream)
        }
        _ => false,
    }
}

fn joined(build: &Build, left: At, right: At, kind: Kind, grace: Option<u64>) -> Stream {
    let (stream, table) = (build.stream(left), build.table(right));
    let options = Joined::with(texts(), texts()).named(build.name("j"));
    let options = match grace {
        Some(grace) => options.grace(millis(grace)),
        None => options,
    };
    match kind {
        Kind::Inner => stream.join(&table, |value, row| pair(&value, Some(row)), options),
        _ => stream.left_join(&table, |value, row| pair(&value, row), options),
    }
}
