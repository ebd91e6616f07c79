//! Turns a case's steps into a topology of ours.
//!
//! Keys and values may be null, as in Kafka Streams, so streams are of `Option`s. Joins skip them by their serdes; where Kafka
//! Streams skips nulls and ours is not told (aggregations without windows, joins with global tables), a topology of ours says
//! so: `without_tombstones`.

mod aggregations;
mod cogroup;
mod joins;
mod processors;
mod stateless;
mod tables;
mod versions;
mod windowed;
mod windowed_tables;

use std::collections::HashMap;

use headwater_streams::serdes::{nullable, string};
use headwater_streams::{
    GlobalKTable, KStream, KTable, SerdeRef, StateStore, StreamsBuilder, Topology, TopologyError, Windowed,
};

use crate::case::{At, Step};
use crate::functions::Text;

pub type Stream = KStream<Text, Text>;
pub type Table = KTable<Text, String>;
pub type WindowedTable = KTable<Windowed<Text>, String>;
pub type Global = GlobalKTable<Text, String>;

pub enum Handle {
    Stream(Stream),
    Table(Table),
    Windowed(WindowedTable),
    Global(Global),
    Nothing,
}

/// Of keys, and of values that may be null.
pub fn texts() -> SerdeRef<Text> {
    nullable(string())
}

pub struct Build {
    builder: StreamsBuilder,
    handles: Vec<Handle>,
    /// Of processors, by their names.
    stores: HashMap<String, StateStore<String, String>>,
}

/// The topology of these steps. Steps that point to handles of other kinds are a mistake of the generator and panic.
pub fn topology(steps: &[Step]) -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new("differential");
    let mut build = Build { builder, handles: Vec::new(), stores: HashMap::new() };
    for step in steps {
        build.add(step);
    }
    build.builder.build()
}

impl Build {
    fn add(&mut self, step: &Step) {
        let added = stateless::add(self, step)
            || aggregations::add(self, step)
            || windowed::add(self, step)
            || windowed_tables::add(self, step)
            || cogroup::add(self, step)
            || tables::add(self, step)
            || versions::add(self, step)
            || joins::add(self, step)
            || processors::add(self, step);
        assert!(added, "no operator is built for {step:?}");
    }

    fn made(&mut self, handle: Handle) -> bool {
        self.handles.push(handle);
        true
    }

    fn streams(&mut self, stream: Stream) -> bool {
        self.made(Handle::Stream(stream))
    }

    fn tables(&mut self, table: Table) -> bool {
        self.made(Handle::Table(table))
    }

    /// A name that no other step has.
    fn name(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.handles.len())
    }

    fn stream(&self, at: At) -> Stream {
        match &self.handles[at] {
            Handle::Stream(stream) => stream.clone(),
            _ => panic!("handle {at} is no stream"),
        }
    }

    fn table(&self, at: At) -> Table {
        match &self.handles[at] {
            Handle::Table(table) => table.clone(),
            _ => panic!("handle {at} is no table"),
        }
    }

    fn windowed(&self, at: At) -> WindowedTable {
        match &self.handles[at] {
            Handle::Windowed(table) => table.clone(),
            _ => panic!("handle {at} is no windowed table"),
        }
    }

    fn global(&self, at: At) -> Global {
        match &self.handles[at] {
            Handle::Global(table) => table.clone(),
            _ => panic!("handle {at} is no global table"),
        }
    }
}
