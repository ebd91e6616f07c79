//! Operators written by hand.

use headwater_model::TimestampMs;
use headwater_streams::serdes::string;
use headwater_streams::{
    Materialized, Processor, ProcessorContext, ProcessorError, PunctuationType, ScheduleId, StateStore,
};

use super::Build;
use super::aggregations::millis;
use crate::case::Step;
use crate::functions::{self, Text};

pub fn add(build: &mut Build, step: &Step) -> bool {
    let Step::Process { of, stream_time, wall_clock } = *step else { return false };
    let name = build.name("s");
    let store = build.builder.add_store(Materialized::with(name.as_str(), string(), string()));
    let make = move || Chronicle { store: store.clone(), stream_time, wall_clock, schedules: Vec::new() };
    let stream = build.stream(of).process(make, &[&name]);
    build.streams(stream)
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
