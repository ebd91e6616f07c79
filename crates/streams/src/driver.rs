//! A topology in a test: the tasks of the real thing around topics in memory, on virtual time.
//!
//! What a task writes becomes visible when it commits, as for a `read_committed` consumer, and only then do other tasks
//! see it. By default every step commits; [`TopologyTestDriver::manual_commit`] leaves that to the test, which may then
//! [`crash`](TopologyTestDriver::crash) between two commits. Everything is deterministic.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use headwater_model::{Bytes, Record, TimestampMs, TopicPartition, partition};

use crate::error::{TaskError, TopologyError};
use crate::global::GlobalStores;
use crate::production::RefusedOutput;
use crate::reprocessing::reprocess_until;
use crate::serdes::{SerdeRef, to_wire};
use crate::store::{MemoryStore, StoreBackend};
use crate::task::{Output, StoreInfo, Task, TaskId};
use crate::topology::{InternalTopic, Topology};
use crate::windows::duration_ms;

mod held;
mod seen;

use held::Calling;

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
    /// Records that failed after they had had effects: for the tasks that are started next.
    aside: Vec<Aside>,
    /// Calls of services that have not answered.
    calls: Vec<Calling>,
    /// `max.message.bytes` by topic, where the test has set it.
    limits: HashMap<String, usize>,
    refused: Vec<RefusedOutput>,
}

/// Fills an empty store from its changelog.
fn fill(
    task: &mut Task,
    info: &StoreInfo,
    logs: &BTreeMap<TopicPartition, Vec<Record>>,
    committed: &BTreeMap<TopicPartition, (i64, String)>,
) -> Result<(), TaskError> {
    let Some(changelog) = &info.changelog else { return Ok(()) };
    let at = TopicPartition::new(changelog.as_str(), task.id().partition);
    let log = logs.get(&at).map(Vec::as_slice).unwrap_or_default();
    let end = match info.source_topic {
        true => committed.get(&at).map_or(0, |(offset, _)| *offset as usize),
        false => log.len(),
    };
    task.restore(&info.name, &log[..end])
}

/// The task, the input, the offset, and what the record failed with where.
type Aside = (TaskId, TopicPartition, i64, String, String);

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
            aside: Vec::new(),
            calls: Vec::new(),
            limits: HashMap::new(),
            refused: Vec::new(),
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

    /// The topic takes no larger batches: what a handler for producing is asked about.
    pub fn max_message_bytes(&mut self, topic: &str, bytes: usize) -> &mut Self {
        self.limits.insert(topic.to_owned(), bytes);
        for running in self.tasks.values_mut() {
            running.task.set_limits(Arc::new(self.limits.clone()));
        }
        self
    }

    /// The broker does not take this record: what the shell tells a task that it opens again.
    pub fn refuse(&mut self, output: RefusedOutput) -> &mut Self {
        self.refused.push(output);
        for running in self.tasks.values_mut() {
            running.task.set_refused(self.refused.clone());
        }
        self
    }

    /// The topics that the application would create.
    pub fn internal_topics(&self) -> &[InternalTopic] {
        &self.internal
    }

    fn start_tasks(&mut self) -> Result<(), TaskError> {
        self.calls.clear();
        let counts = self.counts.clone();
        let count = |topic: &str| counts.get(topic).copied();
        for id in self.topology.tasks(&count) {
            let backends = self.backends.entry(id).or_default();
            let stores = self.topology.stores(id.subtopology);
            let mut given: HashMap<String, Box<dyn StoreBackend>> = HashMap::new();
            let mut emptied = Vec::new();
            for info in &stores {
                let backend = backends.entry(info.name.clone()).or_default();
                if !self.topology.fits(&info.name, Box::new(backend.clone()))? {
                    *backend = MemoryStore::new();
                    emptied.push(info);
                }
                given.insert(info.name.clone(), Box::new(backend.clone()));
            }
            let mut task = self.topology.task(id, given, self.globals.clone(), &count)?;
            for info in emptied {
                fill(&mut task, info, &self.logs, &self.committed)?;
            }
            task.set_limits(Arc::new(self.limits.clone()));
            task.set_refused(self.refused.clone());
            let mut fetched = BTreeMap::new();
            for input in task.inputs() {
                let (offset, metadata) = self.committed.get(&input).cloned().unwrap_or_default();
                task.set_stream_time(&input, &metadata);
                task.set_fetched_to(&input, offset);
                fetched.insert(input, offset as usize);
            }
            for (_, input, offset, node, message) in self.aside.iter().filter(|aside| aside.0 == id) {
                task.set_aside(input, *offset, node, message);
            }
            self.tasks.insert(id, Running { task, fetched });
        }
        Ok(())
    }

    /// Fills empty stores from their changelogs, as an instance on a new machine would.
    fn restore(&mut self) -> Result<(), TaskError> {
        for running in self.tasks.values_mut() {
            for info in running.task.stores() {
                fill(&mut running.task, &info, &self.logs, &self.committed)?;
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

    /// Resets the application as `headwater topology reprocess` does: no state, and the inputs from their beginning; what was in
    /// them until now is processed again.
    pub fn reprocess(&mut self) -> Result<(), TaskError> {
        self.committed.clear();
        self.backends.clear();
        let internal: Vec<String> = self.internal.iter().map(|topic| topic.name.clone()).collect();
        for (at, log) in &mut self.logs {
            if internal.contains(&at.topic) {
                // What is in repartition topics comes again, and changelogs are made anew.
                self.unread.remove(&at.topic);
                log.clear();
            } else {
                self.committed.insert(at.clone(), (0, reprocess_until(log.len() as i64)));
            }
        }
        self.crash()?;
        self.run()
    }

    /// Kills all tasks and starts those of another version of the program on what was committed.
    pub fn upgrade(&mut self, topology: Topology) -> Result<(), TaskError> {
        let wrong = |source| TaskError::Partitions { task: "of the new version".to_owned(), source };
        let counts = self.counts.clone();
        let count = |topic: &str| Some(counts.get(topic).copied().unwrap_or(1));
        self.internal = topology.internal_topics(&count).map_err(wrong)?;
        for topic in topology.source_topics().into_iter().chain(topology.sink_topics()) {
            self.counts.entry(topic).or_insert(1);
        }
        self.counts.extend(self.internal.iter().map(|topic| (topic.name.clone(), topic.partitions)));
        self.globals = topology.new_globals();
        for global in topology.global_stores() {
            for (at, log) in self.logs.iter().filter(|(at, _)| at.topic == global.topic) {
                self.globals.apply(&global.store, at.partition, log)?;
            }
        }
        self.topology = topology;
        self.crash()
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
        self.append(topic, None, record)?;
        self.run()
    }

    /// As [`TopologyTestDriver::pipe_record`], in a partition that the test chooses, as a producer with a partitioner of its
    /// own would.
    pub fn pipe_to(&mut self, topic: &str, partition: i32, record: Record) -> Result<(), TaskError> {
        self.append(topic, Some(partition), record)?;
        self.run()
    }

    /// Appends many records before the tasks work, as after a pause; much faster than one by one.
    pub fn pipe_all(
        &mut self,
        topic: &str,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<(), TaskError> {
        records.into_iter().try_for_each(|record| self.append(topic, None, record))?;
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

    fn append(&mut self, topic: &str, partition: Option<i32>, mut record: Record) -> Result<(), TaskError> {
        let count = self.counts.get(topic).copied().unwrap_or(1);
        let by_key = || record.key.as_ref().map_or(0, |key| partition::for_key(key, count));
        let at = TopicPartition::new(topic, partition.unwrap_or_else(by_key));
        let partition = at.partition;
        let log = self.logs.entry(at).or_default();
        record.offset = log.len() as i64;
        log.push(record.clone());
        for global in self.topology.global_stores().iter().filter(|global| global.topic == topic) {
            self.globals.apply(&global.store, partition, std::slice::from_ref(&record))?;
        }
        self.unread.entry(topic.to_owned()).or_default().push_back(record);
        Ok(())
    }

    /// Lets all tasks work until nothing moves.
    fn run(&mut self) -> Result<(), TaskError> {
        self.undoing(Self::work)
    }

    /// Does it again with new tasks, as long as records have to be set aside.
    fn undoing<T>(
        &mut self,
        work: impl Fn(&mut Self) -> Result<T, (TaskId, TaskError)>,
    ) -> Result<T, TaskError> {
        loop {
            match work(self) {
                Ok(done) => return Ok(done),
                Err((id, TaskError::SetAside { topic, partition, offset, node, message })) => {
                    let input = TopicPartition::new(topic, partition);
                    assert!(
                        !self.aside.iter().any(|known| known.1 == input && known.2 == offset),
                        "{input} offset {offset} was set aside, and fails again: {message}"
                    );
                    self.aside.push((id, input, offset, node, message));
                    self.crash()?;
                }
                Err((_, error)) => return Err(error),
            }
        }
    }

    fn work(&mut self) -> Result<(), (TaskId, TaskError)> {
        let none = TaskId { subtopology: 0, partition: 0 };
        loop {
            let mut moved = 0;
            for (id, running) in &mut self.tasks {
                for (input, fetched) in &mut running.fetched {
                    let log = self.logs.get(input).map(Vec::as_slice).unwrap_or_default();
                    running.task.enqueue(input, log[*fetched..].to_vec()).map_err(|error| (*id, error))?;
                    running.task.set_end_offset(input, log.len() as i64);
                    *fetched = log.len();
                }
                moved += running.task.process(usize::MAX, self.now).map_err(|error| (*id, error))?;
            }
            moved += self.call()?;
            if self.auto_commit {
                moved += self.commit_tasks().map_err(|error| (none, error))?;
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
        self.aside.clear();
        for Output { topic, partition, timestamp, key, value, headers } in outputs {
            self.append(&topic, partition, Record { offset: 0, timestamp, key, value, headers })?;
        }
        Ok(written)
    }

    /// Moves the wall clock; punctuations that are due run once.
    pub fn advance_time(&mut self, by: Duration) -> Result<(), TaskError> {
        let before = self.now;
        self.now += duration_ms(by);
        self.undoing(|driver| {
            for (id, running) in &mut driver.tasks {
                // What a processor schedules when it starts counts from then.
                running.task.process(0, before).map_err(|error| (*id, error))?;
                running.task.punctuate(driver.now).map_err(|error| (*id, error))?;
            }
            driver.work()
        })
    }
}
