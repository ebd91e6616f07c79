//! Operators written by hand.

use headwater_model::TimestampMs;
use headwater_streams::serdes::string;
use headwater_streams::{
    Materialized, Processor, ProcessorContext, ProcessorError, PunctuationType, ScheduleId, StateStore,
    VersionedRecord, VersionedStateStore,
};

use super::Build;
use super::aggregations::millis;
use crate::case::Step;
use crate::functions::{self, Text};

pub fn add(build: &mut Build, step: &Step) -> bool {
    let name = build.name("s");
    let kept = Materialized::with(name.as_str(), string(), string());
    match *step {
        Step::Process { of, stream_time, wall_clock, shares } => {
            let name = shares.map_or(name, |other| format!("s{other}"));
            if shares.is_none() {
                let store = build.builder.add_store(kept);
                build.stores.insert(name.clone(), store);
            }
            let store = build.stores[&name].clone();
            let make =
                move || Chronicle { store: store.clone(), stream_time, wall_clock, schedules: Vec::new() };
            let stream = build.stream(of).process(make, &[&name]);
            build.streams(stream)
        }
        Step::ProcessVersions { of, history, back } => {
            let store = build.builder.add_versioned_store(kept.versioned(millis(history)));
            let stream = build.stream(of).process(move || Annals { store: store.clone(), back }, &[&name]);
            build.streams(stream)
        }
        _ => false,
    }
}

/// Appends each value to what its key had, forgets the key at a null, and tells all it knows when it is punctuated.
struct Chronicle {
    store: StateStore<String, String>,
    stream_time: Option<u64>,
    wall_clock: Option<u64>,
    schedules: Vec<(ScheduleId, &'static str)>,
}

type Context<'a, 'b> = ProcessorContext<'a, 'b, Text, Text>;

impl Processor<Text, Text, Text, Text> for Chronicle {
    fn init(&mut self, cx: &mut Context<'_, '_>) -> Result<(), ProcessorError> {
        let clocks = [
            (self.stream_time, PunctuationType::StreamTime, "stream_time"),
            (self.wall_clock, PunctuationType::WallClock, "wall_clock"),
        ];
        for (interval, clock, name) in clocks {
            if let Some(interval) = interval {
                self.schedules.push((cx.schedule(millis(interval), clock), name));
            }
        }
        Ok(())
    }

    fn process(&mut self, key: Text, value: Text, cx: &mut Context<'_, '_>) -> Result<(), ProcessorError> {
        let Some(known) = &key else {
            let later = cx.timestamp() + 1;
            return Ok(cx.forward_at(key, value, later)?);
        };
        let Some(value) = value else {
            cx.delete(&self.store, known)?;
            return Ok(cx.forward(key, None)?);
        };
        let value = match cx.get(&self.store, known)? {
            Some(before) => functions::reduce(&before, &value),
            None => value,
        };
        cx.put(&self.store, known, value.clone())?;
        Ok(cx.forward(key, Some(value))?)
    }

    fn punctuate(
        &mut self,
        schedule: ScheduleId,
        time: TimestampMs,
        cx: &mut Context<'_, '_>,
    ) -> Result<(), ProcessorError> {
        let name = self.schedules.iter().find(|(id, _)| *id == schedule).map_or("", |(_, name)| *name);
        for (key, value) in cx.all(&self.store)? {
            cx.forward_at(Some(key), Some(format!("{name}:{value}")), time)?;
        }
        Ok(())
    }
}

/// Writes each value at its time, and tells what there was some time before and what is the latest.
struct Annals {
    store: VersionedStateStore<String, String>,
    back: i64,
}

fn told(version: Option<VersionedRecord<String>>) -> String {
    version.map_or_else(|| "-".to_owned(), |version| format!("{}@{}", version.value, version.timestamp))
}

impl Processor<Text, Text, Text, Text> for Annals {
    fn process(&mut self, key: Text, value: Text, cx: &mut Context<'_, '_>) -> Result<(), ProcessorError> {
        let Some(known) = &key else { return Ok(cx.forward(key, value)?) };
        let at = cx.timestamp();
        let written = cx.put_version(&self.store, known, value, at)?;
        let before = told(cx.get_as_of(&self.store, known, (at - self.back).max(0))?);
        let latest = told(cx.get_latest(&self.store, known)?);
        Ok(cx.forward(key, Some(functions::brief(format!("{written} {before} {latest}"))))?)
    }
}
