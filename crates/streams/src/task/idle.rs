//! Inputs that have had no records for long: `StreamsBuilder::watermark_idleness`.
//!
//! A source partition is idle when its task has processed all that there is of it, and nothing came for so long by the wall clock. No
//! watermark waits for it then. What is final without it goes for it, too: its time follows the watermarks, so that a record that comes
//! for a window that was told is late. Behind repartition topics its task says that it is idle, as it says times (`watermarks.rs`).

use headwater_model::TimestampMs;

use super::Task;
use crate::error::TaskError;

impl Task {
    /// What has records, or has them to come, is not idle.
    pub(super) fn note_heard(&mut self, now: TimestampMs) {
        if self.idleness.is_none() {
            return;
        }
        for input in &mut self.inputs {
            if input.heard_at.is_none() || !input.buffer.is_empty() || input.lags() {
                (input.idle, input.heard_at) = (false, Some(now));
            }
        }
    }

    /// What becomes final when no watermark waits for idle inputs; returns how many have become idle.
    pub(super) fn look_for_idle(&mut self, now: TimestampMs) -> Result<usize, TaskError> {
        let Some(idleness) = self.idleness else { return Ok(0) };
        self.note_heard(now);
        let mut found = 0;
        for input in self.inputs.iter_mut().filter(|input| input.lanes.is_none() && !input.idle) {
            input.idle = input.heard_at.is_some_and(|at| now.saturating_sub(at) >= idleness);
            found += usize::from(input.idle);
        }
        if found > 0 {
            self.core.context.reprocessing = self.is_reprocessing();
            self.advance_watermarks()?;
        }
        Ok(found)
    }

    /// When it is to be looked for idle inputs.
    pub(super) fn next_idle(&self) -> Option<TimestampMs> {
        let idleness = self.idleness?;
        let busy = self.inputs.iter().filter(|input| input.lanes.is_none() && !input.idle);
        busy.map(|input| input.heard_at.map_or(0, |at| at.saturating_add(idleness))).min()
    }

    /// Idle inputs are no further behind than the watermarks that did not wait for them.
    pub(super) fn lift_idle(&mut self) {
        let Self { inputs, clock_inputs, clock_behind, core, .. } = self;
        for (place, input) in inputs.iter_mut().enumerate().filter(|(_, input)| input.is_idle()) {
            let clocks = clock_inputs.iter().zip(clock_behind.iter()).zip(&core.watermarks);
            let follows =
                clocks.filter(|((inputs, _), watermark)| inputs.contains(&place) && **watermark >= 0);
            let reached = follows.map(|((_, behind), watermark)| watermark.saturating_add(*behind)).max();
            if let Some(reached) = reached {
                input.lift(reached);
            }
        }
    }
}
