//! The graph under construction: what the DSL appends to and what a [`crate::Topology`] is made from.
//!
//! Node names are Kafka Streams' (`KSTREAM-MAP-0000000001`), numbered in the order of calls, so the same program has the
//! same names on every run. Mistakes are collected here and reported by `build()`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::deserialization::DeserializationChoice;
use crate::error::TopologyError;
use crate::failure::ProcessingHandler;
use crate::global::AnyGlobal;
use crate::node::Node;
use crate::production::ProductionHandler;
use crate::quarantine::Quarantine;
use crate::query::QueryableStore;
use crate::store::external::ExternalTable;
use crate::store::typed::AnyStore;
use crate::store::{StoreBackend, StoreKind};
use crate::task::input::Source;

pub(crate) type MakeNode = Arc<dyn Fn() -> Box<dyn Node> + Send + Sync>;
pub(crate) type MakeSource = Arc<dyn Fn() -> Box<dyn Source> + Send + Sync>;
pub(crate) type MakeStore = Arc<dyn Fn(Box<dyn StoreBackend>) -> Box<dyn AnyStore> + Send + Sync>;

/// The kind of nodes that write to topics; one that chooses them for each record is an operator of this kind.
pub(crate) const SINK: &str = "sink";

/// What happens to a record that does not decode.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DeserializationHandler {
    /// The task, or the application whose global table it is, stops with an error that names the record.
    #[default]
    Fail,
    /// It is left out and counted.
    Continue,
    /// The original bytes go to this topic with headers `__streams.errors.*`, and the task goes on.
    DeadLetter(String),
    /// It is held in quarantine, with all later records that have the same bytes as their key: see
    /// `StreamsBuilder::quarantine`.
    Quarantine,
    /// As a function says, from [`DeserializationHandler::choose`].
    Choose(DeserializationChoice),
}

/// Where an application begins to read a topic that it has no committed position in (Kafka Streams' `AutoOffsetReset`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OffsetReset {
    /// With its first record.
    #[default]
    Earliest,
    /// Behind its last record: what was there before is not read.
    Latest,
    /// With the first record that is no older than this, by its timestamp (`by_duration`, KIP-1106).
    NoOlderThan(Duration),
}

pub(crate) enum Role {
    Source { topic: Arc<str>, make: MakeSource, handler: Option<DeserializationHandler> },
    Operator(MakeNode),
    Sink { topic: Arc<str>, make: MakeNode },
}

pub(crate) struct NodeSpec {
    pub name: Arc<str>,
    /// The operator in plain words, for people (`map`, `aggregate`).
    pub kind: &'static str,
    pub role: Role,
    pub children: Vec<usize>,
    /// Where a windowed operator sends what it drops as late.
    pub late: Option<usize>,
    /// The clock of a windowed operator; both sides of a join share one.
    pub clock: Option<usize>,
    /// How long it holds records back, in milliseconds of its clock: those that it lets go are so much behind the time of their source.
    pub holds_back: i64,
    pub stores: Vec<usize>,
    pub globals: Vec<usize>,
    /// Of a source.
    pub reset: OffsetReset,
    /// What the author says of it: why results may differ.
    pub impure: Option<String>,
    /// Set by a task in which it asked for the wall clock.
    pub wall_clock: Arc<AtomicBool>,
}

pub(crate) enum Changelog {
    Topic(Arc<str>),
    SourceTopic(Arc<str>),
    /// None: the rows and the positions are in this table's database.
    External(Arc<ExternalTable>),
    Off,
}

pub(crate) struct StoreSpec {
    pub name: Arc<str>,
    pub kind: StoreKind,
    pub changelog: Changelog,
    /// For window and session stores.
    pub retention_ms: Option<i64>,
    pub configs: Vec<(String, String)>,
    pub make: MakeStore,
    pub queryable: Option<QueryableStore>,
}

pub(crate) struct GlobalSpec {
    pub name: String,
    pub topic: String,
    pub handler: Option<DeserializationHandler>,
    pub make: Arc<dyn Fn() -> Arc<dyn AnyGlobal> + Send + Sync>,
    pub queryable: Option<QueryableStore>,
}

pub(crate) struct RepartitionSpec {
    pub topic: Arc<str>,
    pub partitions: Option<i32>,
    /// Its count is that of the topics it is joined with, whatever its writers read (foreign-key joins).
    pub follows_partner: bool,
    pub null_keys: RelaxedKeys,
}

/// Whether records with null keys go through a repartition topic.
pub(crate) type RelaxedKeys = Arc<AtomicBool>;

/// Source nodes whose topics need equal partition counts, and the node that needs it.
pub(crate) struct Copartition {
    pub node: Arc<str>,
    pub sources: BTreeSet<usize>,
}

pub(crate) struct Graph {
    pub application_id: String,
    pub nodes: Vec<NodeSpec>,
    pub stores: Vec<StoreSpec>,
    pub globals: Vec<GlobalSpec>,
    pub repartitions: Vec<RepartitionSpec>,
    pub copartitions: Vec<Copartition>,
    /// The names of all clocks.
    pub clocks: Vec<String>,
    /// Of each store of sessions, how long after its end one is closed to the records of a single lane.
    pub session_closes: HashMap<usize, i64>,
    pub handler: DeserializationHandler,
    pub processing_handler: ProcessingHandler,
    pub production_handler: ProductionHandler,
    pub quarantine: Option<Quarantine>,
    pub dead_letter_topics: Vec<String>,
    pub existing_topics: BTreeSet<String>,
    pub max_task_idle_ms: i64,
    /// No changelog and no repartition topic may have a generated name.
    pub explicit_names: bool,
    /// How often tasks say the time to repartition topics; `None` if not at all.
    pub watermark_interval_ms: Option<i64>,
    /// After how long without records a source partition is not waited for; `None` if it always is.
    pub watermark_idleness_ms: Option<i64>,
    pub errors: Vec<TopologyError>,
    next_index: usize,
    names: HashSet<String>,
}

impl Graph {
    pub fn new(application_id: String) -> Self {
        let mut graph = Self {
            application_id: application_id.clone(),
            nodes: Vec::new(),
            stores: Vec::new(),
            globals: Vec::new(),
            repartitions: Vec::new(),
            copartitions: Vec::new(),
            clocks: Vec::new(),
            session_closes: HashMap::new(),
            handler: DeserializationHandler::Fail,
            processing_handler: ProcessingHandler::Fail,
            production_handler: ProductionHandler::Fail,
            quarantine: None,
            dead_letter_topics: Vec::new(),
            existing_topics: BTreeSet::new(),
            max_task_idle_ms: 0,
            explicit_names: false,
            watermark_interval_ms: None,
            watermark_idleness_ms: None,
            errors: Vec::new(),
            next_index: 0,
            names: HashSet::new(),
        };
        graph.check_name(&application_id);
        graph
    }

    /// Names become parts of topic names, so Kafka's rules for topics hold.
    pub fn check_name(&mut self, given: &str) {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let reason = if given.is_empty() {
            "a name must not be empty"
        } else if given.len() > 200 {
            "a name has at most 200 characters"
        } else if !given.chars().all(legal) {
            "a name consists of letters, digits, '.', '_' and '-'"
        } else {
            return;
        };
        self.errors.push(TopologyError::InvalidName { given: given.to_owned(), reason });
    }

    /// The next generated name with this prefix.
    pub fn generate(&mut self, prefix: &str) -> String {
        let name = format!("{prefix}-{:010}", self.next_index);
        self.next_index += 1;
        name
    }

    /// The given name, or a generated one. Generating always counts, so naming one node renames no other.
    pub fn name(&mut self, given: Option<&str>, prefix: &str) -> String {
        let generated = self.generate(prefix);
        match given {
            Some(given) => {
                self.check_name(given);
                given.to_owned()
            }
            None => generated,
        }
    }

    pub fn add_node(&mut self, name: String, kind: &'static str, parents: &[usize], role: Role) -> usize {
        if !self.names.insert(name.clone()) {
            self.errors.push(TopologyError::Duplicate { kind: "node", name: name.clone() });
        }
        let index = self.nodes.len();
        self.nodes.push(NodeSpec {
            name: Arc::from(name),
            kind,
            role,
            children: Vec::new(),
            late: None,
            clock: None,
            holds_back: 0,
            stores: Vec::new(),
            globals: Vec::new(),
            reset: OffsetReset::Earliest,
            impure: None,
            wall_clock: Arc::default(),
        });
        for &parent in parents {
            self.nodes[parent].children.push(index);
        }
        index
    }

    pub fn operator(&mut self, name: String, kind: &'static str, parents: &[usize], make: MakeNode) -> usize {
        self.add_node(name, kind, parents, Role::Operator(make))
    }

    pub fn source(
        &mut self,
        name: String,
        topic: &str,
        make: MakeSource,
        handler: Option<DeserializationHandler>,
    ) -> usize {
        let reader = self
            .nodes
            .iter()
            .find(|node| matches!(&node.role, Role::Source { topic: t, .. } if **t == *topic));
        if let Some(reader) = reader {
            let first = reader.name.to_string();
            self.errors.push(TopologyError::TopicReadTwice {
                topic: topic.to_owned(),
                first,
                second: name.clone(),
            });
        }
        self.add_node(name, "source", &[], Role::Source { topic: Arc::from(topic), make, handler })
    }

    pub fn sink(&mut self, name: String, topic: &str, parents: &[usize], make: MakeNode) -> usize {
        self.add_node(name, SINK, parents, Role::Sink { topic: Arc::from(topic), make })
    }

    pub fn add_store(&mut self, store: StoreSpec) -> usize {
        self.check_name(&store.name);
        if self.store_exists(&store.name) {
            self.errors.push(TopologyError::Duplicate { kind: "store", name: store.name.to_string() });
        }
        self.stores.push(store);
        self.stores.len() - 1
    }

    fn store_exists(&self, name: &str) -> bool {
        self.stores.iter().any(|store| &*store.name == name)
            || self.globals.iter().any(|store| store.name == name)
    }

    pub fn add_global(&mut self, global: GlobalSpec) -> usize {
        self.check_name(&global.name);
        if self.store_exists(&global.name) {
            self.errors.push(TopologyError::Duplicate { kind: "store", name: global.name.clone() });
        }
        self.globals.push(global);
        self.globals.len() - 1
    }

    /// Whether the topic is one of the application's repartition topics.
    pub fn is_internal(&self, topic: &str) -> bool {
        self.repartitions.iter().any(|known| &*known.topic == topic)
    }

    /// Returns what says whether records with null keys are written to it.
    pub fn add_repartition(
        &mut self,
        topic: &str,
        partitions: Option<i32>,
        follows_partner: bool,
    ) -> RelaxedKeys {
        if self.is_internal(topic) {
            self.errors.push(TopologyError::Duplicate { kind: "repartition topic", name: topic.to_owned() });
        }
        if let Some(count) = partitions.filter(|count| *count < 1) {
            let reason = format!("a repartition topic has at least one partition, not {count}");
            self.errors.push(TopologyError::InvalidWindow { node: topic.to_owned(), reason });
        }
        let null_keys = RelaxedKeys::default();
        let (topic, relaxed) = (Arc::from(topic), null_keys.clone());
        self.repartitions.push(RepartitionSpec { topic, partitions, follows_partner, null_keys });
        relaxed
    }

    /// A left or outer join has results for null keys, so they come through the repartition topics above it (KIP-962).
    pub fn relax_null_keys(&mut self, node: usize) {
        let (mut above, mut next) = (BTreeSet::from([node]), vec![node]);
        while let Some(node) = next.pop() {
            let topic = match &self.nodes[node].role {
                Role::Source { topic, .. } => Some(topic),
                _ => None,
            };
            let repartition = self.repartitions.iter().find(|known| Some(&known.topic) == topic);
            if let Some(repartition) = repartition {
                repartition.null_keys.store(true, Ordering::Relaxed);
            }
            let feeds = |parent: &NodeSpec| match &parent.role {
                Role::Sink { topic, .. } => repartition.is_some_and(|known| known.topic == *topic),
                _ => parent.children.contains(&node),
            };
            let feeding = self.nodes.iter().enumerate().filter(|(_, parent)| feeds(parent));
            next.extend(feeding.map(|(index, _)| index).filter(|index| above.insert(*index)));
        }
    }

    pub fn connect(&mut self, node: usize, stores: &[usize]) {
        self.nodes[node].stores.extend_from_slice(stores);
    }

    /// Connects a node to stores by name; global ones among them are told of, no more.
    pub fn connect_named(&mut self, node: usize, stores: &[&str]) {
        for name in stores {
            let local = self.stores.iter().position(|store| &*store.name == *name);
            let global = self.globals.iter().position(|store| store.name == *name);
            match (local, global) {
                (Some(store), _) => self.nodes[node].stores.push(store),
                (None, Some(store)) => self.nodes[node].globals.push(store),
                (None, None) => {
                    let node = self.nodes[node].name.to_string();
                    self.errors.push(TopologyError::UnknownStore { node, store: (*name).to_owned() });
                }
            }
        }
    }

    pub fn rename(&mut self, node: usize, name: &str) {
        self.check_name(name);
        if !self.names.insert(name.to_owned()) {
            self.errors.push(TopologyError::Duplicate { kind: "node", name: name.to_owned() });
        }
        self.nodes[node].name = Arc::from(name);
    }

    /// A clock for a windowed operator; its node is told by [`Graph::set_clock`]. It is committed under its name, so that it
    /// stays this operator's when others come and go.
    pub fn add_clock(&mut self, name: &str) -> usize {
        self.clocks.push(name.to_owned());
        self.clocks.len() - 1
    }

    pub fn set_clock(&mut self, node: usize, clock: usize) {
        self.nodes[node].clock = Some(clock);
    }

    pub fn changelog_topic(&self, store: &str) -> Arc<str> {
        Arc::from(format!("{}-{store}-changelog", self.application_id))
    }

    pub fn repartition_topic(&self, name: &str) -> String {
        format!("{}-{name}-repartition", self.application_id)
    }
}
