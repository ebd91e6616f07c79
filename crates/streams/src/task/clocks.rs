//! The clocks of a task: they are committed with its positions, and taken back from there.

use headwater_model::{Offset, TimestampMs, TopicPartition};

use super::Task;
use super::input::Input;
use crate::lanes::{LaneClocks, topic_id};

/// A committed position's metadata with the clocks under their new names; `renamed` has pairs of old and new.
pub fn rename_clocks(metadata: &str, renamed: &[(String, String)]) -> String {
    let mut parts: Vec<String> = metadata.split(';').map(str::to_owned).collect();
    if let (Some("hw3"), Some(_)) = (parts.first().map(String::as_str), parts.get(3)) {
        let new = |id: &str| {
            let found = renamed.iter().find(|(old, _)| format!("{:x}", topic_id(old)) == id);
            found.map_or_else(|| id.to_owned(), |(_, new)| format!("{:x}", topic_id(new)))
        };
        let clock = |text: &str| match text.split_once(':') {
            Some((id, time)) => format!("{}:{time}", new(id)),
            None => text.to_owned(),
        };
        parts[3] = parts[3].split(',').map(clock).collect::<Vec<_>>().join(",");
    }
    parts.join(";")
}

impl Task {
    /// What to commit per input: the next offset, and metadata from which [`Task::set_stream_time`] restores the clocks.
    ///
    /// `hw3;partition's time;stream time;clocks;lanes`, and `;end` while it reprocesses what lies before that offset, where a clock is `hash of its name in hex:time`, with commas between.
    pub fn positions(&self) -> Vec<(TopicPartition, Offset, String)> {
        let clocks = self.clock_ids.iter().zip(&self.core.clocks).filter(|(_, time)| **time >= 0);
        let clocks: Vec<String> = clocks.map(|(id, time)| format!("{id:x}:{time}")).collect();
        let clocks = clocks.join(",");
        self.inputs
            .iter()
            .filter_map(|input| {
                let lanes = input.lanes.as_ref().map(LaneClocks::to_text).unwrap_or_default();
                let mut times =
                    format!("hw3;{};{};{clocks};{lanes}", input.partition_time, self.core.stream_time);
                let next = input.next_offset()?;
                if let Some(end) = input.reprocess_until.filter(|end| next < *end) {
                    times.push_str(&format!(";{end}"));
                }
                Some((input.at.clone(), next, times))
            })
            .collect()
    }

    /// Takes back the clocks from a committed position's metadata; anything else is ignored.
    pub fn set_stream_time(&mut self, input: &TopicPartition, metadata: &str) {
        let mut parts = metadata.split(';');
        // Earlier versions named clocks by their place, which is another one's when the topology changes.
        let named = match parts.next() {
            Some("hw3") => true,
            Some("hw2") => false,
            _ => return,
        };
        let times =
            (parts.next().and_then(|t| t.parse().ok()), parts.next().and_then(|t| t.parse::<i64>().ok()));
        let (Some(partition_time), Some(stream_time)) = times else { return };
        let clocks = parts.next().unwrap_or_default();
        if named {
            self.restore_clocks(clocks);
        }
        self.core.stream_time = self.core.stream_time.max(stream_time);
        let (lanes, end) = (parts.next().unwrap_or_default(), parts.next());
        if let Ok(input) = self.input(input) {
            input.partition_time = input.partition_time.max(partition_time);
            if let Some(clocks) = &mut input.lanes {
                clocks.restore(lanes);
            }
            input.reprocess_until = end.and_then(|end| end.parse().ok());
        }
        self.settle_watermarks();
    }

    fn restore_clocks(&mut self, text: &str) {
        for (id, time) in text.split(',').filter_map(|pair| pair.split_once(':')) {
            let (Ok(id), Ok(time)) = (u32::from_str_radix(id, 16), time.parse::<TimestampMs>()) else {
                continue;
            };
            for (_, clock) in
                self.clock_ids.iter().zip(&mut self.core.clocks).filter(|(known, _)| **known == id)
            {
                *clock = time.max(*clock);
            }
        }
    }

    pub(super) fn settle_watermarks(&mut self) {
        let clocks = self.clock_inputs.iter().zip(&self.clock_behind);
        for (watermark, (inputs, behind)) in self.core.watermarks.iter_mut().zip(clocks) {
            let waited_for = inputs.iter().map(|&input| &self.inputs[input]).filter(|input| !input.is_idle());
            let lowest = waited_for.map(Input::watermark).min().unwrap_or(-1);
            *watermark = lowest.saturating_sub(*behind).max(*watermark);
        }
        if self.idleness.is_some() {
            self.lift_idle();
        }
    }
}
