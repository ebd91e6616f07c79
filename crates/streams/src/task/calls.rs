//! Calls of a task: what the shell is to do, and what came of it.

use headwater_model::TimestampMs;

use super::Task;
use super::input::Input;
use crate::calls::{Call, CallId, CallOutcome};
use crate::error::TaskError;
use crate::failure;
use crate::lanes::Stamp;
use crate::node::RecordContext;

impl Task {
    /// Calls to be made now. Each is told to [`Task::complete`] once; if the task is dropped before, nobody waits for it.
    pub fn take_calls(&mut self, now: TimestampMs) -> Vec<Call> {
        let mut calls = Vec::new();
        for place in 0..self.core.callers.len() {
            let node = self.core.callers[place];
            // Asking fails nowhere.
            if let Ok(mut more) = self.core.run(node, |node, cx| Ok(node.calls(now, cx))) {
                calls.append(&mut more);
            }
        }
        calls
    }

    /// When a call is due that [`Task::take_calls`] has not given out yet.
    pub fn next_call(&self) -> Option<TimestampMs> {
        let nodes = self.core.callers.iter().filter_map(|node| self.core.slots[*node].node.as_ref());
        nodes.filter_map(|node| node.next_call()).min()
    }

    /// Calls that are not over: under way, or waiting for their turn or for another attempt.
    pub fn calls_under_way(&self) -> usize {
        let nodes = self.core.callers.iter().filter_map(|node| self.core.slots[*node].node.as_ref());
        nodes.map(|node| node.under_way()).sum()
    }

    /// What came of a call: its result goes on, or it is made again, or its failure is the handler's affair. Commit as after
    /// [`Task::process`]. One that nobody waits for is left out.
    pub fn complete(&mut self, id: CallId, outcome: CallOutcome, now: TimestampMs) -> Result<(), TaskError> {
        self.core.now = now;
        if !self.core.callers.contains(&id.node) {
            return Ok(());
        }
        let slot = self.core.slots[id.node].node.as_ref();
        if let Some(origin) = slot.and_then(|node| node.origin(id)) {
            self.core.resumed = self.stamp_now(origin);
        }
        match self.core.run(id.node, |node, cx| node.complete(id, outcome, cx)) {
            Err(error) => failure::handle(&mut self.core, id.node, error),
            done => done,
        }
    }

    /// What a record carries that goes on now: the time of its lane, which has moved on meanwhile.
    fn stamp_now(&self, origin: &RecordContext) -> Stamp {
        let from = |input: &&Input| input.topic == origin.topic && input.at.partition == origin.partition;
        let Some(input) = self.inputs.iter().find(from) else { return origin.stamp };
        let own = Stamp { topic: input.topic_id, partition: input.at.partition, time: input.watermark() };
        let lane = input.lanes.as_ref().and_then(|lanes| lanes.time(origin.stamp));
        lane.map_or(own, |time| Stamp { time: time.max(origin.stamp.time), ..origin.stamp })
    }

    /// Has what is under way kept in its stores.
    pub(super) fn keep_before_commit(&mut self) -> Result<(), TaskError> {
        for place in 0..self.core.callers.len() {
            let node = self.core.callers[place];
            self.core.run(node, |node, cx| node.before_commit(cx))?;
        }
        Ok(())
    }
}
