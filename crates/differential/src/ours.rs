//! A case on our own `TopologyTestDriver`.

use std::time::Duration;

use anyhow::{Context, Result};
use headwater_model::{Bytes, Header, Record};
use headwater_streams::TopologyTestDriver;

use crate::build;
use crate::case::{Event, Program, Row};

/// What came out after each event.
pub fn run(program: &Program) -> Result<Vec<Row>> {
    let topology = build::topology(&program.steps).context("building the topology")?;
    let mut driver = TopologyTestDriver::new(topology).context("starting the driver")?;
    let mut rows = Vec::new();
    for (place, event) in program.events.iter().enumerate() {
        match event {
            Event::Clock { wall } => driver.advance_time(Duration::from_millis(*wall))?,
            Event::Record { topic, key, value, at, header } => {
                let bytes = |text: &Option<String>| text.clone().map(Bytes::from);
                let header =
                    header.clone().map(|text| Header { key: "h".to_owned(), value: Some(Bytes::from(text)) });
                let record = Record {
                    offset: 0,
                    timestamp: *at,
                    key: bytes(key),
                    value: bytes(value),
                    headers: header.into_iter().collect(),
                };
                driver.pipe_record(topic, record)?;
            }
        }
        for topic in program.sinks() {
            rows.extend(driver.read_output(topic).into_iter().map(|record| row(place, topic, record)));
        }
    }
    Ok(rows)
}

fn text(bytes: Bytes) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

fn row(event: usize, topic: &str, record: Record) -> Row {
    let header =
        |header: Header| format!("{}={};", header.key, header.value.map_or_else(|| "null".to_owned(), text));
    Row {
        event,
        topic: topic.to_owned(),
        key: record.key.map(text),
        value: record.value.map(text),
        at: record.timestamp,
        headers: record.headers.into_iter().map(header).collect(),
    }
}
