//! A task: one partition of one sub-topology, with its inputs, stores and operators.
//!
//! A task never reads a clock or does I/O. The shell feeds it records ([`Task::enqueue`]), lets it work
//! ([`Task::process`]), takes what it wrote ([`Task::take_output`]) and, when outputs and positions are committed together,
//! moves its state into the backends ([`Task::pre_commit`], [`Task::committed`]). To abort, drop the task.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use headwater_model::{Bytes, Header, Offset, Record, TimestampMs, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::error::TaskError;
use crate::failure;
use crate::node::{Core, RecordContext};
use crate::processor::PunctuationType;
use crate::production::RefusedOutput;
use crate::quarantine::keeper::Keeper;
use crate::store::StoreKind;
use crate::store::external::ExternalTable;
use crate::store::typed::FlushedAt;

mod calls;
mod clocks;
mod idle;
pub(crate) mod input;
mod metrics;
mod quarantine;
pub(crate) mod watermarks;

pub use clocks::rename_clocks;
use input::Input;
pub use metrics::TaskMetrics;
use watermarks::Teller;

/// A task's name: sub-topology and partition, printed `0_1` as Kafka Streams does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskId {
    pub subtopology: i32,
    pub partition: i32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.subtopology, self.partition)
    }
}

/// A record to produce. Without a partition, Kafka's default partitioner decides by the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub topic: Arc<str>,
    pub partition: Option<i32>,
    pub timestamp: TimestampMs,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

/// A store of a task, as the shell needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreInfo {
    pub name: String,
    /// The topic it is restored from; `None` if changes are not logged.
    pub changelog: Option<String>,
    pub kind: StoreKind,
    /// The changelog is the source topic itself: restore only up to the committed position of that input.
    pub source_topic: bool,
    /// It is kept in this table of the shell's database, with the positions of the task's inputs.
    pub external: Option<ExternalTable>,
}

/// Entries by store; `None` deletes.
pub type HandedOver = HashMap<String, Arc<Vec<(Bytes, Option<Bytes>)>>>;

/// One partition of one sub-topology at work.
pub struct Task {
    pub(crate) id: TaskId,
    pub(crate) core: Core,
    pub(crate) inputs: Vec<Input>,
    /// Per clock the inputs (by place) that its watermark follows.
    pub(crate) clock_inputs: Vec<Vec<usize>>,
    /// Per clock how far its watermark stays behind them, for what is held back above.
    pub(crate) clock_behind: Vec<i64>,
    /// Under which each clock is committed: its name's hash.
    pub(crate) clock_ids: Vec<u32>,
    /// This task's nodes with a clock, and which.
    pub(crate) clocked: Vec<(usize, usize)>,
    /// The watermarks before the record at hand; kept to spare an allocation per record.
    pub(crate) before: Vec<TimestampMs>,
    pub(crate) stores: Vec<(usize, StoreInfo)>,
    pub(crate) max_task_idle_ms: i64,
    pub(crate) idle_since: Option<TimestampMs>,
    /// After how long without records an input is not waited for.
    pub(crate) idleness: Option<i64>,
    pub(crate) initialized: bool,
    /// Whether, where and how often it says the time.
    pub(crate) teller: Option<Teller>,
    /// What is held back, where the topology has a quarantine.
    pub(crate) quarantine: Option<Box<Keeper>>,
    /// Records released at the start that `process` has not counted yet.
    pub(crate) replayed: usize,
}

/// The first moment of a schedule after `time`; `None` if it would be past the end of time.
fn after(due: Option<TimestampMs>, interval: i64, time: TimestampMs) -> Option<TimestampMs> {
    let due = due?;
    let intervals = time.checked_sub(due)?.checked_div(interval)?.checked_add(1)?;
    due.checked_add(intervals.checked_mul(interval)?)
}

impl Task {
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// The partitions to feed: one for each source topic that has so many partitions.
    pub fn inputs(&self) -> Vec<TopicPartition> {
        self.inputs.iter().map(|input| input.at.clone()).collect()
    }

    /// How large batches may be, `max.message.bytes` by topic. Used where a handler is asked about what cannot be written.
    pub fn set_limits(&mut self, limits: Arc<HashMap<String, usize>>) {
        self.core.production.limits = limits;
    }

    /// What a broker did not take before the task was opened again.
    pub fn set_refused(&mut self, refused: Vec<RefusedOutput>) {
        self.core.production.refused = refused;
    }

    pub fn stores(&self) -> Vec<StoreInfo> {
        self.stores.iter().map(|(_, info)| info.clone()).collect()
    }

    fn input(&mut self, at: &TopicPartition) -> Result<&mut Input, TaskError> {
        let task = self.id;
        self.inputs
            .iter_mut()
            .find(|input| input.at == *at)
            .ok_or_else(|| TaskError::UnknownInput { task: task.to_string(), input: at.to_string() })
    }

    /// Appends records in offset order.
    pub fn enqueue(&mut self, input: &TopicPartition, records: Vec<Record>) -> Result<(), TaskError> {
        let input = self.input(input)?;
        if let Some(last) = records.last() {
            input.fetched_to = input.fetched_to.max(Some(last.offset + 1));
        }
        if input.position.is_none() {
            input.position = records.first().map(|record| record.offset);
        }
        input.buffer.extend(records);
        Ok(())
    }

    /// Records waiting at an input.
    pub fn buffered(&self, input: &TopicPartition) -> usize {
        self.inputs.iter().find(|known| known.at == *input).map_or(0, |input| input.buffer.len())
    }

    /// The next record of an input that is not processed; `None` before there was one.
    pub fn processed_to(&self, input: &TopicPartition) -> Option<Offset> {
        self.inputs.iter().find(|known| known.at == *input)?.position
    }

    /// The next offset to commit of an input: behind what was fetched, if all of that is processed.
    pub fn next_offset(&self, input: &TopicPartition) -> Option<Offset> {
        self.inputs.iter().find(|known| known.at == *input)?.next_offset()
    }

    /// The input's end as the broker last told it. An empty input that has not reached it is waited for; one that has
    /// is waited for `max.task.idle` only (KIP-695).
    pub fn set_end_offset(&mut self, input: &TopicPartition, end: Offset) {
        if let Ok(input) = self.input(input) {
            input.end_offset = Some(end);
        }
    }

    /// The consumer's next position: commits then cover control records and aborted batches at the end of a fetch.
    /// Call it with the start offset when the input is assigned, so that the task knows whether there is more to come.
    pub fn set_fetched_to(&mut self, input: &TopicPartition, next: Offset) {
        if let Ok(input) = self.input(input) {
            input.fetched_to = input.fetched_to.max(Some(next));
        }
    }

    /// How long to wait for an empty input that has been read to its end: 0 not at all, -1 not even for data known to
    /// be on its way.
    pub fn set_max_task_idle(&mut self, ms: i64) {
        self.max_task_idle_ms = ms;
    }

    /// Whether there is a record that may be processed now.
    pub fn ready(&mut self, now: TimestampMs) -> bool {
        if self.core.full_calls > 0 {
            return false;
        }
        if self.inputs.iter().all(|input| !input.buffer.is_empty()) {
            self.idle_since = None;
            return !self.inputs.is_empty();
        }
        if self.inputs.iter().all(|input| input.buffer.is_empty()) {
            return false;
        }
        if self.max_task_idle_ms < 0 {
            return true;
        }
        if self.inputs.iter().any(|input| input.buffer.is_empty() && input.lags()) {
            return false;
        }
        let since = *self.idle_since.get_or_insert(now);
        now - since >= self.max_task_idle_ms
    }

    /// Processes up to `max_records`, smallest timestamp first, and due punctuations; returns how many records it took.
    pub fn process(&mut self, max_records: usize, now: TimestampMs) -> Result<usize, TaskError> {
        self.initialize(now)?;
        self.note_heard(now);
        let mut done = std::mem::take(&mut self.replayed);
        while done < max_records && self.ready(now) {
            for input in &mut self.inputs {
                if input.head.is_none() && !input.buffer.is_empty() {
                    done += input.stage(&mut self.core, self.quarantine.as_deref_mut())?;
                }
            }
            if !self.ready(now) {
                break;
            }
            let heads = self.inputs.iter().enumerate().filter_map(|(i, input)| Some((input.head?, i)));
            let Some((timestamp, index)) = heads.min() else { break };
            self.process_head(index, timestamp)?;
            done += 1;
        }
        Ok(done)
    }

    fn initialize(&mut self, now: TimestampMs) -> Result<(), TaskError> {
        self.core.now = now;
        if !self.initialized {
            self.initialized = true;
            for index in 0..self.core.slots.len() {
                if self.core.slots[index].node.is_some() {
                    self.core.run(index, |node, cx| node.init(cx))?;
                }
            }
            if self.quarantine.is_some() {
                self.open_quarantine()?;
            }
        }
        Ok(())
    }

    fn process_head(&mut self, index: usize, timestamp: TimestampMs) -> Result<(), TaskError> {
        let input = &mut self.inputs[index];
        let Some(mut record) = input.pop() else { return Ok(()) };
        if std::mem::take(&mut input.says_time) {
            return self.hear_time(index, record);
        }
        let before = input.watermark();
        let reprocessing = input.reprocesses(record.offset, &mut record.headers);
        let mut stamp = input.stamp(timestamp, &mut record.headers);
        if self.idleness.is_some() {
            stamp = input.lifted(stamp);
        }
        let advanced = input.watermark() > before;
        self.core.context = RecordContext {
            topic: input.topic.clone(),
            partition: input.at.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            raw: (record.key, record.value),
            headers: record.headers,
            stamp,
            reprocessing,
        };
        self.core.metrics.records_in += 1;
        self.core.slots[input.node].records += 1;
        self.core.stream_time = self.core.stream_time.max(timestamp);
        if advanced {
            self.advance_watermarks()?;
        }
        if self.quarantine.is_some() {
            self.process_or_hold(index)?;
        } else {
            let input = &mut self.inputs[index];
            input.source.emit(&mut crate::node::Cx { core: &mut self.core, node: input.node })?;
        }
        if !self.core.punctuations.is_empty() {
            self.punctuate_due(PunctuationType::StreamTime, self.core.stream_time)?;
        }
        Ok(())
    }

    /// What becomes final by the record at hand comes before it, without its headers, and without its bytes: what fails on the way is
    /// no failure of this record.
    fn advance_watermarks(&mut self) -> Result<(), TaskError> {
        if self.clocked.is_empty() {
            return Ok(());
        }
        self.before.clone_from(&self.core.watermarks);
        self.settle_watermarks();
        let context = &mut self.core.context;
        let own = (std::mem::take(&mut context.headers), std::mem::take(&mut context.raw));
        for place in 0..self.clocked.len() {
            let (node, clock) = self.clocked[place];
            let watermark = self.core.watermarks[clock];
            if watermark > self.before[clock] {
                self.core.run(node, |node, cx| node.advance(watermark, cx))?;
            }
        }
        (self.core.context.headers, self.core.context.raw) = own;
        Ok(())
    }

    /// Runs due wall-clock punctuations, sees which inputs are idle, and says the time where that is due; returns how many ran or were so,
    /// and records it took.
    pub fn punctuate(&mut self, now: TimestampMs) -> Result<usize, TaskError> {
        self.initialize(now)?;
        let ran = self.punctuate_due(PunctuationType::WallClock, now)?;
        Ok(ran + self.look_for_idle(now)? + self.tell_time(now))
    }

    /// When `punctuate` is due next.
    pub fn next_punctuation(&self) -> Option<TimestampMs> {
        let wall_clock = |p: &&crate::node::Punctuation| p.kind == PunctuationType::WallClock;
        let due = self.core.punctuations.iter().filter(wall_clock).filter_map(|p| p.next).min();
        due.into_iter().chain(self.next_telling()).chain(self.next_idle()).min()
    }

    fn punctuate_due(&mut self, kind: PunctuationType, time: TimestampMs) -> Result<usize, TaskError> {
        let mut ran = 0;
        for place in 0..self.core.punctuations.len() {
            let due = &mut self.core.punctuations[place];
            if due.kind != kind || due.next.is_none_or(|next| next > time) {
                continue;
            }
            due.next = after(due.next, due.interval, time);
            let (node, id) = (due.node, due.id);
            self.core.context.headers.clear();
            self.core.context.raw = (None, None);
            self.core.context.reprocessing = self.is_reprocessing();
            self.core.punctuating = true;
            let called = self.core.run(node, |node, cx| node.punctuate(id, time, cx));
            self.core.punctuating = false;
            if let Err(error) = called {
                failure::handle(&mut self.core, node, error)?;
            }
            ran += 1;
        }
        Ok(ran)
    }

    /// Everything written since the last call: sinks, repartition topics, dead letters and, after `pre_commit`, changelogs.
    pub fn take_output(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.core.out)
    }

    /// Whether an input has not come to the offset at which the application was reset.
    pub fn is_reprocessing(&self) -> bool {
        let again = |input: &Input| input.reprocess_until.is_some_and(|end| input.next_offset() < Some(end));
        self.inputs.iter().any(again)
    }

    /// The highest timestamp processed; -1 before the first.
    pub fn stream_time(&self) -> TimestampMs {
        self.core.stream_time
    }

    /// Encodes what changed in the stores: changelog records join the output.
    pub fn pre_commit(&mut self) -> Result<(), TaskError> {
        self.keep_before_commit()?;
        for (index, _) in &self.stores {
            if let Some(store) = &mut self.core.stores[*index] {
                let at =
                    FlushedAt { partition: self.id.partition, stream_time: self.core.stream_time.max(0) };
                store.flush(at, &mut self.core.out)?;
            }
        }
        Ok(())
    }

    /// How many bytes of rows each store may keep in memory between commits, as they are encoded and with what they take
    /// beside that; 16 MiB unless this is called. What was written since the last commit stays whatever it takes.
    pub fn limit_caches(&mut self, bytes: usize) {
        self.core.stores.iter_mut().flatten().for_each(|store| store.limit(bytes));
    }

    /// What `pre_commit` encoded, per store, now that outputs and positions are committed. The shell writes it to the
    /// backends before it calls anything else. What was processed since `pre_commit` is of the next commit.
    pub fn committed(&mut self, _now: TimestampMs) -> HashMap<String, Vec<(Bytes, Option<Bytes>)>> {
        self.settle_quarantine();
        let mut batches = HashMap::new();
        for (index, info) in &self.stores {
            if let Some(store) = &mut self.core.stores[*index] {
                let batch = store.take_pending();
                if !batch.is_empty() {
                    batches.insert(info.name.clone(), batch);
                }
            }
        }
        batches
    }

    /// As `committed`, for a shell that writes it while the task goes on, and says by `settle` that the backends have it; no two
    /// at once. `None` if a store of the task is not for that.
    pub fn hand_over(&mut self) -> Option<HandedOver> {
        let stores = self.stores.iter().map(|(index, _)| self.core.stores[*index].as_ref());
        if !stores.flatten().all(|store| store.settles_later()) {
            return None;
        }
        self.settle_quarantine();
        let mut batches = HashMap::new();
        for (index, info) in &self.stores {
            let batch = self.core.stores[*index].as_mut().and_then(|store| store.hand_over());
            batches.extend(batch.filter(|batch| !batch.is_empty()).map(|batch| (info.name.clone(), batch)));
        }
        Some(batches)
    }

    /// The backends have what was handed over.
    pub fn settle(&mut self) {
        for (index, _) in &self.stores {
            if let Some(store) = &mut self.core.stores[*index] {
                store.settle();
            }
        }
    }

    /// What `committed` would hand out, of all stores: entries, and about how many bytes. A shell may let it gather over some
    /// commits: until it is handed out it is kept in memory, and read from there.
    pub fn pending(&self) -> (usize, usize) {
        let stores = self.stores.iter().filter_map(|(index, _)| self.core.stores[*index].as_ref());
        stores.map(|store| store.pending()).fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1))
    }

    /// Which of these keys a store would ask its backend for, so that a shell may read them all at once.
    pub fn lacking(&self, store: &str, keys: &[Bytes]) -> Vec<Bytes> {
        let found = self.stores.iter().find(|(_, info)| info.name == store);
        let store = found.and_then(|(index, _)| self.core.stores[*index].as_ref());
        let lacks = |key: &&Bytes| store.is_some_and(|store| !store.holds(key));
        keys.iter().filter(lacks).cloned().collect()
    }

    fn store_index(&self, store: &str) -> Result<usize, TaskError> {
        let found = self.stores.iter().find(|(_, info)| info.name == store).map(|(index, _)| *index);
        found.ok_or_else(|| TaskError::UnknownStore { task: self.id.to_string(), store: store.to_owned() })
    }

    /// Converts changelog records to entries and writes them to the store's backend.
    pub fn restore(&mut self, store: &str, records: &[Record]) -> Result<(), TaskError> {
        let index = self.store_index(store)?;
        match &mut self.core.stores[index] {
            Some(store) => {
                let batch = store.restore_batch(records)?;
                store.apply(batch)
            }
            None => Ok(()),
        }
    }

    /// Converts only: for a shell that writes the entries and its changelog position in one batch.
    pub fn restore_batch(
        &self,
        store: &str,
        records: &[Record],
    ) -> Result<Vec<(Bytes, Option<Bytes>)>, TaskError> {
        let index = self.store_index(store)?;
        self.core.stores[index].as_ref().map_or(Ok(Vec::new()), |store| store.restore_batch(records))
    }

    pub fn metrics(&self) -> TaskMetrics {
        self.core.metrics
    }

    /// Records that reached each node since the task was created.
    pub fn node_counts(&self) -> Vec<(String, u64)> {
        let own = |(index, slot): &(usize, &crate::node::Slot)| {
            slot.node.is_some() || self.inputs.iter().any(|input| input.node == *index)
        };
        self.core
            .slots
            .iter()
            .enumerate()
            .filter(own)
            .map(|(_, slot)| (slot.name.to_string(), slot.records))
            .collect()
    }
}
