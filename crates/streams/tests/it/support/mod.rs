//! Short ways to feed and read text and numbers.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use headwater_streams::serdes::{i64, nullable, string};
use headwater_streams::{
    Bytes, MemoryStore, Record, StoreBackend, StoreError, StreamsBuilder, Task, TaskId, TopicPartition,
    Topology, TopologyTestDriver, Windowed, session_windowed, time_windowed,
};

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub fn driver(builder: StreamsBuilder) -> TopologyTestDriver {
    TopologyTestDriver::new(builder.build().unwrap()).unwrap()
}

pub fn text(driver: &mut TopologyTestDriver, topic: &str, key: &str, value: &str, timestamp: i64) {
    driver.pipe(topic, (&string(), &string()), (&key.to_owned(), &value.to_owned()), timestamp).unwrap();
}

pub fn number(driver: &mut TopologyTestDriver, topic: &str, key: &str, value: i64, timestamp: i64) {
    driver.pipe(topic, (&string(), &i64()), (&key.to_owned(), &value), timestamp).unwrap();
}

pub fn tombstone(driver: &mut TopologyTestDriver, topic: &str, key: &str, timestamp: i64) {
    driver.pipe(topic, (&string(), &nullable(string())), (&key.to_owned(), &None), timestamp).unwrap();
}

/// `key=value@timestamp`, `-` for a tombstone.
pub fn texts(driver: &mut TopologyTestDriver, topic: &str) -> Vec<String> {
    let rows = driver.read(topic, (&string(), &string()));
    rows.into_iter().map(|(k, v, t)| format!("{k}={}@{t}", v.unwrap_or_else(|| "-".to_owned()))).collect()
}

pub fn numbers(driver: &mut TopologyTestDriver, topic: &str) -> Vec<String> {
    let rows = driver.read(topic, (&string(), &i64()));
    rows.into_iter().map(|(k, v, t)| format!("{k}={}@{t}", show(v))).collect()
}

fn show(value: Option<i64>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| v.to_string())
}

fn windows(rows: Vec<(Windowed<String>, Option<i64>, i64)>) -> Vec<String> {
    rows.into_iter().map(|(w, v, t)| format!("{}[{},{}]={}@{t}", w.key, w.start, w.end, show(v))).collect()
}

pub fn time_windows(driver: &mut TopologyTestDriver, topic: &str, size: u64) -> Vec<String> {
    windows(driver.read(topic, (&time_windowed(string(), ms(size)), &i64())))
}

pub fn sessions(driver: &mut TopologyTestDriver, topic: &str) -> Vec<String> {
    windows(driver.read(topic, (&session_windowed(string()), &i64())))
}

/// What a task's stores were asked for in ranges: entries that were read, and how often from the very beginning.
#[derive(Default)]
pub struct Asked {
    pub read: AtomicUsize,
    pub from_the_start: AtomicUsize,
}

struct Counted(MemoryStore, Arc<Asked>);

impl StoreBackend for Counted {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.0.get(key)
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), StoreError> {
        let begins = match from {
            Bound::Included(from) | Bound::Excluded(from) => from == [0; 8],
            Bound::Unbounded => true,
        };
        self.1.from_the_start.fetch_add(usize::from(begins), Ordering::Relaxed);
        self.0.scan(from, to, &mut |key, value| {
            self.1.read.fetch_add(1, Ordering::Relaxed);
            visit(key, value)
        })
    }

    fn apply(&mut self, batch: Vec<(Bytes, Option<Bytes>)>) -> Result<(), StoreError> {
        self.0.apply(batch)
    }
}

/// The first task of a topology, whose stores count what they are asked for; it commits every record.
pub struct Counting {
    task: Task,
    kept: HashMap<String, MemoryStore>,
    pub asked: Arc<Asked>,
}

impl Counting {
    pub fn new(builder: StreamsBuilder) -> Self {
        let topology: Topology = builder.build().unwrap();
        let asked = Arc::new(Asked::default());
        let mut kept = HashMap::new();
        let mut given: HashMap<String, Box<dyn StoreBackend>> = HashMap::new();
        for info in topology.stores(0) {
            let store = MemoryStore::new();
            given.insert(info.name.clone(), Box::new(Counted(store.clone(), asked.clone())));
            kept.insert(info.name, store);
        }
        let id = TaskId { subtopology: 0, partition: 0 };
        let task = topology.task(id, given, topology.new_globals(), &|_| Some(1)).unwrap();
        Self { task, kept, asked }
    }

    /// Feeds one record to each of these topics; returns how many records the task wrote to `out`.
    pub fn step(&mut self, topics: &[&str], key: &str, time: i64) -> usize {
        for topic in topics {
            let (key, value) = (Bytes::from(format!("{topic}-{key}")), Bytes::from("value"));
            let record = Record {
                offset: time,
                timestamp: time,
                key: Some(key),
                value: Some(value),
                ..Record::default()
            };
            self.task.enqueue(&TopicPartition::new(*topic, 0), vec![record]).unwrap();
        }
        self.task.process(usize::MAX, 0).unwrap();
        self.task.pre_commit().unwrap();
        let written = self.task.take_output().iter().filter(|output| &*output.topic == "out").count();
        for (store, batch) in self.task.committed(0) {
            self.kept.get_mut(&store).unwrap().apply(batch).unwrap();
        }
        written
    }
}
