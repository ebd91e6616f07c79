//! A finished topology: its sub-topologies, tasks, internal topics and stores.
//!
//! Immutable and shared by all tasks of a process. Sub-topologies are the parts of the graph that no topic cuts: nodes
//! joined by an edge or by a store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use headwater_model::TopicPartition;
use serde::{Deserialize, Serialize};

use crate::error::{TaskError, TopologyError};
use crate::failure::ProcessingHandler;
use crate::global::{self, GlobalStores};
use crate::graph::{Changelog, DeserializationHandler, Graph, NodeSpec, OffsetReset, Role, SINK, StoreSpec};
use crate::lanes::{LaneClocks, Stamp, topic_id};
use crate::node::{Core, RecordContext, Slot};
use crate::production::{Production, ProductionHandler};
use crate::query::QueryableStore;
use crate::store::external::ExternalTable;
use crate::store::{StoreBackend, StoreKind};
use crate::task::input::Input;
use crate::task::watermarks::{Teller, Told};
use crate::task::{StoreInfo, Task, TaskId, TaskMetrics};

mod describe;
mod determinism;
mod diff;
mod external;
mod flow;
mod migration;
mod names;
mod partitions;
mod quarantine;
mod topics;

use flow::Flow;

pub use describe::{
    GlobalDescription, NodeDescription, RepartitionDescription, StoreDescription, SubtopologyDescription,
    TopologyDescription,
};
pub use diff::{ChangeSafety, TopologyChange, TopologyDiff};
pub use migration::{
    Again, Copied, Fate, Migration, MigrationRefused, Renames, StoreStep, partitions_needed,
};
pub use topics::SubtopologyTopics;

/// A topic that the application owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InternalTopic {
    pub name: String,
    pub partitions: i32,
    pub kind: InternalTopicKind,
    pub configs: Vec<(String, String)>,
}

/// What an internal topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InternalTopicKind {
    Repartition,
    Changelog,
}

/// A global table: every instance reads all partitions of `topic` into `store`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GlobalStore {
    pub store: String,
    pub topic: String,
}

/// What an application does, ready to run.
#[derive(Clone)]
pub struct Topology {
    graph: Arc<Graph>,
    /// Node indexes, ascending, per sub-topology.
    subtopologies: Arc<Vec<Vec<usize>>>,
    flow: Arc<Flow>,
}

impl Topology {
    pub(crate) fn new(mut graph: Graph) -> Result<Self, TopologyError> {
        if !graph.errors.is_empty() {
            return Err(graph.errors.remove(0));
        }
        let has_source = graph.nodes.iter().any(|node| matches!(node.role, Role::Source { .. }));
        if !has_source && graph.globals.is_empty() {
            return Err(TopologyError::NoSource { application_id: graph.application_id });
        }
        flow::check_lanes(&graph)?;
        flow::check_clocks(&graph)?;
        let subtopologies = partitions::connected_parts(&graph);
        quarantine::add_stores(&mut graph, &subtopologies);
        external::check(&mut graph, &subtopologies);
        global::check_handlers(&mut graph);
        names::check(&mut graph);
        if !graph.errors.is_empty() {
            return Err(graph.errors.remove(0));
        }
        let flow = Flow::new(&graph);
        Ok(Self { graph: Arc::new(graph), subtopologies: Arc::new(subtopologies), flow: Arc::new(flow) })
    }

    pub fn application_id(&self) -> &str {
        &self.graph.application_id
    }

    /// The graph for people and for the console.
    pub fn describe(&self) -> TopologyDescription {
        describe::describe(&self.graph, &self.subtopologies)
    }

    /// Repartition topics and changelogs with their partition counts, given those of the topics that exist. Checks
    /// that what is joined is copartitioned.
    pub fn internal_topics(
        &self,
        partitions: &dyn Fn(&str) -> Option<i32>,
    ) -> Result<Vec<InternalTopic>, TopologyError> {
        let counts = partitions::topic_counts(&self.graph, &self.subtopologies, partitions)?;
        let mut topics = Vec::new();
        for repartition in &self.graph.repartitions {
            topics.push(InternalTopic {
                name: repartition.topic.to_string(),
                partitions: counts[&*repartition.topic],
                kind: InternalTopicKind::Repartition,
                configs: configs(&[
                    ("cleanup.policy", "delete"),
                    ("retention.ms", "-1"),
                    ("message.timestamp.type", "CreateTime"),
                ]),
            });
        }
        for (index, _) in self.subtopologies.iter().enumerate() {
            let tasks = self.task_count(index, &counts);
            for store in self.stores_of(index).into_iter().map(|store| &self.graph.stores[store]) {
                if let Changelog::Topic(topic) = &store.changelog {
                    topics.push(InternalTopic {
                        name: topic.to_string(),
                        partitions: tasks,
                        kind: InternalTopicKind::Changelog,
                        configs: changelog_configs(store),
                    });
                }
            }
        }
        Ok(topics)
    }

    fn sources_of(&self, subtopology: usize) -> impl Iterator<Item = (usize, &Arc<str>)> {
        self.subtopologies[subtopology].iter().filter_map(|&node| match &self.graph.nodes[node].role {
            Role::Source { topic, .. } => Some((node, topic)),
            _ => None,
        })
    }

    fn stores_of(&self, subtopology: usize) -> BTreeSet<usize> {
        self.subtopologies[subtopology]
            .iter()
            .flat_map(|&node| self.graph.nodes[node].stores.iter().copied())
            .collect()
    }

    fn task_count(&self, subtopology: usize, counts: &BTreeMap<String, i32>) -> i32 {
        self.sources_of(subtopology).filter_map(|(_, topic)| counts.get(&**topic).copied()).max().unwrap_or(0)
    }

    /// Topics read that are not internal: they must exist before the application starts.
    pub fn source_topics(&self) -> Vec<String> {
        let mut topics: BTreeSet<String> =
            self.graph.globals.iter().map(|global| global.topic.clone()).collect();
        for node in &self.graph.nodes {
            if let Role::Source { topic, .. } = &node.role
                && !self.graph.is_internal(topic)
            {
                topics.insert(topic.to_string());
            }
        }
        topics.into_iter().collect()
    }

    /// Where the first start begins in those source topics that it does not read from their first record.
    pub fn offset_resets(&self) -> BTreeMap<String, OffsetReset> {
        let reset = |node: &NodeSpec| match &node.role {
            Role::Source { topic, .. } if node.reset != OffsetReset::Earliest => {
                Some((topic.to_string(), node.reset))
            }
            _ => None,
        };
        self.graph.nodes.iter().filter_map(reset).collect()
    }

    /// Topics written that are not internal, dead-letter topics included.
    pub fn sink_topics(&self) -> Vec<String> {
        let mut topics = BTreeSet::new();
        let mut dead_letters = vec![&self.graph.handler];
        for node in &self.graph.nodes {
            match &node.role {
                Role::Sink { topic, .. } if !self.graph.is_internal(topic) => {
                    topics.insert(topic.to_string());
                }
                Role::Source { handler: Some(handler), .. } => dead_letters.push(handler),
                _ => {}
            }
        }
        for handler in dead_letters {
            if let DeserializationHandler::DeadLetter(topic) = handler {
                topics.insert(topic.clone());
            }
        }
        topics.extend(self.graph.dead_letter_topics.iter().cloned());
        topics.extend(quarantine::overflow_topic(&self.graph));
        if let ProcessingHandler::DeadLetter(topic) = &self.graph.processing_handler {
            topics.insert(topic.clone());
        }
        if let ProductionHandler::DeadLetter(topic) = &self.graph.production_handler {
            topics.insert(topic.clone());
        }
        topics.into_iter().collect()
    }

    /// The topics about whose records a handler wants to be asked when they cannot be written; none without a handler.
    pub fn guarded_topics(&self) -> Vec<String> {
        let sinks = self.graph.nodes.iter().filter_map(|node| match &node.role {
            Role::Sink { topic, .. } => Some(topic.to_string()),
            _ => None,
        });
        let topics: BTreeSet<String> = sinks.filter(|_| self.graph.production_handler.asks()).collect();
        topics.into_iter().collect()
    }

    /// Whether a handler wants to be asked about topics that records choose for themselves, which no list has.
    pub fn guards_chosen_topics(&self) -> bool {
        let chooses = |node: &NodeSpec| node.kind == SINK && matches!(node.role, Role::Operator(_));
        self.graph.production_handler.asks() && self.graph.nodes.iter().any(chooses)
    }

    /// Every task. Empty if the topics do not fit; [`Topology::internal_topics`] says why.
    pub fn tasks(&self, partitions: &dyn Fn(&str) -> Option<i32>) -> Vec<TaskId> {
        let Ok(counts) = partitions::topic_counts(&self.graph, &self.subtopologies, partitions) else {
            return Vec::new();
        };
        let of = |subtopology: usize| {
            (0..self.task_count(subtopology, &counts))
                .map(move |partition| TaskId { subtopology: subtopology as i32, partition })
        };
        (0..self.subtopologies.len()).flat_map(of).collect()
    }

    /// The partitions that a task reads, as far as they exist.
    pub fn inputs(&self, task: TaskId, partitions: &dyn Fn(&str) -> Option<i32>) -> Vec<TopicPartition> {
        let counts =
            partitions::topic_counts(&self.graph, &self.subtopologies, partitions).unwrap_or_default();
        let Ok(subtopology) = self.check(task) else { return Vec::new() };
        self.sources_of(subtopology)
            .filter(|(_, topic)| counts.get(&***topic).is_some_and(|count| task.partition < *count))
            .map(|(_, topic)| TopicPartition::new(topic.to_string(), task.partition))
            .collect()
    }

    fn check(&self, task: TaskId) -> Result<usize, TaskError> {
        let count = self.subtopologies.len();
        usize::try_from(task.subtopology)
            .ok()
            .filter(|index| *index < count)
            .ok_or(TaskError::UnknownSubtopology { subtopology: task.subtopology, count })
    }

    /// The stores of a sub-topology, before any task of it exists.
    pub fn stores(&self, subtopology: i32) -> Vec<StoreInfo> {
        match self.check(TaskId { subtopology, partition: 0 }) {
            Ok(index) => {
                self.stores_of(index).into_iter().map(|store| info(&self.graph.stores[store])).collect()
            }
            Err(_) => Vec::new(),
        }
    }

    /// Whether what a backend has of a store is laid out as this version of the program reads it: that follows from the retention of
    /// windows and sessions, among other things. One that does not fit is to be emptied, and restored from its changelog.
    pub fn fits(&self, store: &str, backend: Box<dyn StoreBackend>) -> Result<bool, TaskError> {
        let spec = self.graph.stores.iter().find(|spec| &*spec.name == store);
        spec.map_or(Ok(true), |spec| (spec.make)(backend).fits())
    }

    /// The stores that are kept in a database, by name.
    pub fn external_stores(&self) -> BTreeMap<String, ExternalTable> {
        let of = |spec: &StoreSpec| match &spec.changelog {
            Changelog::External(table) => Some((spec.name.to_string(), (**table).clone())),
            _ => None,
        };
        self.graph.stores.iter().filter_map(of).collect()
    }

    /// The global tables, which every instance loads before its tasks start.
    pub fn global_stores(&self) -> Vec<GlobalStore> {
        let global =
            |g: &crate::graph::GlobalSpec| GlobalStore { store: g.name.clone(), topic: g.topic.clone() };
        self.graph.globals.iter().map(global).collect()
    }

    /// Empty global tables; the shell fills them with [`GlobalStores::apply`].
    pub fn new_globals(&self) -> GlobalStores {
        GlobalStores::new(&self.graph)
    }

    /// A new task over the given backends, one for each of [`Topology::stores`]. It knows from the partition counts which
    /// inputs exist, and whose time it has to wait for.
    pub fn task(
        &self,
        id: TaskId,
        mut stores: HashMap<String, Box<dyn StoreBackend>>,
        globals: GlobalStores,
        partitions: &dyn Fn(&str) -> Option<i32>,
    ) -> Result<Task, TaskError> {
        let subtopology = self.check(id)?;
        let counts = partitions::topic_counts(&self.graph, &self.subtopologies, partitions)
            .map_err(|source| TaskError::Partitions { task: id.to_string(), source })?;
        let mut made: Vec<_> = self.graph.stores.iter().map(|_| None).collect();
        let mut infos = Vec::new();
        for index in self.stores_of(subtopology) {
            let spec = &self.graph.stores[index];
            let backend = stores
                .remove(&*spec.name)
                .ok_or_else(|| TaskError::NoBackend { task: id.to_string(), store: spec.name.to_string() })?;
            made[index] = Some((spec.make)(backend));
            infos.push((index, info(spec)));
        }
        let own: BTreeSet<usize> = self.subtopologies[subtopology].iter().copied().collect();
        let inputs: Vec<Input> =
            own.iter().filter_map(|&node| self.new_input(node, id.partition, &counts)).collect();
        let clock_inputs = self.clock_inputs(&inputs);
        let teller = self.teller(&own, &inputs, &counts);
        let lanes = |at: &usize| inputs[*at].lanes.as_ref().map_or(1, LaneClocks::len);
        let clock_behind = self.flow.clock_behind.clone();
        // What is held back comes many records at once, like that of several lanes.
        let one_lane = |(places, behind): (&Vec<usize>, &i64)| {
            *behind == 0 && places.iter().map(lanes).sum::<usize>() <= 1
        };
        let one_lane = clock_inputs.iter().zip(&clock_behind).map(one_lane).collect();
        Ok(Task {
            id,
            core: Core {
                slots: self.slots(&own, partitions),
                stores: made,
                globals,
                out: Vec::new(),
                clocks: vec![-1; self.graph.clocks.len()],
                watermarks: vec![-1; self.graph.clocks.len()],
                one_lane,
                stream_time: -1,
                now: 0,
                partition: id.partition,
                context: RecordContext::default(),
                out_of_order: false,
                handler: self.graph.processing_handler.clone(),
                production: Production {
                    handler: self.graph.production_handler.clone(),
                    ..Production::default()
                },
                may_hold: false,
                to_hold: None,
                callers: Vec::new(),
                full_calls: 0,
                resumed: Stamp::default(),
                effects: 0,
                metrics: TaskMetrics::default(),
                punctuations: Vec::new(),
                punctuating: false,
            },
            clock_inputs,
            clock_behind,
            clock_ids: self.graph.clocks.iter().map(|name| topic_id(name)).collect(),
            clocked: own.iter().filter_map(|&node| Some((node, self.graph.nodes[node].clock?))).collect(),
            before: Vec::new(),
            inputs,
            quarantine: quarantine::keeper(&self.graph, &infos),
            replayed: 0,
            stores: infos,
            max_task_idle_ms: self.graph.max_task_idle_ms,
            idle_since: None,
            idleness: self.graph.watermark_idleness_ms,
            initialized: false,
            teller,
        })
    }

    /// Who says the time to the repartition topics that a task with these nodes writes to.
    fn teller(
        &self,
        own: &BTreeSet<usize>,
        inputs: &[Input],
        counts: &BTreeMap<String, i32>,
    ) -> Option<Teller> {
        let interval = self.graph.watermark_interval_ms.or(self.graph.watermark_idleness_ms)?;
        let told = own.iter().filter(|&&node| self.flow.timed[node]).filter_map(|&node| {
            let Role::Sink { topic, .. } = &self.graph.nodes[node].role else { return None };
            let partitions = counts.get(&**topic).copied().filter(|_| self.graph.is_internal(topic))?;
            let above = self.flow.above(node);
            let reaches = |(place, input): (usize, &Input)| above.contains(&input.node).then_some(place);
            Some(Told::new(
                topic.clone(),
                partitions,
                inputs.iter().enumerate().filter_map(reaches).collect(),
            ))
        });
        Some(Teller::new(interval, told.collect()))
    }

    fn slots(&self, own: &BTreeSet<usize>, partitions: &dyn Fn(&str) -> Option<i32>) -> Vec<Slot> {
        let slot = |(index, spec): (usize, &NodeSpec)| {
            let node = match &spec.role {
                Role::Operator(make) | Role::Sink { make, .. } if own.contains(&index) => Some(make()),
                _ => None,
            };
            Slot {
                name: spec.name.clone(),
                node,
                children: spec.children.clone().into_boxed_slice(),
                late: spec.late,
                timed: self.flow.timed[index],
                internal: matches!(&spec.role, Role::Sink { topic, .. } if self.graph.is_internal(topic)),
                partitions: match &spec.role {
                    Role::Sink { topic, .. } if own.contains(&index) => partitions(topic),
                    _ => None,
                },
                records: 0,
                wall_clock: spec.wall_clock.clone(),
            }
        };
        self.graph.nodes.iter().enumerate().map(slot).collect()
    }

    fn clock_inputs(&self, inputs: &[Input]) -> Vec<Vec<usize>> {
        let followed = |sources: &BTreeSet<usize>| {
            let place = |(place, input): (usize, &Input)| sources.contains(&input.node).then_some(place);
            inputs.iter().enumerate().filter_map(place).collect()
        };
        self.flow.clock_sources.iter().map(followed).collect()
    }

    /// `None` if the node is no source, or its topic has fewer partitions than its sub-topology has tasks.
    fn new_input(&self, node: usize, partition: i32, counts: &BTreeMap<String, i32>) -> Option<Input> {
        let Role::Source { topic, make, handler } = &self.graph.nodes[node].role else { return None };
        if counts.get(&**topic).is_none_or(|count| partition >= *count) {
            return None;
        }
        let lanes = self.graph.is_internal(topic).then(|| self.flow.lanes(&self.graph, counts, topic));
        Some(Input {
            at: TopicPartition::new(topic.to_string(), partition),
            topic: topic.clone(),
            topic_id: topic_id(topic),
            node,
            source: make(),
            handler: handler.clone().unwrap_or_else(|| self.graph.handler.clone()),
            buffer: Default::default(),
            head: None,
            says_time: false,
            partition_time: -1,
            lanes: lanes.as_ref().map(LaneClocks::new),
            position: None,
            fetched_to: None,
            end_offset: None,
            reprocess_until: None,
            idle: false,
            heard_at: None,
        })
    }

    /// The query side of a store whose `Materialized` was given `.json()`.
    pub fn queryable(&self, store: &str) -> Option<QueryableStore> {
        let local = self
            .graph
            .stores
            .iter()
            .find(|spec| &*spec.name == store)
            .and_then(|spec| spec.queryable.clone());
        let global = self.graph.globals.iter().find(|spec| spec.name == store);
        local.or_else(|| global.and_then(|spec| spec.queryable.clone()))
    }

    /// The names that [`Topology::queryable`] knows.
    pub fn queryable_stores(&self) -> Vec<String> {
        let local = self
            .graph
            .stores
            .iter()
            .filter(|spec| spec.queryable.is_some())
            .map(|spec| spec.name.to_string());
        let global =
            self.graph.globals.iter().filter(|spec| spec.queryable.is_some()).map(|spec| spec.name.clone());
        local.chain(global).collect()
    }

    /// The sub-topology that owns a store; `None` for global ones.
    pub fn subtopology_of(&self, store: &str) -> Option<i32> {
        let index = self.graph.stores.iter().position(|spec| &*spec.name == store)?;
        let owner = (0..self.subtopologies.len()).find(|&part| self.stores_of(part).contains(&index))?;
        Some(owner as i32)
    }
}

fn info(spec: &StoreSpec) -> StoreInfo {
    let (changelog, source_topic) = match &spec.changelog {
        Changelog::Topic(topic) => (Some(topic.to_string()), false),
        Changelog::SourceTopic(topic) => (Some(topic.to_string()), true),
        Changelog::External(_) | Changelog::Off => (None, false),
    };
    let external = match &spec.changelog {
        Changelog::External(table) => Some((**table).clone()),
        _ => None,
    };
    StoreInfo { name: spec.name.to_string(), changelog, kind: spec.kind, source_topic, external }
}

fn configs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Kafka Streams keeps changelogs of windows a day longer than the windows.
const ADDITIONAL_RETENTION_MS: i64 = 24 * 60 * 60 * 1000;

fn changelog_configs(store: &StoreSpec) -> Vec<(String, String)> {
    let mut pairs = match (store.kind, store.retention_ms) {
        // Late updates may come as long as the history lasts; until then nothing of a key may go.
        (StoreKind::Versioned, Some(history)) => {
            let kept = history.saturating_add(ADDITIONAL_RETENTION_MS).to_string();
            configs(&[("cleanup.policy", "compact"), ("min.compaction.lag.ms", &kept)])
        }
        (StoreKind::KeyValue, _) | (_, None) => configs(&[("cleanup.policy", "compact")]),
        (_, Some(retention)) => {
            let kept = retention.saturating_add(ADDITIONAL_RETENTION_MS).to_string();
            configs(&[("cleanup.policy", "compact,delete"), ("retention.ms", &kept)])
        }
    };
    pairs.push(("message.timestamp.type".to_owned(), "CreateTime".to_owned()));
    for (name, value) in &store.configs {
        pairs.retain(|(known, _)| known != name);
        pairs.push((name.clone(), value.clone()));
    }
    pairs
}
