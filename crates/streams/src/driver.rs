//! A topology in a test: the tasks of the real thing around topics in memory, on virtual time.
//!
//! What a task writes becomes visible when it commits, as for a `read_committed` consumer, and only then do other tasks
//! see it. By default every step commits; [`TopologyTestDriver::manual_commit`] leaves that to the test, which may then
//! [`crash`](TopologyTestDriver::crash) between two commits. Everything is deterministic.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use headwater_model::{Bytes, Record, TimestampMs, TopicPartition, partition};
use serde_json::Value;

use crate::error::{TaskError, TopologyError};
use crate::global::GlobalStores;
use crate::query::{Query, QueryError, QueryableStore};
use crate::serdes::{SerdeRef, to_wire};
use crate::store::{MemoryStore, StoreBackend};
use crate::task::{Output, Task, TaskId, TaskMetrics};
use crate::topology::{InternalTopic, Topology};
use crate::windows::duration_ms;

struct Running {
    task: Task,
    fetched: BTreeMap<TopicPartition, usize>,
}

/// Runs a topology without a broker.
pub struct TopologyTestDriver {
    topology: Topology,
    counts: BTreeMap<String, i32>,
    internal: Vec<InternalTopic>,
    logs: BTreeMap<TopicPartition, Vec<Record>>,
    /// Records of each topic that the test has not read, in the order they were committed.
    unread: BTreeMap<String, VecDeque<Record>>,
    committed: BTreeMap<TopicPartition, (i64, String)>,
    backends: BTreeMap<TaskId, HashMap<String, MemoryStore>>,
    tasks: BTreeMap<TaskId, Running>,
    globals: GlobalStores,
    now: TimestampMs,
    auto_commit: bool,
}

impl TopologyTestDriver {
    /// Every topic has one partition.
    pub fn new(topology: Topology) -> Result<Self, TopologyError> {
        Self::with_partitions(topology, &|_| 1)
    }

    /// Topics have as many partitions as `partitions` says.
    pub fn with_partitions(
        topology: Topology,
        partitions: &dyn Fn(&str) -> i32,
    ) -> Result<Self, TopologyError> {
        let internal = topology.internal_topics(&|topic| Some(partitions(topic)))?;
        let external = topology.source_topics().into_iter().chain(topology.sink_topics());
        let mut counts: BTreeMap<String, i32> =
            external.map(|topic| (topic.clone(), partitions(&topic))).collect();
        counts.extend(internal.iter().map(|topic| (topic.name.clone(), topic.partitions)));
        let globals = topology.new_globals();
        let mut driver = Self {
            topology,
            counts,
            internal,
            logs: BTreeMap::new(),
            unread: BTreeMap::new(),
            committed: BTreeMap::new(),
            backends: BTreeMap::new(),
            tasks: BTreeMap::new(),
            globals,
            now: 0,
            auto_commit: true,
        };
        // Without records there is nothing to restore, so nothing to fail.
        if let Err(error) = driver.start_tasks() {
            panic!("a new task failed: {error}");
        }
        Ok(driver)
    }

    /// Nothing is committed, and so nothing visible, until the test calls [`TopologyTestDriver::commit`].
    pub fn manual_commit(&mut self) -> &mut Self {
        self.auto_commit = false;
        self
    }

    /// The topics that the application would create.
    pub fn internal_topics(&self) -> &[InternalTopic] {
        &self.internal
    }

    fn start_tasks(&mut self) -> Result<(), TaskError> {
        let counts = self.counts.clone();
        let count = |topic: &str| counts.get(topic).copied();
        for id in self.topology.tasks(&count) {
            let backends = self.backends.entry(id).or_default();
            let stores = self.topology.stores(id.subtopology);
            let mut given: HashMap<String, Box<dyn StoreBackend>> = HashMap::new();
            for info in &stores {
                let backend = backends.entry(info.name.clone()).or_default().clone();
                given.insert(info.name.clone(), Box::new(backend));
            }
            let mut task = self.topology.task(id, given, self.globals.clone(), &count)?;
            let mut fetched = BTreeMap::new();
            for input in task.inputs() {
                let (offset, metadata) = self.committed.get(&input).cloned().unwrap_or_default();
                task.set_stream_time(&input, &metadata);
                task.set_fetched_to(&input, offset);
                fetched.insert(input, offset as usize);
            }
            self.tasks.insert(id, Running { task, fetched });
        }
        Ok(())
    }

    /// Fills empty stores from their changelogs, as an instance on a new machine would.
    fn restore(&mut self) -> Result<(), TaskError> {
        for (id, running) in &mut self.tasks {
            for info in running.task.stores() {
                let Some(changelog) = info.changelog else { continue };
                let at = TopicPartition::new(changelog, id.partition);
                let log = self.logs.get(&at).map(Vec::as_slice).unwrap_or_default();
                let end = if info.source_topic {
                    self.committed.get(&at).map_or(0, |(offset, _)| *offset as usize)
                } else {
                    log.len()
                };
                running.task.restore(&info.name, &log[..end])?;
            }
        }
        Ok(())
    }

    /// Kills all tasks: what was not committed is lost. Stores keep what was committed.
    pub fn crash(&mut self) -> Result<(), TaskError> {
        self.tasks.clear();
        self.start_tasks()
    }

    /// Kills all tasks and loses their stores, too; they come back from the changelogs.
    pub fn crash_and_wipe(&mut self) -> Result<(), TaskError> {
        self.tasks.clear();
        self.backends.clear();
        self.start_tasks()?;
        self.restore()
    }

    /// Appends a record to a topic, in the partition of its key, and lets the tasks work.
    pub fn pipe_input(
        &mut self,
        topic: &str,
        key: Option<Bytes>,
        value: Option<Bytes>,
        timestamp: TimestampMs,
    ) -> Result<(), TaskError> {
        self.pipe_record(topic, Record { timestamp, key, value, ..Record::default() })
    }

    /// As [`TopologyTestDriver::pipe_input`], with headers; the offset is assigned here.
    pub fn pipe_record(&mut self, topic: &str, record: Record) -> Result<(), TaskError> {
        self.append(topic, None, record);
        self.run()
    }

    /// As [`TopologyTestDriver::pipe_record`], in a partition that the test chooses, as a producer with a partitioner of its
    /// own would.
    pub fn pipe_to(&mut self, topic: &str, partition: i32, record: Record) -> Result<(), TaskError> {
        self.append(topic, Some(partition), record);
        self.run()
    }

    /// Appends many records before the tasks work, as after a pause; much faster than one by one.
    pub fn pipe_all(
        &mut self,
        topic: &str,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<(), TaskError> {
        records.into_iter().for_each(|record| self.append(topic, None, record));
        self.run()
    }

    /// Serializes and appends.
    pub fn pipe<K, V>(
        &mut self,
        topic: &str,
        serdes: (&SerdeRef<K>, &SerdeRef<V>),
        (key, value): (&K, &V),
        timestamp: TimestampMs,
    ) -> Result<(), TaskError> {
        let wrong = |what| {
            move |source| TaskError::Serialize {
                node: "test".to_owned(),
                what,
                target: topic.to_owned(),
                source,
            }
        };
        let key = to_wire(serdes.0, topic, key).map_err(wrong("key"))?;
        let value = to_wire(serdes.1, topic, value).map_err(wrong("value"))?;
        self.pipe_input(topic, key, value, timestamp)
    }

    fn append(&mut self, topic: &str, partition: Option<i32>, mut record: Record) {
        let count = self.counts.get(topic).copied().unwrap_or(1);
        let by_key = || record.key.as_ref().map_or(0, |key| partition::for_key(key, count));
        let at = TopicPartition::new(topic, partition.unwrap_or_else(by_key));
        let log = self.logs.entry(at).or_default();
        record.offset = log.len() as i64;
        log.push(record.clone());
        for global in self.topology.global_stores().iter().filter(|global| global.topic == topic) {
            // The store is one of this topology's.
            let _ = self.globals.apply(&global.store, std::slice::from_ref(&record));
        }
        self.unread.entry(topic.to_owned()).or_default().push_back(record);
    }

    /// Lets all tasks work until nothing moves.
    fn run(&mut self) -> Result<(), TaskError> {
        loop {
            let mut moved = 0;
            for running in self.tasks.values_mut() {
                for (input, fetched) in &mut running.fetched {
                    let log = self.logs.get(input).map(Vec::as_slice).unwrap_or_default();
                    running.task.enqueue(input, log[*fetched..].to_vec())?;
                    running.task.set_end_offset(input, log.len() as i64);
                    *fetched = log.len();
                }
                moved += running.task.process(usize::MAX, self.now)?;
            }
            if self.auto_commit {
                moved += self.commit_tasks()?;
            }
            if moved == 0 {
                return Ok(());
            }
        }
    }

    /// Commits every task, in order, and lets the work go on that this makes visible.
    pub fn commit(&mut self) -> Result<(), TaskError> {
        self.commit_tasks()?;
        self.run()
    }

    /// How many records that wrote.
    fn commit_tasks(&mut self) -> Result<usize, TaskError> {
        let mut outputs: Vec<Output> = Vec::new();
        for (id, running) in &mut self.tasks {
            running.task.pre_commit()?;
            outputs.extend(running.task.take_output());
            for (input, offset, metadata) in running.task.positions() {
                self.committed.insert(input, (offset, metadata));
            }
            for (store, batch) in running.task.committed(self.now) {
                if let Some(mut backend) =
                    self.backends.get(id).and_then(|stores| stores.get(&store)).cloned()
                {
                    backend.apply(batch).map_err(|source| TaskError::Store { store, source })?;
                }
            }
        }
        let written = outputs.len();
        for Output { topic, partition, timestamp, key, value, headers } in outputs {
            self.append(&topic, partition, Record { offset: 0, timestamp, key, value, headers });
        }
        Ok(written)
    }

    /// Moves the wall clock; punctuations that are due run once.
    pub fn advance_time(&mut self, by: Duration) -> Result<(), TaskError> {
        let before = self.now;
        self.now += duration_ms(by);
        for running in self.tasks.values_mut() {
            // What a processor schedules when it starts counts from then.
            running.task.process(0, before)?;
            running.task.punctuate(self.now)?;
        }
        self.run()
    }

    /// Records of a topic since the last call.
    pub fn read_output(&mut self, topic: &str) -> Vec<Record> {
        self.unread.remove(topic).map(Vec::from).unwrap_or_default()
    }

    /// Decoded records of a topic since the last call: key, value (`None` is a tombstone) and timestamp.
    ///
    /// # Panics
    /// When a record has no key or does not decode: a test should fail then.
    pub fn read<K, V>(
        &mut self,
        topic: &str,
        serdes: (&SerdeRef<K>, &SerdeRef<V>),
    ) -> Vec<(K, Option<V>, TimestampMs)> {
        let decode = |record: Record| {
            let key = record.key.unwrap_or_else(|| panic!("a record of {topic} has no key"));
            let key = serdes.0.deserialize(topic, &key).unwrap_or_else(|e| panic!("key in {topic}: {e}"));
            let value = record.value.map(|value| {
                serdes.1.deserialize(topic, &value).unwrap_or_else(|e| panic!("value in {topic}: {e}"))
            });
            (key, value, record.timestamp)
        };
        self.read_output(topic).into_iter().map(decode).collect()
    }

    /// Everything ever appended to a partition.
    pub fn log(&self, at: &TopicPartition) -> &[Record] {
        self.logs.get(at).map(Vec::as_slice).unwrap_or_default()
    }

    /// The committed entries of a store in one partition.
    pub fn backend(&self, store: &str, partition: i32) -> Option<MemoryStore> {
        if let Some(global) = self.globals.backend(store) {
            return Some(global);
        }
        let subtopology = self.topology.subtopology_of(store)?;
        self.backends.get(&TaskId { subtopology, partition })?.get(store).cloned()
    }

    /// The query side of a store that was made with `.json()`; with `backend`, one partition is asked.
    pub fn queryable(&self, store: &str) -> Option<QueryableStore> {
        self.topology.queryable(store)
    }

    /// Answers a query from all partitions of a store that was made with `.json()`; `None` if there is no such store.
    pub fn query(&self, store: &str, query: &Query) -> Option<Result<Vec<Value>, QueryError>> {
        let queryable = self.topology.queryable(store)?;
        let partitions: Vec<MemoryStore> = match self.globals.backend(store) {
            Some(global) => vec![global],
            None => self.backends.values().filter_map(|stores| stores.get(store).cloned()).collect(),
        };
        let answers: Result<Vec<_>, _> =
            partitions.iter().map(|backend| queryable.query(backend, query)).collect();
        Some(answers.map(|rows| rows.into_iter().flatten().collect()))
    }

    /// The sum over all tasks since they were last started.
    pub fn metrics(&self) -> TaskMetrics {
        let mut sum = TaskMetrics::default();
        for running in self.tasks.values() {
            let metrics = running.task.metrics();
            sum.records_in += metrics.records_in;
            sum.records_out += metrics.records_out;
            sum.dropped_late += metrics.dropped_late;
            sum.skipped_null_key += metrics.skipped_null_key;
            sum.skipped_null_value += metrics.skipped_null_value;
            sum.skipped_invalid_timestamp += metrics.skipped_invalid_timestamp;
            sum.deserialization_errors += metrics.deserialization_errors;
            sum.out_of_order_table_updates += metrics.out_of_order_table_updates;
            sum.dropped_duplicates += metrics.dropped_duplicates;
            sum.processing_errors += metrics.processing_errors;
        }
        sum
    }
}
