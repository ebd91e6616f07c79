//! The members' targets: when they must be computed again, and what that changes.

use super::assignor::{self, Assignee, Load};
use super::configure::Configured;
use super::records::{StreamsEpochs, StreamsGroupChange, Tasks};
use super::request::{StreamsStatus, StreamsStatusKind};
use super::{StreamsGroup, StreamsSettings};
use crate::context::Context;

/// What a member is to be reconciled to.
pub(super) struct Goal {
    pub epoch: i32,
    pub tasks: Tasks,
}

impl StreamsGroup {
    /// Brings the targets up to the group's epoch, unless they have to wait, and says what the member's is.
    pub(super) fn advance(
        &mut self,
        cx: &mut Context,
        settings: &StreamsSettings,
        member_id: &str,
        mut epochs: StreamsEpochs,
        status: &mut Vec<StreamsStatus>,
    ) -> Goal {
        let mut delayed = |why: &str| {
            let detail = format!("Assignment delayed due to the configured {why}.");
            status.push(StreamsStatus { kind: StreamsStatusKind::AssignmentDelayed, detail });
        };
        let behind = epochs.epoch > epochs.assignment_epoch;
        let waits = self.delayed_until.is_some_and(|until| until > cx.now);
        let next_ms = epochs.assigned_ms.saturating_add(settings.assignment_interval_ms.into());
        // The clock may have been set back since, and then nobody knows how long ago it was.
        let too_soon = epochs.assigned_ms > 0 && (epochs.assigned_ms..next_ms).contains(&cx.now);
        match behind {
            true if waits => delayed("initial rebalance delay"),
            true if too_soon => delayed("assignment interval"),
            true => {
                self.retarget(cx, epochs.num_standby_replicas);
                epochs.assignment_epoch = epochs.epoch;
                epochs.assigned_ms = cx.now;
            }
            false => {}
        }
        if epochs != self.epochs {
            epochs.timestamp = cx.now;
            self.record(cx, StreamsGroupChange::Epochs(epochs));
        }
        if behind && waits {
            return Goal { epoch: self.epochs.assignment_epoch.max(1), tasks: Tasks::default() };
        }
        let target = self.members.get(member_id).map(|member| member.target.clone());
        Goal { epoch: self.epochs.assignment_epoch, tasks: target.unwrap_or_default() }
    }

    /// Begins an epoch because somebody left; the next heartbeat computes the targets.
    pub(super) fn bump(&mut self, cx: &mut Context) {
        let epoch = self.epochs.epoch.saturating_add(1);
        let epochs = StreamsEpochs { epoch, timestamp: cx.now, ..self.epochs.clone() };
        self.record(cx, StreamsGroupChange::Epochs(epochs));
    }

    /// The wait for more members is over.
    pub(super) fn end_delay(&mut self, cx: &mut Context) {
        self.delayed_until = None;
        if self.is_empty() || self.configured.is_none() || self.epochs.epoch == self.epochs.assignment_epoch {
            return;
        }
        self.retarget(cx, self.epochs.num_standby_replicas);
        let epochs = StreamsEpochs {
            assignment_epoch: self.epochs.epoch,
            assigned_ms: cx.now,
            timestamp: cx.now,
            ..self.epochs.clone()
        };
        self.record(cx, StreamsGroupChange::Epochs(epochs));
    }

    fn retarget(&mut self, cx: &mut Context, standbys: i32) {
        let assignees: Vec<Assignee<'_>> = self
            .members
            .values()
            .map(|member| Assignee { process_id: &member.record.process_id, target: &member.target })
            .collect();
        let standbys = usize::try_from(standbys).unwrap_or(0);
        let targets = assignor::assign(&assignees, &self.loads(), standbys);
        let changed: Vec<(String, Tasks)> = self
            .members
            .iter()
            .zip(targets)
            .filter(|((_, member), target)| member.target != *target)
            .map(|((id, _), target)| (id.clone(), target))
            .collect();
        for (member_id, tasks) in changed {
            self.record(cx, StreamsGroupChange::Target { member_id, tasks });
        }
    }

    /// The tasks there are; none while topics are in the way.
    fn loads(&self) -> Vec<Load> {
        let configured = self.configured.as_ref().filter(|configured| configured.is_ready());
        let (Some(Configured { tasks, .. }), Some(topology)) = (configured, &self.topology) else {
            return Vec::new();
        };
        let stateful =
            |id: &String| topology.subtopologies.get(id).is_some_and(super::Subtopology::is_stateful);
        let load = |(id, tasks): (&String, &i32)| Load {
            subtopology: id.clone(),
            tasks: *tasks,
            stateful: stateful(id),
        };
        tasks.iter().map(load).collect()
    }
}
