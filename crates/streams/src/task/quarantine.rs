//! Records that are held back in a task, and their way back into it.

use headwater_model::{Bytes, Offset, Record, TimestampMs, TopicPartition};

use super::Task;
use super::input::Staged;
use crate::error::TaskError;
use crate::lanes::Stamp;
use crate::node::{Cx, RecordContext};
use crate::quarantine::entry::Held;
use crate::quarantine::keeper::{Keeper, Verdict};
use crate::quarantine::{Condemned, Failure, HeldKey};
use crate::reprocessing;

impl Task {
    /// The keys that are held, in their order.
    pub fn quarantined(&self) -> Vec<HeldKey> {
        self.quarantine.as_ref().map_or_else(Vec::new, |keeper| keeper.told())
    }

    /// The record failed in a task that had to be dropped ([`TaskError::SetAside`]): it is held when its turn comes.
    pub fn set_aside(&mut self, input: &TopicPartition, offset: Offset, node: &str, message: &str) {
        if let Some(keeper) = &mut self.quarantine {
            let failure = Failure { node: node.to_owned(), message: message.to_owned() };
            let (topic, partition) = (input.topic.clone(), input.partition);
            keeper.condemn(Condemned { topic, partition, offset, failure });
        }
    }

    /// Processes what is held of a key, or all there is, in the order it came; what fails again stays, with all that follows it.
    /// Returns how many records were processed. Call it between two calls of [`Task::process`] and commit as after them.
    pub fn release(&mut self, key: Option<&Bytes>, now: TimestampMs) -> Result<usize, TaskError> {
        self.initialize(now)?;
        self.with_keeper(|task, keeper| {
            let mut done = 0;
            for key in keeper.chosen(key) {
                done += task.replay(&key, keeper)?;
            }
            Ok(done)
        })
    }

    fn with_keeper<T: Default>(
        &mut self,
        run: impl FnOnce(&mut Self, &mut Keeper) -> Result<T, TaskError>,
    ) -> Result<T, TaskError> {
        let Some(mut keeper) = self.quarantine.take() else { return Ok(T::default()) };
        let result = run(self, &mut keeper);
        self.quarantine = Some(keeper);
        result
    }

    /// Learns what is held, and releases it if another version of the program runs than did before.
    pub(super) fn open_quarantine(&mut self) -> Result<(), TaskError> {
        let is_new = self.with_keeper(|task, keeper| {
            keeper.load(&mut task.core)?;
            keeper.is_new_version(&mut task.core)
        })?;
        if is_new {
            self.replayed += self.release(None, self.core.now)?;
        }
        Ok(())
    }

    /// What was set aside and is committed may be tried again.
    pub(super) fn settle_quarantine(&mut self) {
        let Self { quarantine: Some(keeper), inputs, .. } = self else { return };
        keeper.settle(|condemned| {
            let of = |input: &&super::Input| {
                input.at.partition == condemned.partition && *input.topic == *condemned.topic
            };
            inputs.iter().find(of).is_none_or(|input| input.next_offset() > Some(condemned.offset))
        });
    }

    /// Processes the record at hand, or holds it.
    pub(super) fn process_or_hold(&mut self, index: usize) -> Result<(), TaskError> {
        self.with_keeper(|task, keeper| {
            let failure = match keeper.verdict(&task.core) {
                Verdict::Free => {
                    // Processors may replace them.
                    let headers = task.core.context.headers.clone();
                    let failed = task.attempt(index)?;
                    if failed.is_none() {
                        return Ok(());
                    }
                    task.core.context.headers = headers;
                    failed
                }
                Verdict::Waits => None,
                Verdict::Condemned(failure) => Some(failure),
            };
            task.hold(failure, keeper)
        })
    }

    /// Lets the record at hand through; what it failed with, if it is to be held. Then it has had no effect.
    fn attempt(&mut self, index: usize) -> Result<Option<Failure>, TaskError> {
        let (written, out, metrics) = (self.writes(), self.core.out.len(), self.core.metrics);
        self.core.may_hold = true;
        let input = &mut self.inputs[index];
        let result = input.source.emit(&mut Cx { core: &mut self.core, node: input.node });
        self.core.may_hold = false;
        // A processor may have made another error of it, or none.
        let Some(failure) = self.core.to_hold.take() else { return result.map(|()| None) };
        if self.writes() == written {
            self.core.out.truncate(out);
            self.core.metrics = metrics;
            return Ok(Some(failure));
        }
        let context = &self.core.context;
        Err(TaskError::SetAside {
            topic: context.topic.to_string(),
            partition: context.partition,
            offset: context.offset,
            node: failure.node,
            message: failure.message,
        })
    }

    /// How often any store was written to.
    fn writes(&self) -> u64 {
        let of =
            |(index, _): &(usize, _)| self.core.stores[*index].as_ref().map_or(0, |store| store.writes());
        self.stores.iter().map(of).sum::<u64>() + self.core.effects
    }

    fn hold(&mut self, failure: Option<Failure>, keeper: &mut Keeper) -> Result<(), TaskError> {
        let context = &self.core.context;
        let (key, value) = context.raw.clone();
        let mut headers = context.headers.clone();
        if context.reprocessing {
            reprocessing::mark(&mut headers);
        }
        let (offset, timestamp) = (context.offset, context.timestamp);
        let record = Record { offset, timestamp, key, value, headers };
        let held = Held { topic: context.topic.to_string(), partition: context.partition, record, failure };
        keeper.admit(held, &mut self.core)
    }

    /// The records of a key until one fails; those without a key are each for itself.
    fn replay(&mut self, key: &Option<Bytes>, keeper: &mut Keeper) -> Result<usize, TaskError> {
        let mut done = 0;
        for (store_key, held) in keeper.records(key, &mut self.core)? {
            match self.replay_one(&held, keeper)? {
                None => {
                    keeper.released(store_key, &held, &mut self.core);
                    self.core.metrics.released += 1;
                    done += 1;
                }
                Some(failure) => {
                    keeper.stays(store_key, held, failure, &mut self.core);
                    if key.is_some() {
                        break;
                    }
                }
            }
        }
        Ok(done)
    }

    fn replay_one(&mut self, held: &Held, keeper: &mut Keeper) -> Result<Option<Failure>, TaskError> {
        if let Some(failure) = keeper.condemned(&held.topic, held.partition, held.record.offset) {
            return Ok(Some(failure));
        }
        let here = |input: &super::Input| *input.topic == *held.topic && input.at.partition == held.partition;
        let Some(index) = self.inputs.iter().position(here) else {
            let message = format!("this topology does not read {}/{}", held.topic, held.partition);
            return Ok(Some(Failure { node: "the quarantine".to_owned(), message }));
        };
        let input = &mut self.inputs[index];
        // What was decoded ahead of its turn is decoded again then.
        input.head = None;
        match input.source.stage(&input.topic, &held.record) {
            Staged::Ready(_) => {}
            Staged::Malformed { what, error } => {
                let node = self.core.slots[input.node].name.to_string();
                return Ok(Some(Failure { node, message: format!("the {what} does not decode: {error}") }));
            }
            // What this version of the program skips is through.
            Staged::NullKey | Staged::NullValue | Staged::NegativeTimestamp => return Ok(None),
        }
        // Time has passed meanwhile: a record for a window that has closed is late.
        let time = input.watermark().max(-1);
        let mut headers = held.record.headers.clone();
        let reprocessing = reprocessing::take(&mut headers);
        self.core.context = RecordContext {
            topic: input.topic.clone(),
            partition: held.partition,
            offset: held.record.offset,
            timestamp: held.record.timestamp,
            raw: (held.record.key.clone(), held.record.value.clone()),
            headers,
            stamp: Stamp { topic: input.topic_id, partition: held.partition, time },
            reprocessing,
        };
        self.attempt(index)
    }
}
