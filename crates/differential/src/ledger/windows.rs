//! Windows behind a filter: ours are closed by the time of the partition, Kafka Streams' by that of the records that pass.
//!
//! As with joins, a case is explained if each side wrote what a plain model does with that side's time.

use std::collections::BTreeMap;

use super::{Entry, Sides};
use crate::case::{Event, How, Program, Row, Step};
use crate::functions;

pub const FILTERED: Entry =
    Entry { name: "stream-time-travels", applies: |program| Windows::of(program).is_some(), even };

fn even(sides: &mut Sides<'_>) {
    let Some(windows) = Windows::of(sides.program) else { return };
    let model = |theirs| Model::run(&windows, theirs, &sides.program.events);
    if sides.theirs == model(true) && sides.ours == model(false) {
        sides.theirs = sides.ours.clone();
    }
}

/// Tumbling windows of a filtered stream.
struct Windows {
    modulus: u32,
    rest: u32,
    how: How,
    size: i64,
    grace: i64,
    last: bool,
}

impl Windows {
    fn of(program: &Program) -> Option<Self> {
        let [
            Step::Stream { .. },
            Step::Filter { modulus, rest, .. },
            Step::AggregateWindows { key: None, how, size, advance, grace, last, .. },
            Step::FromWindows { .. },
            Step::Sink { .. },
        ] = program.steps[..]
        else {
            return None;
        };
        let (size, grace) = (size as i64, grace as i64);
        (advance as i64 == size).then_some(Self { modulus, rest, how, size, grace, last })
    }

    fn fold(&self, count: u64, before: Option<&str>, value: &str) -> String {
        match (self.how, before) {
            (How::Count, _) => count.to_string(),
            (How::Reduce, None) => value.to_owned(),
            (How::Reduce, Some(before)) => functions::reduce(before, value),
            (How::Aggregate, before) => functions::add(Some(value), before.unwrap_or_default()),
        }
    }
}

/// A window's result, the greatest time in it, how many records it took, and the headers of the last one.
struct Result {
    text: String,
    at: i64,
    count: u64,
    headers: String,
}

struct Model<'a> {
    windows: &'a Windows,
    theirs: bool,
    stream_time: i64,
    /// By start and key.
    results: BTreeMap<(i64, String), Result>,
    rows: Vec<Row>,
}

impl<'a> Model<'a> {
    fn run(windows: &'a Windows, theirs: bool, events: &[Event]) -> Vec<Row> {
        let mut model = Self { windows, theirs, stream_time: -1, results: BTreeMap::new(), rows: Vec::new() };
        for (event, happens) in events.iter().enumerate() {
            if let Event::Record { key: Some(key), value: Some(value), at, header, .. } = happens {
                let headers = header.as_ref().map(|header| format!("h={header};")).unwrap_or_default();
                model.take(event, (key, value), *at, headers);
            }
        }
        model.rows
    }

    fn take(&mut self, event: usize, (key, value): (&str, &str), at: i64, headers: String) {
        let Windows { modulus, rest, size, grace, last, .. } = *self.windows;
        let passes = functions::keeps(modulus, rest, &Some(key.to_owned()), Some(value));
        if passes || !self.theirs {
            self.stream_time = self.stream_time.max(at);
        }
        if last && !self.theirs {
            self.release(event);
        }
        let start = at / size * size;
        if !passes || start + size <= self.stream_time - grace {
            return;
        }
        let before = self.results.get(&(start, key.to_owned()));
        let count = before.map_or(1, |before| before.count + 1);
        let text = self.windows.fold(count, before.map(|before| before.text.as_str()), value);
        let at = before.map_or(at, |before| before.at.max(at));
        let result = Result { text, at, count, headers };
        if !last {
            self.write(event, (start, key), &result, &result.headers.clone());
        }
        self.results.insert((start, key.to_owned()), result);
        if last && self.theirs {
            self.release(event);
        }
    }

    /// Writes the results of windows that have closed.
    fn release(&mut self, event: usize) {
        let Windows { size, grace, .. } = *self.windows;
        for ((start, key), result) in std::mem::take(&mut self.results) {
            if start + size > self.stream_time - grace {
                self.results.insert((start, key), result);
                continue;
            }
            let headers = if self.theirs { result.headers.clone() } else { String::new() };
            self.write(event, (start, &key), &result, &headers);
        }
    }

    fn write(&mut self, event: usize, (start, key): (i64, &str), result: &Result, headers: &str) {
        self.rows.push(Row {
            event,
            topic: "out0".to_owned(),
            key: Some(format!("{key}@{start}/{}", start + self.windows.size)),
            value: Some(result.text.clone()),
            at: result.at,
            headers: headers.to_owned(),
        });
    }
}
